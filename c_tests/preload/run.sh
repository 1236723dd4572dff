#!/bin/bash
# ic_listener_run(1): what it leaves in the environment, its exit statuses, and what it says beforehand.
set -eu

cd "$(dirname "$0")/.."
# shellcheck source-path=SCRIPTDIR/.. disable=SC1091
. ./harness/tap.sh

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
run=$work/bin/ic_listener_run
library=$work/lib/libic_listener_preload.so
unset LD_PRELOAD IC_LISTENER_LOG IC_LISTENER_PATIENCE

install_it()
{
	${MAKE:-make} --no-print-directory -C .. install-preload install-ic-ports PREFIX="$work"
}

keeps_what_was_there()
{
	is "LD_PRELOAD" "$library" "$("$run" printenv LD_PRELOAD)" &&
		is "behind another" "libc.so.6:$library" "$(LD_PRELOAD=libc.so.6 "$run" printenv LD_PRELOAD)" &&
		is "twice" "$library" "$("$run" "$run" printenv LD_PRELOAD)" &&
		is "empty" "$library" "$(LD_PRELOAD='' "$run" printenv LD_PRELOAD)"
}

# status EXPECTED COMMAND...
status()
{
	local expected=$1 actual=0
	shift
	"$@" >"$work/out" 2>"$work/err" || actual=$?
	is "the status of $*" "$expected" $actual || {
		cat "$work/out" "$work/err"
		return 1
	}
}

exit_statuses()
{
	status 0 "$run" true && status 7 "$run" -- sh -c 'exit 7' &&
		status 127 "$run" no-such-command && grep -q 'no-such-command: not found' "$work/err" &&
		status 126 "$run" /etc/passwd && status 126 "$run" "$work" &&
		status 2 "$run" && grep -q '^usage:' "$work/err" &&
		status 2 "$run" --no-such-option true && status 2 "$run" -- &&
		status 0 "$run" --help && grep -q '^usage:' "$work/out" &&
		status 0 "$run" --version && grep -q '^ic_listener_run [0-9]' "$work/out"
}

# refuses TEXT FILE: with that file in the library's place, no command runs.
refuses()
{
	mv "$library" "$library.away"
	[ -z "$2" ] || cp "$2" "$library"
	local outcome=0
	{
		status 125 "$run" echo it runs && is "what ran" "" "$(cat "$work/out")" && grep -q "$1" "$work/err" &&
			status 125 "$run" --check
	} || {
		outcome=1
		cat "$work/err"
	}
	mv "$library.away" "$library"
	return $outcome
}

refuses_what_cannot_be_loaded()
{
	echo nothing >"$work/text"
	head -c 9000 "$library" >"$work/cut"
	echo 'int no_such_function(void); int call(void) { return no_such_function(); }' >"$work/symbol.c" &&
		"${CC:-cc}" -shared -fPIC -Wl,-z,now -o "$work/symbol" "$work/symbol.c" &&
		refuses 'cannot be read' '' && refuses 'cannot be preloaded' "$work/text" &&
		refuses 'cannot be loaded' "$work/cut" && refuses 'undefined symbol: no_such_function' "$work/symbol"
}

musl_program()
{
	echo 'int main(void) { return 0; }' >"$work/empty.c" && musl-gcc -o "$work/musl" "$work/empty.c" &&
		status 125 "$run" "$work/musl" && grep -q 'uses musl' "$work/err"
}

# It runs, and so do the programs that it starts.
says_what_is_not_reached()
{
	printf '%s\n' '#include <unistd.h>' 'int main(void) { execlp("printenv", "printenv", "LD_PRELOAD", (char *) 0); }' \
		>"$work/start.c" && "${CC:-cc}" -static -o "$work/static" "$work/start.c" &&
		status 0 "$run" "$work/static" && grep -q 'statically linked' "$work/err" &&
		is "what it passes on" "$library" "$(cat "$work/out")" &&
		status 0 "$run" sh -c true && is "what is said of another" "" "$(cat "$work/err")"
}

set_user_id_program()
{
	cp "$(command -v printenv)" "$work/privileged" && chown 1 "$work/privileged" && chmod 4755 "$work/privileged" &&
		status 1 "$run" "$work/privileged" LD_PRELOAD && grep -q 'set-user-ID' "$work/err"
}

check_tries_it()
{
	status 0 "$run" --check && is "its first line" "$library: called by listen()" "$(head -n 1 "$work/out")" &&
		grep -q '^a port in TIME_WAIT: listened on and connected from again$' "$work/out"
}

check "it is installed" install_it
check "it keeps what was in LD_PRELOAD" keeps_what_was_there
check "it has the exit statuses of env" exit_statuses
check "it refuses a library that cannot be loaded" refuses_what_cannot_be_loaded
check_with musl-gcc:musl-tools "it refuses a program of musl" musl_program
check "it says that a static program is not reached" says_what_is_not_reached
if [ "$(id -u)" = 0 ]
then
	check "it says that a set-user-ID program is not reached" set_user_id_program
else
	skip "it says that a set-user-ID program is not reached" "run as root"
fi
check "--check tries the library" check_tries_it
finish
