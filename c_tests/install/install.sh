#!/bin/bash
# What `make install` gives to C and C++ programs outside this tree, and what the libraries export and need.
set -eu

cd "$(dirname "$0")/.."
top=$(cd .. && pwd)
# shellcheck source-path=SCRIPTDIR/.. disable=SC1091
. ./harness/tap.sh

command -v pkg-config >/dev/null || {
	skip "make install" "pkg-config is missing: apt-get install pkg-config"
	finish
	exit
}

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

# A package is built below DESTDIR and used elsewhere; a user installs into his own PREFIX. No path is of this tree.
staged="$work/a package"
prefix="$work/prefix"
version=$(sed -n '/^\[package\]/,/^$/s/^version = "\(.*\)"$/\1/p' ../Cargo.toml)
library=libic_listener
soname=$library.so.${version%%.*}

# With a strict umask, root still installs for all users.
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

# INCLUDEDIR LIBDIR BINDIR MANDIR
expected_files()
{
	{
		cat <<-END
			$1/ic_listener.h
			$2/$library.a
			$2/$library.so
			$2/$soname
			$2/$library.so.$version
			$2/${library}_preload.so
			$2/pkgconfig/ic_listener.pc
			$3/ic_listener_run
			$3/ic_ports
			$4/man1/ic_listener_run.1
			$4/man1/ic_ports.1
		END
		sed -n 's/^\.Nm \([a-z_]\+\).*/\1/p' ../man/*.3 | sort -u | sed "s|.*|$4/man3/&.3|"
	} | sort
}

files_in()
{
	(cd "$1" && find . ! -type d | sed 's/^\.//' | sort)
}

# DIRECTORY INCLUDEDIR LIBDIR BINDIR MANDIR
has_everything()
{
	is "the files" "$(expected_files "${@:2}")" "$(files_in "$1")"
}

# Permissions do not depend on the umask: all can be read, nothing else is executable or writable than should be.
modes()
{
	is "the modes" "$(printf '%s\n' 'f 644' 'f 755' 'l 777')" \
		"$(find "$staged" ! -type d -printf '%y %m\n' | sort -u)" &&
	is "what is executable" "$(printf '%s\n' ic_listener_run ic_ports "$library.so.$version" "${library}_preload.so" | sort)" \
		"$(find "$staged" -type f -perm /111 -printf '%f\n' | sort)"
}

no_path_of_the_stage()
{
	is "files with one" "" "$(grep -rlF -e "$staged" -e "$top" "$staged")"
}

# Prints the flags for a program, given "" or --static, as a list of words.
flags()
{
	# shellcheck disable=SC2086
	PKG_CONFIG_PATH=$prefix/lib/pkgconfig pkg-config $1 --cflags --libs ic_listener
}

# The example of README.md.
awk '/^```c$/ { inside = 1; next } /^```$/ { if (inside) exit } inside' "$top/README.md" >"$work/program.c"

says_hello()
{
	"$@" | grep '^listening on port [1-9]'
}

# Only pkg-config says where things are.
shared_program()
{
	# shellcheck disable=SC2046
	"${CC:-cc}" "$work/program.c" -Wall -Wextra -Werror -o "$work/shared" $(flags "") &&
		is "what it needs" "$soname" "$(readelf -d "$work/shared" | sed -n 's/.*\[\(.*ic_listener.*\)\]/\1/p')" &&
		LD_LIBRARY_PATH=$prefix/lib says_hello "$work/shared"
}

# Both libraries are in one directory: the linker must be told which.
static_program()
{
	local words
	words=$(flags --static)
	# shellcheck disable=SC2086
	"${CC:-cc}" "$work/program.c" -o "$work/static" ${words/-lic_listener/-Wl,-Bstatic -lic_listener -Wl,-Bdynamic} &&
		needs_no_library "$work/static" && says_hello "$work/static"
}

# OPTION...: where there is only the static library, pkg-config --static is enough.
program_of_a_static_installation()
{
	# shellcheck disable=SC2046
	"${CC:-cc}" "$@" "$work/program.c" -o "$work/only" \
		$(PKG_CONFIG_PATH=$work/only-static/lib/pkgconfig pkg-config --static --cflags --libs ic_listener) &&
		needs_no_library "$work/only" && says_hello "$work/only"
}

# COMPILER OPTIONS...: with the archive and no other library.
nothing_but_the_archive()
{
	"$@" "$work/program.c" -I"$prefix/include" "$prefix/lib/$library.a" -o "$work/plain" && says_hello "$work/plain"
}

# Each `cc example.c ...` of README.md.
lines_of_the_readme()
{
	local line count=0
	mkdir -p "$work/readme" && cd "$work/readme" || return
	ln -sf "$top/target" "$top/include" .
	cp ../program.c example.c
	while read -r line
	do
		rm -f a.out
		echo "$line"
		PKG_CONFIG_PATH=$prefix/lib/pkgconfig bash -c "$line" || return
		LD_LIBRARY_PATH=$prefix/lib says_hello ./a.out || return
		count=$((count + 1))
	done < <(sed -n 's/^    \(cc .*example\.c .*\)/\1/p' "$top/README.md")
	[ "$count" -ge 3 ]
}

# What docs/linking.md says for CMake, in a project.
cmake_project()
{
	local line
	line=$(grep '^CMake: ' "$top/docs/linking.md")
	mkdir "$work/cmake" && cd "$work/cmake" && cp ../program.c . && cat >CMakeLists.txt <<-END
		cmake_minimum_required(VERSION 3.10)
		project(program C)
		find_package(PkgConfig REQUIRED)
		$(echo "$line" | cut -d '`' -f 2)
		add_executable(program program.c)
		target_link_libraries(program $(echo "$line" | cut -d '`' -f 4))
	END
	PKG_CONFIG_PATH=$prefix/lib/pkgconfig cmake -B build . && cmake --build build && says_hello build/program
}

# What it says for Meson, with the shared library and the static one.
meson_project()
{
	local lines call option
	lines=$(grep -A 1 'Meson:$' "$top/docs/linking.md" | tail -n 1)
	call=$(echo "$lines" | cut -d '`' -f 2)
	option=$(echo "$lines" | cut -d '`' -f 4)
	mkdir "$work/meson" && cd "$work/meson" && cp ../program.c . && cat >meson.build <<-END
		project('program', 'c')
		executable('shared', 'program.c', dependencies: $call)
		executable('static', 'program.c', dependencies: ${call%)}, $option))
	END
	PKG_CONFIG_PATH=$prefix/lib/pkgconfig meson setup build && ninja -C build &&
		LD_LIBRARY_PATH=$prefix/lib says_hello build/shared &&
		needs_no_library build/static && says_hello build/static
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
	install_to DESTDIR="$work/given" PREFIX=/p LIBDIR=/l/lib64 INCLUDEDIR=/i BINDIR=/b MANDIR=/m >/dev/null &&
		has_everything "$work/given" /i /l/lib64 /b /m &&
		is "libdir" "/l/lib64" "$(sed -n 's/^libdir=//p' "$work/given/l/lib64/pkgconfig/ic_listener.pc")" &&
		is "includedir" "/i" "$(sed -n 's/^includedir=//p' "$work/given/l/lib64/pkgconfig/ic_listener.pc")"
}

# It needs libc and the unwinder, which every C compiler links, and no library that glibc 2.34 merged into libc.
needs_libc_and_the_unwinder()
{
	local undefined
	undefined=$(readelf -sW "$prefix/lib/$library.a" | awk '$7 == "UND" && $8 != "" { print $8 }' | sort -u)
	[ "$(echo "$undefined" | wc -l)" -gt 20 ] &&
		is "what it needs of other libraries" "" "$(echo "$undefined" | grep -E \
			'^(pthread_(create|join|detach|key_|getspecific|setspecific|rwlock|cond|mutex_trylock)|dl(open|sym|error)|shm_|sem_|timer_|aio_|f?(mod|loor|ma|ma[xin]+)f?$)')" &&
		is "the rest of Rust" "" "$(echo "$undefined" | grep -E '^_?_R|^rust_|^__rust')"
}

# OPTION LIBRARY: the names it defines for others. With readelf: where clang is installed, nm sees no object with bitcode.
globals_of()
{
	readelf "$1" -W "$2" | awk '$5 != "LOCAL" && $7 != "UND" && $1 ~ /^[0-9]+:$/ { print $8 }' | sort -u
}

static_defines_the_api()
{
	is "its global symbols" "$(api)" "$(globals_of -s "$prefix/lib/$library.a")"
}

shared_exports_the_api()
{
	is "its dynamic symbols" "$( (api | sed 's/$/@@IC_LISTENER_0.1/'; echo IC_LISTENER_0.1) | sort)" \
		"$(globals_of --dyn-syms "$prefix/lib/$soname")"
}

# ic_listener.abi is what abidw said of it; without the libraries that it needs, which differ between processors.
symbols_are_those_of_0_1()
{
	local processor
	processor=$(abidw "$prefix/lib/$soname" | sed -n "s/^<abi-corpus.* architecture='\([^']*\)'.*/\1/p")
	sed "s/elf-amd-x86_64/$processor/" install/ic_listener.abi >"$work/expected.abi" &&
		abidiff "$work/expected.abi" "$prefix/lib/$soname"
}

# [OPTION OF CC] TABLE
abi_is()
{
	# shellcheck disable=SC2086 # No word where there is no option.
	is "the C interface, see $2" "$(cat "install/$2")" "$(install/abi.sh $1)"
}

# No compiler puts in bytes of its own, whose content nobody sets.
no_holes()
{
	is "structs with holes" "" "$(awk '
		NF == 2 && /^IcListener/ { size[$1] = $2 }
		NF == 3 { struct = $1; sub(/\..*/, "", struct); members[struct] += $3 }
		END { for (struct in size) if (size[struct] != members[struct]) print struct }' "install/$1")"
}

exports_nothing()
{
	echo 'int in_an_extension(int *port, int *fd); extern int setup_listener(int *port, int *fd);
		int in_an_extension(int *port, int *fd) { return setup_listener(port, fd); }' >"$work/extension.c"
	"${CC:-cc}" -shared -fPIC "$work/extension.c" -o "$work/extension.so" -Wl,--exclude-libs,$library.a "$prefix/lib/$library.a" \
		-Wl,-z,defs &&
		is "what the extension exports" "in_an_extension" \
			"$(nm -D --defined-only "$work/extension.so" | awk '{ print $3 }')"
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
		says_hello "$work/example"
}

# Its page, or the one that its page points to, has it with its arguments.
every_function_has_a_page()
{
	local man="$prefix/share/man" name
	for name in $(api)
	do
		grep -q "^\.Fn $name [\"v]" "$man/man3/$name.3" "$man/$(sed -n 's/^\.so //p' "$man/man3/$name.3")" || {
			echo "$name() is not on its page"
			return 1
		}
	done
}

# Empty directories go, but not those that a system has by itself.
uninstall_leaves_nothing()
{
	touch "$staged/usr/lib/x86/libic_listener_of_somebody_else.a"
	uninstall_from PREFIX=/usr LIBDIR=/usr/lib/x86 DESTDIR="$staged" >/dev/null &&
		uninstall_from PREFIX="$prefix" >/dev/null || return
	is "what is left of the package" "$(printf '%s\n' /usr/bin /usr/include /usr/lib/x86/libic_listener_of_somebody_else.a /usr/share/man)" \
		"$(cd "$staged" && find . -type f -o -type d -empty | sed 's/^\.//' | sort)" &&
		is "what is left of the prefix" "$prefix" "$(find "$prefix")"
}

without_rights()
{
	local said status=0 as_another=()
	[ "$(id -u)" != 0 ] || as_another=(setpriv --reuid 65534 --regid 65534 --clear-groups)
	mkdir "$work/closed" && chmod 555 "$work/closed" && chmod 755 "$work" || return
	said=$("${as_another[@]}" "${MAKE:-make}" --no-print-directory -C .. install DESTDIR="$work/closed" 2>&1) || status=$?
	echo "$said"
	is "the status" 2 $status && echo "$said" | grep -q '^cannot write to .*: use sudo, or PREFIX='
}

# Another compiler makes it a little larger or smaller.
size_of_a_program()
{
	local added said
	echo 'int main(void) { return 0; }' >"$work/bare.c"
	"${CC:-cc}" -O2 -s "$work/bare.c" -o "$work/bare"
	"${CC:-cc}" -O2 -s "$work/program.c" -o "$work/with" -I"$prefix/include" "$prefix/lib/$library.a" || return
	added=$((($(stat -c %s "$work/with") - $(stat -c %s "$work/bare") + 1023) / 1024))
	said=$(sed -n 's/.* \([0-9]*\) KiB larger.*/\1/p' "$top/docs/linking.md")
	echo "by $added KiB, and docs/linking.md says $said"
	[ "$((said - added))" -ge -16 ] && [ "$((said - added))" -le 16 ]
}

relative_directories_are_refused()
{
	local said setting
	for setting in PREFIX=relative LIBDIR=relative DESTDIR=relative
	do
		said=$(! install_to PREFIX="$work/absolute" "$setting" 2>&1) && grep absolute <<<"$said" && [ ! -e ../relative ] || return
	done
}

# As root, with an ldconfig that names the system's directories and records how it is called.
linker_cache()
{
	mkdir "$work/bin"
	printf '#!/bin/sh\necho 0\n' >"$work/bin/id"
	printf '#!/bin/sh\necho "called with:$*" >>"%s"\necho "%s:"\n' "$work/ldconfig" "$work/system/lib" >"$work/bin/ldconfig"
	chmod 755 "$work/bin/id" "$work/bin/ldconfig"
	PATH=$work/bin:$PATH install_to PREFIX="$work/own" &&
		PATH=$work/bin:$PATH install_to PREFIX="$work/system" DESTDIR="$work/stage" &&
		is "calls for a prefix of your own, or a package" "" "$(grep 'with:$' "$work/ldconfig")" &&
		PATH=$work/bin:$PATH install_to PREFIX="$work/system" &&
		is "calls for the system's prefix" "called with:" "$(grep 'with:$' "$work/ldconfig")"
}

check "make install below a DESTDIR with a space in it" install_to PREFIX=/usr LIBDIR=/usr/lib/x86 DESTDIR="$staged"
check "everything is there and nothing else" has_everything "$staged" /usr/include /usr/lib/x86 /usr/bin /usr/share/man
check "modes are 644 and 755 whatever the umask is" modes
check "no path of the build is in it" no_path_of_the_stage
check "make install into a PREFIX" install_to PREFIX="$prefix"
check "everything is there and nothing else" has_everything "$prefix" /include /lib /bin /share/man
check "LIBDIR, INCLUDEDIR, BINDIR and MANDIR" directories_are_taken_as_given
check "pkg-config reads ic_listener.pc" pc_file
check "a program with the shared library" shared_program
check "a program with the static library" static_program
install_to PREFIX="$work/only-static" >/dev/null
rm -f "$work"/only-static/lib/*.so*
check "a program where the static library stands alone" program_of_a_static_installation
check "a program with -static-pie" program_of_a_static_installation -static-pie
check_with ld.gold:binutils-gold "a program with the archive alone, by gold" nothing_but_the_archive "${CC:-cc}" -fuse-ld=gold
check_with ld.lld:lld "the same by lld" nothing_but_the_archive "${CC:-cc}" -fuse-ld=lld
check_with ld.mold:mold "the same by mold" nothing_but_the_archive "${CC:-cc}" -fuse-ld=mold
check_with clang "the same by clang" nothing_but_the_archive clang
check "the command lines of README.md" lines_of_the_readme
check_with cmake "a project of CMake" cmake_project
check_with meson "a project of Meson" meson_project
check "the static library needs libc and the unwinder" needs_libc_and_the_unwinder
check "the shared library exports the API and nothing else" shared_exports_the_api
check_with abidiff:abigail-tools "the shared library has the symbols of version 0.1.0" symbols_are_those_of_0_1
native=abi.txt
[ "$(getconf LONG_BIT)" = 64 ] || native=abi32.txt
check "the structs and constants are those of version 0.1.0" abi_is '' $native
if echo '#include <sys/socket.h>' | "${CC:-cc}" -m32 -xc -c -o /dev/null - 2>/dev/null
then
	check "so they are for 32-bit programs" abi_is -m32 abi32.txt
else
	skip "so they are for 32-bit programs" "the compiler makes none: apt-get install gcc-multilib"
fi
check "no struct has holes" no_holes abi.txt
check "no struct has holes in 32-bit programs" no_holes abi32.txt
check "the shared library is hardened" shared_is_hardened
check "the static library defines the API and nothing else" static_defines_the_api
check "an extension that links it exports nothing of it" exports_nothing
check "the example in setup_listener(3)" example setup_listener.3
check "the example in ic_listener_open_tcp(3)" example ic_listener_open_tcp.3
check "every function has a page" every_function_has_a_page
check "a stripped program grows as docs/linking.md says" size_of_a_program
check "a relative PREFIX, LIBDIR or DESTDIR is refused" relative_directories_are_refused
check "ldconfig runs for the system's directories only" linker_cache
check "without rights, make install says what to do" without_rights
check "make uninstall removes that and nothing else" uninstall_leaves_nothing
finish
