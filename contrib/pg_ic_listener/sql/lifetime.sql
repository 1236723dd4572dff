--
-- When sockets are closed, and that none is forgotten
--
\pset tuples_only on
SELECT ic_open_sockets() AS at_start \gset
\set open 'SELECT ic_open_sockets() - :at_start AS open;'

-- At the end of the transaction, however it ends.
SELECT count(fd), ic_open_sockets() - :at_start AS open
FROM ic_listener_open_tcp() GROUP BY 2;
:open
BEGIN;
SELECT fd AS listener FROM ic_listener_open_tcp() \gset
SELECT fd AS datagrams FROM ic_listener_open_udp() \gset
:open
COMMIT;
:open
BEGIN;
SELECT fd AS listener FROM ic_listener_open_tcp() \gset
SELECT 1 / 0;
ROLLBACK;
:open
BEGIN;
SELECT fd AS listener FROM ic_listener_open_tcp() \gset
PREPARE TRANSACTION 'regress_ic_listener';
:open
ROLLBACK PREPARED 'regress_ic_listener';

-- With the subtransaction that opened them, if it aborts.
BEGIN;
SELECT fd AS one FROM ic_listener_open_tcp() \gset
SAVEPOINT released;
SELECT fd AS two FROM ic_listener_open_tcp() \gset
RELEASE released;
SAVEPOINT undone;
SELECT fd AS three FROM ic_listener_open_tcp(port_min => 7203, port_max => 7203) \gset
:open
ROLLBACK TO undone;
:open
SELECT fd AS again FROM ic_listener_open_tcp(port_min => 7203, port_max => 7203) \gset
SELECT ic_close(:again);
:open
COMMIT;
:open

-- Not so what is kept.
BEGIN;
SELECT fd AS kept FROM ic_listener_open_tcp(keep => true) \gset
SAVEPOINT undone;
SELECT fd AS kept_udp FROM ic_listener_open_udp(keep => true) \gset
ROLLBACK TO undone;
ROLLBACK;
:open
SELECT ic_close(:kept), ic_close(:kept_udp);
:open

-- A third of max_files_per_process is for such files, and an error gives all back.
SELECT count((ic_listener_open_tcp()).fd) FROM generate_series(1, 1000);
\echo :LAST_ERROR_SQLSTATE
:open
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
:open

-- statement_timeout, while no peer connects or sends.
SET statement_timeout = '250ms';
SELECT ic_accept(fd) FROM ic_listener_open_tcp();
RESET statement_timeout;
:open
BEGIN;
SELECT port, fd AS listener FROM ic_listener_open_tcp() \gset
SELECT fd AS outgoing FROM ic_connect_tcp(:port) \gset
SELECT ic_accept(:listener) AS incoming \gset
:open
SET LOCAL statement_timeout = '250ms';
SELECT ic_receive(:incoming);
ROLLBACK;
:open

-- A listener that is kept goes on after it.
SELECT port, fd AS listener FROM ic_listener_open_tcp(keep => true) \gset
SET statement_timeout = '250ms';
SELECT ic_accept(:listener);
RESET statement_timeout;
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
:open

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
SELECT dblink_connect('victim', format('dbname=%s host=%s port=%s', current_database(),
									   split_part(current_setting('unix_socket_directories'), ',', 1),
									   current_setting('port')));
SELECT * FROM dblink('victim', $$
	SELECT pg_backend_pid(), fd FROM
	ic_listener_open_tcp(port_min => 7401, port_max => 7401, keep => true)
	$$) AS (victim int, listener int) \gset
SELECT dblink_send_query('victim', format('SELECT ic_accept(%s)', :listener));
SELECT port FROM ic_listener_open_tcp(port_min => 7401, port_max => 7401);
SELECT terminate_waiting(:victim);
SELECT port_when_gone(:victim, 7401);
SELECT dblink_disconnect('victim');
