#!/bin/sh
# hide_symbols.sh ARCHIVE OBJECT: links the archive that Cargo makes to one object, in which the C API is global and
# nothing else is.
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

# Without what the API does not need. Not every linker can leave it out here.
api=$("$READELF" -sW "$work/all.o" | sed -n 's/.* \(setup_listener\|ic_listener_[a-z_]*\)$/-u \1/p')
# shellcheck disable=SC2086 # Words.
"$LD" -r --gc-sections $api -o "$work/ic_listener.o" "$work/all.o" 2>/dev/null || cp "$work/all.o" "$work/ic_listener.o"

# DW.ref.rust_eh_personality stands in a COMDAT group, one for all libraries of Rust in a program, so that a local one
# would be missing in all of them but the first. Under a name of its own it can be local.
"$OBJCOPY" --strip-debug --wildcard --keep-global-symbol=setup_listener --keep-global-symbol='ic_listener_*' \
	--redefine-sym DW.ref.rust_eh_personality=DW.ref.ic_listener_eh_personality "$work/ic_listener.o"
mv -f "$work/ic_listener.o" "$object"
