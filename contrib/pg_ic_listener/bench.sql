-- One call of the benchmark: a listener, a connection to it, a row through
-- it, and all closed again, the listener's side first, so that the TIME_WAIT
-- is on the listener's port.
--
-- Each outgoing socket has its own address and port, outside the range and
-- used once.  So connections take no port from listeners, and the result is
-- about listeners only.  It is the same for both contenders.
CREATE EXTENSION pg_ic_listener;
CREATE UNLOGGED TABLE calls (client int, call int, failure text, sockets int);

CREATE FUNCTION one_call(opener text, client int, call int) RETURNS void
LANGUAGE plpgsql AS $$
DECLARE
	opened record;
	outgoing int;
	incoming int;
	failure text;
BEGIN
	-- No other error is caught: it would end the client, and the test.
	BEGIN
		IF opener = 'ic_listener' THEN
			SELECT port, fd INTO opened FROM ic_listener_open_tcp();
		ELSE
			SELECT port, fd INTO opened FROM so_reuseaddr_open_tcp();
		END IF;
	EXCEPTION WHEN SQLSTATE '58M01' THEN
		GET STACKED DIAGNOSTICS failure = PG_EXCEPTION_DETAIL;
	END;
	IF failure IS NULL THEN
		outgoing := fd FROM ic_connect_tcp(opened.port, source_port => 30000,
			source => format('127.1.%s.%s', client, call));
		incoming := ic_accept(opened.fd);
		PERFORM ic_send(outgoing, 'a row');
		PERFORM ic_receive(incoming) LIMIT 1;
		PERFORM ic_close(incoming);
		PERFORM ic_close(outgoing);
		PERFORM ic_close(opened.fd);
	END IF;
	INSERT INTO calls VALUES (client, call, failure, ic_open_sockets());
END $$;

-- One exchange between backends: a listener, a connection, a row, and all
-- closed again. The ends take turns to close first, which leaves a port in
-- TIME_WAIT.
CREATE FUNCTION one_exchange(opener text, client int, call int) RETURNS void
LANGUAGE plpgsql AS $$
DECLARE
	use_plain boolean := opener = 'plain';
	opened record;
	outgoing int;
	incoming int;
	failure text;
BEGIN
	BEGIN
		SELECT port, fd INTO opened FROM ic_drop_in_listen_tcp(plain => use_plain);
		outgoing := fd FROM ic_drop_in_connect_tcp(opened.port, plain => use_plain);
		incoming := ic_accept(opened.fd);
		PERFORM ic_send(outgoing, 'a row');
		PERFORM ic_receive(incoming) LIMIT 1;
		IF call % 2 = 0 THEN
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
