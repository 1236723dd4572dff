--
-- The listeners, their options, and their errors
--
CREATE EXTENSION pg_ic_listener;
\set VERBOSITY default

-- In its own network namespace this is the default range. NULL stands for the default of an option.
SELECT port BETWEEN 32768 AND 60999 AS port_of_the_range, fd > 2 AS has_fd,
	   origin, ports_tried, listens_lost, elapsed_ns > 0 AS took_a_while
FROM (SELECT * FROM ic_listener_open_tcp()
	  UNION ALL SELECT * FROM ic_listener_open_udp()
	  UNION ALL SELECT * FROM ic_listener_open_tcp(NULL, NULL, NULL, NULL, NULL)) opened;

-- Every option, by name.
SELECT port, origin, ports_tried
FROM ic_listener_open_tcp(address => '127.0.0.1', backlog => 16,
						  port_min => 7001, port_max => 7001, keep => false);
SELECT port, origin, ports_tried
FROM ic_listener_open_udp(address => '::1',
						  port_min => 7001, port_max => 7001, keep => false);

-- The backlog is the one asked for: it and one more are taken, the next must wait.
\pset tuples_only on
BEGIN;
SELECT port FROM ic_listener_open_tcp(port_min => 7002, port_max => 7002, backlog => 2);
SELECT count(ic_connect_tcp(7002)) FROM generate_series(1, 3);
SET LOCAL statement_timeout = '250ms';
SELECT fd > 0 AS connected FROM ic_connect_tcp(7002);
ROLLBACK;

-- Each port of a range once, and then no more.
BEGIN;
SELECT min(port), max(port), count(DISTINCT port)
FROM (SELECT (ic_listener_open_tcp(port_min => 7101, port_max => 7120)).port
	  FROM generate_series(1, 20)) opened;
SAVEPOINT no_more;
SELECT * FROM ic_listener_open_tcp(port_min => 7101, port_max => 7120);
\echo :LAST_ERROR_SQLSTATE
ROLLBACK TO no_more;
SELECT min(port), max(port), count(DISTINCT port)
FROM (SELECT (ic_listener_open_udp(port_min => 7101, port_max => 7120)).port
	  FROM generate_series(1, 20)) opened;
SELECT * FROM ic_listener_open_udp(port_min => 7101, port_max => 7120);
ROLLBACK;

-- The port of an outgoing connection can be listened on, and neither notices.
BEGIN;
SELECT port, fd AS listener FROM ic_listener_open_tcp() \gset
SELECT fd AS outgoing, local_port FROM ic_connect_tcp(:port) \gset
SELECT ic_accept(:listener) AS incoming \gset
SELECT port = :local_port AS same_port, origin
FROM ic_listener_open_tcp(port_min => :local_port, port_max => :local_port);
SELECT ic_send(:incoming, 'a row');
SELECT ic_receive(:outgoing) LIMIT 1;
COMMIT;

-- Rows by UDP, where the end is sent.
BEGIN;
SELECT port, fd AS listener FROM ic_listener_open_udp() \gset
SELECT fd AS outgoing FROM ic_connect_udp(:port) \gset
SELECT count(ic_send(:outgoing, 'datagram ' || n)) FROM generate_series(1, 3) n;
SELECT ic_finish(:outgoing);
SELECT * FROM ic_receive(:listener);
COMMIT;

-- ic_finish() ends the rows of one direction. Who closes before it has received all rows breaks the connection.
BEGIN;
SELECT port, fd AS listener FROM ic_listener_open_tcp() \gset
SELECT fd AS outgoing FROM ic_connect_tcp(:port) \gset
SELECT ic_accept(:listener) AS incoming \gset
SELECT ic_finish(:incoming);
SELECT count(*) FROM ic_receive(:outgoing);
SELECT ic_send(:outgoing, 'not received');
SELECT ic_close(:incoming);
SAVEPOINT next;
SELECT ic_send(:outgoing, 'another');
ROLLBACK TO next;
SELECT ic_finish(:listener);
ROLLBACK;

-- What is refused, and the session goes on.
SELECT * FROM ic_listener_open_tcp(address => '192.0.2.1');
\echo :LAST_ERROR_SQLSTATE
SELECT * FROM ic_listener_open_tcp(address => 'localhost');
\echo :LAST_ERROR_SQLSTATE
SELECT * FROM ic_listener_open_tcp(backlog => -1);
\echo :LAST_ERROR_SQLSTATE
SELECT * FROM ic_listener_open_udp(port_min => 7002, port_max => 7001);
SELECT ic_accept(0);
SELECT ic_close(-1);
SELECT fd FROM ic_connect_tcp(65536);
SELECT fd FROM ic_connect_tcp(7001, source_port => 7002);
SELECT fd FROM ic_connect_tcp(7001, 'localhost');
SELECT fd FROM ic_connect_tcp(7001);
\echo :LAST_ERROR_SQLSTATE
SELECT 'still here' AS session;
