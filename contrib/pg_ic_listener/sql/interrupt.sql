--
-- statement_timeout and pg_terminate_backend() in the middle
--
SELECT format('dbname=%s host=%s port=%s', current_database(),
			  split_part(current_setting('unix_socket_directories'), ',', 1),
			  current_setting('port')) AS here \gset
SELECT ic_open_sockets() AS at_start \gset

-- No peer connects.
SET statement_timeout = '250ms';
SELECT ic_accept(fd) FROM ic_listener_open_tcp();
RESET statement_timeout;
SELECT ic_open_sockets() - :at_start AS open;

-- The peer does not send.
SET statement_timeout = '250ms';
SELECT * FROM ic_listener_open_udp(), ic_receive(fd);
RESET statement_timeout;
SELECT ic_open_sockets() - :at_start AS open;
BEGIN;
SELECT port, fd AS listener FROM ic_listener_open_tcp() \gset
SELECT fd AS outgoing FROM ic_connect_tcp(:port) \gset
SELECT ic_accept(:listener) AS incoming \gset
SELECT ic_open_sockets() - :at_start AS open;
SET LOCAL statement_timeout = '250ms';
SELECT ic_receive(:incoming);
ROLLBACK;
SELECT ic_open_sockets() - :at_start AS open;

-- A listener that is kept goes on after it.
SELECT port, fd AS listener FROM ic_listener_open_tcp(keep => true) \gset
SET statement_timeout = '250ms';
SELECT ic_accept(:listener);
RESET statement_timeout;
SELECT ic_open_sockets() - :at_start AS open;
BEGIN;
SELECT fd AS outgoing FROM ic_connect_tcp(:port) \gset
SELECT ic_accept(:listener) AS incoming \gset
SELECT ic_send(:outgoing, 'a row');
SELECT ic_receive(:incoming) LIMIT 1;
-- The peer does not receive: a savepoint catches the error, but the row is torn.
SAVEPOINT whole;
SET LOCAL statement_timeout = '2s';
SELECT count(ic_send(:outgoing, repeat('x', 1000000))) FROM generate_series(1, 1000);
ROLLBACK TO whole;
SELECT ic_send(:outgoing, 'another row');
ROLLBACK TO whole;
SELECT ic_close(:outgoing);
SELECT count(*) FROM ic_receive(:incoming);
\echo :LAST_ERROR_SQLSTATE
ROLLBACK;
SELECT ic_close(:listener);
SELECT ic_open_sockets() - :at_start AS open;

-- A backend that is terminated while it waits.
CREATE FUNCTION terminate_waiting(backend int) RETURNS boolean
LANGUAGE plpgsql AS $$
BEGIN
	WHILE NOT EXISTS (SELECT FROM pg_stat_activity
					  WHERE pid = backend AND wait_event_type = 'Extension') LOOP
		PERFORM pg_stat_clear_snapshot();
	END LOOP;
	RETURN pg_terminate_backend(backend);
END $$;
SELECT dblink_connect('victim', :'here');
SELECT * FROM dblink('victim', $$
	SELECT pg_backend_pid(), fd FROM
	ic_listener_open_tcp(port_min => 7401, port_max => 7401, keep => true)
	$$) AS (victim int, listener int) \gset
SELECT dblink_send_query('victim', format('SELECT ic_accept(%s)', :listener));
SELECT terminate_waiting(:victim);
SELECT port_when_gone(:victim, 7401);
SELECT dblink_disconnect('victim');

-- The same for one whose listener ends with the transaction.
SELECT dblink_connect('victim', :'here');
SELECT * FROM dblink('victim', 'SELECT pg_backend_pid()') AS (victim int) \gset
SELECT dblink_send_query('victim', $$
	SELECT ic_accept(fd)
	FROM ic_listener_open_tcp(port_min => 7402, port_max => 7402)
	$$);
SELECT terminate_waiting(:victim);
SELECT port_when_gone(:victim, 7402);
SELECT dblink_disconnect('victim');

-- The server lives, and so do this session and the next.
SELECT dblink_connect('next', :'here');
SELECT * FROM dblink('next', 'SELECT count(fd) FROM ic_listener_open_tcp()') AS (listeners int);
SELECT dblink_disconnect('next');
