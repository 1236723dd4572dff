# The C library, static and shared, in target/lib. Included by the Makefile at the top.
#
#	RUST_TARGET=aarch64-unknown-linux-gnu CC=aarch64-linux-gnu-gcc	builds for another processor, below target/RUST_TARGET
#
# Cargo builds it in a separate directory with a separate profile (installed in Cargo.toml), so that no other command of
# Cargo's and no user's setting changes it. What Cargo makes is removed there, so that there is one libic_listener.a.
# Each library gets its name when it is ready.

BUILD_DIR = target$(RUST_TARGET:%=/%)
LIB_DIR = $(BUILD_DIR)/lib
MAKE_DIR = target/make
OBJECT = $(LIB_DIR)/ic_listener.o
STATIC_LIB = $(LIB_DIR)/libic_listener.a
SHARED_LIB = $(LIB_DIR)/libic_listener.so

# For a test: the library with a bug, which panics in every call. (What follows the panic is unused.)
PANICKING_OBJECT = target/panicking/panicking.o
PANICKING_LIB = target/panicking/libpanicking.a
RUSTC_OPTIONS =
$(PANICKING_OBJECT): RUSTC_OPTIONS = --cfg ic_listener_test_panic -A unused

# Listed here, so that a user who only installs needs no Cargo.
CRATE_SOURCES = $(wildcard src/*.rs src/*/*.rs) build.rs Cargo.toml
SOURCES = $(CRATE_SOURCES) $(addprefix c_library/,Cargo.toml Cargo.lock library.mk hide_symbols.sh)

CARGO ?= cargo

# The compiler knows the binutils of its target.
ifneq ($(RUST_TARGET),)
ifeq ($(origin LD),default)
LD := $(shell $(CC) -print-prog-name=ld)
endif
ifeq ($(origin AR),default)
AR := $(shell $(CC) -print-prog-name=ar)
endif
OBJCOPY ?= $(shell $(CC) -print-prog-name=objcopy)
READELF ?= $(shell $(CC) -print-prog-name=readelf)
CARGO_LINKER = --config 'target.$(RUST_TARGET).linker="$(lastword $(CC))"'
endif
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

# For the shell: what `make` installs is built for $$rust_target, which is named because a configuration might name
# another. The paths that a panic's message prints are those in this tree, whatever directory it is in. Cargo would warn
# of make's jobserver, which it cannot reach.
define FOR_CARGO
rust_target=$(or $(RUST_TARGET),$$("$${RUSTC:-rustc}" -vV | sed -n 's/^host: //p')) && \
CARGO_ENCODED_RUSTFLAGS=$$({ printf '%s' "$${CARGO_ENCODED_RUSTFLAGS-$$RUSTFLAGS}" | tr -s ' ' '\037'; printf '\037%s' \
	"--remap-path-prefix=$${CARGO_HOME:-$$HOME/.cargo}=cargo" "--remap-path-prefix=$(CURDIR)/=" --remap-path-prefix=../src=src; } | \
	sed 's/^\x1f//') && export CARGO_ENCODED_RUSTFLAGS CARGO_INCREMENTAL=0 && unset MAKEFLAGS
endef

rust-is-here:
	$(CHECK_RUST)

libraries: $(STATIC_LIB) $(SHARED_LIB)

.PHONY: libraries rust-is-here

$(OBJECT) $(PANICKING_OBJECT): $(SOURCES)
	$(CHECK_RUST)
	@echo 'building $@'
	@$(FOR_CARGO) && mkdir -p $(@D) && made=$(MAKE_DIR)/$$rust_target/installed/libic_listener.a && \
	$(CARGO) rustc --locked --manifest-path c_library/Cargo.toml --profile installed --target-dir $(MAKE_DIR) \
		--target $$rust_target -- $(RUSTC_OPTIONS) && \
	LD='$(LD)' OBJCOPY='$(OBJCOPY)' READELF='$(READELF)' c_library/hide_symbols.sh "$$made" $@ && rm -f "$$made"

$(STATIC_LIB): $(OBJECT)
$(PANICKING_LIB): $(PANICKING_OBJECT)
$(STATIC_LIB) $(PANICKING_LIB):
	@rm -f $@.new && $(AR) rcsD $@.new $< && mv -f $@.new $@

$(SHARED_LIB): $(OBJECT) c_library/ic_listener.map
	@$(CC) -shared -s $(LDFLAGS) -Wl,-soname,$(SONAME) -Wl,--version-script=c_library/ic_listener.map \
		-Wl,-z,relro,-z,now,-z,noexecstack,-z,defs -o $@.new $< $(LDLIBS)
	@ln -sf $(@F) $(@D)/$(SONAME) && mv -f $@.new $@
