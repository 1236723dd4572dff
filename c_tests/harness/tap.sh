# Test Anything Protocol for the shell tests: source it, call check for each test, and end with finish.
# shellcheck shell=sh

tap_count=0
tap_failed=0

# check NAME COMMAND [ARGUMENT...]: the test passes when the command succeeds; else its output is shown.
check()
{
	tap_name=$1
	shift
	tap_count=$((tap_count + 1))
	# Not the condition of an if: there set -e does not hold, and a function goes on after a command that failed.
	set +e
	tap_output=$(set -e; "$@" 2>&1)
	tap_status=$?
	set -e
	if [ "$tap_status" -eq 0 ]
	then
		echo "ok $tap_count - $tap_name"
	else
		tap_failed=$((tap_failed + 1))
		echo "not ok $tap_count - $tap_name"
		echo "$tap_output" | sed 's/^/# /'
	fi
}

# skip NAME WHY: the test cannot run here; WHY is what is missing and how to get it.
skip()
{
	tap_count=$((tap_count + 1))
	echo "ok $tap_count - $1 # SKIP $2"
}

# check_with TOOL[:PACKAGE] NAME COMMAND [ARGUMENT...]: check, or skip where the tool is missing. PACKAGE is Debian's.
check_with()
{
	tap_tool=$1
	shift
	if command -v "${tap_tool%%:*}" >/dev/null
	then
		check "$@"
	else
		skip "$1" "${tap_tool%%:*} is missing: apt-get install ${tap_tool##*:}"
	fi
}

# is WHAT EXPECTED ACTUAL
is()
{
	[ "$2" = "$3" ] || {
		printf '%s:\n%s\ninstead of:\n%s\n' "$1" "$3" "$2"
		return 1
	}
}

finish()
{
	echo "1..$tap_count"
	[ "$tap_failed" -eq 0 ]
}
