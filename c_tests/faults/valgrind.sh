#!/bin/bash
# The C programs under valgrind: no leak, no invalid access, and no fd left open, in the program and in every process it
# forks.
#
# Valgrind 3.19 does not count an open fd as an error, so its logs are read: one for each process.
set -eu

cd "$(dirname "$0")/.."
# shellcheck source-path=SCRIPTDIR/.. disable=SC1091
. ./harness/tap.sh

programs=(demo contract faults panic)

command -v valgrind >/dev/null || {
	skip valgrind "valgrind is missing: apt-get install valgrind"
	finish
	exit
}

scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT

# Descriptors that were not inherited, in the logs of a program.
fds_left()
{
	awk '/Open .*(descriptor|socket)/ { open = $0; next }
		open != "" { if (!/<inherited from parent>/) print open; open = "" }' \
		"$@"
}

# What whoever runs this left open for us. Valgrind 3.24 counts it as an error.
close_inherited()
{
	local fd
	for fd in /proc/self/fd/*
	do
		fd=${fd##*/}
		[ "$fd" -le 2 ] || eval "exec $fd>&-"
	done
}

# Runs a program under valgrind; prints what is wrong, and fails if anything is.
is_clean()
{
	local name=$1 log status=0 wrong=0
	shift
	(
		close_inherited
		CMOCKA_MESSAGE_OUTPUT=TAP exec valgrind --leak-check=full --track-fds=yes \
			--error-exitcode=99 --log-file="$scratch/$name.%p" "$@"
	) >"$scratch/$name.output" 2>&1 </dev/null || status=$?
	if [ "$status" -ne 0 ]
	then
		echo "$name ended with status $status"
		grep -v '^ok ' "$scratch/$name.output" || :
		wrong=1
	fi
	for log in "$scratch/$name".[0-9]*
	do
		if grep -q 'ERROR SUMMARY: [1-9]' "$log" ||
			! grep -q 'FILE DESCRIPTORS: ' "$log" ||
			[ -n "$(fds_left "$log")" ]
		then
			cat "$log"
			wrong=1
		fi
	done
	return $wrong
}

# Tests also that this valgrind's logs are understood: programs with a known fault must be caught.
canary()
{
	local name=$1 body=$2 status=0
	printf '%s\n' '#include <stdlib.h>' '#include <sys/socket.h>' \
		'#include <sys/wait.h>' '#include <unistd.h>' \
		"int main(void) { $body }" |
		"${CC:-cc}" -g -O0 -x c -o "$scratch/$name" -
	is_clean "$name" "$scratch/$name" >/dev/null || status=$?
	is "is_clean $name" 1 "$status"
}

make --no-print-directory -s "${programs[@]/#/build/}" >&2

check "valgrind tells: lost memory" canary lost_memory '*(void *volatile *) malloc(8) = 0; return 0;'
check "valgrind tells: a socket left by a child" canary a_socket_left_by_a_child \
	'if (fork() == 0) { socket(AF_INET, SOCK_STREAM, 0); _exit(0); } wait(NULL);'

for program in "${programs[@]}"
do
	check "$program under valgrind" is_clean "$program" "build/$program"
done
finish
