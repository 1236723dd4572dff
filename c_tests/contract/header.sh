#!/bin/sh
# The header on its own: every C and C++ that a database is built with takes it without a warning.
set -eu

cd "$(dirname "$0")/.."
# shellcheck source-path=SCRIPTDIR/.. disable=SC1091
. ./harness/tap.sh

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
warnings="-Wall -Wextra -Wpedantic -Wstrict-prototypes -Wold-style-definition -Werror"
cxx_warnings="-Wall -Wextra -Wpedantic -Werror"

echo '#include "ic_listener.h"' >"$work/alone.c"

cat >"$work/used.c" <<'END'
#include "ic_listener.h"
#include "ic_listener.h"

#if IC_LISTENER_VERSION_MAJOR < 0 || IC_LISTENER_VERSION_MINOR < 0 || IC_LISTENER_VERSION_PATCH < 0
#error "the version macros are no numbers"
#endif

static const char version[] = "version " IC_LISTENER_VERSION;

int
main(void)
{
	IcListenerOptions options = IC_LISTENER_OPTIONS_INIT;
	IcListenerReport report = IC_LISTENER_REPORT_INIT;
	IcListenerCensus census = IC_LISTENER_CENSUS_INIT;
	IcListenerStep step = IC_LISTENER_STEP_NONE;
	IcListenerPortOrigin origin = IC_LISTENER_PORT_ORIGIN_NONE;
	static struct sockaddr address;
	socklen_t	length = sizeof(address);
	int			port;
	int			fd;

	if (ic_listener_open_tcp(&options, &port, &fd, &report) != 0 ||
		ic_listener_open_udp(&options, &port, &fd, &report) != 0 ||
		setup_listener(&port, &fd) != 0 ||
		ic_listener_bind(fd, &address, length, &report) != 0 ||
		ic_listener_listen(fd, 128, &report) != 0 ||
		ic_listener_getsockname(fd, &address, &length) != 0 ||
		ic_listener_connect(fd, &address, length, NULL) != 0 ||
		ic_listener_begin_connect(fd, &address, length, NULL) != 0 ||
		ic_listener_census(&options, &census) != 0)
		return 1;
	return report.step == (int32_t) step && report.origin != (int32_t) origin &&
		ic_listener_step_name(report.step)[0] == 'n' &&
		ic_listener_version()[0] == version[8] ? 0 : 1;
}
END
cp "$work/used.c" "$work/used.cc"

# As databases do: the initializer as an assignment, the structs by their tags.
cat >"$work/tags.c" <<'END'
#include "ic_listener.h"

int			tags(struct IcListenerOptions *options, enum IcListenerStep step);

int
tags(struct IcListenerOptions *options, enum IcListenerStep step)
{
	*options = (IcListenerOptions) IC_LISTENER_OPTIONS_INIT;
	return (int) step;
}
END

compiles()
{
	# The options are words.
	# shellcheck disable=SC2086
	"$1" $2 -I../include -fsyntax-only "$3"
}

for cc in gcc clang
do
	command -v "$cc" >/dev/null || {
		skip "$cc" "$cc is missing: apt-get install $cc"
		continue
	}
	for standard in c99 c11 c17 gnu99 gnu17
	do
		for program in alone used tags
		do
			check "$cc -std=$standard: $program" compiles "$cc" "-std=$standard $warnings" "$work/$program.c"
		done
	done
done
for cxx in g++ clang++
do
	command -v "$cxx" >/dev/null || {
		# A package of clang has both.
		compiler=$(echo "$cxx" | sed 's/clang++/clang/')
		skip "$cxx" "$compiler is missing: apt-get install $compiler"
		continue
	}
	for standard in c++11 c++14 c++17 c++20
	do
		check "$cxx -std=$standard: used" compiles "$cxx" "-std=$standard $cxx_warnings" "$work/used.cc"
	done
done

c_names_in_cxx()
{
	g++ -std=c++11 -I../include -c -o "$work/used.o" "$work/used.cc"
	is "what a C++ program asks the linker for" \
		"$(sed -n 's/^[a-z].*[ *]\(setup_listener\|ic_listener_[a-z_]*\)(.*/\1/p' ../include/ic_listener.h | sort)" \
		"$(nm -u "$work/used.o" | awk '{ print $2 }' | grep -v '^_' | sort)"
}

if command -v g++ >/dev/null
then
	check "g++: the functions have their C names" c_names_in_cxx
fi
finish
