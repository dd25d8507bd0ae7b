# SPDX-License-Identifier: ISC
# Targets for users are described in README: make, install, cert, demo, check.

PREFIX = /usr/local
SYSCONFDIR = /etc
DESTDIR =
SBINDIR = $(PREFIX)/sbin
MANDIR = $(PREFIX)/share/man

CC = cc
PKG_CONFIG = pkg-config
CFLAGS = -O2 -g
LDFLAGS =

VERSION = 1.0

WARN = -Wall -Wextra -Wpedantic -Wshadow -Wconversion -Wstrict-prototypes -Wmissing-prototypes
# make STATIC=1 PIE=0 gives up address randomization of the program's own code; it saves 0.2 ms and
# 350 KiB per session (README).
PIE = 1
HARDEN = $(if $(filter 0,$(PIE)),-fno-pie,-fPIE) -fstack-protector-strong -U_FORTIFY_SOURCE -D_FORTIFY_SOURCE=2 $(CET)
HARDEN_LD = $(if $(filter 0,$(PIE)),-no-pie,-pie) -Wl,-z,relro,-z,now,-z,noexecstack

# Control-flow protection (CET), if the compiler supports it for this machine (x86-64).
CET := $(shell echo 'int main(void){return 0;}' | $(CC) -fcf-protection=full -x c - -c -o /dev/null 2>/dev/null && echo -fcf-protection=full)

ifeq (,$(filter clean uninstall demo check check-idle-exit check-distro check-clients cert,$(MAKECMDGOALS)))
ifneq (yes,$(shell $(PKG_CONFIG) --atleast-version=3.0 libssl libcrypto 2>/dev/null && echo yes))
$(error OpenSSL 3.0 or newer is missing: install libssl-dev and pkg-config (Debian) or openssl-devel and pkgconf (Fedora))
endif
ifneq (yes,$(shell $(PKG_CONFIG) --exists libbsd-overlay 2>/dev/null && echo yes))
$(error libbsd is missing: install libbsd-dev (Debian) or libbsd-devel (Fedora))
endif
endif

ALL_CPPFLAGS = -I. -D_GNU_SOURCE -DOPENSSL_NO_DEPRECATED -DVERSION='"$(VERSION)"' -DSYSCONFDIR='"$(SYSCONFDIR)"' $(CPPFLAGS)
ALL_CFLAGS = -std=c17 $(WARN) $(HARDEN) $(shell $(PKG_CONFIG) --cflags libssl libcrypto libbsd-overlay 2>/dev/null) $(CFLAGS)
comma := ,
# Link libbsd statically if possible: two fewer libraries to load for each connection. OpenSSL stays
# a shared library, so that its security updates take effect.
BSD := $(if $(and $(wildcard $(shell $(CC) -print-file-name=libbsd.a)),$(wildcard $(shell $(CC) -print-file-name=libmd.a))),-Wl$(comma)-Bstatic -lbsd -lmd -Wl$(comma)-Bdynamic,$(shell $(PKG_CONFIG) --libs libbsd-overlay 2>/dev/null))
# libcrypto comes first: the loader looks up symbols in this order, and most are in libcrypto.
LIBS = $(shell $(PKG_CONFIG) --libs libcrypto libssl 2>/dev/null) $(BSD)

# make STATIC=1 links OpenSSL and libbsd statically: faster to start and smaller in memory, but an
# update of OpenSSL then needs a new build.
# Debian 13's libcrypto.a needs zlib and zstd (zlib1g-dev, libzstd-dev), as pkg-config reports.
ifdef STATIC
LIBS = -Wl,-Bstatic $(shell $(PKG_CONFIG) --static --libs libssl libcrypto) -Wl,-Bdynamic $(BSD) -Wl,--gc-sections,--exclude-libs,ALL
endif

# wrapper.c is main(); below it the directories of DESIGN, "Layers", from the highest to the lowest.
MODULES = listen/listen listen/inherit listen/children listen/resolver listen/reload listen/background \
	check/check check/certificates check/report \
	session/session session/server session/client auth/certauth auth/identmap \
	tls tls/settings tls/credential tls/peer tls/trust tls/names tls/client tls/passphrase wire/startup wire/proxy \
	sandbox/sandbox sandbox/landlock sandbox/seccomp sandbox/path net/backend net/address net/sock net/splice net/stream \
	options pidfile log
OBJS = wrapper.o $(MODULES:=.o)

all: pgssl

pgssl: $(OBJS)
	$(CC) $(ALL_CFLAGS) $(HARDEN_LD) $(LDFLAGS) -o $@ $(OBJS) $(LIBS)

%.o: %.c Makefile
	$(CC) $(ALL_CPPFLAGS) $(ALL_CFLAGS) -MMD -MP -c -o $@ $<

-include $(OBJS:.o=.d)

clean:
	rm -f $(OBJS) $(OBJS:.o=.d) pgssl
	rm -rf build t/bin

.PHONY: all clean

# ---- Packaging: certificate, installation, demonstration, README's line counts ------------------

# make cert CN=db.example.org SAN='db.example.org 192.0.2.5' OUT=/etc/pgssl/pgssl.pem DAYS=365
# GROUP=pgssl; contrib/mkcert describes the variables and their defaults.
cert:
	@contrib/mkcert

DOCDIR = $(PREFIX)/share/doc/pgssl
TEXTS = README DESIGN SECURITY CHANGES
EXAMPLES = services.example inetd.conf.example xinetd.d/pgssl xinetd.d/pgssl-wait xinetd.d/pgssl-client \
	systemd/pgssl.socket systemd/pgssl@.service systemd/pgssl-wait.socket systemd/pgssl-wait.service \
	systemd/pgssl.sysusers apparmor/usr.local.sbin.pgssl

# The installed texts name the paths of this installation. Configuration is installed only as
# examples; files in /etc are never touched.
PATHS = sed -e 's|/usr/local/share/doc/pgssl|$(DOCDIR)|g' -e 's|/usr/local/share/man|$(MANDIR)|g' \
	-e 's|/usr/local/sbin|$(SBINDIR)|g' -e 's|/etc/pgssl|$(SYSCONFDIR)/pgssl|g'

install: pgssl
	install -d '$(DESTDIR)$(SBINDIR)' '$(DESTDIR)$(MANDIR)/man8' '$(DESTDIR)$(SYSCONFDIR)/pgssl' \
		'$(DESTDIR)$(DOCDIR)/examples/xinetd.d' '$(DESTDIR)$(DOCDIR)/examples/systemd' '$(DESTDIR)$(DOCDIR)/examples/apparmor'
	install -m 755 pgssl '$(DESTDIR)$(SBINDIR)/pgssl'
	install -m 644 LICENSE '$(DESTDIR)$(DOCDIR)/LICENSE'
	for f in $(TEXTS); do $(PATHS) $$f >'$(DESTDIR)$(DOCDIR)/'$$f || exit 1; done
	$(PATHS) pgssl.8 >'$(DESTDIR)$(MANDIR)/man8/pgssl.8'
	for f in $(EXAMPLES); do [ -e $$f ] && from=$$f || from=contrib/$$f; $(PATHS) $$from >'$(DESTDIR)$(DOCDIR)/examples/'$$f || exit 1; done
	chmod 644 '$(DESTDIR)$(MANDIR)/man8/pgssl.8' $(TEXTS:%='$(DESTDIR)$(DOCDIR)/%') $(EXAMPLES:%='$(DESTDIR)$(DOCDIR)/examples/%')

# SYSCONFDIR/pgssl is removed only if it is empty, since it may contain the site's key.
uninstall:
	rm -f '$(DESTDIR)$(SBINDIR)/pgssl' '$(DESTDIR)$(MANDIR)/man8/pgssl.8'
	cd '$(DESTDIR)$(DOCDIR)' 2>/dev/null && rm -f $(TEXTS) LICENSE || true
	cd '$(DESTDIR)$(DOCDIR)/examples' 2>/dev/null && rm -f $(EXAMPLES) || true
	for d in '$(DOCDIR)/examples/xinetd.d' '$(DOCDIR)/examples/systemd' '$(DOCDIR)/examples/apparmor' '$(DOCDIR)/examples' '$(DOCDIR)' '$(SYSCONFDIR)/pgssl'; do rmdir '$(DESTDIR)'"$$d" 2>/dev/null || true; done

# make demo, make demo KEEP=1
demo:
	@MAKE='$(MAKE)' contrib/demo.sh

# README's reading order says how long each file is. `make counts` updates the numbers;
# `make counts-check` fails if one is wrong by more than a tenth.
COUNT = awk -v mode=$(1) -f t/counts.awk README
counts:
	$(call COUNT,write) >README.new && mv README.new README

counts-check:
	@$(call COUNT,check)

.PHONY: cert install uninstall demo counts counts-check

# ---- end of packaging ---------------------------------------------------------------------------
# ---- Tests --------------------------------------------------------------------------------------

# t/bin/unit_NAME prints TAP. It is built from t/unit_NAME.c and the objects listed for it here.
UNIT = proxy appname identmap sandbox sandbox_layers startup relay splice
UNITS = $(UNIT:%=t/bin/unit_%)

t/bin/unit_proxy: wire/proxy.o net/stream.o log.o
t/bin/unit_startup t/bin/unit_relay t/bin/unit_appname: wire/startup.o net/stream.o log.o
t/bin/unit_splice: net/splice.o net/stream.o log.o
t/bin/unit_identmap: auth/identmap.o log.o

# Old kernels are simulated by wrappers of prctl() and syscall() that the linker inserts; the
# program itself has no hook.
t/bin/unit_sandbox t/bin/unit_sandbox_layers: sandbox/sandbox.o sandbox/landlock.o sandbox/seccomp.o log.o t/sandbox_harness.h
t/bin/unit_sandbox t/bin/unit_sandbox_layers: LDFLAGS += -Wl,--wrap=prctl,--wrap=syscall

t/bin/unit_%: t/unit_%.c t/tap.h t/memstream.h Makefile
	@mkdir -p t/bin
	$(CC) $(ALL_CPPFLAGS) $(ALL_CFLAGS) $(HARDEN_LD) $(LDFLAGS) -o $@ $(filter %.c %.o,$^) $(LIBS)

# Clients for the scripts: one sends invalid TLS records, one does many handshakes, one is many good
# and silent clients.
TOOLS = t/bin/tls13_records t/bin/handshakes t/bin/crowd

$(TOOLS): t/bin/%: t/%.c Makefile
	@mkdir -p t/bin
	$(CC) $(ALL_CPPFLAGS) $(ALL_CFLAGS) $(HARDEN_LD) $(LDFLAGS) -o $@ $< $(LIBS)

units: $(UNITS) $(TOOLS)

# One run of prove for all tests: the programs in t/bin and the scripts. Those that take longest
# come first, so that no processor is idle at the end.
LONG = $(patsubst %,t/%.t,key clientcert check pidfile client_verify chat silent servercert clientcert_flow splice crl client)
check:
	t/setup
	$(MAKE) all units
	prove -j5 $(LONG) $(filter-out $(LONG),$(wildcard t/*.t)) $(UNITS)

# The same in a new root directory of another Debian release: make check-distro DISTRO=trixie
# (bookworm, trixie, sid or experimental).
check-distro:
	t/check-distro '$(DISTRO)'

# Drivers and tools of PostgreSQL as clients. Installs packages from Debian and npm.
check-clients:
	t/check-clients

# A client that comes when --idle-exit ends the listener, 2,000 times under each of four
# super-servers. Takes about five minutes.
check-idle-exit:
	t/setup
	$(MAKE) all
	IDLE_ROUNDS=2000 prove -v t/idle_exit.t

# Break the source, one line at a time, and check that each test then fails. Slow.
sabotage: all units
	t/sabotage

# The floods of silent clients at full length, with their figures.
flood: pgssl t/bin/crowd
	FLOOD=1 prove -v t/limits.t

# `make fuzz` needs clang with libFuzzer (Debian: libclang-rt-14-dev) and runs FUZZ_SECONDS for each
# parser.
FUZZ_SECONDS = 20

fuzz: t/bin/fuzz_proxy t/bin/fuzz_identmap
	for f in $^; do mkdir -p $$f.corpus && $$f -max_total_time=$(FUZZ_SECONDS) -rss_limit_mb=512 -timeout=5 -verbosity=0 -artifact_prefix=$$f. $$f.corpus || exit 1; done

t/bin/fuzz_proxy: wire/proxy.c net/stream.c log.c
t/bin/fuzz_identmap: auth/identmap.c log.c

t/bin/fuzz_%: t/fuzz_%.c t/memstream.h Makefile
	@mkdir -p t/bin
	clang -std=c17 -g -O1 $(WARN) $(ALL_CPPFLAGS) -fsanitize=fuzzer,address,undefined -fno-sanitize-recover=all -o $@ $(filter %.c,$^)

.PHONY: units check check-distro check-clients check-idle-exit sabotage flood fuzz

# ---- end of tests -------------------------------------------------------------------------------

# ---- Bench --------------------------------------------------------------------------------------

# make bench, make bench QUICK=1 (under a minute), make bench ONLY=copy ROUNDS=3. Needs root. The
# report is in bench/out/.
bench: pgssl bench/out/client bench/out/relay bench/out/pgssl-nosandbox
	QUICK='$(QUICK)' ONLY='$(ONLY)' ROUNDS='$(ROUNDS)' bench/run

bench/out/client: bench/client.c
	@mkdir -p bench/out
	$(CC) -std=c17 $(WARN) -D_GNU_SOURCE -O2 -g -o $@ $< -lssl -lcrypto

bench/out/relay: bench/relay.c
	@mkdir -p bench/out
	$(CC) -std=c17 $(WARN) -D_GNU_SOURCE -O2 -g -o $@ $<

bench/out/pgssl-nosandbox: bench/nosandbox.c $(OBJS)
	@mkdir -p bench/out
	$(CC) $(ALL_CPPFLAGS) $(ALL_CFLAGS) $(HARDEN_LD) $(LDFLAGS) \
		-Wl,--wrap=sandbox_drop_privileges,--wrap=sandbox_enter,--wrap=sandbox_enter_parent,--wrap=sandbox_connected -o $@ $^ $(LIBS)

.PHONY: bench

# ---- end of bench -------------------------------------------------------------------------------
