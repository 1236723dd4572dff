#!/bin/bash
# One library whatever the settings. A copy of this tree in another directory, with a user's settings, makes the
# libic_listener.a and .so of this tree, byte for byte, and its ic_ports. What fails half-way leaves nothing behind.
set -eu

cd "$(dirname "$0")/.."
# shellcheck source-path=SCRIPTDIR/.. disable=SC1091
. harness/tap.sh

here=$(cd .. && pwd)
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
copy=$work/tree
mkdir "$copy"
tar -C .. --exclude=./target --exclude=./.git --exclude='./*/build' -cf - . | tar -C "$copy" -xf -
cd "$copy"
unset CARGO_BUILD_TARGET MAKEFLAGS MAKELEVEL

# Each would make another library, or put it elsewhere.
mkdir .cargo
printf '%s\n' '[profile.release]' 'debug = true' 'overflow-checks = true' '[build]' 'incremental = true' \
	"target-dir = '$work/elsewhere'" "target = 'x86_64-unknown-linux-musl'" "rustflags = ['-C', 'target-cpu=native']" \
	>.cargo/config.toml
export CARGO_PROFILE_RELEASE_LTO=off CARGO_PROFILE_RELEASE_PANIC=abort CARGO_PROFILE_RELEASE_OPT_LEVEL=1 \
	CARGO_PROFILE_RELEASE_CODEGEN_UNITS=16 CARGO_PROFILE_RELEASE_DEBUG_ASSERTIONS=true CARGO_INCREMENTAL=1 \
	CARGO_TARGET_DIR=$work/elsewhere CARGO_BUILD_TARGET=x86_64-unknown-linux-musl

# TOOL: writes half of its output and fails.
fails_half_way()
{
	cat >"$work/fails" <<-'END'
		#!/bin/sh
		for word; do
			case "$last $word" in *.new | -o*) echo half >"$word" ;; esac
			last=$word
		done
		exit 1
	END
	chmod 755 "$work/fails"
	if make libraries "$1=$work/fails"
	then
		echo "make succeeds"
		return 1
	fi
	is "the libraries there are" "$2" "$(find target/lib -name 'libic_listener*' ! -name '*.new' -printf '%f\n')"
}

the_same_files()
{
	local file
	make libraries ic_ports &&
		is "the archives" ./target/lib/libic_listener.a "$(find . "$work/elsewhere" -name libic_listener.a 2>/dev/null)" &&
		is "what is left" "" "$(find target/lib -name '*.new' -o -name 'ic_listener.o.*')" || return
	for file in lib/libic_listener.a lib/libic_listener.so bin/ic_ports
	do
		cmp "$here/target/$file" "target/$file" || return
	done
}

# In the order in which they are called, so that there is one build.
check "LD fails half-way" fails_half_way LD ""
check "AR fails half-way" fails_half_way AR ""
check "CC fails half-way" fails_half_way CC libic_listener.a
check "another directory and a user's settings change nothing" the_same_files

# WORDS COMMAND...: what make says.
says()
{
	local said
	said=$(! "${@:2}" 2>&1) && grep "$1" <<<"$said" && grep 'apt-get install cargo' <<<"$said"
}
printf '#!/bin/sh\necho "rustc 1.63.0 (Debian)"\n' >"$work/old-rustc"
chmod 755 "$work/old-rustc"
touch src/lib.rs
check "make says that Rust is too old" says 'Found here: 1.63.0' env RUSTC="$work/old-rustc" make
check "make says that Rust is missing" says 'Found here: none' env RUSTC="$work/none" make
check "make says that Cargo is missing" says 'and Cargo' make CARGO="$work/none"
finish
