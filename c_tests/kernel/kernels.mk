# Included by the Makefile at the top.
#
# make check-kernels KERNELS="vmlinuz..."	what kernel_facts and the library's tests find under each of these kernels

.PHONY: check-kernels

check-kernels: $(STATIC_LIB)
	$(MAKE) --no-print-directory -C c_tests static
	c_tests/kernel/check-kernels $(KERNELS)
