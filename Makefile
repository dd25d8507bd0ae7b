# SPDX-License-Identifier: ISC
# make, make install, make cert, make demo, make check: see README.

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
HARDEN = -fPIE -fstack-protector-strong -U_FORTIFY_SOURCE -D_FORTIFY_SOURCE=2 $(CET)
HARDEN_LD = -pie -Wl,-z,relro,-z,now,-z,noexecstack

# CET where the compiler has it for this machine (x86-64).
CET := $(shell echo 'int main(void){return 0;}' | $(CC) -fcf-protection=full -x c - -c -o /dev/null 2>/dev/null && echo -fcf-protection=full)

ifeq (,$(filter clean uninstall demo check cert,$(MAKECMDGOALS)))
ifneq (yes,$(shell $(PKG_CONFIG) --atleast-version=3.0 libssl libcrypto 2>/dev/null && echo yes))
$(error OpenSSL 3.0 or newer is missing: install libssl-dev and pkg-config (Debian) or openssl-devel and pkgconf (Fedora))
endif
ifneq (yes,$(shell $(PKG_CONFIG) --exists libbsd-overlay 2>/dev/null && echo yes))
$(error libbsd is missing: install libbsd-dev (Debian) or libbsd-devel (Fedora))
endif
endif

ALL_CPPFLAGS = -D_GNU_SOURCE -DOPENSSL_NO_DEPRECATED -DVERSION='"$(VERSION)"' -DSYSCONFDIR='"$(SYSCONFDIR)"' $(CPPFLAGS)
ALL_CFLAGS = -std=c17 $(WARN) $(HARDEN) $(shell $(PKG_CONFIG) --cflags libssl libcrypto libbsd-overlay 2>/dev/null) $(CFLAGS)
LIBS = $(shell $(PKG_CONFIG) --libs libssl libcrypto libbsd-overlay 2>/dev/null)

MODULES = options startup tls passphrase backend sock splice stream pidfile sandbox log
OBJS = wrapper.o $(MODULES:=.o)

all: pgssl

pgssl: $(OBJS)
	$(CC) $(ALL_CFLAGS) $(HARDEN_LD) $(LDFLAGS) -o $@ $(OBJS) $(LIBS)

%.o: %.c Makefile
	$(CC) $(ALL_CPPFLAGS) $(ALL_CFLAGS) -MMD -MP -c -o $@ $<

-include $(OBJS:.o=.d)

clean:
	rm -f *.o *.d pgssl
	rm -rf build t/bin

.PHONY: all clean

# Unit tests --------------------------------------------------------------------------------------------------------
# `make units` builds t/bin/unit_NAME, which prints TAP, from t/unit_NAME.c and the objects that are named for it here.

UNIT = proxy identmap

units: $(UNIT:%=t/bin/unit_%)

t/bin/unit_proxy: proxy.o stream.o log.o
t/bin/unit_identmap: identmap.o identregex.o log.o

t/bin/unit_%: t/unit_%.c t/tap.h t/memstream.h Makefile
	@mkdir -p t/bin
	$(CC) $(ALL_CPPFLAGS) $(ALL_CFLAGS) $(HARDEN_LD) $(LDFLAGS) -o $@ $(filter %.c %.o,$^) $(LIBS)

# `make fuzz` needs clang with libFuzzer (Debian: libclang-rt-14-dev) and takes FUZZ_SECONDS for each parser.
FUZZ_SECONDS = 20

fuzz: t/bin/fuzz_proxy t/bin/fuzz_identmap
	for f in $^; do mkdir -p $$f.corpus && $$f -max_total_time=$(FUZZ_SECONDS) -rss_limit_mb=512 -timeout=5 -verbosity=0 -artifact_prefix=$$f. $$f.corpus || exit 1; done

t/bin/fuzz_proxy: proxy.c stream.c log.c
t/bin/fuzz_identmap: identmap.c identregex.c log.c

t/bin/fuzz_%: t/fuzz_%.c t/memstream.h Makefile
	@mkdir -p t/bin
	clang -std=c17 -g -O1 $(WARN) $(ALL_CPPFLAGS) -fsanitize=fuzzer,address,undefined -fno-sanitize-recover=all -o $@ $(filter %.c,$^)

-include $(UNIT:=.d)

.PHONY: units fuzz
