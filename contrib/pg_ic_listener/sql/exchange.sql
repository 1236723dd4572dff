--
-- Rows between backends, as between two query executors
--
CREATE EXTENSION dblink;
SELECT format('dbname=%s host=%s port=%s', current_database(),
			  split_part(current_setting('unix_socket_directories'), ',', 1),
			  current_setting('port')) AS here \gset
SELECT dblink_connect('other', :'here');

-- A gather motion: the other backend sends, this one receives.
BEGIN;
SELECT port, fd AS listener FROM ic_listener_open_tcp() \gset
SELECT dblink_send_query('other', format($$
	WITH connection AS MATERIALIZED (SELECT fd FROM ic_connect_tcp(%s)),
		 sent AS MATERIALIZED (SELECT count(ic_send(fd, format('row %%s', n)))
							   FROM connection, generate_series(1, 10000) n)
	SELECT count FROM sent
	$$, :port));
SELECT ic_accept(:listener) AS connection \gset
SELECT count(*), min(row_text), max(row_text), count(DISTINCT row_text)
FROM ic_receive(:connection) row_text;
SELECT * FROM dblink_get_result('other') AS (sent bigint);
SELECT * FROM dblink_get_result('other') AS (sent bigint);
COMMIT;

-- Rows of every kind come as they went, over IPv6.
BEGIN;
SELECT port, fd AS listener FROM ic_listener_open_tcp('::1') \gset
SELECT dblink_send_query('other', format($$
	SELECT count(ic_send(fd, row_text))
	FROM ic_connect_tcp(%s, '::1'),
		 unnest(ARRAY['', 'two' || chr(10) || 'lines', 'caf' || chr(233),
					  repeat('x', 1048576)]) row_text
	$$, :port));
SELECT ic_accept(:listener) AS connection \gset
SELECT row_number() OVER () AS n, left(row_text, 10) AS begins_with,
	   length(row_text)
FROM ic_receive(:connection) row_text;
SELECT * FROM dblink_get_result('other') AS (sent bigint);
SELECT * FROM dblink_get_result('other') AS (sent bigint);
SELECT count(ic_send(:connection, repeat('x', 1048577)));
ROLLBACK;

-- Over UDP an end is sent.
BEGIN;
SELECT port, fd AS listener FROM ic_listener_open_udp() \gset
SELECT * FROM dblink('other', format($$
	WITH connection AS MATERIALIZED (SELECT fd FROM ic_connect_udp(%s)),
		 sent AS MATERIALIZED (SELECT fd, count(ic_send(fd, 'datagram ' || n))
							   FROM connection, generate_series(1, 10) n
							   GROUP BY fd)
	SELECT ic_finish(fd)::text FROM sent
	$$, :port)) AS (finished text);
SELECT count(*), min(row_text), max(row_text) FROM ic_receive(:listener) row_text;
COMMIT;

-- A redistribute motion and a join: each backend has half of both tables by
-- accident of loading, and joins what belongs to it by key.  Its listener is
-- open before the peers are known, and is kept for the session.
CREATE TABLE executor (id int, port int);
CREATE TABLE slice (id int, side text, key int, value int);
INSERT INTO slice
	SELECT (n / 2) % 2, 'l', n, n * 10 FROM generate_series(1, 1000) n;
INSERT INTO slice
	SELECT (n / 3) % 2, 'r', n, n * 7 FROM generate_series(1, 1000) n;
CREATE FUNCTION execute_join(me int, listener int) RETURNS TABLE (rows bigint, total numeric)
LANGUAGE plpgsql AS $$
DECLARE
	outgoing int;
	incoming int;
BEGIN
	SELECT fd INTO outgoing
	FROM executor JOIN LATERAL ic_connect_tcp(port) ON true
	WHERE id = 1 - me;
	incoming := ic_accept(listener);
	PERFORM ic_send(outgoing, concat_ws(' ', side, key, value))
	FROM slice WHERE id = me AND key % 2 <> me;
	PERFORM ic_finish(outgoing);
	RETURN QUERY
		WITH mine AS (
			SELECT side, key, value FROM slice WHERE id = me AND key % 2 = me
			UNION ALL
			SELECT split_part(r, ' ', 1), split_part(r, ' ', 2)::int,
				   split_part(r, ' ', 3)::int
			FROM ic_receive(incoming) r)
		SELECT count(*), sum(l.value + r.value)::numeric
		FROM mine l JOIN mine r USING (key)
		WHERE l.side = 'l' AND r.side = 'r';
END $$;

WITH opened AS (SELECT port, fd FROM ic_listener_open_tcp(keep => true)),
	 told AS (INSERT INTO executor SELECT 0, port FROM opened)
SELECT fd AS listener FROM opened \gset
SELECT fd AS other_listener FROM dblink('other', $$
	WITH opened AS (SELECT port, fd FROM ic_listener_open_tcp(keep => true)),
		 told AS (INSERT INTO executor SELECT 1, port FROM opened)
	SELECT fd FROM opened $$) AS (fd int) \gset
SELECT dblink_send_query('other', format('SELECT * FROM execute_join(1, %s)',
										 :other_listener));
CREATE TEMP TABLE result AS SELECT * FROM execute_join(0, :listener);
INSERT INTO result SELECT * FROM dblink_get_result('other') AS (rows bigint, total numeric);
SELECT * FROM dblink_get_result('other') AS (rows bigint, total numeric);
SELECT sum(rows) AS rows, sum(total) AS total FROM result;
SELECT count(*) AS rows, sum(l.value + r.value) AS total
FROM slice l JOIN slice r USING (key) WHERE l.side = 'l' AND r.side = 'r';
SELECT ic_close(:listener);

-- A connection that breaks off in a row, and two that are not ours.
BEGIN;
SELECT fd AS listener FROM ic_listener_open_tcp(port_min => 7003, port_max => 7003) \gset
COPY (SELECT) TO PROGRAM $$bash -c 'printf "\0\0\0\5hel" > /dev/tcp/127.0.0.1/7003'$$;
COPY (SELECT) TO PROGRAM $$bash -c 'printf "GET / HTTP/1.0" > /dev/tcp/127.0.0.1/7003'$$;
COPY (SELECT) TO PROGRAM $$bash -c 'printf "\0\0\0\1\377" > /dev/tcp/127.0.0.1/7003'$$;
SAVEPOINT next;
SELECT ic_receive(ic_accept(:listener));
\echo :LAST_ERROR_SQLSTATE
ROLLBACK TO next;
SELECT ic_receive(ic_accept(:listener));
\echo :LAST_ERROR_SQLSTATE
ROLLBACK TO next;
SELECT ic_receive(ic_accept(:listener));
\echo :LAST_ERROR_SQLSTATE
ROLLBACK;

SELECT dblink_disconnect('other');
