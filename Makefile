# make            the libraries, static and shared, in target/lib, and ic_ports in target/bin
# make demo       a C program gets a listener and talks through it
# make check      installs what the tests need, runs them all, counts them (make test is the same)
# make check-programs	tries the library under programs that other people wrote
# make check-kernels KERNELS="vmlinuz..."	the kernel's rules and the tests of the library on other kernels (ARCH: processors)
# make bench      measures the library against what it replaces (QUICK=1: under a minute)
# make draw       draws the picture from the figures that are there
# make install    libraries, header, pkg-config file, programs and man pages (PREFIX, DESTDIR); make uninstall removes them
# make deb, make rpm	packages, in target/packages
# make header     writes include/ic_listener.h from src/; make check-header says whether that would change it
# make abi        prints sizes, offsets and values of the C interface; a test holds them to c_tests/install/abi.txt
# make clean
# make help       this list

all: libraries

.PHONY: all help demo check test check-programs header check-header abi clean

# Tests and the bench find what Cargo makes below target, wherever a setting for all of one's projects has it.
export CARGO_TARGET_DIR := $(CURDIR)/target
unexport CARGO_BUILD_TARGET

include c_library/library.mk
include c_library/install.mk
include tools/preload/preload.mk
include tools/ic_ports/ic_ports.mk
include ffi_bench/bench.mk
include c_tests/kernel/kernels.mk
include contrib/packages.mk

help:
	@sed -n 's/^# make/make/p' Makefile | expand -t 8

demo: $(STATIC_LIB)
	@echo 'building the demo, examples/demo.c'
	@$(MAKE) --no-print-directory -C c_tests demo
	c_tests/build/demo

header:
	$(CHECK_RUST)
	$(CARGO) check --quiet --locked --features header

check-header:
	$(CHECK_RUST)
	IC_LISTENER_HEADER=target/ic_listener.h $(CARGO) check --quiet --locked --features header
	diff -u include/ic_listener.h target/ic_listener.h

abi:
	@c_tests/install/abi.sh

check test:
	.ci/check

check-programs: all
	c_tests/programs/run

clean:
	$(CARGO) clean --quiet
	rm -rf c_tests/build
