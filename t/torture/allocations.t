# SPDX-License-Identifier: ISC
#
# Every allocation of a session fails, as in t/out_of_memory.t: that one alone, and all from there
# on. The first 8,900, until OpenSSL has a context, are the same in all kinds; the listener's
# session is one without certificates.
# sabotage: s/errno == ENOMEM ?/false ?/ auth/certauth.c
# sabotage: s/errno = status == EAI_MEMORY ? ENOMEM : 0/errno = 0/ net/address.c
# sabotage: s/return t->no_memory ? IO_NO_MEMORY : io;/return t->no_memory \&\& io != IO_DONE ? IO_NO_MEMORY : io;/ tls.c
use lib 't/lib';
use T;
use T::Memory;

limit(3600);
my $end = 1_000_000;

fail_allocations('a server with certificates, a map and PROXY headers', 'p', 1, 1, $end);
fail_allocations('a stranger', 'stranger', 0, 1, $end);
fail_allocations('a client whose certificate is revoked', 'stranger, revoked', 0, 1, $end);
fail_allocations('client mode', 'c', 0, 1, $end);
fail_allocations('client mode, the wrong server', 'cstranger', 0, 1, $end);
fail_allocations('a listener, from the start', 'l', 1, 1, 1000);
fail_allocations('a listener', 'l', 0, 1, $end);
done_testing;
