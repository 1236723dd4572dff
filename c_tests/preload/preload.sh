#!/bin/bash
# Programs that are not rebuilt, with libic_listener_preload.so and without it, on a host without a free port: what they
# get, and that nothing else changes. What their sockets and threads are: preloaded.c. Programs of others: ../programs.
set -eu

cd "$(dirname "$0")/.."
# shellcheck source-path=SCRIPTDIR/.. disable=SC1091
. ./harness/tap.sh

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
run=$work/bin/ic_listener_run
library=$work/lib/libic_listener_preload.so
full_host=build/full_host
unset LD_PRELOAD IC_LISTENER_LOG IC_LISTENER_PATIENCE

in_use='Address already in use'
no_port='Cannot assign requested address'
all='a listener and its connections'

install_it()
{
	${MAKE:-make} --no-print-directory -C .. install-preload PREFIX="$work"
}

# is_on_full_host EXPECTED COMMAND...: what the command prints there.
is_on_full_host()
{
	local expected=$1
	shift
	is "what $* prints" "$expected" "$(timeout 60 $full_host "$@" 2>&1)"
}

# differs PLAIN PRELOADED COMMAND...
differs()
{
	is_on_full_host "$1" "${@:3}" && is_on_full_host "$2" "$run" "${@:3}"
}

# hard_place PLACE
hard_place()
{
	differs "$1: bind" "$1: $all" build/hard_places "$1"
}

exports_four_functions()
{
	is "nm -D" "bind connect getsockname listen" "$(nm -D --defined-only "$library" | awk '{ print $3 }' | sort | xargs)"
	is "what it needs, beside the dynamic linker" "libc.so.6" \
		"$(readelf -d "$library" | sed -n 's/.*(NEEDED).*\[\(.*\)\]/\1/p' | grep -v '^ld-linux')"
}

# What a filter of the program's may refuse, or kill it for, is not used where the system call finds a port.
quiet_host_needs_little()
{
	$full_host --quiet strace -f -qq -e trace=socket,bind,sendto,recvfrom -o "$work/trace" \
		env LD_PRELOAD="$library" build/hard_places main
	is "the system calls for a listener and 40 connections" "1 bind 41 socket" \
		"$(sed 's/^[0-9]* *//; s/(.*//' "$work/trace" | sort | uniq -c | xargs)"
}

log_says_why()
{
	is "without the variable" "" "$($full_host "$run" python3 preload/sockets.py listener connection 2>&1 >/dev/null)"
	IC_LISTENER_LOG=stderr $full_host "$run" python3 preload/sockets.py listener connection 2>"$work/log" >/dev/null
	is "the lines" "python3: no port to listen on in 40000-40063: 64 tried, 64 in use: 64 listeners
python3: no port to connect from in 40000-40063: 64 tried, 64 connected to the same destination already" \
		"$(sed 's/^ic_listener: \(.*\)\[[0-9]*\]: /\1: /' "$work/log")"
}

# A daemon closes standard error, and its next file gets the number.
log_stays_out_of_files()
{
	IC_LISTENER_LOG=stderr $full_host "$run" python3 -c "import os, runpy, sys
os.close(2)
os.open('$work/data', os.O_RDWR | os.O_CREAT)
sys.argv = ['', 'listener']
runpy.run_path('preload/sockets.py', run_name='__main__')"
	is "the file" "" "$(cat "$work/data")"
}

# Waits for a port that another program gives back.
patience()
{
	is_on_full_host "$in_use" "$run" python3 preload/patience.py &&
		is_on_full_host "a listener" env IC_LISTENER_PATIENCE=20000 "$run" python3 preload/patience.py
}

patience_ends()
{
	is_on_full_host "64 of listener, 64 ports, $in_use
64 of connection, 64 ports, $no_port" \
		env IC_LISTENER_PATIENCE=20 "$run" python3 preload/sockets.py listener connection
}

# By the clock, with longer and longer pauses, and without a look at every socket of the host.
patience_backs_off()
{
	IC_LISTENER_PATIENCE=3000 $full_host strace -f -qq -e trace=/nanosleep,openat,sendto -o "$work/trace" \
		"$run" python3 preload/sockets.py listener
	sed -n 's/.*nanosleep.*tv_sec=0, tv_nsec=\([0-9]*\)000000}.*/\1/p' "$work/trace" >"$work/pauses"
	is "the first pauses" "10 20 40 80 160 160" "$(head -n 6 "$work/pauses" | xargs)"
	awk '{ sum += $1 } END { exit !(sum <= 3000 && NR >= 7) }' "$work/pauses" || { cat "$work/pauses"; return 1; }
	# The first call may have counted who holds the ports.
	! sed '1,/nanosleep/d' "$work/trace" | grep -E '/proc/net/tcp|NLM_F_DUMP'
}

# What is no whole number of milliseconds up to 60000 is said, once, and ignored.
patience_is_a_number()
{
	local value said true
	true=$(type -P true)
	for value in 0 20 60000
	do
		is "with $value" "" "$(IC_LISTENER_PATIENCE=$value LD_PRELOAD=$library "$true" 2>&1)"
	done
	for value in many -1 60001 10.5 5ms '1 ' 99999999999
	do
		said=$(IC_LISTENER_PATIENCE=$value LD_PRELOAD=$library "$true" 2>&1)
		[[ $said == *"IC_LISTENER_PATIENCE=$value "* ]]
		is "the lines" 1 "$(wc -l <<<"$said")"
	done
	IC_LISTENER_PATIENCE=60001 timeout 20 $full_host "$run" python3 preload/sockets.py listener 2>/dev/null
}

# The program has the library itself, too.
together_with_the_library()
{
	CMOCKA_MESSAGE_OUTPUT=TAP "$run" build/port_choice
}

another_wrapper()
{
	"${CC:-cc}" -O2 -fPIC -shared -o "$work/wrapper.so" preload/wrapper.c -ldl
	local preload
	for preload in "$work/wrapper.so $library" "$library:$work/wrapper.so"
	do
		# puts() is flushed at the end.
		is_on_full_host "main: $all
bind
listen
connect" env LD_PRELOAD="$preload" build/hard_places main
	done
}

$full_host true >"$work/why" 2>&1 || {
	skip "the preloaded library" "$(cat "$work/why")"
	finish
	exit
}
check "it is installed" install_it
check "it exports bind, listen, connect and getsockname, and needs libc only" exports_four_functions

for place in main thread signal vfork first-of-all
do
	check "a listener and connections: $place" hard_place $place
done
check_with strace "a filter sees no calls but the program's own where there are ports" quiet_host_needs_little
check "with log and patience, in a thread with a stack of 16 KiB" is_on_full_host "thread: $all" \
	env IC_LISTENER_LOG=stderr IC_LISTENER_PATIENCE=20 "$run" build/hard_places thread

check_with python3 "python: 64 listeners and 64 connections, plain none" differs \
	"0 of listener, 0 ports, $in_use
0 of connection, 0 ports, $no_port" \
	"64 of listener, 64 ports, $in_use
64 of connection, 64 ports, $no_port" python3 preload/sockets.py listener connection
check_with python3 "python: 64 connections after bind() to port 0, plain none" differs \
	"0 of connection_from_an_address, 0 ports, $in_use" \
	"64 of connection_from_an_address, 64 ports, $no_port" python3 preload/sockets.py connection_from_an_address

check_with python3 "IC_LISTENER_LOG=stderr says why, and nothing else does" log_says_why
check_with python3 "IC_LISTENER_LOG=stderr does not write to another file" log_stays_out_of_files
check_with python3 "IC_LISTENER_PATIENCE waits for a port" patience
check_with python3 "IC_LISTENER_PATIENCE comes to an end" patience_ends
check_with strace "IC_LISTENER_PATIENCE waits by the clock, ever longer, and takes no census" patience_backs_off
check_with python3 "IC_LISTENER_PATIENCE is a whole number of milliseconds" patience_is_a_number
check_with python3 "a port that the program chose is not waited for" is_on_full_host "0 of listener_on_port_5000, 0 ports, $in_use" \
	env IC_LISTENER_PATIENCE=60000 "$run" python3 preload/sockets.py listener_on_port_5000

check "another library that wraps the same functions, before it and behind it" another_wrapper
check "the promises of the library, in a program that has it" together_with_the_library
finish
