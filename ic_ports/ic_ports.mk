# ic_ports, the operator's command. Included by the Makefile at the top, after what makes the libraries.
#
# It is a Rust program of its own dependencies, built by the C library's profile in the C library's place.

IC_PORTS = target/bin/ic_ports

all: $(IC_PORTS)

.PHONY: install-ic-ports uninstall-ic-ports

$(IC_PORTS): $(SOURCES) $(wildcard ic_ports/src/*.rs) ic_ports/Cargo.toml ic_ports/ic_ports.mk
	@echo 'building $@'
	@mkdir -p $(@D) && host=$$("$${RUSTC:-rustc}" -vV | sed -n 's/^host: //p') && \
	CARGO_INCREMENTAL=0 $(CARGO) build --package ic_ports --profile c-library --target-dir target/make --target $$host && \
	cp target/make/$$host/c-library/ic_ports $@.new && mv -f $@.new $@

install: install-ic-ports
remove-files: uninstall-ic-ports

install-ic-ports: $(IC_PORTS) | install-directories
	$(INSTALL) -m 755 $(IC_PORTS) "$$IC_DESTDIR$$IC_BINDIR"
	$(INSTALL) -m 644 man/ic_ports.1 "$$IC_DESTDIR$$IC_MANDIR/man1"

uninstall-ic-ports:
	rm -f "$$IC_DESTDIR$$IC_BINDIR/ic_ports" "$$IC_DESTDIR$$IC_MANDIR/man1/ic_ports.1"

install-ic-ports uninstall-ic-ports: export IC_DESTDIR = $(DESTDIR)
install-ic-ports uninstall-ic-ports: export IC_BINDIR = $(BINDIR)
install-ic-ports uninstall-ic-ports: export IC_MANDIR = $(MANDIR)
