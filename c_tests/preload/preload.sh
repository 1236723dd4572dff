#!/bin/bash
# Programs that are not rebuilt, with libic_listener_preload.so and without it, on a host without a free port: what they
# get, and that nothing else changes.
set -eu

cd "$(dirname "$0")/.."
# shellcheck source-path=SCRIPTDIR/.. disable=SC1091
. ./harness/tap.sh

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
run=$work/bin/ic_listener_run
library=$work/lib/libic_listener_preload.so
full_host=build/full_host
unset LD_PRELOAD LD_BIND_NOW IC_LISTENER_LOG IC_LISTENER_PATIENCE

in_use='Address already in use'
no_port='Cannot assign requested address'

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

same_answers()
{
	# In its own namespace, without a route.
	unshare_net build/same_answers >"$work/plain" && unshare_net "$run" build/same_answers >"$work/preloaded" &&
		[ "$(wc -l <"$work/plain")" -gt 400 ] && diff "$work/plain" "$work/preloaded"
}

unshare_net()
{
	# shellcheck disable=SC2016 # The words are for the inner shell.
	# Root needs no user namespace, which a chroot cannot have.
	local as_root=--map-root-user
	[ "$(id -u)" -ne 0 ] || as_root=
	unshare $as_root --net sh -c 'ip link set lo up && exec "$@"' sh "$@"
}

exports_three_functions()
{
	is "nm -D" "bind connect listen" "$(nm -D --defined-only "$library" | awk '{ print $3 }' | sort | xargs)" &&
		is "what it needs, beside the dynamic linker" "libc.so.6" \
			"$(readelf -d "$library" | sed -n 's/.*(NEEDED).*\[\(.*\)\]/\1/p' | grep -v '^ld-linux')"
}

all='a listener and its connections'

# hard_place PLACE PLAIN PRELOADED
hard_place()
{
	differs "$1: $2" "$1: $3" build/hard_places "$1"
}

log_says_why()
{
	is "without the variable" "" "$($full_host "$run" python3 preload/sockets.py listener connection 2>&1 >/dev/null)" &&
		is "with another value" "" \
			"$(IC_LISTENER_LOG=syslog $full_host "$run" python3 preload/sockets.py listener connection 2>&1 >/dev/null)" || return
	IC_LISTENER_LOG=stderr $full_host "$run" python3 preload/sockets.py listener connection 2>"$work/log" >/dev/null
	is "the lines" "python3: no port to listen on in 40000-40063: 64 tried, 64 in use: 64 listeners
python3: no port to connect from in 40000-40063: 64 tried, 64 connected to the same destination already" \
		"$(sed 's/^ic_listener: \(.*\)\[[0-9]*\]: /\1: /' "$work/log" | sort -u -r | head -n 2 | sort -r)"
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

# PROGRAM: a test of the library itself, in a program that has the preloaded one as well.
together_with_the_library()
{
	CMOCKA_MESSAGE_OUTPUT=TAP "$run" "build/$1"
}

another_wrapper()
{
	"${CC:-cc}" -O2 -fPIC -shared -o "$work/wrapper.so" preload/counting_wrapper.c -ldl &&
		is_on_full_host "main: $all
bind, listen, connect" env LD_PRELOAD="$work/wrapper.so $library" build/hard_places main &&
		is_on_full_host "main: $all
bind, listen, connect" env LD_PRELOAD="$library:$work/wrapper.so" build/hard_places main
}

valgrind_program()
{
	is_on_full_host "main: $all" "$run" valgrind -q --error-exitcode=9 build/hard_places main
}

# The sanitizer's own library must be first.
asan_program()
{
	"${CC:-cc}" -O1 -g -fsanitize=address -pthread -o "$work/asan" preload/hard_places.c &&
		is_on_full_host "main: $all" env LD_PRELOAD="$("${CC:-cc}" -print-file-name=libasan.so)" \
			ASAN_OPTIONS=detect_leaks=0 "$run" "$work/asan" main
}

static_asan_program()
{
	"${CC:-cc}" -O1 -g -fsanitize=address -static-libasan -pthread -o "$work/asan" preload/hard_places.c &&
		differs "main: bind: EADDRINUSE" "main: $all" "$work/asan" main
}

static_program()
{
	"${CC:-cc}" -O2 -static -pthread -o "$work/static" preload/hard_places.c &&
		differs "main: bind: EADDRINUSE" "main: bind: EADDRINUSE" "$work/static" main
}

raw_calls()
{
	"${RUSTC:-rustc}" --edition 2024 -O -o "$work/raw_calls" preload/raw_calls.rs &&
		differs "$in_use (os error 98)" "$in_use (os error 98)" "$work/raw_calls" &&
		is "on a quiet host" "a listener" "$(unshare_net "$run" "$work/raw_calls")"
}

# Each takes a port, for it closes first. (Debian 13's nc says that it succeeded.)
nc_connections()
{
	# shellcheck disable=SC2016 # The words are for the inner shell.
	differs 0 40 sh -c 'made=0; for run in $(seq 40); do ! nc -z 127.0.0.1 5000 2>/dev/null || made=$((made + 1)); done; echo $made'
}

socat_listener()
{
	# shellcheck disable=SC2016
	differs "$in_use" "listening on" sh -c 'socat -d -d TCP-LISTEN:0,accept-timeout=0.1 - 2>&1 </dev/null |
		sed -n "s/.*\(listening on\|Address already in use\).*/\1/p" | sort -u'
}

$full_host true >"$work/why" 2>&1 || {
	skip "the preloaded library" "$(cat "$work/why")"
	finish
	exit
}
check "it is installed" install_it
check "it exports bind, listen and connect, and needs libc only" exports_three_functions
check_with ip:iproute2 "the same answers for every other socket, address and descriptor" same_answers

for place in main thread signal child child-of-threads vfork first-of-all before-main at-exit after-main
do
	check "a listener and connections: $place" hard_place $place "bind: EADDRINUSE" "$all"
done
check "with log and patience, in a thread with a stack of 16 KiB" env IC_LISTENER_LOG=stderr IC_LISTENER_PATIENCE=20 \
	bash -c "$(declare -f is is_on_full_host); full_host=$full_host; is_on_full_host 'thread: $all' $run build/hard_places thread"
check "all symbols bound at the start" is_on_full_host "main: $all" env LD_BIND_NOW=1 "$run" build/hard_places main
check "a thread that waits in connect() is cancelled" hard_place cancelled "connect: EADDRNOTAVAIL" "cancelled"
check "connect() is a cancellation point when it does not wait" hard_place cancelled-before "cancelled" "cancelled"
check "bind() is none" hard_place not-cancelled "bind: EADDRINUSE" "bound"
check "a handler jumps out of connect()" hard_place jumped-out-of "connect came back: EADDRNOTAVAIL" "jumped out"

check_with python3 "python: 64 listeners and 64 connections, plain none" differs \
	"0 of listener, 0 ports, $in_use
0 of connection, 0 ports, $no_port" \
	"64 of listener, 64 ports, $in_use
64 of connection, 64 ports, $no_port" python3 preload/sockets.py listener connection
check_with python3 "python: 64 connections after bind() to port 0, plain none" differs \
	"0 of connection_from_an_address, 0 ports, $in_use" \
	"64 of connection_from_an_address, 64 ports, $no_port" python3 preload/sockets.py connection_from_an_address
check_with perl "perl: 64 listeners and 64 connections, plain none" differs \
	"0 listeners, $in_use
0 connections, $no_port" \
	"64 listeners, $in_use
64 connections, $no_port" perl preload/sockets.pl
check_with nc:netcat-openbsd "nc: 40 connections, plain none" nc_connections
check_with socat "socat: a listener, plain none" socat_listener
check_with python3 "IC_LISTENER_LOG=stderr says why, and nothing else does" log_says_why

check_with python3 "IC_LISTENER_PATIENCE waits for a port" patience
check_with python3 "IC_LISTENER_PATIENCE comes to an end" patience_ends
check_with python3 "a port that the program chose is not waited for" is_on_full_host "0 of listener_on_port_5000, 0 ports, $in_use" \
	env IC_LISTENER_PATIENCE=100000 "$run" python3 preload/sockets.py listener_on_port_5000

check "another library that wraps the same functions, before it and behind it" another_wrapper
built=" $(${MAKE:-make} --no-print-directory programs) "
for program in conformance exclusive port_choice options addresses
do
	promises="the promises of the library, in a program that has it: $program"
	if [[ $built == *" $program "* ]]
	then
		check "$promises" together_with_the_library $program
	else
		skip "$promises" "cmocka.h is missing: apt-get install libcmocka-dev"
	fi
done
check_with valgrind "a program under valgrind" valgrind_program
check "a program with the address sanitizer" asan_program
check "a program with the address sanitizer in it" static_asan_program
check "a static program is not reached" static_program
check_with ip:iproute2 "a program with raw system calls is not reached, and works" raw_calls
finish
