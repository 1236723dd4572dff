# The program that says who holds the ports. Included by the Makefile at the top, after c_library/.

IC_PORTS = $(BUILD_DIR)/bin/ic_ports
IC_PORTS_SOURCES = $(wildcard tools/ic_ports/src/*.rs) $(addprefix tools/ic_ports/,Cargo.toml Cargo.lock \
	library/Cargo.toml ic_ports.mk)

all: ic_ports

.PHONY: ic_ports install-ic-ports uninstall-ic-ports

ic_ports: $(IC_PORTS)

# With its own profile, in the library's directory and for a named target, as in c_library/library.mk.
$(IC_PORTS): $(CRATE_SOURCES) $(IC_PORTS_SOURCES)
	$(CHECK_RUST)
	@echo 'building $@'
	@$(FOR_CARGO) && mkdir -p $(@D) && \
	$(CARGO) build --locked --manifest-path tools/ic_ports/Cargo.toml --profile installed --target-dir $(MAKE_DIR) \
		--target $$rust_target $(CARGO_LINKER) && \
	install -m 755 $(MAKE_DIR)/$$rust_target/installed/ic_ports $@.new && mv -f $@.new $@

install: install-ic-ports
remove-files: uninstall-ic-ports

install-ic-ports: $(IC_PORTS) | install-directories
	$(INSTALL) -m 755 $(IC_PORTS) "$(DESTDIR)$(BINDIR)"
	$(INSTALL) -m 644 man/ic_ports.1 "$(DESTDIR)$(MANDIR)/man1"

uninstall-ic-ports:
	rm -f "$(DESTDIR)$(BINDIR)/ic_ports" "$(DESTDIR)$(MANDIR)/man1/ic_ports.1"
