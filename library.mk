# The C library, static and shared, in target/lib. Included by the Makefile at the top.
#
# Cargo builds it in a separate directory with a separate profile (c-library in Cargo.toml), so that no other command of
# Cargo's and no user's setting changes it. What Cargo makes is removed there, so that there is one libic_listener.a.
# Each library gets its name when it is ready.

LIB_DIR = target/lib
MAKE_DIR = target/make
OBJECT = $(LIB_DIR)/ic_listener.o
STATIC_LIB = $(LIB_DIR)/libic_listener.a
SHARED_LIB = $(LIB_DIR)/libic_listener.so

# For a test: the library with a bug, which panics in every call. (What follows the panic is unused.)
PANICKING_OBJECT = target/panicking/panicking.o
PANICKING_LIB = target/panicking/libpanicking.a

# Listed here, so that a user who only installs needs no Cargo.
SOURCES = $(wildcard src/*.rs src/*/*.rs) Cargo.toml Cargo.lock library.mk one_object.sh

CARGO ?= cargo
OBJCOPY ?= objcopy
READELF ?= readelf

# Each in one place, Cargo.toml.
VERSION := $(shell sed -n '/^\[package\]/,/^$$/s/^version = "\(.*\)"$$/\1/p' Cargo.toml)
RUST_VERSION := $(shell sed -n 's/^rust-version = "\(.*\)"$$/\1/p' Cargo.toml)

# The structs carry their size and grow at their end, so that a library of the same major version serves older callers.
SONAME = libic_listener.so.$(firstword $(subst ., ,$(VERSION)))

# An old Cargo only complains about editions.
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

# Cargo leaves out link-time optimization as soon as an rlib is built as well, hence the one crate type. Incremental
# compilation excludes it. The target is named because a configuration might name another.
#
# $(call ONE_OBJECT,DIRECTORY,FURTHER OPTIONS OF RUSTC)
define ONE_OBJECT
@echo 'building $@'
@mkdir -p $(@D) && host=$$("$${RUSTC:-rustc}" -vV | sed -n 's/^host: //p') && made=$(1)/$$host/c-library/libic_listener.a && \
CARGO_INCREMENTAL=0 $(CARGO) rustc --lib --features c-api --crate-type staticlib --profile c-library --target-dir $(1) --target $$host \
	$(if $(2),-- $(2)) && \
LD='$(LD)' OBJCOPY='$(OBJCOPY)' READELF='$(READELF)' CC='$(CC)' ./one_object.sh "$$made" $@ && rm -f "$$made"
endef

# Under its own name when it is ready.
define ARCHIVE
@rm -f $@.new && $(AR) rcs $@.new $< && mv -f $@.new $@
endef

rust-is-here:
	$(CHECK_RUST)

libraries: $(STATIC_LIB) $(SHARED_LIB)

.PHONY: libraries rust-is-here

$(OBJECT): $(SOURCES)
	$(CHECK_RUST)
	$(call ONE_OBJECT,$(MAKE_DIR))

$(STATIC_LIB): $(OBJECT)
	$(ARCHIVE)

# The shared library exports what the object shows.
$(SHARED_LIB): $(OBJECT)
	@$(CC) -shared -s $(LDFLAGS) -Wl,-soname,$(SONAME) -Wl,-z,relro,-z,now,-z,noexecstack,-z,defs -o $@.new $<
	@ln -sf $(@F) $(@D)/$(SONAME) && mv -f $@.new $@

$(PANICKING_OBJECT): $(SOURCES)
	$(CHECK_RUST)
	$(call ONE_OBJECT,target/panicking,--cfg ic_listener_test_panic -A unused)

$(PANICKING_LIB): $(PANICKING_OBJECT)
	$(ARCHIVE)
