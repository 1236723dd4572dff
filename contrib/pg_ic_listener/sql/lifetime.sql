--
-- When sockets are closed, and that none is forgotten
--
SELECT ic_open_sockets() AS at_start \gset

-- At the end of the transaction, however it ends.
SELECT count(fd), ic_open_sockets() - :at_start AS open
FROM ic_listener_open_tcp() GROUP BY 2;
SELECT ic_open_sockets() - :at_start AS open;
BEGIN;
SELECT count(fd) FROM ic_listener_open_tcp();
SELECT count(fd) FROM ic_listener_open_udp();
SELECT ic_open_sockets() - :at_start AS open;
COMMIT;
SELECT ic_open_sockets() - :at_start AS open;
BEGIN;
SELECT count(fd) FROM ic_listener_open_tcp();
SELECT 1 / 0;
ROLLBACK;
SELECT ic_open_sockets() - :at_start AS open;
BEGIN;
SELECT count(fd) FROM ic_listener_open_tcp();
PREPARE TRANSACTION 'regress_ic_listener';
SELECT ic_open_sockets() - :at_start AS open;
ROLLBACK PREPARED 'regress_ic_listener';

-- With the subtransaction that opened them, if it aborts.
BEGIN;
SELECT count(fd) FROM ic_listener_open_tcp(port_min => 7201, port_max => 7201);
SAVEPOINT released;
SELECT count(fd) FROM ic_listener_open_tcp(port_min => 7202, port_max => 7202);
RELEASE released;
SAVEPOINT undone;
SELECT count(fd) FROM ic_listener_open_tcp(port_min => 7203, port_max => 7203);
SELECT ic_open_sockets() - :at_start AS open;
ROLLBACK TO undone;
SELECT ic_open_sockets() - :at_start AS open;
SELECT fd AS again FROM ic_listener_open_tcp(port_min => 7203, port_max => 7203) \gset
SELECT ic_close(:again);
SELECT ic_open_sockets() - :at_start AS open;
COMMIT;
SELECT ic_open_sockets() - :at_start AS open;

-- Not so what is kept.
BEGIN;
SELECT fd AS kept FROM ic_listener_open_tcp(keep => true) \gset
SAVEPOINT undone;
SELECT fd AS kept_udp FROM ic_listener_open_udp(keep => true) \gset
ROLLBACK TO undone;
ROLLBACK;
SELECT ic_open_sockets() - :at_start AS open;
SELECT ic_close(:kept);
SELECT ic_close(:kept_udp);
SELECT ic_open_sockets() - :at_start AS open;
SELECT ic_close(12345);

-- A third of max_files_per_process is for such files, and an error gives all back.
SELECT count((ic_listener_open_tcp()).fd) FROM generate_series(1, 1000);
\echo :LAST_ERROR_SQLSTATE
SELECT ic_open_sockets() - :at_start AS open;
SELECT count((ic_listener_open_tcp()).fd) FROM generate_series(1, 100);
-- Listeners that could not be opened are not counted.
DO $$
BEGIN
	FOR i IN 1..1000 LOOP
		BEGIN
			PERFORM ic_listener_open_tcp('192.0.2.1');
			RAISE 'not of this host';
		EXCEPTION WHEN SQLSTATE '58M01' THEN
			NULL;
		END;
	END LOOP;
END $$;
SELECT count((ic_listener_open_tcp()).fd) FROM generate_series(1, 100);
SELECT ic_open_sockets() - :at_start AS open;

-- statement_timeout, while no peer connects or sends.
SET statement_timeout = '250ms';
SELECT ic_accept(fd) FROM ic_listener_open_tcp();
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

-- At the end of a process that is terminated while it waits: when it is gone, its port is free.
-- (It is waited for as long as statement_timeout allows.)
CREATE FUNCTION port_when_gone(backend int, port int) RETURNS text
LANGUAGE plpgsql AS $$
BEGIN
	WHILE EXISTS (SELECT FROM pg_stat_activity WHERE pid = backend) LOOP
		PERFORM pg_stat_clear_snapshot();
	END LOOP;
	RETURN (SELECT origin
			FROM ic_listener_open_tcp(port_min => port, port_max => port));
END $$;
CREATE FUNCTION terminate_waiting(backend int) RETURNS boolean
LANGUAGE plpgsql AS $$
BEGIN
	WHILE NOT EXISTS (SELECT FROM pg_stat_activity
					  WHERE pid = backend AND wait_event_type = 'Extension') LOOP
		PERFORM pg_stat_clear_snapshot();
	END LOOP;
	RETURN pg_terminate_backend(backend);
END $$;
SELECT format('dbname=%s host=%s port=%s', current_database(),
			  split_part(current_setting('unix_socket_directories'), ',', 1),
			  current_setting('port')) AS here \gset
SELECT dblink_connect('victim', :'here');
SELECT * FROM dblink('victim', $$
	SELECT pg_backend_pid(), fd FROM
	ic_listener_open_tcp(port_min => 7401, port_max => 7401, keep => true)
	$$) AS (victim int, listener int) \gset
SELECT dblink_send_query('victim', format('SELECT ic_accept(%s)', :listener));
SELECT port FROM ic_listener_open_tcp(port_min => 7401, port_max => 7401);
SELECT terminate_waiting(:victim);
SELECT port_when_gone(:victim, 7401);
SELECT dblink_disconnect('victim');

-- The server lives, and so do this session and the next.
SELECT dblink_connect('next', :'here');
SELECT * FROM dblink('next', 'SELECT count(fd) FROM ic_listener_open_tcp()') AS (listeners int);
SELECT dblink_disconnect('next');
