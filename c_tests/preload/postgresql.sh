#!/bin/bash
# Packaged PostgreSQL, its server and psql, on a host without a free port: every connection of psql, dblink and
# postgres_fdw fails; with libic_listener_preload.so, none does.
#
# Works as root (the server then runs as the user postgres) and, where the kernel allows user namespaces, as any user.
set -eu

cd "$(dirname "$0")/.."
# shellcheck source-path=SCRIPTDIR/.. disable=SC1091
. ./harness/tap.sh
# shellcheck source-path=SCRIPTDIR/.. disable=SC1091
. ./preload/cluster.sh

full_host=build/full_host
unset LD_PRELOAD PGSERVICE PGOPTIONS PGDATA

cannot_run()
{
	skip "PostgreSQL with the preloaded library" "$1"
	finish
	exit
}

find_postgresql || cannot_run "no PostgreSQL server: apt-get install postgresql"
$full_host true 2>/dev/null || cannot_run "no network namespace: run as root or allow user namespaces"

# Not in TMPDIR: the user postgres must reach it, and the path of a unix socket has at most 107 bytes.
work=$(mktemp -d /tmp/ic_preload.XXXXXX)
chmod 755 "$work"
trap 'rm -rf "$work"' EXIT
run=$work/bin/ic_listener_run
export PGHOST=$work/socket PGPORT=54321 PGUSER=postgres PGDATABASE=postgres work

install_it()
{
	${MAKE:-make} --no-print-directory -C .. install-preload PREFIX="$work"
}

sql()
{
	"$pg_bin/psql" -X -q -A -t -v ON_ERROR_STOP=1 "$@"
}

set_up()
{
	sql -f preload/postgresql.sql
}

# Inside of full_host, with a server started and stopped by the command "$@" (none: as it is).
on_full_host()
{
	local made
	as_owner "$@" "$pg_bin/pg_ctl" -s -w -t 60 -D "$work/data" -l "$work/log" start || return
	[ ! -e "$work/setup" ] || ! rm "$work/setup" || set_up
	made=0
	for _ in 1 2 3 4 5 6 7 8 9 10
	do
		! "$@" "$pg_bin/psql" -h 127.0.0.1 -X -q -A -t -c 'BEGIN' 2>"$work/error" || made=$((made + 1))
	done
	echo "$made of psql, $(sed -n '1s/.*: //p' "$work/error")"
	made=0
	for _ in 1 2 3 4 5 6 7 8 9 10
	do
		[ "$(sql -c 'SELECT sum(number) FROM there' 2>"$work/error")" != 500500 ] || made=$((made + 1))
	done
	echo "$made of postgres_fdw, $(sed -n '2s/.*: //p' "$work/error")"
	sql -c 'SELECT dblinks(30)'
	# PQcancel(), which connects from a signal handler in other programs.
	sql -c "SELECT dblink_connect('link', 'host=127.0.0.1 port=54321 dbname=postgres user=postgres')" \
		-c "SELECT dblink_send_query('link', 'SELECT pg_sleep(60)')" -c 'CALL wait_until_it_sleeps()' \
		-c "SELECT 'cancel ' || dblink_cancel_query('link')" \
		-c "SELECT * FROM dblink_get_result('link') AS (result text)" 2>&1 | sed -n 's/^ERROR: *//p; s/^cancel [A-Z]/&/p'
	as_owner "$pg_bin/pg_ctl" -s -w -t 60 -m fast -D "$work/data" stop
}
export -f as_owner sql set_up on_full_host

# is_what_comes_of EXPECTED [COMMAND]
is_what_comes_of()
{
	local expected=$1
	shift
	is "what came of it" "$expected" "$(timeout 50 $full_host bash -c 'on_full_host "$@"' bash "$@")"
}

all_fail="0 of psql, Cannot assign requested address
0 of postgres_fdw, Cannot assign requested address
0 of dblink, Cannot assign requested address
could not establish connection"
none_fails="10 of psql, 
10 of postgres_fdw, 
30 of dblink, no error
cancel OK
canceling statement due to user request"

check "it is installed" install_it
check "a cluster is made" make_cluster
touch "$work/setup"
check "plain: no connection of psql, postgres_fdw or dblink" is_what_comes_of "$all_fail"
check "preloaded: all of them, and they can be cancelled" is_what_comes_of "$none_fails" "$run"
check "plain, once more" is_what_comes_of "$all_fail"
check "the server's log has no warning" sh -c "! grep -Ei 'warning|panic|crash|terminated by signal' '$work/log'"
finish
