# SPDX-License-Identifier: ISC
#
# `make STATIC=1` did not link on Debian 13, whose libcrypto.a needs zlib and zstd. It must link
# OpenSSL statically, and the program must serve a session with its sandbox on.
# sabotage: Makefile s/^LIBS = -Wl,-Bstatic /LIBS = /
use lib 't/lib';
use T;

my $copy = "$TMP/tree";
my $tar = 'tar -cf - --exclude=.git --exclude=./build --exclude=./bench/out .';
is(system("mkdir $copy && cd $ROOT && $tar | tar -xf - -C $copy"), 0, 'a copy of the tree');
unlink "$copy/pgssl";
my $make = T::run([ 'make', '-s', '-C', $copy, 'STATIC=1', 'pgssl' ],
	env => { MAKEFLAGS => undef, MAKELEVEL => undef });
is($make->{status}, 0, 'make STATIC=1') or diag($make->{err});
unlike(T::run([ 'ldd', "$copy/pgssl" ])->{out}, qr/lib(?:ssl|crypto|bsd|z|zstd)\.so/,
	'no shared library of OpenSSL is used');
like(T::run([ "$copy/pgssl", '-V' ])->{out}, qr/(OpenSSL \S+).*running with \1 /,
	'-V shows the OpenSSL that is linked in');

my $service = serve(pg => start_pg(), program => "$copy/pgssl");
is(psql('select 6*7', port => $service->port, sslmode => 'verify-full',
	rootcert => server_pem()->{root})->{out}, "42\n", 'a session');
unlike($service->log, qr/sandbox/, 'the sandbox is on');
done_testing;
