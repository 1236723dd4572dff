--
-- Who may call what: nobody but superusers, and monitors the census
--
CREATE ROLE regress_ic_monitor IN ROLE pg_monitor;
CREATE ROLE regress_ic_nobody;
CREATE VIEW may_call AS
	SELECT role, p.oid::regprocedure AS function
	FROM unnest(ARRAY['regress_ic_monitor', 'regress_ic_nobody']) role, pg_proc p
		JOIN pg_depend d ON d.objid = p.oid AND d.classid = 'pg_proc'::regclass
		JOIN pg_extension e ON e.oid = d.refobjid AND d.refclassid = 'pg_extension'::regclass
	WHERE e.extname = 'pg_ic_listener' AND has_function_privilege(role, p.oid, 'EXECUTE')
	ORDER BY 1, 2;
SELECT * FROM may_call;

SET ROLE regress_ic_monitor;
SELECT count(*) FROM ic_listener_ports;
SELECT ports FROM ic_listener_census(port_min => 7301, port_max => 7301);
SET ROLE regress_ic_nobody;
SELECT count(*) FROM ic_listener_ports;
SELECT ports FROM ic_listener_census(port_min => 7301, port_max => 7301);
SELECT * FROM ic_listener_open_tcp();
SELECT * FROM ic_drop_in_listen_tcp();
RESET ROLE;

-- Version 1.0 had forgotten two functions. The update revokes them, too.
DROP EXTENSION pg_ic_listener;
CREATE EXTENSION pg_ic_listener VERSION '1.0';
SELECT * FROM may_call WHERE role = 'regress_ic_nobody';
ALTER EXTENSION pg_ic_listener UPDATE;
SELECT * FROM may_call;

DROP VIEW may_call;
DROP ROLE regress_ic_monitor;
DROP ROLE regress_ic_nobody;
