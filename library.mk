# The C library, static and shared, in target/lib. Included by the Makefile at the top.
#
# Cargo works for it in a directory of its own, by a profile of its own (c-library in Cargo.toml), so that no other command
# of Cargo's and no setting for all of one's projects changes what is made. What Cargo makes is taken away from there: there
# is one libic_listener.a to be found. Each library appears under its name when it is ready.

LIB_DIR = target/lib
STATIC_LIB = $(LIB_DIR)/libic_listener.a
SHARED_LIB = $(LIB_DIR)/libic_listener.so

# For a test: the library with a bug, which panics in every call (and what follows the panic is unused).
PANICKING_LIB = target/panicking/libpanicking.a

# Named here, so that whoever installs as another user need not have Cargo.
SOURCES = $(wildcard src/*.rs) Cargo.toml Cargo.lock library.mk

CARGO ?= cargo
OBJCOPY ?= objcopy

# Each in one place, Cargo.toml.
VERSION := $(shell sed -n '/^\[package\]/,/^$$/s/^version = "\(.*\)"$$/\1/p' Cargo.toml)
RUST_VERSION := $(shell sed -n 's/^rust-version = "\(.*\)"$$/\1/p' Cargo.toml)

# The structs carry their size and grow at their end, so that a library of the same major version serves older callers.
SONAME = libic_listener.so.$(firstword $(subst ., ,$(VERSION)))

# What an old Cargo itself says is about editions.
define CHECK_RUST
@found=$$("$${RUSTC:-rustc}" --version 2>/dev/null | sed 's/^rustc \([0-9.]*\).*/\1/'); \
if ! command -v $(firstword $(CARGO)) >/dev/null || \
	[ "$$(printf '%s\n' $(RUST_VERSION) "$$found" | sort -V | head -n 1)" != $(RUST_VERSION) ]; then \
	printf '%s\n' >&2 \
		"Rust $(RUST_VERSION) or newer is needed, and Cargo. Found here: $${found:-none}." \
		'  Debian 13, Ubuntu 25.10   apt-get install cargo' \
		'  Debian 12                 apt-get install cargo-web' \
		'  Ubuntu 24.04              apt-get install rustup && rustup default stable' \
		'  RHEL 9 and 10             dnf install rust-toolset' \
		'  RHEL 8                    yum module install rust-toolset' \
		'  elsewhere                 https://rustup.rs'; \
	exit 1; \
fi
endef

# $(call CARGO_MAKES,CRATE TYPE,DIRECTORY,OPTIONS OF RUSTC): sets $$made, the directory with what Cargo made.
#
# Cargo leaves out link-time optimization as soon as an rlib is built as well, hence one crate type at a time. Incremental
# compilation excludes it. The target is named because a configuration might name another.
CARGO_MAKES = host=$$("$${RUSTC:-rustc}" -vV | sed -n 's/^host: //p') && made=$(2)/$$host/c-library && \
	CARGO_INCREMENTAL=0 $(CARGO) rustc --lib --crate-type $(1) --profile c-library \
		--target-dir $(2) --target $$host $(if $(3),-- $(3))

# Starts a list of commands that work in $$new, a directory that is gone when they end, however they do.
IN_NEW_DIRECTORY = mkdir -p $(@D) && new=$$(mktemp -d $(@D)/new.XXXXXX) && trap 'rm -rf "$$new"' EXIT && \
	trap 'exit 1' HUP INT TERM

# The archive as Cargo makes it has some 600 functions beside the library's own: compiler-rt's, among them fmod() and cbrt(),
# which a program then gets in place of libm's and libgcc's, and Rust's own, so that no program can link two such archives.
# Linked to one object that keeps the API global, and nothing else, it does neither. What it needs is libc's and the
# unwinder's, which every C compiler links.
#
# DW.ref.rust_eh_personality stands in a COMDAT group, one for all libraries of Rust in a program, so that a local one would
# be missing in all of them but the first. Under a name of its own it can be local.
define ONE_OBJECT
@echo 'building $@'
@$(call CARGO_MAKES,staticlib,$(1),$(2)) && $(IN_NEW_DIRECTORY) && \
$(LD) -r -u setup_listener -o "$$new/ic_listener.o" "$$made/libic_listener.a" && rm -f "$$made/libic_listener.a" && \
$(OBJCOPY) --strip-debug --wildcard --keep-global-symbol=setup_listener --keep-global-symbol='ic_listener_*' \
	--redefine-sym DW.ref.rust_eh_personality=DW.ref.ic_listener_eh_personality "$$new/ic_listener.o" && \
$(AR) rcs "$$new/lib.a" "$$new/ic_listener.o" && mv -f "$$new/lib.a" $@
endef

libraries: $(STATIC_LIB) $(SHARED_LIB)

.PHONY: libraries

$(STATIC_LIB): $(SOURCES)
	$(CHECK_RUST)
	$(call ONE_OBJECT,target/make)

$(PANICKING_LIB): $(SOURCES)
	$(CHECK_RUST)
	$(call ONE_OBJECT,target/panicking,--cfg ic_listener_test_panic -A unused)

# Rust exports the functions of the C API from a cdylib and hides the rest, its own runtime included, so that neither a
# version script nor a list of symbols is needed.
$(SHARED_LIB): $(SOURCES)
	$(CHECK_RUST)
	@echo 'building $@'
	@$(call CARGO_MAKES,cdylib,target/make,-C link-arg=-Wl$(,)-soname$(,)$(SONAME)) && $(IN_NEW_DIRECTORY) && \
	cp "$$made/libic_listener.so" "$$new/lib.so" && rm -f "$$made/libic_listener.so" && \
	ln -sf libic_listener.so $(LIB_DIR)/$(SONAME) && mv -f "$$new/lib.so" $@

, := ,
