#!/bin/bash
# What `make install` gives to C and C++ programs outside this tree, and what the libraries export and need.
set -eu

cd "$(dirname "$0")/.."
# shellcheck source-path=SCRIPTDIR/.. disable=SC1091
. ./harness/tap.sh

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

# A package is built below DESTDIR and used elsewhere; a user installs into a PREFIX of his own. No path is this tree's.
staged="$work/a package"
prefix="$work/prefix"
version=$(sed -n '/^\[package\]/,/^$/s/^version = "\(.*\)"$/\1/p' ../Cargo.toml)
library=libic_listener
soname=$library.so.${version%%.*}

# A root with a strict umask installs for everybody all the same.
install_to()
(
	umask 077
	${MAKE:-make} --no-print-directory -C .. install "$@"
)

uninstall_from()
{
	${MAKE:-make} --no-print-directory -C .. uninstall "$@"
}

# The functions that the header declares.
api()
{
	sed -n 's/^[a-z].*[ *]\(setup_listener\|ic_listener_[a-z_]*\)(.*/\1/p' ../include/ic_listener.h | sort
}

# INCLUDEDIR LIBDIR MANDIR
expected_files()
{
	sort <<-END
		$1/ic_listener.h
		$2/$library.a
		$2/$library.so
		$2/$soname
		$2/$library.so.$version
		$2/pkgconfig/ic_listener.pc
		$3/man3/ic_listener_open_tcp.3
		$3/man3/ic_listener_open_udp.3
		$3/man3/ic_listener_share_port.3
		$3/man3/ic_listener_step_name.3
		$3/man3/ic_listener_version.3
		$3/man3/setup_listener.3
	END
}

files_in()
{
	(cd "$1" && find . ! -type d | sed 's/^\.//' | sort)
}

everything_is_staged()
{
	is "the files" "$(expected_files /usr/include /usr/lib/x86 /usr/share/man)" "$(files_in "$staged")"
}

everything_is_in_the_prefix()
{
	is "the files" "$(expected_files /include /lib /share/man)" "$(files_in "$prefix")"
}

# Nothing executable or writable that should not be, and all of it readable, whatever the umask is.
modes()
{
	is "the modes" "$(printf '%s\n' 'f 644' 'f 755' 'l 777')" \
		"$(find "$staged" ! -type d -printf '%y %m\n' | sort -u)" &&
	is "what is executable" "$library.so.$version" "$(find "$staged" -type f -perm /111 -printf '%f\n')"
}

no_path_of_the_stage()
{
	is "files with one" "" "$(grep -rlF -e "$staged" -e "$(cd .. && pwd)" "$staged")"
}

# Prints the flags for a program, given "" or --static, as a list of words.
flags()
{
	# shellcheck disable=SC2086
	PKG_CONFIG_PATH=$prefix/lib/pkgconfig pkg-config $1 --cflags --libs ic_listener
}

cat >"$work/program.c" <<'END'
#include <stdio.h>
#include <string.h>
#include <unistd.h>
#include <ic_listener.h>

int
main(void)
{
	int			port;
	int			fd;

	if (setup_listener(&port, &fd) != 0)
		return 1;
	printf("%s port %s, fd %s\n", ic_listener_version(), port > 0 ? "given" : "0", fd > 2 ? "given" : "none");
	return close(fd);
}
END
cat >"$work/program.cc" <<'END'
#include <cstdio>
#include <unistd.h>
#include <ic_listener.h>

int
main()
{
	IcListenerOptions options = IC_LISTENER_OPTIONS_INIT;
	IcListenerReport report = IC_LISTENER_REPORT_INIT;
	int			port;
	int			fd;

	options.address = "127.0.0.1";
	if (ic_listener_open_udp(&options, &port, &fd, &report) != 0)
		return 1;
	std::printf("%s port %s, fd %s\n", ic_listener_version(), port > 0 ? "given" : "0", fd > 2 ? "given" : "none");
	return close(fd);
}
END

says_hello()
{
	is "the output" "$version port given, fd given" "$("$@")"
}

# COMPILER SOURCE: nothing but pkg-config says where things are.
shared_program()
{
	# shellcheck disable=SC2046
	"$1" "$work/$2" -Wall -Wextra -Werror -o "$work/shared-$2" $(flags "") &&
		is "what it needs" "$soname" "$(readelf -d "$work/shared-$2" | sed -n 's/.*\[\(.*ic_listener.*\)\]/\1/p')" &&
		LD_LIBRARY_PATH=$prefix/lib says_hello "$work/shared-$2" || return
	# shellcheck disable=SC2046
	"$1" "$work/$2" -o "$work/rpath-$2" $(flags "") -Wl,-rpath,"$prefix/lib" &&
		says_hello "$work/rpath-$2"
}

# Both libraries stand in one directory: the linker has to be told.
static_program()
{
	local words
	words=$(flags --static)
	# shellcheck disable=SC2086
	"$1" "$work/$2" -Wall -Wextra -Werror -o "$work/static-$2" \
		${words/-lic_listener/-Wl,-Bstatic -lic_listener -Wl,-Bdynamic} &&
		needs_no_library "$work/static-$2" &&
		says_hello "$work/static-$2"
}

# Where the static library stands alone, pkg-config --static is all it takes.
static_program_of_a_static_installation()
{
	# shellcheck disable=SC2046
	"$1" "$work/$2" -Wall -Wextra -Werror -o "$work/only-static-$2" \
		$(PKG_CONFIG_PATH=$work/only-static/lib/pkgconfig pkg-config --static --cflags --libs ic_listener) &&
		needs_no_library "$work/only-static-$2" &&
		says_hello "$work/only-static-$2"
}

# With libgcc_s.so out of the way: -static brings libgcc_eh.a for it.
fully_static_program()
{
	"${CC:-cc}" -static "$work/program.c" -o "$work/fully-static" -I"$prefix/include" -L"$prefix/lib" -lic_listener &&
		says_hello "$work/fully-static"
}

needs_no_library()
{
	is "what $1 needs of it" "" "$(readelf -d "$1" | grep -F ic_listener)"
}

pc_file()
{
	export PKG_CONFIG_PATH=$prefix/lib/pkgconfig
	pkg-config --validate ic_listener &&
		is "its version" "$version" "$(pkg-config --modversion ic_listener)" &&
		is "its libdir" "$prefix/lib" "$(pkg-config --variable=libdir ic_listener)" &&
		is "a prefix that moved" "-I/elsewhere/include -L/elsewhere/lib -lic_listener" \
			"$(pkg-config --define-variable=prefix=/elsewhere --cflags --libs ic_listener | sed 's/ *$//')"
}

directories_are_taken_as_given()
{
	install_to DESTDIR="$work/given" PREFIX=/p LIBDIR=/l/lib64 INCLUDEDIR=/i MANDIR=/m >/dev/null &&
		is "the files" "$(expected_files /i /l/lib64 /m)" "$(files_in "$work/given")" &&
		is "libdir" "/l/lib64" "$(sed -n 's/^libdir=//p' "$work/given/l/lib64/pkgconfig/ic_listener.pc")" &&
		is "includedir" "/i" "$(sed -n 's/^includedir=//p' "$work/given/l/lib64/pkgconfig/ic_listener.pc")"
}

# Cargo repeats the note of the build when there is nothing to build.
system_libraries()
{
	local reported
	reported=$("${CARGO:-cargo}" rustc --manifest-path ../Cargo.toml --lib --crate-type staticlib -- \
		--print native-static-libs 2>&1 | sed -n 's/^note: native-static-libs: //p')
	[ -n "$reported" ] &&
		is "Libs.private" "$reported" "$(sed -n 's/^Libs.private: //p' "$prefix/lib/pkgconfig/ic_listener.pc")" &&
		is "SYSTEM_LIBS of c_tests/Makefile" "$reported" "$(sed -n 's/^SYSTEM_LIBS = //p' Makefile)" &&
		is "the link line of README.md" "$reported" \
			"$(sed -n 's/^ *cc .*libic_listener\.a \(-l[^#]*[^# ]\) *#.*/\1/p' ../README.md)"
}

# LIBRARY: the names it defines for others. The hidden DW.ref.* is out of their reach.
globals_of()
{
	nm -g --defined-only "$1" 2>/dev/null | awk 'NF == 3 && $3 !~ /^DW\.ref\./ { print $3 }' | sort -u
}

shared_exports_the_api()
{
	[ "$(api | wc -l)" -eq 6 ] &&
		is "nm -D" "$(api)" "$(nm -D --defined-only "$prefix/lib/$soname" | awk '{ print $3 }' | sort)"
}

static_defines_the_api()
{
	is "nm -g" "$(api)" "$(globals_of "$prefix/lib/$library.a")"
}

# Two libraries of Rust in one program: each has its own runtime.
second_rust_library()
{
	cat >"$work/other.rs" <<-'END'
		#[unsafe(no_mangle)]
		pub extern "C" fn panics_inside(n: u32) -> u32 {
		    std::panic::set_hook(Box::new(|_| {}));
		    std::panic::catch_unwind(|| 1 / n).unwrap_or(42)
		}
	END
	cat >"$work/two.c" <<-'END'
		#include <ic_listener.h>
		unsigned panics_inside(unsigned n);
		int
		main(void)
		{
			int			port;
			int			fd;
			return setup_listener(&port, &fd) == 0 && panics_inside(0) == 42 ? 0 : 1;
		}
	END
	"${RUSTC:-rustc}" --edition 2024 --crate-type staticlib -O -C lto=fat -C codegen-units=1 \
		-o "$work/libother.a" "$work/other.rs" || return
	# Each may stand first.
	# shellcheck disable=SC2046
	"${CC:-cc}" "$work/two.c" -I"$prefix/include" "$prefix/lib/$library.a" "$work/libother.a" \
		-o "$work/two" $(flags --static) && "$work/two" || return
	# shellcheck disable=SC2046
	"${CC:-cc}" "$work/two.c" -I"$prefix/include" "$work/libother.a" "$prefix/lib/$library.a" \
		-o "$work/two" $(flags --static) && "$work/two"
}

# What Rust makes, and the tests of this directory link: these names beside the API, and --exclude-libs hides them all.
archive=../target/release/$library.a
cargo_s_archive()
{
	is "beside the API and compiler-rt's" "EMPTY_PANIC ARGV_INIT_ARRAY rust_eh_personality" \
		"$(globals_of $archive | grep -v -e '^__' -e '^setup_listener$' -e '^ic_listener_' |
			sed 's/.*\(EMPTY_PANIC\|ARGV_INIT_ARRAY\)$/\1/' | tr '\n' ' ' | sed 's/ $//')" &&
		is "the API" "$(api)" "$(globals_of $archive | grep -e '^setup_listener$' -e '^ic_listener_')"
}

exports_nothing()
{
	echo 'int in_an_extension(int *port, int *fd); extern int setup_listener(int *port, int *fd);
		int in_an_extension(int *port, int *fd) { return setup_listener(port, fd); }' >"$work/extension.c"
	# shellcheck disable=SC2046
	"${CC:-cc}" -shared -fPIC "$work/extension.c" -o "$work/extension.so" \
		-Wl,--exclude-libs,$library.a "$1" $(sed -n 's/^SYSTEM_LIBS = //p' Makefile) &&
		is "what the extension exports" "in_an_extension" \
			"$(nm -D --defined-only "$work/extension.so" | awk '{ print $3 }')"
}

shared_names_itself()
{
	is "SONAME" "$soname" "$(readelf -d "$prefix/lib/$soname" | sed -n 's/.*(SONAME).*\[\(.*\)\]/\1/p')" &&
		is "the link for programs" "$library.so.$version" "$(readlink "$prefix/lib/$soname")" &&
		is "the link for the linker" "$soname" "$(readlink "$prefix/lib/$library.so")"
}

# No code in writable pages and none that is relocated, no executable stack; addresses are bound before main() and
# read-only from then on.
shared_is_hardened()
{
	readelf -lWd "$prefix/lib/$soname" >"$work/so"
	is "an executable stack, text relocations" "" "$(grep -e 'GNU_STACK.*E ' -e TEXTREL "$work/so")" &&
		grep -q GNU_RELRO "$work/so" && grep -q BIND_NOW "$work/so"
}

# PAGE: the program in its EXAMPLES works as it stands there.
example()
{
	awk '/^\.Ed/ { inside = 0 } inside; /^\.Bd/ { inside = 1; count++ } /^\.Bd/ && count > 1 { exit }' "../man/$1" |
		sed 's/\\e/\\/g' >"$work/example.c"
	# shellcheck disable=SC2046
	"${CC:-cc}" -Wall -Wextra -Werror "$work/example.c" -o "$work/example" $(flags "") -Wl,-rpath,"$prefix/lib" &&
		"$work/example" | grep '^listening on port [1-9]'
}

aliases_lead_to_a_page()
{
	local page name
	for page in "$prefix"/share/man/man3/*
	do
		name=$(basename "$page" .3)
		mandoc -T ascii -I os=Linux "$(man_source "$page")" | col -b | grep -q "$name()" || {
			echo "$name() is not on its page"
			return 1
		}
	done
}

# The page that an alias names, relative to the directory of the manual.
man_source()
{
	local target
	target=$(sed -n 's/^\.so //p' "$1")
	if [ -n "$target" ]; then echo "$prefix/share/man/$target"; else echo "$1"; fi
}

uninstall_leaves_nothing()
{
	touch "$staged/usr/lib/x86/libic_listener_of_somebody_else.a"
	uninstall_from PREFIX=/usr LIBDIR=/usr/lib/x86 DESTDIR="$staged" >/dev/null &&
		uninstall_from PREFIX="$prefix" >/dev/null || return
	is "what is left of the package" "/usr/lib/x86/libic_listener_of_somebody_else.a" "$(files_in "$staged")" &&
		is "what is left below the prefix" "" "$(files_in "$prefix")"
}

# The goal is 350 KiB.
size_of_a_program()
{
	local bare with
	echo 'int main(void) { return 0; }' >"$work/bare.c"
	"${CC:-cc}" -O2 -s "$work/bare.c" -o "$work/bare"
	# shellcheck disable=SC2046
	"${CC:-cc}" -O2 -s "$work/program.c" -o "$work/with" -I"$prefix/include" "$prefix/lib/$library.a" \
		$(sed -n 's/^SYSTEM_LIBS = //p' Makefile) || return
	bare=$(stat -c %s "$work/bare")
	with=$(stat -c %s "$work/with")
	added=$(((with - bare + 1023) / 1024))
	echo "$added" >"$work/added"
	[ "$added" -le 350 ]
}

check "make install below a DESTDIR with a space in it" \
	install_to PREFIX=/usr LIBDIR=/usr/lib/x86 DESTDIR="$staged"
check "everything is there and nothing else" everything_is_staged
check "modes are 644 and 755 whatever the umask is" modes
check "no path of the build is in it" no_path_of_the_stage
check "make install into a PREFIX" install_to PREFIX="$prefix"
check "everything is there and nothing else" everything_is_in_the_prefix
check "LIBDIR, INCLUDEDIR and MANDIR" directories_are_taken_as_given
check "pkg-config reads ic_listener.pc" pc_file
for program in program.c program.cc
do
	case $program in *.c) compiler=${CC:-cc} ;; *) compiler=${CXX:-c++} ;; esac
	check "$program with the shared library" shared_program "$compiler" $program
	check "$program with the static library" static_program "$compiler" $program
done
install_to PREFIX="$work/only-static" >/dev/null
rm -f "$work"/only-static/lib/*.so*
check "program.c where the static library stands alone" static_program_of_a_static_installation "${CC:-cc}" program.c
check "program.c, fully static" fully_static_program
check "the system libraries are those that rustc reports" system_libraries
check "the shared library exports the API and nothing else" shared_exports_the_api
check "the shared library has its SONAME and links" shared_names_itself
check "the shared library is hardened" shared_is_hardened
check "the static library defines the API and nothing else" static_defines_the_api
check "a program can link a second library of Rust" second_rust_library
check "an extension that links it exports nothing of it" exports_nothing "$prefix/lib/$library.a"
check "cargo's archive has the documented names beside the API" cargo_s_archive
check "an extension that links cargo's archive exports nothing of it" exports_nothing "$archive"
check "the example in setup_listener(3)" example setup_listener.3
check "the example in ic_listener_open_tcp(3)" example ic_listener_open_tcp.3
if command -v mandoc >/dev/null
then
	check "mandoc has no warning" mandoc -T lint -W warning "$prefix/share/man/man3/setup_listener.3" \
		"$prefix/share/man/man3/ic_listener_open_tcp.3"
	check "every function has a page" aliases_lead_to_a_page
else
	skip "the man pages" "mandoc is missing: apt-get install mandoc"
fi
check "a stripped program grows by 350 KiB at most" size_of_a_program
echo "# a stripped program grows by $(cat "$work/added") KiB"
check "make uninstall removes that and nothing else" uninstall_leaves_nothing
finish
