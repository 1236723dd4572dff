# make install     libraries, header, ic_listener.pc and man pages below $(DESTDIR)$(PREFIX)
# make uninstall   removes the files that install put there; give it the same variables
#
# Included by the Makefile at the top. library.mk builds, so that `make && sudo make install` needs no Cargo for root.

PREFIX = /usr/local
LIBDIR = $(PREFIX)/lib
INCLUDEDIR = $(PREFIX)/include
BINDIR = $(PREFIX)/bin
MANDIR = $(PREFIX)/share/man

INSTALL ?= install

MAN_PAGES := $(notdir $(wildcard man/*.3))
# PAGE/ALIAS.3 for the other functions of a page. Their pages are one line that points to it.
MAN_ALIASES := $(shell for page in $(MAN_PAGES); do \
	sed -n '/^\.Sh NAME/,/^\.Nd/s/^\.Nm \([a-z_]*\).*/\1.3/p' man/$$page | grep -vFx $$page | sed "s|^|$$page/|"; done)

# A prefix may have a space in it: the recipes take these from their environment.
install uninstall install-directories remove-files: export IC_DESTDIR = $(DESTDIR)
install uninstall install-directories remove-files: export IC_PREFIX = $(PREFIX)
install uninstall install-directories remove-files: export IC_LIBDIR = $(LIBDIR)
install uninstall install-directories remove-files: export IC_INCLUDEDIR = $(INCLUDEDIR)
install uninstall install-directories remove-files: export IC_BINDIR = $(BINDIR)
install uninstall install-directories remove-files: export IC_MANDIR = $(MANDIR)
install uninstall install-directories remove-files: export IC_PC = $(DESTDIR)$(LIBDIR)/pkgconfig/ic_listener.pc

# The directories below which things go, as a program finds them later on.
define CHECK_DIRECTORIES
@for directory in "$$IC_DESTDIR/" "$$IC_PREFIX" "$$IC_LIBDIR" "$$IC_INCLUDEDIR" "$$IC_BINDIR" "$$IC_MANDIR"; do \
	case $$directory in \
		/*) ;; \
		*) echo "PREFIX, DESTDIR and the directories have to be absolute, unlike '$$directory'" >&2; exit 1 ;; \
	esac; \
done
endef

# The quotes are for a prefix with a space in it.
define PC_FILE
in_prefix() { case $$1 in "$$IC_PREFIX"/*) printf '$${prefix}%s' "$${1#"$$IC_PREFIX"}" ;; *) printf '%s' "$$1" ;; esac; }; \
printf '%s\n' \
	"prefix=$$IC_PREFIX" \
	"libdir=$$(in_prefix "$$IC_LIBDIR")" \
	"includedir=$$(in_prefix "$$IC_INCLUDEDIR")" \
	'' \
	'Name: ic_listener' \
	'Description: Listener ports for database backends, also on a host whose ephemeral range is full' \
	'Version: $(VERSION)' \
	'Cflags: -I"$${includedir}"' \
	'Libs: -L"$${libdir}" -lic_listener'
endef

.PHONY: install uninstall install-directories remove-files

install-directories: $(STATIC_LIB) $(SHARED_LIB)
	$(CHECK_DIRECTORIES)
	@for directory in "$$IC_LIBDIR/pkgconfig" "$$IC_INCLUDEDIR" "$$IC_BINDIR" "$$IC_MANDIR/man1" "$$IC_MANDIR/man3"; do \
		$(INSTALL) -d "$$IC_DESTDIR$$directory" 2>/dev/null && [ -w "$$IC_DESTDIR$$directory" ] || { \
			echo "cannot write to $$IC_DESTDIR$$directory: use sudo, or PREFIX=\$$HOME/.local" >&2; exit 1; }; \
	done

install: install-directories
	$(INSTALL) -m 644 $(STATIC_LIB) "$$IC_DESTDIR$$IC_LIBDIR"
	$(INSTALL) -m 755 $(SHARED_LIB) "$$IC_DESTDIR$$IC_LIBDIR/libic_listener.so.$(VERSION)"
	ln -sf libic_listener.so.$(VERSION) "$$IC_DESTDIR$$IC_LIBDIR/$(SONAME)"
	ln -sf $(SONAME) "$$IC_DESTDIR$$IC_LIBDIR/libic_listener.so"
	$(INSTALL) -m 644 include/ic_listener.h "$$IC_DESTDIR$$IC_INCLUDEDIR"
	$(INSTALL) -m 644 $(MAN_PAGES:%=man/%) "$$IC_DESTDIR$$IC_MANDIR/man3"
	@{ $(PC_FILE); } >"$$IC_PC.new" && chmod 644 "$$IC_PC.new" && mv -f "$$IC_PC.new" "$$IC_PC"
	@for page in $(MAN_ALIASES); do \
		printf '.so man3/%s\n' "$${page%/*}" >"$$IC_DESTDIR$$IC_MANDIR/man3/$${page#*/}" && \
		chmod 644 "$$IC_DESTDIR$$IC_MANDIR/man3/$${page#*/}" || exit 1; \
	done
	$(RENEW_LINKER_CACHE)

# Only where the dynamic linker looks by default: other prefixes are not in its cache.
define RENEW_LINKER_CACHE
@PATH=$$PATH:/usr/sbin:/sbin; \
if [ -z "$$IC_DESTDIR" ] && [ "$$(id -u)" = 0 ] && ldconfig -v -N -X 2>/dev/null | grep -qF "$$IC_LIBDIR:"; then \
	echo ldconfig && ldconfig; \
fi
endef

# Of the directories, those that are empty go, where they are ours alone: not /usr/local/include and the like.
uninstall: remove-files
	@case $$IC_PREFIX in /usr | /usr/local) parents= ;; *) parents=-p ;; esac; \
	cd "$$IC_DESTDIR$$IC_PREFIX" 2>/dev/null || exit 0; \
	for directory in "$$IC_LIBDIR/pkgconfig" "$$IC_INCLUDEDIR" "$$IC_BINDIR" "$$IC_MANDIR/man1" "$$IC_MANDIR/man3"; do \
		case $$directory in \
			"$$IC_PREFIX"/*/*) rmdir $$parents "$${directory#"$$IC_PREFIX"/}" 2>/dev/null ;; \
			"$$IC_PREFIX"/*) [ -z "$$parents" ] || rmdir "$${directory#"$$IC_PREFIX"/}" 2>/dev/null ;; \
		esac; \
	done; \
	true
	$(RENEW_LINKER_CACHE)

remove-files:
	$(CHECK_DIRECTORIES)
	@cd "$$IC_DESTDIR$$IC_LIBDIR" 2>/dev/null && \
		rm -f libic_listener.a libic_listener.so $(SONAME) libic_listener.so.$(VERSION) pkgconfig/ic_listener.pc; \
	cd "$$IC_DESTDIR$$IC_INCLUDEDIR" 2>/dev/null && rm -f ic_listener.h; \
	cd "$$IC_DESTDIR$$IC_MANDIR/man3" 2>/dev/null && rm -f $(MAN_PAGES) $(notdir $(MAN_ALIASES)); \
	true
