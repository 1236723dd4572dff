-- A server that connects to itself over TCP.
CREATE EXTENSION dblink;
CREATE EXTENSION postgres_fdw;
CREATE SERVER loopback FOREIGN DATA WRAPPER postgres_fdw
	OPTIONS (host '127.0.0.1', port '54321', dbname 'postgres');
CREATE USER MAPPING FOR postgres SERVER loopback OPTIONS (user 'postgres');
CREATE TABLE here AS SELECT '0 hello' AS said;
CREATE FOREIGN TABLE there (said text) SERVER loopback OPTIONS (table_name 'here');
-- A cancel before its query is lost.
CREATE PROCEDURE wait_until_it_sleeps() LANGUAGE plpgsql AS $$
BEGIN
	WHILE NOT EXISTS (SELECT FROM pg_stat_activity WHERE wait_event = 'PgSleep' AND pid <> pg_backend_pid()) LOOP
		PERFORM pg_sleep(0.01);
		PERFORM pg_stat_clear_snapshot();
	END LOOP;
END $$;
