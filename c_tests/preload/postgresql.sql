-- What postgresql.sh asks of the server: connections to itself over TCP.
CREATE EXTENSION dblink;
CREATE EXTENSION postgres_fdw;
CREATE SERVER loopback FOREIGN DATA WRAPPER postgres_fdw
	OPTIONS (host '127.0.0.1', port '54321', dbname 'postgres');
CREATE USER MAPPING FOR postgres SERVER loopback OPTIONS (user 'postgres');
CREATE TABLE here AS SELECT generate_series(1, 1000) AS number;
CREATE FOREIGN TABLE there (number int) SERVER loopback OPTIONS (table_name 'here');
CREATE FUNCTION dblinks(wanted int) RETURNS text LANGUAGE plpgsql AS $$
DECLARE
	made int := 0;
	problem text := 'no error';
BEGIN
	FOR number IN 1 .. wanted LOOP
		BEGIN
			PERFORM dblink_connect('link' || number, 'host=127.0.0.1 port=54321 dbname=postgres user=postgres');
			made := made + 1;
		EXCEPTION WHEN OTHERS THEN
			GET STACKED DIAGNOSTICS problem = PG_EXCEPTION_DETAIL;
		END;
	END LOOP;
	RETURN made || ' of dblink, ' || regexp_replace(problem, '.*: |\n.*', '', 'g');
END $$;
-- A cancel before its query is lost.
CREATE PROCEDURE wait_until_it_sleeps() LANGUAGE plpgsql AS $$
BEGIN
	WHILE NOT EXISTS (SELECT FROM pg_stat_activity WHERE wait_event = 'PgSleep' AND pid <> pg_backend_pid()) LOOP
		PERFORM pg_sleep(0.01);
		PERFORM pg_stat_clear_snapshot();
	END LOOP;
END $$;
