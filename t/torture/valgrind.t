# SPDX-License-Identifier: ISC
#
# A session of each kind under valgrind: no error, and no memory that is definitely lost. The
# program is that of `make bench`, without step 5, which would kill valgrind.
# sabotage: s/BIO_free(bio);/;/ tls/names.c
use lib 't/lib';
use T;
use T::X509;

needs(!run([qw(valgrind --version)], quiet => 1)->{status}, 'valgrind');
limit(600);
my $program = "$ROOT/bench/out/pgssl-nosandbox";
is(run([ 'make', '-s', '-C', $ROOT, 'bench/out/pgssl-nosandbox' ])->{status}, 0, 'build');

my $c = server_pem();
my $pg = start_pg(ssl => $c->{cert});
my $root = issue(cn => 'Root', ca => 1);
my $alice = issue(issuer => $root, cn => 'alice@example.org');
my $map = spew("$TMP/map", "m /^(.*)\@example\\.org\$ \\1\n");
my @verify = ('-A', $root->{cert}, '--clientcert=verify-full');
my @as_alice = (cert => $alice->{chain}, key => $alice->{key});
my $kinds = 0;

# A program that is pgssl under valgrind, whose log is $TMP/vg.N.PID. A process that forks has the
# same log as its children.
sub wrapped {
	$kinds++;
	return spew("$TMP/pgssl.$kinds", "#!/bin/sh\nexec valgrind --log-file=$TMP/vg.$kinds.%p --leak-check=full "
		. "--show-leak-kinds=definite --errors-for-leak-kinds=definite $program \"\$@\"\n", 0755);
}

sub ended { return scalar grep { /ERROR SUMMARY/ } map { log_lines($_) } glob "$TMP/vg.$kinds.*" }

# All of `count` processes of this kind have ended, without an error.
sub silent {
	my ($what, $count) = @_;
	wait_for("the end of $count", sub { ended() >= $count });
	for my $log (glob "$TMP/vg.$kinds.*") {
		my @summary = log_lines($log, qr/ERROR SUMMARY/);
		my $bad = grep { !/ERROR SUMMARY: 0 errors/ } @summary;
		ok(@summary && !$bad, "$what: no error") or diag(slurp($log));
	}
}

sub through {
	my ($what, $service, %o) = @_;
	my $r = psql("select current_user, repeat('x', 100000) = ''", port => $service->port, %o);
	is($r->{out}, "alice|f\n", $what) or diag($r->{err});
	silent($what, 1);
}

my @common = (stderr => "$TMP/stderr");
through('server', serve(@common, program => wrapped(), pg => $pg));
through('server, TLS 1.2', serve(@common, program => wrapped(), pg => $pg,
	args => ['--max-protocol=TLSv1.2']));
through('client mode', serve(@common, program => wrapped(), pg => $pg, client => 1,
	args => [ '-A', $c->{root} ]), sslmode => 'disable');
through('certificate', serve(@common, program => wrapped(), pg => $pg,
	args => [ '-A', $root->{cert}, '--clientcert=verify-ca', '--application-name-host' ]), @as_alice);
through('map', serve(@common, program => wrapped(), pg => $pg,
	args => [ @verify, "--ident-map=$map", '--map=m' ]), @as_alice);

my $refused = serve(@common, program => wrapped(), pg => $pg, args => [ @verify ]);
like(psql('select 1', port => $refused->port, @as_alice)->{err}, qr/certificate authentication failed/,
	'a certificate that does not fit');
silent('a certificate that does not fit', 1);

my $proxy = serve(@common, program => wrapped(), pg => $pg, args => ['--proxy-protocol']);
my $conn = connect_to($proxy->port);
$conn->send("PROXY TCP4 192.0.2.7 192.0.2.8 51234 5432\r\n");
ok($conn->login, 'PROXY');
$conn->close;
silent('PROXY', 1);

my $listener = serve_listen(program => wrapped(), pg => $pg);
is(psql('select 1', port => $listener->port)->{out}, "1\n", "listener, session $_") for 1, 2;
kill 'HUP', $listener->{pid};
$listener->logged(qr/reloaded certificate and key/);
stop($listener->{pid});
silent('listener', 3);
done_testing;
