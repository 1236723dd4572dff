# The program that says who holds the ports. Included by the Makefile at the top, after library.mk and install.mk.

IC_PORTS = target/bin/ic_ports
IC_PORTS_SOURCES = $(wildcard tools/ic_ports/src/*.rs) tools/ic_ports/Cargo.toml tools/ic_ports/ic_ports.mk

all: ic_ports

.PHONY: ic_ports install-ic-ports uninstall-ic-ports

ic_ports: $(IC_PORTS)

# With its own profile, in the library's directory and for a named target, as in library.mk.
$(IC_PORTS): $(SOURCES) $(IC_PORTS_SOURCES)
	$(CHECK_RUST)
	@echo 'building $@'
	@mkdir -p $(@D) && host=$$("$${RUSTC:-rustc}" -vV | sed -n 's/^host: //p') && \
	$(CARGO) build --package ic_ports --profile program --target-dir target/make --target $$host && \
	install -m 755 target/make/$$host/program/ic_ports $@.new && mv -f $@.new $@

install: install-ic-ports
remove-files: uninstall-ic-ports

install-ic-ports: $(IC_PORTS) | install-directories
	$(INSTALL) -m 755 $(IC_PORTS) "$(DESTDIR)$(BINDIR)"
	$(INSTALL) -m 644 man/ic_ports.1 "$(DESTDIR)$(MANDIR)/man1"

uninstall-ic-ports:
	rm -f "$(DESTDIR)$(BINDIR)/ic_ports" "$(DESTDIR)$(MANDIR)/man1/ic_ports.1"
