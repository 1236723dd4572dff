\echo Use "ALTER EXTENSION pg_ic_listener UPDATE" to load this file. \quit

-- Ports without a holder that can be seen are now called unseen, as in the library.
DROP VIEW ic_listener_ports;
DROP FUNCTION ic_listener_census(text, integer, integer);

CREATE FUNCTION ic_listener_census(
	address text DEFAULT NULL,
	port_min integer DEFAULT 0,
	port_max integer DEFAULT 0,
	OUT lowest_port integer,
	OUT highest_port integer,
	OUT ports integer,
	OUT listening integer,
	OUT bound integer,
	OUT connected integer,
	OUT closing integer,
	OUT time_wait integer,
	OUT unseen integer,
	OUT time_wait_next_s integer,
	OUT time_wait_last_s integer,
	OUT source text,
	OUT complete boolean,
	OUT elapsed_ns bigint,
	OUT message text)
AS 'MODULE_PATHNAME', 'pg_ic_census' LANGUAGE C VOLATILE;

CREATE VIEW ic_listener_ports AS SELECT * FROM ic_listener_census();

-- Every function of the extension, so that none is forgotten: 1.0 let all users listen on the server's addresses, and
-- connect from them, by ic_drop_in_listen_tcp() and ic_drop_in_connect_tcp().
DO $$
DECLARE
	function regprocedure;
BEGIN
	FOR function IN
		SELECT d.objid FROM pg_depend d JOIN pg_extension e ON e.oid = d.refobjid
		WHERE e.extname = 'pg_ic_listener' AND d.refclassid = 'pg_extension'::regclass
			AND d.classid = 'pg_proc'::regclass
	LOOP
		EXECUTE format('REVOKE ALL ON FUNCTION %s FROM PUBLIC', function);
	END LOOP;
END $$;
GRANT EXECUTE ON FUNCTION ic_listener_census TO pg_monitor;
GRANT SELECT ON ic_listener_ports TO pg_monitor;
