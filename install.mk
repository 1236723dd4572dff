# make install     libraries, header, ic_listener.pc and man pages below $(DESTDIR)$(PREFIX)
# make uninstall   removes exactly what install put there; give it the same variables
#
# Included by the Makefile at the top, which makes $(STATIC_LIB). Building is `make`'s, so that `make && sudo make install`
# needs no Cargo for root.

PREFIX = /usr/local
LIBDIR = $(PREFIX)/lib
INCLUDEDIR = $(PREFIX)/include
MANDIR = $(PREFIX)/share/man

INSTALL ?= install
OBJCOPY ?= objcopy

# Each in one place: Cargo.toml has the version, and a test holds the libraries against what rustc reports.
VERSION := $(shell sed -n '/^\[package\]/,/^$$/s/^version = "\(.*\)"$$/\1/p' Cargo.toml)
SYSTEM_LIBS := $(shell sed -n 's/^SYSTEM_LIBS = //p' c_tests/Makefile)

# The structs carry their size and grow at their end, so that a library of the same major version serves older callers.
SONAME = libic_listener.so.$(firstword $(subst ., ,$(VERSION)))
SHARED_LIB = target/release/libic_listener.so
ONE_OBJECT = target/release/ic_listener.o
ONE_OBJECT_LIB = target/release/one-object/libic_listener.a

# Rust exports the functions of the C API from a cdylib and hides the rest, its own runtime included, so that neither a
# version script nor a list of symbols is needed. It is a crate type of its own for the sake of link-time optimization,
# like the static library.
$(SHARED_LIB): $(SOURCES) install.mk
	$(CARGO) rustc --quiet --release --lib --crate-type cdylib -- \
		-C strip=symbols -C link-arg=-Wl,-soname,$(SONAME)
	touch $@

# The static library as Rust makes it defines rust_eh_personality and other symbols of its runtime, so that no program can
# link two such libraries, and has all of compiler-rt, which a program then gets in place of libgcc's functions (__muldc3
# as soon as it multiplies complex numbers). Linked to one object that keeps the API global, it does neither, and is a
# tenth of the size. DW.ref.* is hidden and weak, one for all libraries of a program: an unwinding table refers to it.
$(ONE_OBJECT_LIB): $(STATIC_LIB)
	mkdir -p $(@D)
	rm -f $@
	$(CC) -r -nostdlib -Wl,-u,setup_listener -o $(ONE_OBJECT) $(STATIC_LIB)
	$(OBJCOPY) --strip-debug --wildcard --keep-global-symbol=setup_listener \
		--keep-global-symbol='ic_listener_*' --keep-global-symbol='DW.ref.*' $(ONE_OBJECT)
	$(AR) rcs $@ $(ONE_OBJECT)

MAN_PAGES = setup_listener.3 ic_listener_open_tcp.3
# Functions described on the page of another one, which a line of theirs points to.
MAN_ALIASES = ic_listener_open_udp.3 ic_listener_share_port.3 ic_listener_step_name.3 ic_listener_version.3

define PC_FILE
prefix=$(PREFIX)
libdir=$(patsubst $(PREFIX)/%,$${prefix}/%,$(LIBDIR))
includedir=$(patsubst $(PREFIX)/%,$${prefix}/%,$(INCLUDEDIR))

Name: ic_listener
Description: Listener ports for database backends, also on a host whose ephemeral range is full
Version: $(VERSION)
Cflags: -I$${includedir}
Libs: -L$${libdir} -lic_listener
Libs.private: $(SYSTEM_LIBS)
endef
export PC_FILE

INSTALLED = \
	"$(DESTDIR)$(LIBDIR)/libic_listener.a" \
	"$(DESTDIR)$(LIBDIR)/libic_listener.so" \
	"$(DESTDIR)$(LIBDIR)/$(SONAME)" \
	"$(DESTDIR)$(LIBDIR)/libic_listener.so.$(VERSION)" \
	"$(DESTDIR)$(LIBDIR)/pkgconfig/ic_listener.pc" \
	"$(DESTDIR)$(INCLUDEDIR)/ic_listener.h" \
	$(patsubst %,"$(DESTDIR)$(MANDIR)/man3/%",$(MAN_PAGES) $(MAN_ALIASES))

.PHONY: libraries install uninstall

libraries: $(ONE_OBJECT_LIB) $(SHARED_LIB)

install: $(ONE_OBJECT_LIB) $(SHARED_LIB)
	$(INSTALL) -d "$(DESTDIR)$(LIBDIR)/pkgconfig" "$(DESTDIR)$(INCLUDEDIR)" "$(DESTDIR)$(MANDIR)/man3"
	$(INSTALL) -m 644 $(ONE_OBJECT_LIB) "$(DESTDIR)$(LIBDIR)"
	$(INSTALL) -m 755 $(SHARED_LIB) "$(DESTDIR)$(LIBDIR)/libic_listener.so.$(VERSION)"
	ln -sf libic_listener.so.$(VERSION) "$(DESTDIR)$(LIBDIR)/$(SONAME)"
	ln -sf $(SONAME) "$(DESTDIR)$(LIBDIR)/libic_listener.so"
	printf '%s\n' "$$PC_FILE" > "$(DESTDIR)$(LIBDIR)/pkgconfig/ic_listener.pc"
	chmod 644 "$(DESTDIR)$(LIBDIR)/pkgconfig/ic_listener.pc"
	$(INSTALL) -m 644 include/ic_listener.h "$(DESTDIR)$(INCLUDEDIR)"
	$(INSTALL) -m 644 $(MAN_PAGES:%=man/%) "$(DESTDIR)$(MANDIR)/man3"
	for page in $(MAN_ALIASES); do \
		printf '.so man3/ic_listener_open_tcp.3\n' > "$(DESTDIR)$(MANDIR)/man3/$$page" && \
		chmod 644 "$(DESTDIR)$(MANDIR)/man3/$$page" || exit 1; \
	done
	[ -n "$(DESTDIR)" ] || [ "$$(id -u)" != 0 ] || ldconfig

uninstall:
	rm -f $(INSTALLED)
