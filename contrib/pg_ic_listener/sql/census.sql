--
-- Who holds the ports
--
\pset null (null)

-- No socket has these.
SELECT lowest_port, highest_port, ports, unseen, time_wait_next_s, time_wait_last_s, complete, message
FROM ic_listener_census(port_min => 7301, port_max => 7310);

-- A listener, the outgoing end of a connection, and one more listener.
BEGIN;
SELECT fd AS listener
FROM ic_listener_open_tcp(port_min => 7301, port_max => 7301) \gset
SELECT fd AS outgoing
FROM ic_connect_tcp(7301, source => '127.0.0.1', source_port => 7302) \gset
SELECT ic_accept(:listener) AS incoming \gset
SELECT fd AS another
FROM ic_listener_open_tcp(address => '127.0.0.1', port_min => 7303, port_max => 7303) \gset
SELECT listening, bound, connected, closing, time_wait, unseen
FROM ic_listener_census(port_min => 7301, port_max => 7310);
-- From another address than the last one.
\pset tuples_only on
SELECT listening, bound, connected, closing, time_wait, unseen
FROM ic_listener_census('127.0.0.2', 7301, 7310);

-- The outgoing end closes first: its port is closing until the other end does, and in TIME_WAIT then.
SELECT ic_close(:outgoing);
SELECT listening, bound, connected, closing, time_wait, unseen
FROM ic_listener_census(port_min => 7301, port_max => 7310);
SELECT ic_close(:incoming);
SELECT listening, bound, connected, closing, time_wait, unseen,
	   time_wait_next_s BETWEEN 30 AND 60 AS waits, time_wait_next_s = time_wait_last_s AS only_one
FROM ic_listener_census(port_min => 7301, port_max => 7310);
COMMIT;

-- The server's range, for a monitor.
SELECT lowest_port, highest_port, ports, complete,
	   listening + bound + connected + closing + time_wait + unseen = ports AS adds_up
FROM ic_listener_ports;

-- What cannot be counted.
SELECT * FROM ic_listener_census('localhost');
\echo :LAST_ERROR_SQLSTATE
