--
-- Who may call what: nobody but superusers, and monitors the census
--
\pset tuples_only on
CREATE ROLE regress_ic_monitor IN ROLE pg_monitor;
CREATE ROLE regress_ic_nobody;
SELECT role, p.oid::regprocedure AS function
FROM unnest(ARRAY['regress_ic_monitor', 'regress_ic_nobody']) role, pg_proc p
	JOIN pg_depend d ON d.objid = p.oid AND d.classid = 'pg_proc'::regclass
	JOIN pg_extension e ON e.oid = d.refobjid AND d.refclassid = 'pg_extension'::regclass
WHERE e.extname = 'pg_ic_listener' AND has_function_privilege(role, p.oid, 'EXECUTE');

SET ROLE regress_ic_monitor;
SELECT count(*) FROM ic_listener_ports;
SET ROLE regress_ic_nobody;
SELECT count(*) FROM ic_listener_ports;
SELECT * FROM ic_listener_open_tcp();
RESET ROLE;

DROP ROLE regress_ic_monitor;
DROP ROLE regress_ic_nobody;
