# make            the libraries, static and shared
# make demo       a C program gets a listener and talks through it
# make check      installs what the tests need, runs them all, counts them
# make bench      measures the library against what it replaces (QUICK=1: under a minute)
# make install    libraries, header, pkg-config file and man pages (PREFIX, DESTDIR); make uninstall removes them
# make header     takes over the header that the build generated from src/ffi.rs
# make check-kernels KERNELS="vmlinuz..."	the kernel's rules and the tests of the library on other kernels
# make clean

CARGO ?= cargo

# The rules below name what Cargo makes; a setting for all of one's projects must not move it.
export CARGO_TARGET_DIR := $(CURDIR)/target
unexport CARGO_BUILD_TARGET

# Cargo leaves out link-time optimization as soon as an rlib is built as well, hence one crate type at a time.
STATIC_LIB = target/release/libic_listener.a

# Named here, so that whoever installs as another user need not have Cargo.
SOURCES = $(wildcard src/*.rs) build.rs cbindgen.toml Cargo.toml Cargo.lock

all: libraries

.PHONY: all demo check header clean

$(STATIC_LIB): $(SOURCES)
	$(CARGO) rustc --quiet --release --lib --crate-type staticlib
	touch $@

demo: $(STATIC_LIB)
	$(MAKE) --no-print-directory -C c_tests demo
	c_tests/build/demo

header:
	cp "$$($(CARGO) check --quiet --message-format=json | sed -n 's|.*"out_dir":"\([^"]*/ic-listener-[^"]*\)".*|\1|p')/ic_listener.h" include/ic_listener.h

check:
	.ci/check

clean:
	$(CARGO) clean --quiet
	rm -rf c_tests/build

include install.mk
include preload/preload.mk
include ffi_bench/bench.mk
include c_tests/kernel/kernels.mk
