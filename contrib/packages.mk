# make deb   packages for Debian and Ubuntu, in target/packages/deb
# make rpm   packages for RHEL, Fedora and their relatives, in target/packages/rpm
#
# Included by the Makefile at the top. Both are made of one source, which has in vendor/ what Cargo needs, so that the
# rest goes without internet. Its bytes are the same each time, and so are the packages'.

PACKAGES = target/packages
SOURCE_DIR = ic-listener-$(VERSION)
SOURCE_TARBALL = $(PACKAGES)/ic-listener_$(VERSION).orig.tar.gz
PACKAGE_DATE = $(shell sed -n 's/^ -- .*>  //p' contrib/debian/changelog | head -n 1)

.PHONY: deb rpm source-tarball

source-tarball:
	$(CHECK_RUST)
	@rm -rf $(PACKAGES)/source && mkdir -p $(PACKAGES)/source/$(SOURCE_DIR)
	@tar -cf - --exclude=target --exclude=./.git --exclude=./c_tests/build --exclude='*.o' . | \
		tar -xf - -C $(PACKAGES)/source/$(SOURCE_DIR)
	@mkdir -p $(PACKAGES)/source/$(SOURCE_DIR)/.cargo && cd $(PACKAGES)/source/$(SOURCE_DIR) && \
		$(CARGO) vendor --locked --manifest-path c_library/Cargo.toml --sync tools/ic_ports/Cargo.toml >.cargo/config.toml 2>../../vendor.log
	@tar -C $(PACKAGES)/source --sort=name --owner=0 --group=0 --numeric-owner --mode=go=rX,u+rw,a-s \
		--mtime='$(PACKAGE_DATE)' -cf - $(SOURCE_DIR) | gzip -n >$(SOURCE_TARBALL)

deb: source-tarball
	@rm -rf $(PACKAGES)/deb && mkdir -p $(PACKAGES)/deb
	@cp $(SOURCE_TARBALL) $(PACKAGES)/deb && tar -C $(PACKAGES)/deb -xf $(SOURCE_TARBALL)
	@cp -r contrib/debian $(PACKAGES)/deb/$(SOURCE_DIR)/debian
	cd $(PACKAGES)/deb/$(SOURCE_DIR) && unset CARGO_TARGET_DIR MAKEFLAGS MAKELEVEL && dpkg-buildpackage -us -uc
	@rm -r $(PACKAGES)/deb/$(SOURCE_DIR)

rpm: source-tarball
	@rm -rf $(PACKAGES)/rpm
	unset CARGO_TARGET_DIR MAKEFLAGS MAKELEVEL && SOURCE_DATE_EPOCH=$$(date -d '$(PACKAGE_DATE)' +%s) \
	rpmbuild -ba --define '_topdir $(CURDIR)/$(PACKAGES)/rpm' --define '_sourcedir $(CURDIR)/$(PACKAGES)' \
		--define '_buildhost localhost' --define 'use_source_date_epoch_as_buildtime 1' \
		--define 'clamp_mtime_to_source_date_epoch 1' contrib/rpm/ic-listener.spec
	@rm -r $(PACKAGES)/rpm/BUILD*
