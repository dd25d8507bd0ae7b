# SPDX-License-Identifier: ISC
#
# With -d the listener reads the files and reloads them when they change. A changed revocation list,
# authority file or ident map is in effect from the next connection on, as under a super-server.
# With a file that cannot be read no client gets in.
# sabotage: session/session.c s/o->crl, //
# sabotage: session/session.c s/bool listener = .*/bool listener = false;/
use lib 't/lib';
use T;
use T::X509;

needs(scalar(run([ $PGSSL, '--help' ])->{out} =~ /--listen/), 'a pgssl with --listen');
my $pg = start_pg();
my $root = issue(cn => 'Root', ca => 1);
my $other = issue(cn => 'Other', ca => 1);
my $alice = issue(issuer => $root, cn => 'alice');
my $mapped = issue(issuer => $root, cn => 'someone');
my %file = map { ($_ => "$TMP/changed.$_") } qw(ca crl map);

sub put { my ($file, $text) = @_; rename spew("$file{$file}.new", $text), $file{$file} }

put(ca => slurp($root->{cert}));
put(crl => slurp(crl($root)));
put(map => "m alice alice\n");
my $port = free_port();
my $log = "$TMP/listen.log";
watch_log($log);
# regcomp() of glibc can crash when memory runs out. Here it does so when the file `crash` exists,
# but not in a session, which cannot see the file.
spew("$TMP/crash.c", <<"EOF");
#define _GNU_SOURCE
#include <dlfcn.h>
#include <stdlib.h>
#include <unistd.h>
int regcomp(void *preg, const char *regex, int flags)
{
	int (*real)(void *, const char *, int) = dlsym(RTLD_NEXT, "regcomp");
	if (access("$TMP/crash", F_OK) == 0)
		abort();
	return real(preg, regex, flags);
}
EOF
run([ 'cc', '-shared', '-fPIC', '-o', "$TMP/crash.so", "$TMP/crash.c" ]);
my $listener = spawn(env => { LD_PRELOAD => "$TMP/crash.so" }, cmd => [ $PGSSL, '-f', '-d', "127.0.0.1:$port", '-p', server_pem()->{pem}, '-r',
	'127.0.0.1:' . $pg->port, '-o', $log, '-A', $file{ca}, "--crl=$file{crl}",
	'--clientcert=verify-full', "--ident-map=$file{map}", '--map=m' ]);
wait_for('pgssl to listen', sub { T::Serve::listening($port) });

sub outcome {
	my ($cert) = @_;
	my $r = psql('select 1', port => $port, cert => $cert->{chain}, key => $cert->{key});
	return $r->{out} eq "1\n" ? 'in'
		: $r->{err} =~ /(alert .*|certificate authentication failed)/ ? $1 : $r->{err};
}

is(outcome($alice), 'in', 'alice gets in');
is(outcome($mapped), 'certificate authentication failed', 'the map does not allow someone');
put(map => "m alice alice\nm someone alice\n");
is(outcome($mapped), 'in', 'a new line in the map allows someone');
put(map => "m alice alice\n");
is(outcome($mapped), 'certificate authentication failed', 'the line is removed again');

put(crl => slurp(crl($root, revoked => [$alice])));
is(outcome($alice), 'alert certificate revoked', 'revoked: the next connection is refused');
is(outcome($mapped), 'certificate authentication failed', 'another certificate is not revoked');

for my $bad ('', 'garbage') {
	put(crl => $bad);
	isnt(outcome($alice), 'in', 'with an unreadable list nobody gets in');
}
put(crl => slurp(crl($root)));
is(outcome($alice), 'in', 'a valid list again');

put(ca => slurp($other->{cert}));
like(outcome($alice), qr/alert unknown ca/, 'the authority is no longer trusted');
put(ca => slurp($root->{cert}));
is(outcome($alice), 'in', 'the authority is trusted again');

put(map => "m /^al alice\n");
is(outcome($alice), 'in', 'a regular expression');
spew("$TMP/crash", '');
put(map => "m /^some alice\n");
my $during = outcome($alice);
SKIP: {
	skip 'without Landlock the session sees the file "crash"', 1 if $T::SAN;
	is($during, 'in', 'the new map makes regcomp() crash: the old one stays in use');
}
ok(alive($listener), 'the listener lives');
like(slurp($log), qr/could not reload .*the process that loaded "\Q$file{map}\E" was terminated by signal \d+/, 'logged');
done_testing;
