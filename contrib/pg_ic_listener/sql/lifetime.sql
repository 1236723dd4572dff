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

-- At the end of the process: when the backend is gone, its port is free.
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
SELECT format('dbname=%s host=%s port=%s', current_database(),
			  split_part(current_setting('unix_socket_directories'), ',', 1),
			  current_setting('port')) AS here \gset
SELECT dblink_connect('brief', :'here');
SELECT pid AS brief FROM dblink('brief', $$
	SELECT pg_backend_pid() FROM
	ic_listener_open_tcp(port_min => 7204, port_max => 7204, keep => true)
	$$) AS (pid int) \gset
SELECT port FROM ic_listener_open_tcp(port_min => 7204, port_max => 7204);
SELECT dblink_disconnect('brief');
SELECT port_when_gone(:brief, 7204);
