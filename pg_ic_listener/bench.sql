-- One call of the benchmark: a listener, a connection to it, a row through
-- it, and all closed again, the listener's side first: the TIME_WAIT stays on
-- the listener's port.
--
-- The outgoing socket has an address and a port to itself, outside the range
-- and never used twice: outgoing connections take none of the ports that are
-- fought for, and what comes out is about listeners only.  Both contenders
-- are treated alike.
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

-- One exchange between backends whose sockets are their own: a listener, a
-- connection, a row, and all closed again. Either end closes first, by turns,
-- and leaves its port in TIME_WAIT.
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
