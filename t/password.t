# SPDX-License-Identifier: ISC
#
# Passwords: SCRAM-SHA-256, md5 and password work through pgssl. Channel binding does not, since
# PostgreSQL's own connection has no TLS; libpq reports that itself.
# sabotage: wire/startup.c s/requests\[i\].code == code/requests[i].code == code \&\& code != CODE(3, 0)/
use lib 't/lib';
use T;

my $hba = "local all all trust\nhost all alice 127.0.0.1/32 scram-sha-256\n"
	. "host all marvin 127.0.0.1/32 md5\nhost all paula 127.0.0.1/32 password\n"
	. "hostssl all sally 127.0.0.1/32 scram-sha-256\n";
my $pg = start_pg(hba => $hba);
my @local = (host => $pg->{socket}, port => $pg->port, user => 'postgres', sslmode => 'disable');
psql("set password_encryption = 'md5'; create role marvin login password 'secret'", @local);
psql("create role $_ login password 'secret'", @local) for qw(paula sally);
my $service = serve(pg => $pg);
my @through = (port => $service->port, sslmode => 'verify-full', host => 'localhost',
	PGHOSTADDR => '127.0.0.1', rootcert => server_pem()->{root}, dbname => 'sales');

sub method { return $pg->log =~ /.*identity="$_[0]" method=(\S+)/s ? $1 : 'none' }

for my $case ([ alice => 'scram-sha-256' ], [ marvin => 'md5' ], [ paula => 'password' ]) {
	my ($user, $method) = @$case;
	subtest $method => sub {
		is(psql('select current_user', @through, user => $user,
			password => 'secret')->{out}, "$user\n", 'the right password');
		is(method($user), $method, "PostgreSQL's log names the method");
		my $r = psql('select 1', @through, user => $user, password => 'wrong');
		is($r->{status}, 2, 'a wrong password');
		like($r->{err}, qr/FATAL:  password authentication failed for user "$user"$/m,
			"PostgreSQL's message");
		like(psql('select 1', @through, user => $user)->{err},
			qr/fe_sendauth: no password supplied/, 'no password');
	};
}

subtest 'SCRAM with channel_binding' => sub {
	for my $binding (qw(disable prefer)) {
		is(psql('select 1', @through, password => 'secret', channelbinding => $binding)->{out}, "1\n", "channel_binding=$binding works");
	}
	my $r = psql('select 1', @through, password => 'secret', channelbinding => 'require');
	is($r->{status}, 2, 'channel_binding=require fails');
	like($r->{err}, qr/channel binding is required, but server did not offer an authentication method that supports channel binding/, "libpq's own message");
};

subtest 'PostgreSQL itself sees no TLS' => sub {
	my $r = psql('select ssl, version, client_dn from pg_stat_ssl where pid = pg_backend_pid()',
		@through, password => 'secret');
	is($r->{out}, "f||\n", 'pg_stat_ssl is empty');
	SKIP: {
		skip 'needs sslinfo', 1 if psql('create extension sslinfo', @local,
			dbname => 'sales')->{status};
		$r = psql('select ssl_is_used(), ssl_client_cert_present(), ssl_version()',
			@through, password => 'secret');
		is($r->{out}, "f|f|\n", 'sslinfo shows no TLS') or diag($r->{err});
	}
	$r = psql('select 1', @through, user => 'sally', password => 'secret');
	like($r->{err}, qr/FATAL:  no pg_hba\.conf entry for host "127\.0\.0\.1", user "sally", database "sales", no encryption/, 'hostssl entries never match');
};

subtest '-I: a port of its own for each entry of pg_hba.conf' => sub {
	my $several = start_pg(hba => "local all all trust\nhost all alice 127.0.0.2/32 scram-sha-256\nhost all all 127.0.0.3/32 reject\n");
	my %r = map {
		my $port = serve(pg => $several, args => [ '-I', "127.0.0.$_" ])->port;
		$_ => psql('select current_user', @through, port => $port, password => 'secret');
	} 2, 3;
	is($r{2}{out}, "alice\n", 'the entry with a password') or diag($r{2}{err});
	like($r{3}{err}, qr/FATAL:  pg_hba\.conf rejects connection for host "127\.0\.0\.3"/,
		'the entry that rejects');
};

# pgssl sees the password in clear. It must not log it.
unlike($service->log, qr/secret/, 'no password in the log');
done_testing;
