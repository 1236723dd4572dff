# make bench           measures the static library against what it replaces, and judges the targets (11 minutes)
# make bench QUICK=1   the same in less than a minute; what it finds goes to target/bench
# make bench BEFORE=DIRECTORY	and compares with the results of an earlier version
# make draw            draws the pictures anew from the results that are there, and puts the tables into the documents

BENCH_RESULTS = $(if $(QUICK),target/bench,docs/figures)

.PHONY: bench draw

bench: $(STATIC_LIB)
	$(CARGO) build --quiet --locked --release --manifest-path ffi_bench/Cargo.toml
	target/release/ffi_bench $(if $(QUICK),--quick) $(if $(BEFORE),--before $(BEFORE)) $(BENCH_RESULTS)

draw: $(STATIC_LIB)
	$(CARGO) build --quiet --locked --release --manifest-path ffi_bench/Cargo.toml
	target/release/ffi_bench --draw $(BENCH_RESULTS) $(if $(QUICK),,README.md docs/why.md)
