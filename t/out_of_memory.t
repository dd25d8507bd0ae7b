# SPDX-License-Identifier: ISC
#
# An allocation fails, in a whole session of each kind: the session goes on, or ends with a line and
# status 71. It crashed, ended without a line, blamed openssl.cnf, a damaged file or the client's
# certificate, or went on without the settings of openssl.cnf; and a listener could not serve anyone.
# `make failures` fails every allocation. (A name after -r is not tested: glibc crashes.)
# sabotage: s/starting = true;/;/ tls/credential.c
# sabotage: s/bool no_memory = t == NULL .*/bool no_memory = false;/ tls.c
use lib 't/lib';
use T;
use T::Memory;

my $end = 1_000_000;

fail_allocations('a server, from the start', 'p', 1, 1, 60);
fail_allocations('a server with certificates, a map and PROXY headers', 'p', 61, 397, $end);
fail_allocations('a server', 's', 0, 211, $end);
fail_allocations('client mode', 'c', 0, 211, $end);
fail_allocations('a listener, from the start', 'l', 1, 13, 60);
fail_allocations('a listener', 'l', 0, 307, $end);
done_testing;
