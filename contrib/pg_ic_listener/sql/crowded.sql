--
-- Every port of the range is in TIME_WAIT, as closed listeners leave it
--
CREATE EXTENSION pg_ic_listener;
\pset tuples_only on
DO $$
DECLARE
	listener int;
	incoming int;
	outgoing int;
BEGIN
	FOR port IN 40000..40063 LOOP
		listener := fd FROM ic_listener_open_tcp(port_min => port, port_max => port);
		outgoing := fd FROM ic_connect_tcp(port, source => '127.0.0.1', source_port => port - 10000);
		incoming := ic_accept(listener);
		PERFORM ic_close(incoming);
		PERFORM ic_close(outgoing);
		PERFORM ic_close(listener);
	END LOOP;
END $$;
SELECT lowest_port, highest_port, time_wait FROM ic_listener_ports;

BEGIN;
SELECT port FROM ic_listener_open_tcp(port_min => 7001, port_max => 7001);
SAVEPOINT next;
SELECT ic_drop_in_listen_tcp(plain => true);
ROLLBACK TO next;
SELECT ic_drop_in_listen_tcp(plain => true, reuse => true);
ROLLBACK TO next;
SELECT ic_connect_tcp(7001, plain => true);
ROLLBACK TO next;

-- listen() chooses a port that bind() left open, on the wildcard and on one address.
SELECT count(DISTINCT port)
FROM (SELECT (ic_drop_in_listen_tcp(address)).port
	  FROM generate_series(1, 16), unnest(ARRAY['0.0.0.0', '127.0.0.1']) address) listeners;
-- connect() names the others.
SELECT count(DISTINCT local_port)
FROM (SELECT (ic_connect_tcp(7001)).local_port FROM generate_series(1, 32)) connections;
SELECT listening, connected, time_wait FROM ic_listener_ports;
SELECT ic_connect_tcp(7001);
ROLLBACK;
