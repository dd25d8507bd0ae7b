# SPDX-License-Identifier: ISC
# Targets for users are described in README: make, install, cert, demo, check.

PREFIX = /usr/local
SYSCONFDIR = /etc
DESTDIR =
SBINDIR = $(PREFIX)/sbin
MANDIR = $(PREFIX)/share/man
UNITDIR = $(PREFIX)/lib/systemd/system
SYSUSERSDIR = $(PREFIX)/lib/sysusers.d
TMPFILESDIR = $(PREFIX)/lib/tmpfiles.d
DATADIR = $(PREFIX)/share/pgssl
COMPLETIONDIR = $(PREFIX)/share/bash-completion/completions

CC = cc
PKG_CONFIG = pkg-config
CFLAGS = -O2 -g
LDFLAGS =

# The only place of the version. The newest section of CHANGES must agree.
VERSION = 1.1

WARN = -Wall -Wextra -Wpedantic -Wshadow -Wconversion -Wstrict-prototypes -Wmissing-prototypes
# make STATIC=1 PIE=0 gives up address randomization of the program's own code; it saves 0.2 ms and
# 350 KiB per session (README).
PIE = 1
HARDEN = $(if $(filter 0,$(PIE)),-fno-pie,-fPIE) -fstack-protector-strong -U_FORTIFY_SOURCE -D_FORTIFY_SOURCE=2 $(CET)
HARDEN_LD = $(if $(filter 0,$(PIE)),-no-pie,-pie) -Wl,-z,relro,-z,now,-z,noexecstack

# Control-flow protection, as the compiler supports it for this machine: CET of x86-64, or BTI and
# PAC of aarch64.
CET := $(firstword $(foreach option,-fcf-protection=full -mbranch-protection=standard,$(shell echo 'int main(void){return 0;}' | $(CC) $(option) -x c - -c -o /dev/null 2>/dev/null && echo $(option))))

ifeq (,$(filter clean uninstall demo check check-% cert dist deb,$(MAKECMDGOALS)))
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
	check/check check/certificates check/report check/sessions \
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
	apparmor/usr.local.sbin.pgssl kubernetes.yaml
UNITFILES = pgssl.socket pgssl@.service pgssl-wait.socket pgssl-wait.service

# The installed texts name the paths of this installation. Files in /etc are never touched: systemd
# reads its files below PREFIX (nothing is enabled), and the others are examples.
PATHS = sed -e 's|/usr/local/share/doc/pgssl|$(DOCDIR)|g' -e 's|/usr/local/share/man|$(MANDIR)|g' -e 's|/usr/local/share/pgssl|$(DATADIR)|g' \
	-e 's|/usr/local/sbin|$(SBINDIR)|g' -e 's|/usr/local/lib|$(PREFIX)/lib|g' -e 's|/etc/pgssl|$(SYSCONFDIR)/pgssl|g'

install: pgssl
	umask 022; mkdir -p '$(DESTDIR)$(SBINDIR)' '$(DESTDIR)$(MANDIR)/man8' '$(DESTDIR)$(SYSCONFDIR)/pgssl' \
		'$(DESTDIR)$(DOCDIR)/examples/xinetd.d' '$(DESTDIR)$(DOCDIR)/examples/apparmor' \
		'$(DESTDIR)$(UNITDIR)' '$(DESTDIR)$(SYSUSERSDIR)' '$(DESTDIR)$(TMPFILESDIR)' \
		'$(DESTDIR)$(DATADIR)' '$(DESTDIR)$(COMPLETIONDIR)'
	install -m 755 pgssl '$(DESTDIR)$(SBINDIR)/pgssl'
	install -m 755 contrib/mkcert '$(DESTDIR)$(DATADIR)/mkcert'
	install -m 644 contrib/completion/pgssl.bash '$(DESTDIR)$(COMPLETIONDIR)/pgssl'
	install -m 644 LICENSE '$(DESTDIR)$(DOCDIR)/LICENSE'
	umask 022; put() { $(PATHS) "$$1" >'$(DESTDIR)'"$$2" || exit 1; }; \
		put pgssl.8 '$(MANDIR)/man8/pgssl.8'; \
		for f in $(TEXTS); do put $$f '$(DOCDIR)/'$$f; done; \
		for f in $(EXAMPLES); do [ -e $$f ] && put $$f '$(DOCDIR)/examples/'$$f || put contrib/$$f '$(DOCDIR)/examples/'$$f; done; \
		for f in $(UNITFILES); do put contrib/systemd/$$f '$(UNITDIR)/'$$f; done; \
		put contrib/systemd/pgssl.sysusers '$(SYSUSERSDIR)/pgssl.conf'; \
		put contrib/systemd/pgssl.tmpfiles '$(TMPFILESDIR)/pgssl.conf'

# SYSCONFDIR/pgssl is removed only if it is empty, since it may contain the site's key.
uninstall:
	rm -f '$(DESTDIR)$(SBINDIR)/pgssl' '$(DESTDIR)$(MANDIR)/man8/pgssl.8' '$(DESTDIR)$(SYSUSERSDIR)/pgssl.conf' '$(DESTDIR)$(TMPFILESDIR)/pgssl.conf' \
		'$(DESTDIR)$(DATADIR)/mkcert' '$(DESTDIR)$(COMPLETIONDIR)/pgssl'
	cd '$(DESTDIR)$(UNITDIR)' 2>/dev/null && rm -f $(UNITFILES) || true
	cd '$(DESTDIR)$(DOCDIR)' 2>/dev/null && rm -f $(TEXTS) LICENSE || true
	cd '$(DESTDIR)$(DOCDIR)/examples' 2>/dev/null && rm -f $(EXAMPLES) || true
	for d in '$(DOCDIR)/examples/xinetd.d' '$(DOCDIR)/examples/apparmor' '$(DOCDIR)/examples' '$(DOCDIR)' '$(DATADIR)' '$(SYSCONFDIR)/pgssl'; do rmdir '$(DESTDIR)'"$$d" 2>/dev/null || true; done

# A source tarball of the committed tree: build/pgssl-VERSION.tar.gz.
dist:
	@contrib/dist '$(VERSION)'

# A Debian package from that tarball, in build/deb. Needs the packages of Build-Depends in
# contrib/debian/control, and dpkg-dev.
deb: dist
	rm -rf build/deb
	mkdir -p build/deb
	tar -xzf 'build/pgssl-$(VERSION).tar.gz' -C build/deb
	cp -R 'build/deb/pgssl-$(VERSION)/contrib/debian' 'build/deb/pgssl-$(VERSION)/debian'
	cd 'build/deb/pgssl-$(VERSION)' && env -u MAKEFLAGS -u MAKELEVEL -u MFLAGS dpkg-buildpackage --unsigned-source --unsigned-changes

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

.PHONY: cert install uninstall dist deb demo counts counts-check

# ---- end of packaging ---------------------------------------------------------------------------
# ---- Tests --------------------------------------------------------------------------------------

# t/bin/unit_NAME prints TAP. It is built from t/unit_NAME.c and the objects listed for it here.
UNIT = proxy appname identmap sandbox sandbox_layers filter startup relay splice pump
UNITS = $(UNIT:%=t/bin/unit_%)
FUZZ = startup appname messages proxy identmap options address names
REPLAYS = $(FUZZ:%=t/bin/replay_%)

t/bin/unit_proxy: wire/proxy.o net/stream.o log.o
t/bin/unit_startup t/bin/unit_relay t/bin/unit_appname: wire/startup.o net/stream.o log.o
t/bin/unit_splice: net/splice.o net/stream.o log.o
t/bin/unit_identmap: auth/identmap.o log.o
t/bin/unit_pump: net/splice.o net/stream.o net/address.o net/sock.o options.o tls.o $(patsubst %.c,%.o,$(wildcard tls/*.c)) log.o t/pump_world.h t/pump_peers.h
t/bin/unit_pump: WRAP = -Wl,--wrap=ppoll,--wrap=poll,--wrap=clock_gettime,--wrap=stream_poll

# Old kernels are simulated by wrappers of prctl() and syscall() that the linker inserts; the
# program itself has no hook.
t/bin/unit_sandbox t/bin/unit_sandbox_layers: sandbox/sandbox.o sandbox/landlock.o sandbox/seccomp.o log.o t/sandbox_harness.h
t/bin/unit_filter: sandbox/seccomp.o log.o
t/bin/unit_filter: WRAP = -Wl,--wrap=prctl
t/bin/unit_sandbox t/bin/unit_sandbox_layers: WRAP = -Wl,--wrap=prctl,--wrap=syscall

t/bin/unit_%: t/unit_%.c t/tap.h t/memstream.h Makefile
	@mkdir -p t/bin
	$(CC) $(ALL_CPPFLAGS) $(ALL_CFLAGS) $(HARDEN_LD) $(LDFLAGS) $(WRAP) -o $@ $(filter %.c %.o,$^) $(LIBS)

# Clients for the scripts: one sends invalid TLS records, one does many handshakes, one is many good
# and silent clients, one is both peers of a session that fails.
TOOLS = t/bin/tls_records t/bin/handshakes t/bin/crowd t/bin/failing_calls

$(TOOLS): t/bin/%: t/%.c Makefile
	@mkdir -p t/bin
	$(CC) $(ALL_CPPFLAGS) $(ALL_CFLAGS) $(HARDEN_LD) $(LDFLAGS) -o $@ $< $(LIBS)

t/bin/short_calls.so: t/short_calls.c Makefile
	@mkdir -p t/bin
	$(CC) -D_GNU_SOURCE $(ALL_CFLAGS) -U_FORTIFY_SOURCE -fPIC -shared -o $@ $<

# The whole program with an allocation that fails.
t/bin/failing_calls: t/whole_session.h
FAILING = main tls_apply_settings regcomp getpwnam closefrom clock_gettime getppid \
	address_look_up_listen sandbox_drop_privileges sandbox_enter_parent
t/bin/failing_malloc: t/failing_malloc.c t/whole_session.h $(OBJS)
	@mkdir -p t/bin
	$(CC) $(ALL_CPPFLAGS) $(ALL_CFLAGS) $(HARDEN_LD) $(LDFLAGS) $(FAILING:%=-Wl$(comma)--wrap=%) -o $@ $(filter %.c %.o,$^) $(LIBS)

units: programs t/bin/failing_malloc
programs: $(UNITS) $(REPLAYS) $(TOOLS) t/bin/short_calls.so

# One run of prove for all tests: the programs in t/bin and the scripts. Those that take longest
# come first, so that no processor is idle at the end. Files that fail are run again, one at a time
# and with all their output: a busy machine can stop a test for longer than its time limits.
LONG = $(patsubst %,t/%.t,key clientcert check pidfile client_verify chat silent servercert clientcert_flow splice crl client)
CHECKS = $(LONG) $(filter-out $(LONG),$(wildcard t/*.t)) $(UNITS) $(REPLAYS)
PROVE = prove --statefile=build/prove
check:
	t/setup
	$(if $(SAN),t/check-san $(or $(TESTS),$(CHECKS)),$(MAKE) all units && { $(PROVE) -j5 --state=save $(or $(TESTS),$(CHECKS)) || $(PROVE) -v --state=failed; })

# The same in a new root directory of another Debian release: make check-distro DISTRO=trixie
# (bookworm, trixie, sid or experimental). ARCH=arm64: build for arm64 and run the unit programs.
check-distro:
	ARCH='$(ARCH)' t/check-distro '$(or $(DISTRO),$(if $(ARCH),trixie))'

# Every command of README, in a new Debian 13 with systemd as process 1.
check-readme:
	t/check-distro trixie readme

# The Debian packages and the RPM in new root directories of Debian 12 and 13: build, install,
# connect, upgrade, remove, purge. Takes about ten minutes.
check-packages:
	t/check-packages

# Drivers and tools of PostgreSQL as clients. Installs packages from Debian and npm.
check-clients:
	t/check-clients

# A client that comes when --idle-exit ends the listener, 2,000 times under each of four
# super-servers. Takes about five minutes.
check-idle-exit:
	t/setup
	$(MAKE) all
	IDLE_ROUNDS=2000 prove -v t/idle_exit.t

# Lines and branches that the tests execute, with the sandbox, and limits for them: t/coverage. Takes
# about twelve minutes. UNCOUNTED: tests that do not run this build.
UNCOUNTED = $(patsubst %,t/%.t,borders manual dist check_distro static)
coverage:
	t/setup clang llvm libclang-rt-dev
	t/coverage $(or $(TESTS),t/torture/calls.t $(filter-out $(UNCOUNTED),$(CHECKS)))

# Break the source, one line at a time, and check that each test then fails. Slow.
sabotage: all units
	t/sabotage

# The floods of silent clients at full length, with their figures.
flood: pgssl t/bin/crowd
	FLOOD=1 prove -v t/limits.t

# make check SAN=1, perhaps with TESTS='t/log.t t/cert.t': the same with sanitizers, in build/san.
# t/check-san sets SAN_REPORTS there. Undefined behaviour traps, since gcc's libubsan reports to
# descriptor 2 only; AddressSanitizer then writes the report.
ifdef SAN_REPORTS
CFLAGS = -O1 -g -fno-omit-frame-pointer -fsanitize=address,undefined -fsanitize-undefined-trap-on-error
HARDEN = -fPIE
OBJS += t/sanitizers.o
# In the secure heap no leak would be seen, and what is referred to from there would be one.
pgssl t/bin/unit_pump: LDFLAGS += -Wl,--wrap=sandbox_landlock,--wrap=sandbox_seccomp,--wrap=setrlimit,--wrap=prctl,--wrap=CRYPTO_secure_malloc_init
t/sanitizers.o: CPPFLAGS += -DSAN_REPORTS='"$(SAN_REPORTS)"'
pgssl t/bin/unit_pump: t/sanitizers.o
t/sanitizers.o: again
.PHONY: again
endif

# A session of each kind under valgrind.
valgrind: all bench/out/pgssl-nosandbox
	t/setup valgrind
	prove -v t/torture/valgrind.t

# `make fuzz` needs clang with libFuzzer (Debian: libclang-rt-dev) and runs each target for
# FUZZ_SECONDS. `make check` runs t/bin/replay_NAME on t/corpus/NAME.
FUZZ_SECONDS = 20

fuzz: $(FUZZ:%=t/bin/fuzz_%)
	set -e; for t in $(FUZZ); do mkdir -p build/fuzz/$$t; t/bin/fuzz_$$t -max_total_time=$(FUZZ_SECONDS) -rss_limit_mb=512 -timeout=5 -verbosity=0 \
		-print_final_stats=1 -artifact_prefix=build/fuzz/$$t- build/fuzz/$$t t/corpus/$$t; done

$(foreach t,startup appname messages,t/bin/fuzz_$(t) t/bin/replay_$(t)): wire/startup.o net/stream.o log.o t/memstream.h t/fuzz/postgres.h
t/bin/fuzz_proxy t/bin/replay_proxy: wire/proxy.o net/stream.o log.o t/memstream.h
t/bin/fuzz_identmap t/bin/replay_identmap: auth/identmap.o log.o
t/bin/fuzz_options t/bin/replay_options: options.o log.o
t/bin/fuzz_address t/bin/replay_address: net/address.o net/sock.o log.o
t/bin/fuzz_address t/bin/replay_address: WRAP = -Wl,--wrap=getaddrinfo,--wrap=getservbyname
t/bin/fuzz_names t/bin/replay_names: tls/names.o tls/peer.o tls/client.o net/address.o net/sock.o net/stream.o log.o
t/bin/fuzz_names t/bin/replay_names: WRAP = -Wl,--wrap=SSL_get0_peer_certificate,--wrap=SSL_get_verify_result

t/bin/replay_%: t/fuzz/%.c t/fuzz/replay.c t/fuzz/fuzz.h t/tap.h Makefile
	@mkdir -p t/bin
	$(CC) -It $(ALL_CPPFLAGS) $(ALL_CFLAGS) $(HARDEN_LD) $(LDFLAGS) $(WRAP) -o $@ $(filter %.c %.o,$^) $(LIBS)

t/bin/fuzz_%: t/fuzz/%.c t/fuzz/fuzz.h Makefile
	@mkdir -p t/bin
	clang -std=c17 -g -O1 $(WARN) -It $(ALL_CPPFLAGS) $(shell $(PKG_CONFIG) --cflags libssl libcrypto libbsd-overlay) -fsanitize=fuzzer,address,undefined -fno-sanitize-recover=all $(WRAP) -o $@ $(patsubst %.o,%.c,$(filter %.c %.o,$^)) $(LIBS)

# The relay against its model: 10,000 random schedules in 90 s or so. SEED=N repeats one.
pump: t/bin/unit_pump
	$(if $(SEED),SEED='$(SEED)',SCHEDULES=10000) t/bin/unit_pump

# Each allocation, and each system call of a session, fails in turn.
failures: allocations
	prove -v t/torture/calls.t

allocations: all units
	prove -v t/torture/allocations.t

# What wire/ does, proved by CBMC 6: t/proofs/run says what that covers. `t/proofs/run sabotage`
# checks that the proofs can fail.
proofs:
	t/proofs/run

# Clients that break the rules of TLS, and two scanners; parties that are killed or stopped,
# machines without memory, disk or network, and many sessions. Each takes some minutes, as root.
tls-abuse: all units
	t/setup testssl.sh sslscan
	prove -j2 t/torture/scanners.t t/torture/tls_abuse.t

faults: all units
	t/setup
	LOAD=1 prove -j3 t/torture/vanished.t t/torture/load.t t/torture/killed.t t/torture/faults.t

# All of these, as root. `make coverage` runs the second part of `make failures`.
torture:
	t/setup clang llvm libclang-rt-dev valgrind testssl.sh sslscan
	+t/torture/run

.PHONY: torture coverage units programs check check-distro check-readme check-packages check-clients check-idle-exit sabotage flood valgrind fuzz pump failures allocations proofs tls-abuse faults

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
