-- One call of the benchmark: a listener, a connection to it, a row through it, and all closed again. The ends take turns
-- to close first, which leaves a port in TIME_WAIT.
--
-- Where the opener's listeners are compared, each outgoing socket has its own address and port, outside the range and
-- used once, and the listener's side closes first. So connections take no port from listeners, and the result is about
-- listeners only.
CREATE EXTENSION pg_ic_listener;
CREATE UNLOGGED TABLE calls (client int, call int, failure text, sockets int);

CREATE FUNCTION one_call(opener text, client int, call int) RETURNS void
LANGUAGE plpgsql AS $$
DECLARE
	of_listeners boolean := opener IN ('ic_listener', 'so_reuseaddr');
	opened record;
	outgoing int;
	incoming int;
	failure text;
BEGIN
	BEGIN
		IF opener = 'ic_listener' THEN
			SELECT port, fd INTO opened FROM ic_listener_open_tcp();
		ELSIF opener = 'so_reuseaddr' THEN
			SELECT port, fd INTO opened FROM ic_drop_in_listen_tcp('::', plain => true, reuse => true);
		ELSE
			SELECT port, fd INTO opened FROM ic_drop_in_listen_tcp(plain => opener = 'system');
		END IF;
		outgoing := fd FROM ic_connect_tcp(opened.port, plain => opener = 'system',
			source => CASE WHEN of_listeners THEN format('127.1.%s.%s', client, call) END,
			source_port => CASE WHEN of_listeners THEN 30000 END);
		incoming := ic_accept(opened.fd);
		PERFORM ic_send(outgoing, 'a row');
		PERFORM ic_receive(incoming) LIMIT 1;
		IF of_listeners OR call % 2 = 0 THEN
			PERFORM ic_close(incoming);
			PERFORM ic_close(outgoing);
		ELSE
			PERFORM ic_close(outgoing);
			PERFORM ic_close(incoming);
		END IF;
		PERFORM ic_close(opened.fd);
	EXCEPTION WHEN SQLSTATE '58M01' THEN
		GET STACKED DIAGNOSTICS failure = PG_EXCEPTION_DETAIL;
	END;
	INSERT INTO calls VALUES (client, call, failure, ic_open_sockets());
END $$;
