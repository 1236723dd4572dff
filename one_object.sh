#!/bin/sh
# one_object.sh ARCHIVE OBJECT: links the archive that Cargo makes to one object, with the API and nothing else global
# in it.
#
# Cargo's archive has some 600 functions beside the library's own: compiler-rt's, among them fmod() and cbrt(), which a
# program then gets in place of libm's and libgcc's, and Rust's own, so that no program can link two such archives. The
# object does neither. What it needs is libc's, and the unwinder's, which every C compiler links.
set -eu

archive=$1
object=$2
# Beside the object, so that it appears in one step.
work=$(mktemp -d "$object.XXXXXX")
trap 'rm -rf "$work"' EXIT
trap 'exit 1' HUP INT TERM

"$LD" -r -u setup_listener -o "$work/all.o" "$archive"

# Three fifths of that would be what std prints a panic's backtrace with (a reader of DWARF, of compressed sections, of
# mangled names). The library sets a panic hook of its own, which prints nothing, when it is loaded (silence_panics() in
# src/ffi.rs), but a compiler cannot know that. So the one function of std through which all of it is reached gives up
# at once, like fmt() of a Display that fails, and the linker leaves out what nothing refers to any more. Its size
# stays, for the sake of its entry in .eh_frame. Where a newer std has no such function, the library is larger, and a
# test of its size says so.
echo 'int gives_up(void) { return 1; }' >"$work/stub.c"
"$CC" -O1 -fcf-protection=none -fno-asynchronous-unwind-tables -c -o "$work/stub.o" "$work/stub.c" 2>/dev/null ||
	"$CC" -O1 -fno-asynchronous-unwind-tables -c -o "$work/stub.o" "$work/stub.c"
"$OBJCOPY" -O binary --only-section=.text "$work/stub.o" "$work/stub"
"$READELF" -SW "$work/all.o" | sed -n 's/.* \(\.text[^ ]*DisplayBacktrace[^ ]*\) *PROGBITS *[^ ]* [^ ]* \([^ ]*\).*/\1 \2/p' >"$work/sections"
while read -r section size
do
	[ "$(wc -c <"$work/stub")" -le "$((0x$size))" ] || continue
	cp "$work/stub" "$work/content"
	truncate -s "$((0x$size))" "$work/content"
	"$OBJCOPY" --update-section "$section=$work/content" --remove-relocations="$section" "$work/all.o"
done <"$work/sections"
roots=$("$READELF" -sW "$work/all.o" | sed -n 's/.* \(setup_listener\|ic_listener_[a-z_]*\)$/-u \1/p')
# shellcheck disable=SC2086 # The roots are words. Not every linker leaves anything out here.
"$LD" -r --gc-sections $roots -o "$work/ic_listener.o" "$work/all.o" 2>/dev/null || cp "$work/all.o" "$work/ic_listener.o"

# DW.ref.rust_eh_personality stands in a COMDAT group, one for all libraries of Rust in a program, so that a local one
# would be missing in all of them but the first. Under a name of its own it can be local.
"$OBJCOPY" --strip-debug --wildcard --keep-global-symbol=setup_listener --keep-global-symbol='ic_listener_*' \
	--redefine-sym DW.ref.rust_eh_personality=DW.ref.ic_listener_eh_personality "$work/ic_listener.o"
mv -f "$work/ic_listener.o" "$object"
