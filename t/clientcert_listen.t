# SPDX-License-Identifier: ISC
#
# With -d the parent reads the files and reads them again when they change. A revocation list, authorities and a map that are renewed count from the next connection on, as
# under a super-server; one that cannot be read never opens a door.
# sabotage: session/session.c s/o->crl, //
use lib 't/lib';
use T;
use T::X509;

needs(scalar(run([ $PGSSL, '--help' ])->{out} =~ /--listen/), 'a pgssl that can listen');
my $pg = start_pg();
my $root = issue(cn => 'Root', ca => 1);
my $other = issue(cn => 'Other', ca => 1);
my $alice = issue(issuer => $root, cn => 'alice');
my $mapped = issue(issuer => $root, cn => 'someone');
my %file = map { ($_ => "$TMP/renewed.$_") } qw(ca crl map);

sub put { my ($file, $text) = @_; rename spew("$file{$file}.new", $text), $file{$file} }

put(ca => slurp($root->{cert}));
put(crl => slurp(crl($root)));
put(map => "m alice alice\n");
my $port = free_port();
my $log = "$TMP/listen.log";
watch_log($log);
spawn(cmd => [ $PGSSL, '-f', '-d', "127.0.0.1:$port", '-p', server_pem()->{pem}, '-r', '127.0.0.1:' . $pg->port, '-o', $log, '-A', $file{ca}, "--crl=$file{crl}",
	'--clientcert=verify-full', "--ident-map=$file{map}", '--map=m' ]);
wait_for('it to listen', sub { T::Serve::listening($port) });

sub outcome {
	my ($cert) = @_;
	my $r = psql('select 1', port => $port, cert => $cert->{chain}, key => $cert->{key});
	return $r->{out} eq "1\n" ? 'in' : $r->{err} =~ /(alert .*|certificate authentication failed)/ ? $1 : $r->{err};
}

is(outcome($alice), 'in', 'alice');
is(outcome($mapped), 'certificate authentication failed', 'someone is not alice');
put(map => "m alice alice\nm someone alice\n");
is(outcome($mapped), 'in', 'a new line of the map');
put(map => "m alice alice\n");
is(outcome($mapped), 'certificate authentication failed', 'which is taken away again');

put(crl => slurp(crl($root, revoked => [$alice])));
is(outcome($alice), 'alert certificate revoked', 'revoked: the next connection knows');
is(outcome($mapped), 'certificate authentication failed', 'others are not');

for my $bad ('', 'garbage') {
	put(crl => $bad);
	isnt(outcome($alice), 'in', 'a list that cannot be read is no open door');
}
put(crl => slurp(crl($root)));
is(outcome($alice), 'in', 'a good one again');

put(ca => slurp($other->{cert}));
like(outcome($alice), qr/alert unknown ca/, 'an authority that is trusted no longer');
put(ca => slurp($root->{cert}));
is(outcome($alice), 'in', 'and again');
done_testing;
