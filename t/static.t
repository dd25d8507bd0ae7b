# SPDX-License-Identifier: ISC
#
# make STATIC=1 did not link on Debian 13, whose libcrypto.a needs zlib and zstd. It must link OpenSSL in, and the result must serve a session with its sandbox on.
# sabotage: Makefile s/^LIBS = -Wl,-Bstatic /LIBS = /
use lib 't/lib';
use T;

my $copy = "$TMP/tree";
is(system("mkdir $copy && cd $ROOT && tar -cf - --exclude=.git --exclude=./build --exclude=./bench/out . | tar -xf - -C $copy"), 0, 'a copy of the tree');
unlink "$copy/pgssl";
my $make = T::run([ 'make', '-s', '-C', $copy, 'STATIC=1', 'pgssl' ], env => { MAKEFLAGS => undef, MAKELEVEL => undef });
is($make->{status}, 0, 'make STATIC=1') or diag($make->{err});
unlike(T::run([ 'ldd', "$copy/pgssl" ])->{out}, qr/lib(?:ssl|crypto|bsd|z|zstd)\.so/, 'no library of OpenSSL is loaded');
like(T::run([ "$copy/pgssl", '-V' ])->{out}, qr/(OpenSSL \S+).*running with \1 /, '-V says which OpenSSL is linked in');

my $service = serve(pg => start_pg(), program => "$copy/pgssl");
is(psql('select 6*7', port => $service->port, sslmode => 'verify-full', rootcert => server_pem()->{root})->{out}, "42\n", 'a session');
unlike($service->log, qr/sandbox/, 'with its sandbox');
done_testing;
