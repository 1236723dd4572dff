--
-- bind(), listen() and connect() on sockets that the backend made
--
\pset tuples_only on
CREATE EXTENSION dblink;
SELECT dblink_connect('other', format('dbname=%s host=%s port=%s', current_database(),
									  split_part(current_setting('unix_socket_directories'), ',', 1),
									  current_setting('port')));

-- Rows come through, by the library's calls and by the system's.
CREATE FUNCTION gather(address text, listen_plain boolean, connect_plain boolean) RETURNS TABLE (rows bigint, last text)
LANGUAGE plpgsql AS $$
DECLARE
	opened record;
	connection int;
	peer text := replace(replace(address, '0.0.0.0', '127.0.0.1'), '::', '::1');
BEGIN
	SELECT port, fd INTO opened FROM ic_drop_in_listen_tcp(address, listen_plain);
	PERFORM dblink_send_query('other', format($q$
		SELECT count(ic_send(fd, format('row %%s', n)))
		FROM ic_connect_tcp(%s, %L, plain => %L), generate_series(1, 1000) n
		$q$, opened.port, peer, connect_plain));
	connection := ic_accept(opened.fd);
	RETURN QUERY SELECT count(*), max(row_text) FROM ic_receive(connection) row_text;
	PERFORM * FROM dblink_get_result('other') AS (sent bigint);
	PERFORM * FROM dblink_get_result('other') AS (sent bigint);
	PERFORM ic_close(connection);
	PERFORM ic_close(opened.fd);
END $$;
SELECT address, listen_plain, connect_plain, gather.*
FROM unnest(ARRAY['0.0.0.0', '::']) address, unnest(ARRAY[true, false]) listen_plain,
	 unnest(ARRAY[true, false]) connect_plain, gather(address, listen_plain, connect_plain)
ORDER BY 1, 2, 3;

-- A connection that breaks off in a row, and two that are not ours.
BEGIN;
SELECT fd AS listener FROM ic_listener_open_tcp(port_min => 7003, port_max => 7003) \gset
COPY (SELECT) TO PROGRAM $$bash -c 'printf "\0\0\0\5hel" > /dev/tcp/127.0.0.1/7003'$$;
COPY (SELECT) TO PROGRAM $$bash -c 'printf "GET / HTTP/1.0" > /dev/tcp/127.0.0.1/7003'$$;
COPY (SELECT) TO PROGRAM $$bash -c 'printf "\0\0\0\1\377" > /dev/tcp/127.0.0.1/7003'$$;
SAVEPOINT next;
SELECT ic_receive(ic_accept(:listener));
ROLLBACK TO next;
SELECT ic_receive(ic_accept(:listener));
ROLLBACK TO next;
SELECT ic_receive(ic_accept(:listener));
ROLLBACK;

-- What the system calls refuse is refused.
SELECT ic_open_sockets() AS open_before \gset
SELECT ic_drop_in_listen_tcp('192.0.2.1');
SELECT ic_drop_in_listen_tcp('192.0.2.1', plain => true);
SELECT ic_connect_tcp(9);
SELECT ic_connect_tcp(9, plain => true);
SELECT ic_open_sockets() - :open_before AS left_open;

DROP FUNCTION gather(text, boolean, boolean);
SELECT dblink_disconnect('other');
