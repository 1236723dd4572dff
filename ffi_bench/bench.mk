# make bench           measures the static library against what it replaces, and judges the targets
# make bench QUICK=1   the same in less than a minute; what it finds goes to ffi_bench/results/quick
# make draw            draws the figures anew from the results that are there (QUICK=1: those)

BENCH_RESULTS = ffi_bench/results$(if $(QUICK),/quick)

.PHONY: bench draw

bench: $(STATIC_LIB)
	$(CARGO) build --quiet --locked --release --manifest-path ffi_bench/Cargo.toml
	target/release/ffi_bench $(if $(QUICK),--quick) $(BENCH_RESULTS)

draw: $(STATIC_LIB)
	$(CARGO) build --quiet --locked --release --manifest-path ffi_bench/Cargo.toml
	target/release/ffi_bench --draw $(BENCH_RESULTS)
