# `make install`, for Makefile: what is placed where. Every directory can be set; DESTDIR goes before all of them.

PREFIX ?= /usr/local
BINDIR ?= $(PREFIX)/bin
SBINDIR ?= $(PREFIX)/sbin
LIBDIR ?= $(PREFIX)/lib
INCLUDEDIR ?= $(PREFIX)/include
MANDIR ?= $(PREFIX)/share/man
DOCDIR ?= $(PREFIX)/share/doc/libasap
# What has RSPLIB's names is not where RSPLIB's own would be, so that both can be installed: the headers in INCLUDEDIR/libasap, the library here.
RSPLIB_LIBDIR ?= $(LIBDIR)/libasap
BUILT ?= $(or $(CARGO_TARGET_DIR),target)/release

VERSION = $(shell sed -n 's/^version = "\(.*\)"/\1/p' Cargo.toml | head -n 1)
SONAME = libasap.so.0

.PHONY: install install-rsplib uninstall

install: all ## library, headers, pkg-config file, tools, manual: PREFIX=/usr/local, DESTDIR, LIBDIR, ...
	install -d $(foreach dir,$(BINDIR) $(SBINDIR) $(LIBDIR)/pkgconfig $(MANDIR) $(DOCDIR)/examples,"$(DESTDIR)$(dir)")
	install -m 755 $(BUILT)/libasap.so "$(DESTDIR)$(LIBDIR)/libasap.so.$(VERSION)"
	ln -sf libasap.so.$(VERSION) "$(DESTDIR)$(LIBDIR)/$(SONAME)"
	ln -sf $(SONAME) "$(DESTDIR)$(LIBDIR)/libasap.so"
	install -m 644 $(BUILT)/libasap.a "$(DESTDIR)$(LIBDIR)/libasap.a"
	cd include && find . -path ./rserpool -prune -o -name '*.h' -exec install -D -m 644 {} "$(DESTDIR)$(INCLUDEDIR)/{}" \;
	install -D -m 644 -t "$(DESTDIR)$(INCLUDEDIR)/libasap/rserpool" include/rserpool/*.h
	sed -e 's|@prefix@|$(PREFIX)|' -e 's|@libdir@|$(LIBDIR)|' -e 's|@includedir@|$(INCLUDEDIR)|' -e 's|@version@|$(VERSION)|' \
	    packaging/libasap.pc.in >"$(DESTDIR)$(LIBDIR)/pkgconfig/libasap.pc"
	install -m 755 $(BUILT)/asapctl "$(DESTDIR)$(BINDIR)/asapctl"
	install -m 755 $(BUILT)/asap-registrar "$(DESTDIR)$(SBINDIR)/asap-registrar"
	install -d "$(DESTDIR)$(MANDIR)/man1" "$(DESTDIR)$(MANDIR)/man3" "$(DESTDIR)$(MANDIR)/man8"
	$(BUILT)/asapctl manual "$(DESTDIR)$(MANDIR)/man1"
	$(BUILT)/asap-registrar --manual >"$(DESTDIR)$(MANDIR)/man8/asap-registrar.8"
	install -m 644 docs/man/libasap.3 "$(DESTDIR)$(MANDIR)/man3/libasap.3"
	install -m 644 README.md CHANGELOG.md LICENSE LICENSE-MIT LICENSE-APACHE docs/*.md "$(DESTDIR)$(DOCDIR)"
	install -m 644 c-examples/* "$(DESTDIR)$(DOCDIR)/examples"

install-rsplib: all ## for programs linked with RSPLIB's library: our librsplib.so.3, in RSPLIB_LIBDIR
	install -d "$(DESTDIR)$(RSPLIB_LIBDIR)"
	install -m 755 $(BUILT)/librsplib.so "$(DESTDIR)$(RSPLIB_LIBDIR)/librsplib.so.3"
	ln -sf librsplib.so.3 "$(DESTDIR)$(RSPLIB_LIBDIR)/librsplib.so"

uninstall: ## what both have placed
	rm -f "$(DESTDIR)$(LIBDIR)"/libasap.so* "$(DESTDIR)$(LIBDIR)/libasap.a" "$(DESTDIR)$(LIBDIR)/pkgconfig/libasap.pc"
	cd include && find . -name '*.h' -exec rm -f "$(DESTDIR)$(INCLUDEDIR)/{}" "$(DESTDIR)$(INCLUDEDIR)/libasap/{}" \;
	rm -f "$(DESTDIR)$(RSPLIB_LIBDIR)/librsplib.so.3" "$(DESTDIR)$(RSPLIB_LIBDIR)/librsplib.so"
	rm -f "$(DESTDIR)$(BINDIR)/asapctl" "$(DESTDIR)$(SBINDIR)/asap-registrar"
	rm -f "$(DESTDIR)$(MANDIR)"/man1/asapctl*.1 "$(DESTDIR)$(MANDIR)/man3/libasap.3" "$(DESTDIR)$(MANDIR)/man8/asap-registrar.8"
	rm -rf "$(DESTDIR)$(DOCDIR)"
	-rmdir "$(DESTDIR)$(INCLUDEDIR)/libasap/rserpool" "$(DESTDIR)$(INCLUDEDIR)/libasap" "$(DESTDIR)$(INCLUDEDIR)/asap" "$(DESTDIR)$(RSPLIB_LIBDIR)" 2>/dev/null
