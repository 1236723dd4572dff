# The library for LD_PRELOAD and its command. Included by the Makefile at the top, after what makes the static library.

PRELOAD_LIB = $(BUILD_DIR)/preload/libic_listener_preload.so
PRELOAD_RUN = $(BUILD_DIR)/preload/ic_listener_run
# Where the library for LD_PRELOAD is installed. Packages have it in a directory of its own: it is not to be linked.
PRELOAD_DIR = $(LIBDIR)
PRELOAD_CFLAGS = -std=gnu11 -O2 -fPIC -fexceptions -fvisibility=hidden -Wall -Wextra -Iinclude

all: preload

.PHONY: all preload install-preload uninstall-preload

preload: $(PRELOAD_LIB) $(PRELOAD_RUN)

# The static library would call the bind(), listen() and connect() that this library exports; so its calls are renamed.
# The unwinder is linked statically: libgcc_s.so takes longer to load than this library.
$(PRELOAD_LIB): tools/preload/preload.c tools/preload/exports.map tools/preload/preload.mk $(STATIC_LIB)
	@echo 'building $@'
	@mkdir -p $(@D) && \
	$(OBJCOPY) --redefine-sym bind=ic_next_bind --redefine-sym listen=ic_next_listen \
		--redefine-sym connect=ic_next_connect --redefine-sym getsockname=ic_next_getsockname \
		$(STATIC_LIB) $(@D)/library.a && \
	$(CC) $(PRELOAD_CFLAGS) $(CFLAGS) -c -o $(@D)/preload.o tools/preload/preload.c && \
	$(CC) -shared -static-libgcc -s $(LDFLAGS) -o $@.new $(@D)/preload.o $(@D)/library.a $(LDLIBS) \
		-Wl,-z,now,-z,relro,-z,noexecstack,--gc-sections,--as-needed,--no-undefined \
		-Wl,--version-script=tools/preload/exports.map -ldl && \
	mv -f $@.new $@

# The command has the paths of what is installed: other directories make another one.
$(PRELOAD_RUN): tools/preload/ic_listener_run.sh tools/preload/preload.mk Cargo.toml $(BUILD_DIR)/preload/directories
	@echo 'building $@'
	@sed -e 's|@LIBDIR@|$(PRELOAD_DIR)|' -e 's|@BINDIR@|$(BINDIR)|' -e 's|@VERSION@|$(VERSION)|' $< >$@.new && \
	chmod 755 $@.new && mv -f $@.new $@

$(BUILD_DIR)/preload/directories: FORCE
	@mkdir -p $(@D)
	@echo '$(PRELOAD_DIR) $(BINDIR)' | cmp -s - $@ || echo '$(PRELOAD_DIR) $(BINDIR)' >$@

FORCE:

install: install-preload
remove-files: uninstall-preload

install-preload: $(PRELOAD_LIB) $(PRELOAD_RUN) | install-directories
	$(INSTALL) -d "$(DESTDIR)$(PRELOAD_DIR)"
	$(INSTALL) -m 755 $(PRELOAD_LIB) "$(DESTDIR)$(PRELOAD_DIR)"
	$(INSTALL) -m 755 $(PRELOAD_RUN) "$(DESTDIR)$(BINDIR)"
	$(INSTALL) -m 644 man/ic_listener_run.1 "$(DESTDIR)$(MANDIR)/man1"

uninstall-preload:
	rm -f "$(DESTDIR)$(PRELOAD_DIR)/$(notdir $(PRELOAD_LIB))" "$(DESTDIR)$(BINDIR)/$(notdir $(PRELOAD_RUN))" \
		"$(DESTDIR)$(MANDIR)/man1/ic_listener_run.1"
