#!/bin/bash
# One library whatever the command. In a copy of this tree, cargo and make in any order, and with a user's settings,
# make the same libic_listener.a, and no other. What fails half-way leaves nothing behind.
set -eu

cd "$(dirname "$0")/.."
# shellcheck source-path=SCRIPTDIR/.. disable=SC1091
. harness/tap.sh

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
copy=$work/tree
mkdir "$copy"
tar -C .. --exclude=./target --exclude=./.git --exclude='./*/build' -cf - . | tar -C "$copy" -xf -
cd "$copy"
unset CARGO_TARGET_DIR CARGO_BUILD_TARGET MAKEFLAGS MAKELEVEL

archive=target/lib/libic_listener.a

globals()
{
	readelf -sW $archive | awk '$5 != "LOCAL" && $7 != "UND" && $1 ~ /^[0-9]+:$/ { print $8 }' | sort
}

api()
{
	sed -n 's/^[a-z].*[ *]\(setup_listener\|ic_listener_[a-z_]*\)(.*/\1/p' include/ic_listener.h | sort
}

# The library is there, and is the first one.
the_one_library()
{
	is "the archives" "./$archive" "$(find . -name libic_listener.a)" &&
		is "its global symbols" "$(api)" "$(globals)" &&
		if [ -e "$work/first.a" ]
		then
			cmp "$work/first.a" $archive && cmp "$work/first.so" target/lib/libic_listener.so
		else
			cp $archive "$work/first.a" && cp target/lib/libic_listener.so "$work/first.so"
		fi
}

# COMMAND...: succeeds, and leaves the library as it is, or makes it.
leads_to_the_one_library()
{
	"$@" && make libraries && the_one_library
}

# Cargo makes no library for C.
makes_none()
{
	"$@" && is "the archives" "" "$(find . -name 'libic_listener*.a')"
}

# As `make bench` does it, where this Rust is new enough for ffi_bench.
build_the_bench()
{
	local wanted found
	wanted=$(sed -n 's/^rust-version = "\(.*\)"/\1/p' ffi_bench/Cargo.toml)
	found=$("${RUSTC:-rustc}" --version | sed 's/^rustc \([0-9.]*\).*/\1/')
	if [ "$(printf '%s\n' "$wanted" "$found" | sort -V | head -n 1)" = "$wanted" ]
	then
		cargo build --release --package ffi_bench
	fi
}

check "cargo build --release makes no archive" makes_none cargo build --release
check "then make" leads_to_the_one_library make
check "then cargo build" leads_to_the_one_library cargo build
check "then make demo" leads_to_the_one_library make demo
check "then make install" leads_to_the_one_library make install PREFIX="$work/prefix"
check "then what make bench builds" leads_to_the_one_library build_the_bench
check "then cargo build --release" leads_to_the_one_library cargo build --release
check "what is installed is that library" cmp "$work/first.a" "$work/prefix/lib/libic_listener.a"

rm -rf target
check "make install first" leads_to_the_one_library make install PREFIX="$work/prefix"
check "then cargo build --release" leads_to_the_one_library cargo build --release
clean_then_bench()
{
	cargo clean --quiet && make demo && build_the_bench
}
check "then cargo clean, make demo, and what make bench builds" leads_to_the_one_library clean_then_bench

# Each would make another archive of Cargo's, or put it elsewhere.
settings_of_a_user()
{
	rm -rf target
	mkdir .cargo
	printf '%s\n' '[profile.release]' 'debug = true' 'overflow-checks = true' '[build]' 'incremental = true' \
		"target-dir = '$work/elsewhere'" "target = 'x86_64-unknown-linux-musl'" >.cargo/config.toml
	CARGO_PROFILE_RELEASE_LTO=off CARGO_PROFILE_RELEASE_PANIC=abort CARGO_PROFILE_RELEASE_OPT_LEVEL=1 \
		CARGO_PROFILE_RELEASE_CODEGEN_UNITS=16 CARGO_PROFILE_RELEASE_DEBUG_ASSERTIONS=true CARGO_INCREMENTAL=1 \
		CARGO_TARGET_DIR=$work/elsewhere CARGO_BUILD_TARGET=x86_64-unknown-linux-musl make && the_one_library
}
check "settings of a user's own change nothing" settings_of_a_user

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
	rm -rf target/lib
	if make libraries "$1=$work/fails"
	then
		echo "make succeeds"
		return 1
	fi
	is "the libraries there are" "" "$(find target/lib -name 'libic_listener.a' -o -name 'libic_listener.so')"
	make && the_one_library && is "what is left" "" "$(find target/lib -name '*.new' -o -name 'ic_listener.o.*')"
}
for tool in LD OBJCOPY AR CC
do
	check "$tool fails half-way" fails_half_way $tool
done

# WORDS...: what make says.
says()
{
	local said
	if said=$("${@:2}" 2>&1)
	then
		echo "it succeeds"
		return 1
	fi
	echo "$said"
	echo "$said" | grep -q "$1" && echo "$said" | grep -q 'apt-get install cargo'
}
printf '#!/bin/sh\necho "rustc 1.63.0 (Debian)"\n' >"$work/old-rustc"
chmod 755 "$work/old-rustc"
touch src/lib.rs
check "make says that Rust is too old" says 'Found here: 1.63.0' env RUSTC="$work/old-rustc" make
check "make says that Rust is missing" says 'Found here: none' env RUSTC="$work/none" make
check "make says that Cargo is missing" says 'and Cargo' make CARGO="$work/none"
finish
