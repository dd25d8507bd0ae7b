# SPDX-License-Identifier: ISC
#
# The features of libpq and PostgreSQL 16 to 18 that concern connections work through pgssl. Those
# that the installed versions do not have are skipped.
# sabotage: s/SSL_use_cert_and_key(ssl, c->leaf, c->key, chain, 0) == 1/true/ tls/credential.c
use lib 't/lib';
use IO::Select;
use T;

limit(300);
my $hba = "local all all trust\nhost all postgres 127.0.0.1/32 trust\nhost replication postgres 127.0.0.1/32 trust\nhost all all 127.0.0.1/32 scram-sha-256\n";
my $pg = start_pg(hba => $hba);
my $c = server_pem();
my $service = serve(pg => $pg);
my ($client) = T::run([qw(psql --version)])->{out} =~ /\) (\d+)/;
my ($server) = slurp("$pg->{data}/PG_VERSION") =~ /(\d+)/;

# A subtest of a feature that needs this version of psql and, with server => 1, of PostgreSQL.
sub from {
	my ($version, $what, $code, %o) = @_;
	SKIP: {
		skip "$what: needs psql $version, this is $client", 1 if $client < $version;
		skip "$what: needs PostgreSQL $version, this is $server", 1
			if $o{server} && $server < $version;
		subtest $what => $code;
	}
}

sub in { return psql('select 1', port => $service->port, password => 'secret', rootcert => $c->{root}, @_) }
sub is_in { my ($what, @how) = @_; my $r = in(@how); is($r->{out}, "1\n", $what) or diag($r->{err}) }
sub is_out { my ($what, $words, @how) = @_; my $r = in(@how); isnt($r->{status}, 0, $what); like($r->{err}, $words, 'with the reason') }

is_in('sslmode=verify-full', sslmode => 'verify-full', host => 'localhost',
	PGHOSTADDR => '127.0.0.1');

from(17, 'sslnegotiation=direct', sub {
	my @direct = (sslnegotiation => 'direct', host => 'localhost', PGHOSTADDR => '127.0.0.1');
	is_in("sslmode=$_", sslmode => $_, @direct) for qw(require verify-ca verify-full);
	is_in('TLS 1.2', sslmode => 'require', PGSSLMAXPROTOCOLVERSION => 'TLSv1.2', @direct);
	is_out('a server that is not trusted', qr/certificate verify failed/, sslmode => 'verify-full', @direct, rootcert => make_ca(name => 'other', cn => 'Other')->{cert});
	my $strict = serve(pg => $pg, args => ['--alpn=require']);
	is_in('--alpn=require', sslmode => 'require', @direct, port => $strict->port);
	my $long = in(sslmode => 'require', @direct, port => $service->port,
		args => [ '-c', "select repeat('x', 1000000)" ]);
	ok($long->{out} =~ /^x+$/m && length $long->{out} > 1_000_000, 'a long answer')
		or diag($long->{err});
});

from(16, 'sslrootcert=system', sub {
	my @system = (rootcert => 'system', sslmode => 'verify-full', host => 'localhost',
		PGHOSTADDR => '127.0.0.1');
	delete local $ENV{SSL_CERT_DIR};
	is_out('an authority that is not in SSL_CERT_FILE', qr/certificate verify failed/, @system);
	local $ENV{SSL_CERT_FILE} = $c->{root};
	is_in('an authority that is', @system);
	is_out('sslmode=verify-ca', qr/weak sslmode "verify-ca" may not be used with sslrootcert=system/, @system, sslmode => 'verify-ca');
});

from(16, 'sslcertmode', sub {
	my $ca = make_ca(name => 'clients', cn => 'Clients');
	my $alice = make_cert(name => 'alice', cn => 'alice', issuer => $ca);
	my %own = (cert => $alice->{chain}, key => $alice->{key});
	my $asks = serve(pg => $pg, args => [ '-A', $ca->{cert} ]);
	my $demands = serve(pg => $pg, args => [ '-A', $ca->{cert}, '--clientcert=verify-full' ]);
	for my $mode (qw(allow require)) {
		is_in("$mode, -A", %own, sslcertmode => $mode, port => $asks->port);
		is_in("$mode, --clientcert=verify-full", %own, sslcertmode => $mode,
			port => $demands->port);
	}
	is_in('disable, -A', %own, sslcertmode => 'disable', port => $asks->port);
	is_out('disable, --clientcert=verify-full', qr/FATAL:  connection requires a valid client certificate/, %own, sslcertmode => 'disable', port => $demands->port);
	is_out('require, without -A: pgssl requests no certificate',
		qr/server did not request an SSL certificate/, %own, sslcertmode => 'require');
	is_in('allow, without -A', %own, sslcertmode => 'allow');
});

# PostgreSQL does not offer channel binding: its connection is not under TLS.
from(16, 'require_auth', sub {
	is_in('scram-sha-256', require_auth => 'scram-sha-256', PGCHANNELBINDING => 'prefer',
		PGREQUIREAUTH => 'scram-sha-256');
	is_in('none', PGREQUIREAUTH => 'none', user => 'postgres');
	is_out('none, for a user with a password',
		qr/authentication method requirement "none" failed/, PGREQUIREAUTH => 'none');
	is_out('scram-sha-256, for a user without', qr/authentication method requirement "scram-sha-256" failed/, PGREQUIREAUTH => 'scram-sha-256', user => 'postgres');
	is_out('channel binding', qr/channel binding is required, but server did not offer/,
		PGCHANNELBINDING => 'require');
});

from(16, 'load_balance_hosts', sub {
	my @two = map { serve(pg => $pg) } 1, 2;
	my %ports = (
		host => 'localhost,localhost,localhost',
			PGHOSTADDR => '127.0.0.1,127.0.0.1,127.0.0.1',
		port => join(',', free_port(), map { $_->port } @two),
		sslmode => 'verify-full', PGLOADBALANCEHOSTS => 'random',
	);
	my $served = sub { scalar grep { $_->log =~ /connection authorized/ } @two };
	for (1 .. 40) {
		last if $served->() == 2;
		is_in('random, one of three ports is closed', %ports) or last;
	}
	is($served->(), 2, 'both services get clients');
});

from(17, 'X25519MLKEM768 is the default group with OpenSSL 3.5', sub {
	my ($major, $minor) = T::run([qw(openssl version)])->{out} =~ /^OpenSSL (\d+)\.(\d+)/;
	plan(skip_all => "OpenSSL $major.$minor") if $major < 3 || $major == 3 && $minor < 5;
	my $s = serve(pg => $pg);
	is_in('psql', port => $s->port);
	like($s->logged(qr/connection authorized/), qr/ tls=TLSv1\.3 .*group=X25519MLKEM768\b/,
		'logged');
});

# ---- cancel requests under TLS

# A relay to a port that writes the first 8 bytes of each connection to a file, in hexadecimal.
sub relay {
	my ($port) = @_;
	my $self = { port => free_port(), seen => spew("$TMP/seen", '') };
	my $listener = IO::Socket::INET->new(LocalAddr => '127.0.0.1', LocalPort => $self->{port},
		Listen => 16, ReuseAddr => 1) or die "listen: $!\n";
	return $self if fork;
	$SIG{$_} = 'DEFAULT' for qw(TERM INT HUP ALRM);
	my $select = IO::Select->new($listener);
	my (%other, %seen);
	while (my ($ready) = $select->can_read) {
		if ($ready == $listener) {
			my ($a, $b) = (scalar $listener->accept,
				IO::Socket::INET->new(PeerAddr => '127.0.0.1', PeerPort => $port));
			@other{ $a, $b } = ($b, $a);
			$seen{$b} = 1;
			$select->add($a, $b);
			next;
		}
		my $to = $other{$ready};
		if (!sysread $ready, my $bytes, 65536) {
			$select->remove($ready);
			shutdown $to, 1;
		} else {
			append($self->{seen}, unpack('H16', $bytes) . "\n") unless $seen{$ready}++;
			syswrite $to, $bytes;
		}
	}
	POSIX::_exit(0);
}

sub sleeping { return psql("select count(*) from pg_stat_activity where query like '%pg_sleep(6%' and pid <> pg_backend_pid() and state = 'active'", host => $pg->{socket}, port => $pg->port, sslmode => 'disable', user => 'postgres')->{out} == $_[0] }

# psql's Ctrl-C sends its CancelRequest in clear (t/cancel.t). dblink uses libpq 17's encrypted one.
from(17, 'an encrypted cancel request of libpq', sub {
	my $relay = relay($service->port);
	my $sql = join ";\n", 'create extension if not exists dblink',
		"select dblink_connect('c', 'host=127.0.0.1 port=$relay->{port} user=alice password=secret dbname=sales sslmode=require gssencmode=disable sslcert=/nonexistent sslrootcert=/nonexistent')",
		"select dblink_send_query('c', 'select pg_sleep(61)')",
			"select 'cancel: ' || dblink_cancel_query('c')",
			"select * from dblink_get_result('c') as t(x text)";
	my $r = psql(undef, stdin => $sql, host => $pg->{socket}, port => $pg->port,
		sslmode => 'disable', user => 'postgres', args => [ '-v', 'ON_ERROR_STOP=0' ]);
	like($r->{out}, qr/^cancel: OK$/m, 'dblink_cancel_query') or diag($r->{err});
	like($r->{err}, qr/canceling statement due to user request/, 'the query is cancelled');
	my $ssl_request = unpack 'H*', ssl_request();
	is_deeply([ split /\n/, slurp($relay->{seen}) ], [ ($ssl_request) x 2 ],
		'both connections begin with SSLRequest');
	$service->logged(qr/cancel request forwarded to PostgreSQL/);
	wait_for('the query to end', sub { sleeping(0) });
}, server => 1);

from(18, 'protocol 3.2 with long cancel keys', sub {
	my @new = (PGMINPROTOCOLVERSION => '3.2', PGMAXPROTOCOLVERSION => 'latest');
	is_in('psql', @new);
	my $err = "$TMP/psql.err";
	my $pid = spawn(cmd => psql_cmd('-c', 'select pg_sleep(60)'),
		env => pg_env(port => $service->port, password => 'secret', @new), err => $err);
	wait_for('the query to run', sub { sleeping(1) });
	kill 'INT', $pid;
	is(wait_exit($pid) >> 8, 1, 'Ctrl-C: psql ends');
	like(slurp($err), qr/ERROR:  canceling statement due to user request/, 'cancelled');
	wait_for('the query to end', sub { sleeping(0) });

	for my $how ('in clear', 'under TLS', 'under direct TLS') {
		my $sleeper = connect_to($service->port);
		$sleeper->negotiate;
		$sleeper->send(startup_packet(version => '3.2', user => 'postgres',
			database => 'sales'));
		my %got;
		while (my ($type, $body) = $sleeper->message) {
			$got{$type} = $body;
			last if $type eq 'Z';
		}
		my ($backend, $key) = unpack 'N a*', $got{K};
		is(length $key, 32, "$how: a key of 32 bytes");
		$sleeper->query('select pg_sleep(60)');
		wait_for('the query to run', sub { sleeping(1) });
		my $canceler = connect_to($service->port);
		$canceler->negotiate if $how eq 'under TLS';
		$canceler->start_tls(alpn => ['postgresql']) if $how eq 'under direct TLS';
		$canceler->send(cancel_request($backend, $key));
		is($canceler->rest, '', 'no answer');
		is($canceler->ending, 'closed', 'and no reset');
		my ($type, $body) = $sleeper->message;
		($type, $body) = $sleeper->message while defined $type && $type eq 'T';
		like($body, qr/\0C57014\0/, 'cancelled');
		$sleeper->close;
		wait_for('the query to end', sub { sleeping(0) });
	}
}, server => 1);

# ---- pg_basebackup

from(17, 'incremental pg_basebackup', sub {
	my $summarizes = start_pg(hba => $hba, conf => "summarize_wal=on\n");
	my $s = serve(pg => $summarizes);
	my @as = (port => $s->port, user => 'postgres', sslmode => 'verify-full',
		host => 'localhost', PGHOSTADDR => '127.0.0.1', rootcert => $c->{root});
	my $backup = sub {
		my ($to, @args) = @_;
		my $r = pg_do([ qw(pg_basebackup -X stream -c fast --no-sync -D), "$TMP/$to",
			@args ], @as);
		is($r->{status}, 0, $to) or diag($r->{err});
	};
	my $run = sub { my $r = psql($_[0], @as); is($r->{status}, 0, $_[0]) or diag($r->{err}) };
	$run->("create table t as select i, repeat('x', 100) as x from generate_series(1, 20000) i");
	$backup->('full');
	$run->('update t set x = i where i % 1000 = 0');
	$backup->('incremental', "--incremental=$TMP/full/backup_manifest");
	T::run([ 'rm', '-rf', "$TMP/whole" ]);
	my $r = T::run([ 'pg_combinebackup', '--no-sync', '-o', "$TMP/whole", "$TMP/full",
		"$TMP/incremental" ]);
	is($r->{status}, 0, 'pg_combinebackup') or diag($r->{err});
	$r = T::run([ 'pg_verifybackup', '-n', "$TMP/whole" ]);
	is($r->{status}, 0, 'pg_verifybackup') or diag($r->{out}, $r->{err});
	ok(-s "$TMP/incremental/backup_manifest" && (() = glob "$TMP/incremental/base/*/INCREMENTAL.*"), 'the second backup is incremental');
}, server => 1);
done_testing;
