# A PostgreSQL cluster of packaged programs, in $work/data: source it, then find_postgresql and make_cluster. The server
# runs as the user postgres where the caller is root.
# shellcheck shell=bash disable=SC2154 # work is the caller's.

# Sets pg_bin to the newest server that has its extensions.
find_postgresql()
{
	local candidate
	pg_bin=
	for candidate in $(printf '%s\n' /usr/lib/postgresql/*/bin | sort -V)
	do
		if [ -x "$candidate/initdb" ] && [ -f "$("$candidate/pg_config" --sharedir)/extension/postgres_fdw.control" ]
		then
			pg_bin=$candidate
		fi
	done
	export pg_bin
	[ -n "$pg_bin" ]
}

# The server does not run as root.
as_owner()
{
	if [ "$(id -u)" = 0 ] && id postgres >/dev/null 2>&1 && [ "$(stat -c %U "$work/data")" = postgres ]
	then
		setpriv --reuid=postgres --regid=postgres --init-groups --inh-caps=-all -- "$@"
	else
		setpriv --inh-caps=-all --ambient-caps=-all -- "$@"
	fi
}

make_cluster()
{
	mkdir "$work/data" "$work/socket" && touch "$work/log" || return
	[ "$(id -u)" != 0 ] || chown postgres: "$work/data" "$work/socket" "$work/log" || return
	as_owner "$pg_bin/initdb" --no-sync -A trust -U postgres -E UTF8 --locale=C -D "$work/data" || return
	cat >>"$work/data/postgresql.conf" <<-END
		listen_addresses = '127.0.0.1'
		unix_socket_directories = '$work/socket'
		port = 54321
		max_connections = 60
		autovacuum = off
		fsync = off
		statement_timeout = 20s
	END
}
