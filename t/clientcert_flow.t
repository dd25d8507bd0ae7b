# SPDX-License-Identifier: ISC
#
# Client certificates: a refused client uses no PostgreSQL backend (300 clients at once), cancel
# requests need no certificate, duplicate or too long user names are refused; the fields of the log;
# sessions end when the certificate expires.
# sabotage: auth/certauth.c s/return tls_peer(t, &peer);/return true;/
# sabotage: auth/certauth.c s/if (st->user_twice)/if (false)/
# sabotage: auth/certauth.c s/if (st->name_too_long)/if (false)/
# sabotage: tls/peer.c s/seconds) \* 1000/seconds) * 1000000/
use lib 't/lib';
use T;
use T::X509;

limit(600);
my $root = issue(cn => 'Root', ca => 1);
my $alice = issue(issuer => $root, subject => [ [ O => 'Example' ], [ CN => 'alice' ] ]);
my $bob = issue(issuer => $root, cn => 'bob');
my @full = ('-A', $root->{cert}, '--clientcert=verify-full');
my @ca = ('-A', $root->{cert}, '--clientcert=verify-ca');

sub tls_of { my ($cert, @more) = @_; return { cert => $cert->{chain}, key => $cert->{key}, @more } }

subtest '300 clients without a certificate use no PostgreSQL backend' => sub {
	my $pg = start_pg(max_connections => 10);
	for my $demand (\@full, \@ca) {
		my $s = serve(pg => $pg, args => $demand);
		my @strangers = map { connect_to($s->port) } 1 .. 300;
		is(scalar(grep { $_->negotiate } @strangers), 300, "$demand->[2]: 300 handshakes");
		is(psql('select 1', port => $s->port, cert => $alice->{chain},
			key => $alice->{key})->{out}, "1\n", 'alice gets in');
		is($pg->backends, 0, 'no other backend is left');
		unlike($pg->log, qr/too many clients|incomplete startup/,
			'PostgreSQL saw no other client');
		$_->send(startup_packet(user => 'alice')) for @strangers;
		is(scalar(grep { ((parse_error($_->rest) || {})->{C} || '')
			eq '28000' } @strangers), 300, 'all get an error');
	}
};

subtest 'pgssl does not connect to PostgreSQL for a refused client' => sub {
	my $fake = fake_backend();
	for my $try ([ 'no certificate', {} ], [ "another's", tls_of($bob) ],
		[ 'expired', tls_of(issuer_expired()) ],
		[ 'unknown', tls_of(issue(cn => 'alice')) ]) {
		my ($what, $tls) = @$try;
		my $s = session(pg => $fake, args => \@full);
		ok(!$s->conn->login(tls => $tls), "$what: refused");
		# an alert: check what follows it
		delete $s->conn->{ended} if $s->conn->{ended} eq 'failed';
		is($s->conn->ending, 'closed', 'closed, not reset');
		is($s->wait, $what =~ /expired|unknown/ ? 76 : 77, 'exit status');
	}
	is($fake->connections, 0, 'no connection to PostgreSQL');
};

sub issuer_expired { return issue(issuer => $root, cn => 'alice', from => -90, until => -60) }

subtest 'the error that the client gets' => sub {
	my $fake = fake_backend();
	my @told = (
		[ 'no certificate', {}, [ user => 'alice' ],
			'connection requires a valid client certificate' ],
		[ "another's", tls_of($bob), [ user => 'alice' ],
			'certificate authentication failed for user "alice"' ],
		[ 'two users', tls_of($alice), [ user => 'bob', user => 'alice' ],
			'certificate authentication failed for user "alice"' ],
		[ 'one user twice', tls_of($alice), [ user => 'alice', user => 'alice' ],
			'certificate authentication failed for user "alice"' ],
		[ 'an empty user first', tls_of($alice), [ user => '', user => 'alice' ],
			'certificate authentication failed for user "alice"' ],
		[ 'two databases', tls_of($alice),
			[ user => 'alice', database => 'a', database => 'b' ],
			'certificate authentication failed for user "alice"' ],
		[ 'a database of 64 bytes', tls_of($alice),
			[ user => 'alice', database => 'd' x 64 ],
			'certificate authentication failed for user "alice"' ],
		[ 'a user of 64 bytes', tls_of(issue(issuer => $root, cn => 'u' x 64)),
			[ user => 'u' x 64 ],
			'certificate authentication failed for user "' . 'u' x 63 . '"' ],
		[ 'a user cut to 63 bytes', tls_of(issue(issuer => $root, cn => 'u' x 63)),
			[ user => 'u' x 64 ],
			'certificate authentication failed for user "' . 'u' x 63 . '"' ],
		[ 'no user', tls_of($alice), [ database => 'sales' ],
			'no PostgreSQL user name specified in startup packet' ],
		[ 'a user name that forges a log line', tls_of($alice),
			[ user => "x\nconnection authorized: user=y" ],
			"certificate authentication failed for user \"x\nconnection authorized: user=y\"" ],
	);
	for (@told) {
		my ($what, $tls, $packet, $message) = @$_;
		my $s = session(pg => $fake, args => \@full);
		ok($s->conn->negotiate(%$tls), "$what: handshake");
		$s->conn->send(startup_packet(@$packet));
		my $error = parse_error($s->conn->rest);
		is_deeply([ @$error{qw(S C M)} ], [ 'FATAL', '28000', $message ], 'message');
		ok($s->conn->got_close_notify, 'close_notify');
		$s->wait;
		unlike($s->log, qr/^connection authorized/m, 'no forged line in the log')
			if $what =~ /forges/;
	}
	is($fake->connections, 0, 'no connection to PostgreSQL');
};

subtest 'a user of 63 bytes and two application_names are accepted' => sub {
	my $fake = fake_backend(sub { my ($socket, $self) = @_; $self->take($socket, 80) });
	my $user = 'u' x 63;
	my $s = session(pg => $fake, args => \@full);
	my $packet = startup_packet(user => $user, application_name => 'a',
		application_name => 'b');
	$s->conn->negotiate(%{ tls_of(issue(issuer => $root, cn => $user)) });
	$s->conn->send($packet);
	wait_for('the packet', sub { length $fake->bytes >= 80 });
	is($fake->bytes, substr($packet, 0, 80), 'forwarded unchanged');
};

subtest 'without verify-full duplicate and long names are left to PostgreSQL' => sub {
	for my $args (\@ca, [ '-A', $root->{cert} ]) {
		my $fake = fake_backend(sub { my ($socket, $self) = @_; $self->take($socket, 30) });
		my $s = session(pg => $fake, args => $args);
		$s->conn->negotiate(%{ tls_of($bob) });
		$s->conn->send(startup_packet(user => 'a', user => 'b' x 70));
		wait_for('the packet', sub { length $fake->bytes >= 30 });
		pass('forwarded');
	}
};

subtest 'cancel requests need no certificate, in clear and under TLS' => sub {
	my $pg = start_pg();
	my $s = serve(pg => $pg, args => \@full);
	for my $tls (0, 1) {
		my $k = connect_to($s->port);
		ok($k->login(tls => tls_of($alice)), 'a session');
		$k->query('select pg_sleep(100)');
		wait_for('the query to run',
			sub { psql("select count(*) from pg_stat_activity where query like '%pg_sleep(100)%' and state='active' and pid<>pg_backend_pid()",
			host => $pg->{socket}, port => $pg->port, sslmode => 'disable')->{out}
				=~ /^1/ });
		my $c = connect_to($s->port);
		$c->negotiate if $tls;
		$c->send(cancel_request(@{ $k->{cancel} }));
		is($c->rest, '', 'the connection of the cancel request is closed');
		my $text = '';
		while (my ($type, $body) = $k->message) { $text = $body, last if $type eq 'E' }
		like($text, qr/canceling statement due to user request/,
			$tls ? 'under TLS' : 'in clear');
	}
};

subtest 'the log' => sub {
	my $pg = start_pg();
	my $s = serve(pg => $pg, args => \@full);
	psql('select 1', port => $s->port, cert => $alice->{chain}, key => $alice->{key});
	$s->logged(qr/disconnection/);
	my @lines = $s->log =~ /(connection \w+: .*)/g;
	like($lines[0],
		qr/^connection authenticated: identity="CN=alice,O=Example" method=cert host=127\.0\.0\.1 port=\d+$/,
		'the first line: authenticated');
	like($lines[1],
		qr/^connection authorized: user=alice .* subject=CN=alice,O=Example issuer=CN=Root serial=$alice->{serial}$/,
		'subject, issuer, serial');
	psql('select 1', port => $s->port, cert => $bob->{chain}, key => $bob->{key});
	like($s->logged(qr/failed/),
		qr/certificate authentication failed for user "alice": the certificate's CN is "bob" host=127\.0\.0\.1 port=\d+$/,
		'refused');
	like($s->log, qr/identity="CN=bob" method=cert/, 'with its identity');
	psql('select 1', port => $s->port, cert => issue(cn => 'eve')->{chain}, key => $bob->{key});
	my $evil = issue(issuer => $root,
		subject => [ [ O => "x\nconnection authorized: user=root\e[2J" ],
		[ CN => 'eve "\\' ] ]);
	psql('select 1', port => $s->port, cert => $evil->{chain}, key => $evil->{key});
	$s->logged(qr/CN is "eve\\x20\\x22\\x5C"/);
	unlike($s->log, qr/^connection|\e/m, 'no forged line, no terminal escapes');
	unlike($s->log, qr/issuer=\S*CN=eve/, 'a certificate without its key is not logged');
};

subtest 'the log with -A alone' => sub {
	my $pg = start_pg();
	my $s = serve(pg => $pg, args => [ '-A', $root->{cert} ]);
	psql('select 1', port => $s->port, cert => $bob->{chain}, key => $bob->{key});
	like($s->logged(qr/authorized/),
		qr/ user=alice .* subject=CN=bob issuer=CN=Root serial=$bob->{serial}$/,
		'a client with a certificate is named');
	$s->logged(qr/authenticated: identity="CN=bob" method=cert/);
	psql('select 1', port => $s->port);
	unlike($s->logged(qr/authorized/), qr/subject=/, 'a client without one is not');
};

subtest 'a session does not outlive its certificate: --clientcert-expiry' => sub {
	my $pg = start_pg();
	my $s = serve(pg => $pg, args => [ @full, '--clientcert-expiry' ]);
	my $end = time + 6;
	my $short = issue(issuer => $root, cn => 'alice', until => 6);
	my $long = connect_to($s->port);
	ok($long->login(tls => tls_of($alice)), 'a certificate that is valid for days');
	my $k = connect_to($s->port);
	ok($k->login(tls => tls_of($short)), 'a certificate that is valid for seconds');
	$k->query('select 1');
	my ($type, $rest) = $k->message;
	is($type, 'T', 'a query');
	$k->rest;
	is($k->{ended}, 'closed', 'then the session is closed');
	ok($k->got_close_notify, 'with close_notify');
	my $late = time - $end;
	ok($late >= -1 && $late <= 3, "when the certificate expires ($late s)");
	like($s->logged(qr/certificate expired/),
		qr/disconnection: .* reason=client certificate expired$/, 'logged');
	$long->query('select 1');
	is(($long->message)[0], 'T', 'the other session goes on');
};

subtest "a certificate and no password: peer on PostgreSQL's Unix socket, as in the manual" => sub {
	plan skip_all => 'needs root' unless is_root();
	my $ident = spew("$TMP/ident", "pgssl daemon alice\npgssl /^(.*)\$ \\1\n");
	my $pg = start_pg(hba => "local all all peer map=pgssl\nhost all all 127.0.0.1/32 reject\n",
		conf => "ident_file='$ident'\n");
	my $s = serve(connect => "$pg->{socket}:" . $pg->port, args => [ @full, '-s', 'daemon' ]);
	is(psql('select current_user', port => $s->port, cert => $alice->{chain},
		key => $alice->{key})->{out}, "alice\n", 'alice is logged in');
	like(psql('select 1', port => $s->port, user => 'postgres', cert => $alice->{chain},
		key => $alice->{key})->{err}, qr/certificate authentication failed/,
		'only as alice');
	my %direct = (host => $pg->{socket}, port => $pg->port, sslmode => 'disable');
	like(psql('select 1', %direct)->{err}, qr/Peer authentication failed/,
		'other local users are refused');
};

subtest 'invalid combinations of options' => sub {
	my $a = $root->{cert};
	my %wrong = (
		'--clientcert=verify-ca' => qr/--clientcert requires -A: the authorities to trust/,
		"--crl=$a" => qr/--crl requires -A: the authorities to trust/,
		'--clientcert-expiry' => qr/--clientcert-expiry requires -A: the authorities to trust/,
		"-A $a --clientcert=maybe" => qr/--clientcert maybe: expected verify-ca\|verify-full/,
		"-A $a --clientname=DN" => qr/--clientname .*verify-full/,
		"-A $a --clientcert=verify-ca --clientname=CN" => qr/--clientname .*verify-full/,
		"-A $a --clientcert=verify-full --clientname=UID" => qr/--clientname UID: expected CN\|DN\|SAN/,
		"-A $a --clientcert=verify-ca --ident-map=$a --map=m" => qr/--ident-map .*verify-full/,
		"-A $a --map=m" => qr/--map .*verify-full/,
		"-A $a --clientcert=verify-full --map=m" => qr/--map requires --ident-map: the file with the map/,
		"-A $a --clientcert=verify-full --ident-map=$a" => qr/--ident-map requires --map: the name of the map to use/,
		"-A $a -v 1 --clientcert=verify-ca" => qr/-v .*--clientcert/,
		"-A $a -v 0" => qr/-v 0 .*-A/,
		'-v 1' => qr/-v 1 .*require -A: the authorities to trust/,
		"-A $a -v 3" => qr/-v 3: expected 0\|1\|2/,
		'-A' => qr/-A: an argument is missing/,
	);
	for my $args (sort keys %wrong) {
		unlink my $log = "$TMP/usage.log";
		is(run([ $PGSSL, '-o', $log, split / /, $args ], quiet => 1)->{status}, 64,
			$args =~ s/\Q$TMP\E\S*/FILE/gr);
		like(slurp($log), $wrong{$args}, 'the reason');
	}
};

subtest '-v as in the classic wrapper' => sub {
	my $pg = start_pg();
	my $try = sub {
		my ($cert, @args) = @_;
		psql('select 1', port => serve(pg => $pg, args => \@args)->port,
			$cert ? (cert => $cert->{chain}, key => $cert->{key}) : ());
	};
	is($try->($alice, '-v', '0')->{out}, "1\n", '-v 0');
	is($try->(undef, '-A', $root->{cert}, '-v1')->{out}, "1\n", '-v 1 without a certificate');
	like($try->(issue(cn => 'x'), '-A', $root->{cert}, '-v1')->{err}, qr/unknown ca/,
		'-v 1 with an invalid certificate');
	like($try->(undef, '-A', $root->{cert}, '-v2')->{err},
		qr/requires a valid client certificate/, '-v 2 without a certificate');
	is($try->($bob, '-A', $root->{cert}, '-v2')->{out}, "1\n",
		'-v 2 with any valid certificate');
};
done_testing;
