# SPDX-License-Identifier: ISC
#
# Client mode and server mode of pgssl, PostgreSQL's own TLS and a real stunnel, in every sensible
# combination: psql works through them, Ctrl-C cancels a query, a wrong server is refused.
# sabotage: session/client.c s/s->options.sslnegotiation != SSLNEGOTIATION_DIRECT/true/
# sabotage: wire/startup.c s/UNENCRYPTED, true, STARTUP_SSL/STARTUP_CLEAR | STARTUP_LOCAL, true, STARTUP_SSL/
use lib 't/lib';
use T;
use T::ClientMode;
use T::X509;

limit(300);
my ($stunnel) = grep { -x } map { "$_/stunnel4" } '/usr/bin', '/usr/sbin', '/usr/local/bin';
my $root = issue(cn => 'Root', ca => 1);
my $cert = issue(issuer => $root, cn => 'db', san => 'DNS:localhost,IP:127.0.0.1');
my $false = issue(cn => 'db', san => 'DNS:localhost,IP:127.0.0.1');
my $hba = "local all all trust\nhost all alice 127.0.0.1/32 scram-sha-256\n";
my $clear = start_pg(hba => $hba);
my $tls = start_pg(hba => $hba =~ s/^host/hostssl/mr, ssl => $cert);

my $tunnels = 0;

# Start a stunnel with these options in its [service] section; return an object with a port.
sub stunnel {
	my (%service) = @_;
	my $self = bless { port => free_port(), log => "$TMP/stunnel" . ++$tunnels . '.log' },
		'T::Serve';
	my $text = "foreground = yes\npid =\nsyslog = no\noutput = $self->{log}\ndebug = 6\n[pgssl]\naccept = 127.0.0.1:$self->{port}\n";
	$text .= "$_ = $service{$_}\n" for sort keys %service;
	watch_log($self->{log});
	$self->{pid} = spawn(cmd => [ $stunnel, spew("$TMP/stunnel$tunnels.conf", $text) ]);
	return $self->wait_port;
}

sub stunnel_client {
	my ($port, %o) = @_;
	my %verify = (CAfile => $root->{cert}, verifyChain => 'yes', checkIP => '127.0.0.1');
	return stunnel(client => 'yes', connect => "127.0.0.1:$port", %verify, %o);
}

sub stunnel_server {
	my ($port, %o) = @_;
	return stunnel(connect => "127.0.0.1:$port", cert => T::Cert::make_pem($cert), %o);
}

sub near {
	my ($far, @args) = @_;
	return serve(client => 1, pg => $far, args => [ '-A', $root->{cert}, @args ]);
}
sub far { my (%o) = @_; return serve(pg => $clear, pem => T::Cert::make_pem($cert), %o) }

my $answer = join '', map { "$_|" . 'x' x ($_ % 1000) . "\n" } 1 .. 20000;

# Test what a client without TLS must be able to do at this service, whose last hop is `pg`.
sub works {
	my ($service, $pg, %o) = @_;
	my @as = (port => $service->port, sslmode => 'disable', password => 'secret');
	is(psql('select 6*7', @as)->{out}, "42\n", 'a query');
	is(psql('select 6*7', @as, sslmode => $_, gssencmode => 'prefer')->{out}, "42\n",
		"sslmode=$_") for @{ $o{modes} || [qw(allow prefer)] };
	like(psql('select 1', @as, password => 'wrong')->{err},
		qr/FATAL:  password authentication failed for user "alice"$/m, 'a wrong password');
	my $long = psql("select i, repeat('x', i % 1000) from generate_series(1, 20000) i", @as);
	ok($long->{out} eq $answer, 'ten megabytes') or diag($long->{err});
	my $err = "$TMP/psql.err." . $service->port;
	my $pid = spawn(cmd => psql_cmd('-c', 'select pg_sleep(60)'), env => pg_env(@as),
		err => $err);
	wait_for('the query to run', sub { psql("select count(*) from pg_stat_activity where query like 'select pg_sleep%'", host => $pg->{socket}, port => $pg->port, sslmode => 'disable')->{out} == 1 });
	kill 'INT', $pid;
	wait_exit($pid);
	like(slurp($err), qr/ERROR:  canceling statement due to user request/,
		'Ctrl-C cancels the query');
}

subtest "pgssl -c to PostgreSQL's own TLS" => sub { works(near($tls), $tls) };
subtest 'pgssl -c to pgssl' => sub { works(near(far()), $clear) };
subtest 'pgssl -c to pgssl, direct TLS' => sub { works(near(far(args => ['--alpn=require']), '--sslnegotiation=direct'), $clear) };
subtest 'pgssl -c to pgssl under TLS 1.2' => sub { works(near(far(), '--max-protocol=TLSv1.2'), $clear) };

subtest 'pgssl -c to a pgssl that requires a certificate' => sub {
	my $far = far(args => [ '-A', $root->{cert}, '--clientcert=verify-full' ]);
	my $with = sub { psql('select 1', port => serve(client => 1, pg => $far, args => [ '-A', $root->{cert} ], @_)->port, sslmode => 'disable', password => 'secret') };
	is($with->(pem => T::Cert::make_pem(issue(issuer => $root, cn => 'alice')))->{out}, "1\n",
		'a valid certificate');
	like($with->(pem => T::Cert::make_pem(issue(issuer => $root, cn => 'bob')))->{err}, qr/FATAL:  certificate authentication failed for user "alice"$/m, 'a certificate with another name');
	like($with->(pem => T::Cert::make_pem(issue(cn => 'alice')))->{err}, qr/FATAL:  could not establish a TLS connection .*alert unknown ca$/m, 'a certificate of another authority');
	like($with->()->{err}, qr/FATAL:  connection requires a valid client certificate$/m,
		'no certificate');
};

subtest 'three pgssl processes in a row' => sub {
	my $middle = serve(pg => near($tls), pem => T::Cert::make_pem($cert));
	works(near($middle), $tls);
};

SKIP: {
	skip 'stunnel4 is not installed', 6 unless $stunnel;

	# With psql's default, sslmode=prefer, an SSLRequest goes through this stunnel. After
	# negotiated TLS both pgssl and PostgreSQL refuse it.
	subtest 'stunnel with protocol = pgsql to pgssl' => sub {
		my $s = stunnel_client(far()->port, protocol => 'pgsql');
		works($s, $clear, modes => ['allow']);
		like(psql('select 1', port => $_->port, sslmode => 'prefer', password => 'secret')->{err}, qr/server sent an error response during SSL exchange/, 'sslmode=prefer')
			for $s, stunnel_client($tls->port, protocol => 'pgsql');
	};
	subtest 'stunnel without protocol to pgssl: direct TLS, then SSLRequest inside' => sub { works(stunnel_client(far()->port), $clear) };
	subtest 'stunnel to a pgssl whose certificate is from another authority' => sub {
		my $far = far(pem => T::Cert::make_pem($false));
		my $r = psql('select 1', port => stunnel_client($far->port)->port,
			sslmode => 'disable', password => 'secret');
		is($r->{status}, 2, 'psql fails');
		$far->logged(qr/could not accept TLS connection: .*alert/);
	};
	subtest 'pgssl -c to stunnel as the server, direct TLS' => sub { works(near(stunnel_server($clear->port), '--sslnegotiation=direct'), $clear) };
	subtest 'pgssl -c to stunnel as the server with protocol = pgsql' => sub { works(near(stunnel_server($clear->port, protocol => 'pgsql')), $clear) };
	subtest 'pgssl -c to a stunnel whose certificate is from another authority' => sub {
		my $r = psql('select 1', port => near(stunnel_server($clear->port, cert => T::Cert::make_pem($false)), '--sslnegotiation=direct')->port, sslmode => 'disable', password => 'secret');
		like($r->{err}, qr/FATAL:  could not establish a TLS connection to PostgreSQL at .*: the server's certificate cannot be verified: self-signed certificate$/m, 'the client is told why');
	};
}
done_testing;
