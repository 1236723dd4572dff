# make bench           measures the static library against what it replaces, and judges the targets (11 minutes)
# make bench QUICK=1   the same in a minute; what it finds goes to target/bench
# make bench BEFORE=DIRECTORY	and compares with the results of an earlier version
# make draw            draws the picture anew from the results that are there, and puts the tables into the documents

FFI_BENCH = $(CARGO) run --quiet --locked --release --manifest-path ffi_bench/Cargo.toml --

.PHONY: bench draw

bench: $(STATIC_LIB)
	$(FFI_BENCH) $(if $(QUICK),quick target/bench,run docs/figures) $(BEFORE)

draw: $(STATIC_LIB)
	$(FFI_BENCH) draw docs/figures README.md docs/why.md
