# Included by the Makefile at the top.
#
# make check-kernels KERNELS="vmlinuz..."	what kernel_facts and the library's tests find under each of these kernels
#	ARCH=aarch64	on that processor, or armhf, i386 or s390x, with the compilers of these names
#	TESTS="contract drop_in"	these tests only

.PHONY: check-kernels

MACHINE := $(shell uname -m)
ARCH = $(MACHINE)

CROSS_aarch64 = aarch64-unknown-linux-gnu aarch64-linux-gnu-gcc
CROSS_armhf = armv7-unknown-linux-gnueabihf arm-linux-gnueabihf-gcc
CROSS_i386 = i686-unknown-linux-gnu i686-linux-gnu-gcc
CROSS_s390x = s390x-unknown-linux-gnu s390x-linux-gnu-gcc
# RUST_TARGET and CC.
CROSS = $(if $(filter-out $(MACHINE),$(ARCH)),$(CROSS_$(ARCH)))

check-kernels:
	$(MAKE) --no-print-directory -C c_tests static $(if $(CROSS),$(join RUST_TARGET= CC=,$(CROSS)))
	ARCH=$(ARCH) PROGRAMS=c_tests/build$(addprefix /,$(firstword $(CROSS)))/static TESTS='$(TESTS)' \
		c_tests/kernel/check-kernels $(KERNELS)
