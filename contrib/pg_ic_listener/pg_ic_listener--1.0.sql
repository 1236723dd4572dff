\echo Use "CREATE EXTENSION pg_ic_listener" to load this file. \quit

-- Sockets live until the transaction ends, unless they are closed before; with keep, until the session ends.

CREATE FUNCTION ic_listener_open_tcp(
	address text DEFAULT NULL,
	backlog integer DEFAULT 0,
	port_min integer DEFAULT 0,
	port_max integer DEFAULT 0,
	keep boolean DEFAULT false,
	OUT port integer,
	OUT fd integer,
	OUT origin text,
	OUT ports_tried integer,
	OUT listens_lost integer,
	OUT elapsed_ns bigint)
AS 'MODULE_PATHNAME', 'pg_ic_open_tcp' LANGUAGE C;

CREATE FUNCTION ic_listener_open_udp(
	address text DEFAULT NULL,
	port_min integer DEFAULT 0,
	port_max integer DEFAULT 0,
	keep boolean DEFAULT false,
	OUT port integer,
	OUT fd integer,
	OUT origin text,
	OUT ports_tried integer,
	OUT listens_lost integer,
	OUT elapsed_ns bigint)
AS 'MODULE_PATHNAME', 'pg_ic_open_udp' LANGUAGE C;

-- Who holds the TCP ports of the server's ephemeral range, or of the one given; on all addresses, or on one.  Each port
-- is counted once, by its strongest holder, in the order of the columns.
CREATE FUNCTION ic_listener_census(
	address text DEFAULT NULL,
	port_min integer DEFAULT 0,
	port_max integer DEFAULT 0,
	OUT lowest_port integer,
	OUT highest_port integer,
	OUT ports integer,
	OUT listening integer,
	OUT bound integer,
	OUT connected integer,
	OUT closing integer,
	OUT time_wait integer,
	OUT unseen integer,
	OUT time_wait_next_s integer,
	OUT time_wait_last_s integer,
	OUT source text,
	OUT complete boolean,
	OUT elapsed_ns bigint,
	OUT message text)
AS 'MODULE_PATHNAME', 'pg_ic_census' LANGUAGE C VOLATILE;

-- The same for a monitor that polls.
CREATE VIEW ic_listener_ports AS SELECT * FROM ic_listener_census();

-- A listener on a socket that the backend makes, by the library's bind() and listen(), or by the system's if plain.
-- With reuse, SO_REUSEADDR comes before bind() to port 0, as was proposed for Greenplum.
CREATE FUNCTION ic_drop_in_listen_tcp(
	address text DEFAULT '0.0.0.0',
	plain boolean DEFAULT false,
	reuse boolean DEFAULT false,
	OUT port integer,
	OUT fd integer)
AS 'MODULE_PATHNAME', 'pg_ic_drop_in_listen_tcp' LANGUAGE C;

-- Waits for a connection.
CREATE FUNCTION ic_accept(fd integer) RETURNS integer
AS 'MODULE_PATHNAME', 'pg_ic_accept' LANGUAGE C STRICT;

-- By the library's connect(), or by the system's if plain.  With source, the outgoing socket is bound there first, to
-- source_port if that is given too.
CREATE FUNCTION ic_connect_tcp(
	port integer,
	address text DEFAULT '127.0.0.1',
	source text DEFAULT NULL,
	source_port integer DEFAULT 0,
	plain boolean DEFAULT false,
	OUT fd integer,
	OUT local_port integer)
AS 'MODULE_PATHNAME', 'pg_ic_connect_tcp' LANGUAGE C;

CREATE FUNCTION ic_connect_udp(
	port integer,
	address text DEFAULT '127.0.0.1',
	OUT fd integer,
	OUT local_port integer)
AS 'MODULE_PATHNAME', 'pg_ic_connect_udp' LANGUAGE C;

CREATE FUNCTION ic_send(fd integer, row_text text) RETURNS void
AS 'MODULE_PATHNAME', 'pg_ic_send' LANGUAGE C STRICT;

-- There are no more rows for the other end.  ic_close() says so too, but for UDP, and unless rows have come that were
-- not received: then the other end gets an error.
CREATE FUNCTION ic_finish(fd integer) RETURNS void
AS 'MODULE_PATHNAME', 'pg_ic_finish' LANGUAGE C STRICT;

-- The rows until the other end has no more; waits for each.
CREATE FUNCTION ic_receive(fd integer) RETURNS SETOF text
AS 'MODULE_PATHNAME', 'pg_ic_receive' LANGUAGE C STRICT;

CREATE FUNCTION ic_close(fd integer) RETURNS void
AS 'MODULE_PATHNAME', 'pg_ic_close' LANGUAGE C STRICT;

-- How many sockets of any kind this backend has open, as /proc has it.
CREATE FUNCTION ic_open_sockets() RETURNS integer
AS 'MODULE_PATHNAME', 'pg_ic_open_sockets' LANGUAGE C;

REVOKE ALL ON FUNCTION
	ic_listener_open_tcp, ic_listener_open_udp, ic_listener_census,
	ic_drop_in_listen_tcp, ic_accept, ic_connect_tcp, ic_connect_udp,
	ic_send, ic_finish, ic_receive, ic_close, ic_open_sockets
FROM PUBLIC;
GRANT EXECUTE ON FUNCTION ic_listener_census TO pg_monitor;
GRANT SELECT ON ic_listener_ports TO pg_monitor;
