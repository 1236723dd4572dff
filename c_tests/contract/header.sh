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

cat >"$work/used.c" <<'END'
#include "ic_listener.h"
#include "ic_listener.h"
#include <string.h>

#if IC_LISTENER_VERSION_MAJOR < 0 || IC_LISTENER_VERSION_MINOR < 0 || IC_LISTENER_VERSION_PATCH < 0
#error "the version macros are no numbers"
#endif

int
main(void)
{
	/* As databases do: the structs by their tags, too. */
	struct IcListenerOptions options = IC_LISTENER_OPTIONS_INIT;
	struct IcListenerReport report = IC_LISTENER_REPORT_INIT;
	IcListenerCensus census = IC_LISTENER_CENSUS_INIT;
	enum IcListenerStep step = IC_LISTENER_STEP_NONE;
	static const char version[] = "version " IC_LISTENER_VERSION;
	struct sockaddr address;
	socklen_t	length = sizeof(address);
	int			port;
	int			fd;

#ifndef __cplusplus
	options = (IcListenerOptions) IC_LISTENER_OPTIONS_INIT;
#endif
	if (ic_listener_open_udp(&options, &port, &fd, &report) != 0 ||
		setup_listener(&port, &fd) != 0 ||
		ic_listener_open_tcp(&options, &port, &fd, &report) != 0 ||
		ic_listener_getsockname(fd, &address, &length) != 0 ||
		ic_listener_bind(fd, &address, length, &report) == 0 ||
		ic_listener_listen(fd, 128, &report) != 0 ||
		ic_listener_connect(fd, &address, length, NULL) == 0 ||
		ic_listener_begin_connect(fd, &address, length, NULL) == 0 ||
		ic_listener_census(&options, &census) != 0)
		return 1;
	return strcmp(ic_listener_step_name(step), "none") == 0 && strcmp(ic_listener_version(), version + 8) == 0 ? 0 : 1;
}
END
cp "$work/used.c" "$work/used.cc"

# The options are words.
# shellcheck disable=SC2086
for standard in c99 c17 gnu99 gnu17
do
	check_with gcc "gcc -std=$standard" gcc -std=$standard $warnings -I../include -fsyntax-only "$work/used.c"
	check_with clang "clang -std=$standard" clang -std=$standard $warnings -I../include -fsyntax-only "$work/used.c"
done
# shellcheck disable=SC2086
for standard in c++11 c++14 c++17 c++20
do
	check_with g++ "g++ -std=$standard" g++ -std=$standard $cxx_warnings -I../include -fsyntax-only "$work/used.cc"
	check_with clang++:clang "clang++ -std=$standard" \
		clang++ -std=$standard $cxx_warnings -I../include -fsyntax-only "$work/used.cc"
done

# The linker finds the functions by their C names.
cxx_program()
{
	g++ -std=c++11 -I../include -o "$work/used" "$work/used.cc" ../target/lib/libic_listener.a && "$work/used"
}
check_with g++ "a C++ program calls every function" cxx_program
finish
