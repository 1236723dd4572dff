#!/bin/sh
# Exhausts a small ephemeral port range in a network namespace with several copies of ephemeral_reuse, and checks what
# bind(0), SO_REUSEADDR with bind(0) and setup_listener() get then.
#
# There are two classes of kernels: those whose bind(0) shares ports among sockets with SO_REUSEADDR once the range is
# exhausted (Linux 5.7 and later with ip_autobind_reuse=1; Linux before 4.11), and those that keep them apart. Which class
# the running kernel is of is asked of the kernel, not of its version.
set -eu

cd "$(dirname "$0")/.."
. ./harness/tap.sh

program=build/ephemeral_reuse
autobind_reuse=/proc/sys/net/ipv4/ip_autobind_reuse

if [ "${1:-}" != in-netns ]
then
	if unshare --net true 2>/dev/null
	then
		exec unshare --net "kernel/$(basename "$0")" in-netns
	elif unshare --user --map-root-user --net true 2>/dev/null
	then
		exec unshare --user --map-root-user --net "kernel/$(basename "$0")" in-netns
	fi
	skip "exhausting the ephemeral port range" \
		"no network namespace: run as root, or allow user namespaces (sysctl user.max_user_namespaces)"
	finish
	exit
fi

work=$(mktemp -d)
holders=
trap 'release; rm -rf "$work"' EXIT

# hold COPIES COMBINATION...: that many copies of 16 sockets each; returns when they have them.
hold()
{
	copies=$1
	shift
	while [ "$copies" -gt 0 ]
	do
		mkfifo "$work/ready"
		$program -n 16 --hold "$@" >"$work/ready" &
		holders="$holders $!"
		head -n 1 <"$work/ready" | sed 's/, pid.*//; s/^/# /'
		rm "$work/ready"
		copies=$((copies - 1))
	done
}

release()
{
	for holder in $holders
	do
		kill "$holder"
		wait "$holder" 2>/dev/null || true
	done
	holders=
}

# Of the table of all combinations: how many sockets got a port, and how often a port came again.
got_and_twice()
{
	awk -v combination="$1 $2 $3" '$1 " " $2 " " $3 == combination { print $5, $8 }' "$work/table"
}

in_use="Address already in use"

# next_get BIND0 SHARED_BIND0 SETUP_LISTENER
next_get()
{
	is "what the next ones get" "bind(0): $1
SO_REUSEADDR, bind(0): $2
setup_listener: $3" "$($program --next)"
}

for_class()
{
	class=$($program --probe)
	case $class in
		keeps) shared="64 0" next_shared=$in_use ;;
		shares) shared="128 64" next_shared=ok ;;
	esac
	of="$1, a kernel that $class ports on bind(0)"

	echo "# $of: 128 sockets in a range of 64 ports"
	$program -n 128 >"$work/table"
	sed 's/^/# /' "$work/table"
	for combination in "listen noreuseaddr" "listen reuseaddr" "nolisten noreuseaddr"
	do
		# shellcheck disable=SC2086 # two words
		check "$of: tcp $combination: every port once" is "got, twice" "64 0" "$(got_and_twice tcp $combination)"
	done
	check "$of: tcp nolisten reuseaddr: as this class does" is "got, twice" "$shared" \
		"$(got_and_twice tcp nolisten reuseaddr)"
	check "$of: udp nolisten noreuseaddr: every port once" is "got, twice" "64 0" \
		"$(got_and_twice udp nolisten noreuseaddr)"
	udp_twice=$(got_and_twice udp nolisten reuseaddr)
	check "$of: udp nolisten reuseaddr: 128 sockets on 64 ports at most" test "${udp_twice% *}" -eq 128 -a \
		"${udp_twice#* }" -ge 64

	hold 3 tcp nolisten reuseaddr
	check "$of: a quarter of the range is free: all get a port" next_get ok ok ok
	hold 1 tcp nolisten reuseaddr
	check "$of: all ports bound with SO_REUSEADDR: setup_listener gets one" next_get "$in_use" "$next_shared" ok
	release

	hold 4 tcp nolisten noreuseaddr
	check "$of: all ports bound without SO_REUSEADDR: nobody gets one" next_get "$in_use" "$in_use" "$in_use"
	release

	hold 4 tcp listen reuseaddr
	check "$of: all ports listened on: nobody gets one" next_get "$in_use" "$in_use" "$in_use"
	release
}

echo 20000 20063 >/proc/sys/net/ipv4/ip_local_port_range
if [ -e $autobind_reuse ]
then
	for value in 0 1
	do
		echo $value >$autobind_reuse
		for_class "ip_autobind_reuse=$value"
	done
else
	for_class "no ip_autobind_reuse"
fi
finish
