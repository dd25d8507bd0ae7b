# SPDX-License-Identifier: ISC
#
# Client mode: server certificates of all kinds with each --sslmode, judged as libpq does. The local
# client gets each failure as FATAL 08006 with the reason.
# sabotage: tls/client.c s/return type == GEN_IPADD ||.*/return false;/
# sabotage: tls/client.c s/strchr(wanted, '_') == NULL/true/
# sabotage: tls/client.c s/rest > wanted \&\& strchr(rest + 1, '.') != NULL/true/
# sabotage: net/address.c s/bare\[strcspn(bare, "%")\] = .*/;/
# sabotage: options.c s/o->sslmode = SSLMODE_VERIFY_CA;/;/
# sabotage: tls/client.c s/sslmode == SSLMODE_VERIFY_FULL/sslmode == SSLMODE_UNSET/
use lib 't/lib';
use T;
use T::ClientMode;
use T::X509;

limit(300);
my $root = issue(cn => 'Root', ca => 1);
my $other = issue(cn => 'Other', ca => 1);
my $middle = issue(issuer => $root, cn => 'Middle', ca => 1);
my $revoked = issue(issuer => $middle, cn => 'x', san => 'DNS:db.example.org');
my %chainless = map { %$_ } issue(issuer => $middle, cn => 'x', san => 'DNS:db.example.org');
$chainless{chain} = $chainless{cert};

# 'in', or the reason that the local client gets after "could not establish a TLS connection to
# PostgreSQL at 127.0.0.1:PORT: ".
sub outcome {
	my ($cert, @args) = @_;
	my %o = ref $args[0] ? %{ shift @args } : ();
	my $fake = ref $cert eq 'T::Fake' ? $cert : tls_backend($cert);
	my $s = local_session(pg => $fake, args => \@args, %o);
	my ($type, $body) = first_message($s);
	if ($type eq 'R') {
		$s->conn->close;
		is($s->wait, 0, 'status');
		return 'in';
	}
	return "$type: " . ($body // '') if $type ne 'E';
	is("$body->{S} $body->{V} $body->{C}", 'FATAL FATAL 08006', 'FATAL 08006');
	is($fake->bytes, '', 'nothing was sent to the server under TLS');
	is($s->conn->ending, 'closed', 'closed, not reset');
	isnt($s->wait, 0, 'status');
	my ($place, $reason) = $body->{M}
		=~ /^could not establish a TLS connection to PostgreSQL at (\S+:\d+): (.*)$/
		or return $body->{M};
	like($s->log, qr/\Q$body->{M}\E host=/, 'it is logged') unless $reason =~ /settings, see its log$/;
	return $reason;
}

sub unverified { return "the server's certificate cannot be verified: $_[0]" }
sub not_for { return qq(the server's certificate is for "$_[0]", not for "$_[1]") }
sub ca { return ('-A', $_[0]{cert}) }

my $foreign = unverified('unable to get local issuer certificate');
my $name = '--servername=db.example.org';
my $good = issue(issuer => $root, cn => 'x', san => 'DNS:db.example.org,IP:127.0.0.1');

subtest 'sslmode' => sub {
	my $fake = tls_backend($good);
	my $false = issue(issuer => $other, cn => 'x', san => 'DNS:db.example.org,IP:127.0.0.1');
	is(outcome($good), 'in', 'no -A: not verified');
	is(outcome($false, '--sslmode=require'), 'in', 'require without -A: not verified');
	is(outcome($good, ca($root)), 'in', '-A: verify-full with the address of -r');
	is(outcome($good, ca($root), $name), 'in',
		'-A and --servername: verify-full with that name');
	is(outcome($good, ca($root), '--servername=db.example.com'),
		not_for('db.example.org', 'db.example.com'), '-A alone is verify-full');
	is(outcome($good, ca($root), '--servername=db.example.com', "--sslmode=$_"), 'in',
		"$_: any name") for qw(require verify-ca);
	is(outcome($good, ca($root), '--servername=db.example.com', '--sslmode=verify-full'),
		not_for('db.example.org', 'db.example.com'), 'verify-full: another name');
	is(outcome($false, ca($root), $name, "--sslmode=$_"), $foreign, "$_: another authority")
		for qw(require verify-ca verify-full);
	is(outcome($good, { host => 'localhost' }, ca($root)),
		not_for('db.example.org', 'localhost'), 'the host of -r is compared');
};

subtest 'a warning if the server is not verified, and only then' => sub {
	my $s = local_session(pg => tls_backend($good));
	first_message($s);
	like($s->log,
		qr/the server's certificate is not verified, so anyone could impersonate it: use -A/,
		'a warning');
	$s = local_session(pg => tls_backend($good), args => [ ca($root), '--sslmode=require' ]);
	first_message($s);
	unlike($s->log, qr/not verified/, 'no warning');
};

# case => [certificate, expected server name, outcome]
my %names = (
	'SAN' => [ { san => 'DNS:db.example.org' }, 'db.example.org', 'in' ],
	'case is ignored' => [ { san => 'DNS:DB.example.ORG' }, 'db.Example.org', 'in' ],
	'the second SAN' => [ { san => 'DNS:a.example.org,DNS:db.example.org' }, 'db.example.org',
		'in' ],
	'CN, no SAN' => [ { cn => 'db.example.org' }, 'db.example.org', 'in' ],
	'CN, SAN of an address only' => [ { cn => 'db.example.org', san => 'IP:192.0.2.1' },
		'db.example.org', 'in' ],
	'CN matches, SAN of another' => [ { cn => 'db.example.org', san => 'DNS:a.example.org' },
		'db.example.org', not_for('a.example.org', 'db.example.org') ],
	'CN of another' => [ { cn => 'a.example.org' }, 'db.example.org',
		not_for('a.example.org', 'db.example.org') ],
	'a name that begins with ours' => [ { san => 'DNS:db.example.org.evil.org' },
		'db.example.org', not_for('db.example.org.evil.org', 'db.example.org') ],
	'a blank and an escape character in the name' => [ { cn => "a \e[31m" }, 'db.example.org',
		not_for('a\x20\x1B[31m', 'db.example.org') ],
	'wildcard' => [ { san => 'DNS:*.example.org' }, 'db.example.org', 'in' ],
	'wildcard in CN' => [ { cn => '*.example.org' }, 'db.example.org', 'in' ],
	'wildcard: one label' => [ { san => 'DNS:*.example.org' }, 'a.db.example.org',
		not_for('*.example.org', 'a.db.example.org') ],
	'wildcard: not without a label' => [ { san => 'DNS:*.example.org' }, 'example.org',
		not_for('*.example.org', 'example.org') ],
	'wildcard: only a whole label' => [ { san => 'DNS:d*.example.org' }, 'db.example.org',
		not_for('d*.example.org', 'db.example.org') ],
	'wildcard: only the first label' => [ { san => 'DNS:db.*.org' }, 'db.example.org',
		not_for('db.*.org', 'db.example.org') ],
	'wildcard alone' => [ { san => 'DNS:*' }, 'localhost', not_for('*', 'localhost') ],
	'SAN IP' => [ { san => 'IP:127.0.0.1' }, '127.0.0.1', 'in' ],
	'SAN IPv6, in another notation' => [ { san => 'IP:2001:db8::1' }, '2001:DB8:0::1', 'in' ],
	'SAN of another IP' => [ { cn => 'x', san => 'IP:127.0.0.2' }, '127.0.0.1',
		not_for('x', '127.0.0.1') ],
	'IP in CN only' => [ { cn => '127.0.0.1' }, '127.0.0.1', 'in' ],
	'IP in CN, SAN DNS of another' => [ { cn => '127.0.0.1', san => 'DNS:db' }, '127.0.0.1',
		'in' ],
	'IP in CN, SAN IP of another' => [ { cn => '127.0.0.1', san => 'IP:127.0.0.2' },
		'127.0.0.1', not_for('127.0.0.1', '127.0.0.1') ],
	'IP as SAN DNS' => [ { cn => 'x', san => 'DNS:127.0.0.1' }, '127.0.0.1', 'in' ],
	'wildcard: not for an address' => [ { cn => 'x', san => 'DNS:*.0.0.1' }, '127.0.0.1',
		not_for('*.0.0.1', '127.0.0.1') ],
	'a dot at the end' => [ { san => 'DNS:db.example.org' }, 'db.example.org.', 'in' ],
	'one dot only' => [ { san => 'DNS:db.example.org' }, 'db.example.org..',
		"pgssl has an error in its TLS settings, see its log" ],
	'a dot at the end of an address' => [ { cn => 'x', san => 'IP:192.0.2.7' }, '192.0.2.7.',
		'in' ],
	'a zone' => [ { cn => 'x', san => 'IP:fe80::7' }, 'fe80::7%eth0', 'in' ],
	'a zone, IP in CN only' => [ { cn => 'fe80::7' }, 'FE80::7%eth0', 'in' ],
	'a zone, SAN of another IP' => [ { cn => 'x', san => 'IP:fe80::8' }, 'fe80::7%eth0',
		not_for('x', 'fe80::7%eth0') ],
	'IPv4-mapped' => [ { cn => 'x', san => 'IP:192.0.2.7' }, '::FFFF:192.0.2.7', 'in' ],
	'IPv4-mapped, in hexadecimal' => [ { cn => 'x', san => 'IP:192.0.2.7' }, '::ffff:c000:207',
		'in' ],
	'IPv4-mapped, IP in CN only' => [ { cn => '192.0.2.7' }, '::ffff:192.0.2.7', 'in' ],
	'IPv4-mapped in SAN, too' => [ { cn => 'x', san => 'IP:::ffff:192.0.2.7' },
		'::ffff:192.0.2.7', 'in' ],
	'IPv4-mapped, SAN of another IP' => [ { cn => 'x', san => 'IP:192.0.2.8' },
		'::ffff:192.0.2.7', not_for('x', '::ffff:192.0.2.7') ],
	'IPv6 in CN, as it was typed' => [ { cn => '2001:db8:0::1' }, '2001:DB8:0::1', 'in' ],
	'an underscore' => [ { san => 'DNS:my_db.example.org' }, 'My_DB.example.org', 'in' ],
	'an underscore, wildcard' => [ { san => 'DNS:*.example.org' }, 'my_db.example.org', 'in' ],
	'an underscore behind the wildcard' => [ { san => 'DNS:a.org,DNS:*.MY_net.example.org' },
		'db.my_net.example.org', 'in' ],
	'an underscore, wildcard in CN' => [ { cn => '*.example.org' }, 'my_db.example.org', 'in' ],
	'an underscore, wildcard in CN, SAN of another' => [
		{ cn => '*.example.org', san => 'DNS:a.example.org' }, 'my_db.example.org',
		not_for('a.example.org', 'my_db.example.org') ],
	'an underscore, wildcard: one label' => [ { san => 'DNS:*.example.org' },
		'my_db.a.example.org', not_for('*.example.org', 'my_db.a.example.org') ],
	'an underscore, wildcard: of another' => [ { san => 'DNS:*.example.com' },
		'my_db.example.org', not_for('*.example.com', 'my_db.example.org') ],
	'an underscore, wildcard: two labels behind it' => [ { san => 'DNS:*.my_net' }, 'db.my_net',
		not_for('*.my_net', 'db.my_net') ],
	'an underscore, wildcard: not without a label' => [ { san => 'DNS:*.my_net.org' },
		'my_net.org', not_for('*.my_net.org', 'my_net.org') ],
	'an underscore, wildcard: only a whole label' => [ { san => 'DNS:m*.example.org' },
		'my_db.example.org', not_for('m*.example.org', 'my_db.example.org') ],
	'SAN IP, but a name is expected' => [ { cn => 'x', san => 'IP:127.0.0.1' }, 'localhost',
		not_for('x', 'localhost') ],
);

for my $case (sort keys %names) {
	subtest "names: $case" => sub {
		my ($cert, $asked, $said) = @{ $names{$case} };
		is(outcome(issue(issuer => $root, cn => 'x', %$cert), ca($root),
			"--servername=$asked"), $said, $asked);
	};
}

# A server with the wrong name gets an alert, and does not see the client certificate.
subtest 'the client certificate is not sent to the wrong host' => sub {
	my $us = issue(issuer => $root, cn => 'alice');
	my $pem = spew("$TMP/us.pem", slurp($us->{chain}) . slurp($us->{key}), 0600);
	for my $version ('TLSv1.2', 'TLSv1.3') {
		my $shown = "$TMP/shown.$version";
		my $fake = tls_backend($good,
			ssl => { SSL_verify_mode => 1, SSL_verify_callback => sub {
			spew($shown, 'shown');
			1;
		} });
		my @args = ('-p', $pem, ca($root), "--max-protocol=$version");
		is(outcome($fake, @args, '--servername=db'), not_for('db.example.org', 'db'),
			"$version: another host");
		wait_for('the alert', sub { -s "$fake->{base}.1.end" });
		like(slurp("$fake->{base}.1.end"), qr/alert bad certificate/, 'it gets an alert');
		ok(!-e $shown, 'the client certificate was not sent');
		is(outcome($fake, @args, $name), 'in', "$version: the right host");
		ok(-e $shown, 'gets the client certificate');
	}
};

# Certificates with and without faults, for verify-full.
my @lists = map { crl($root), crl($middle, revoked => [$_]) } $revoked;
my $lists = spew("$TMP/lists.pem", join '', map { slurp($_) } @lists);
my @san = (cn => 'x', san => 'DNS:db.example.org');
my %wrong = (
	'expired' => [ issue(issuer => $root, @san, from => -9000, until => -60),
		unverified('certificate has expired') ],
	'not yet valid' => [ issue(issuer => $root, @san, from => 3600),
		unverified(not_yet_valid()) ],
	'self-signed' => [ issue(@san), unverified('self-signed certificate') ],
	'for clients only' => [ issue(issuer => $root, @san, purpose => 'clientAuth'),
		qr/^the server's certificate cannot be verified: (?:unsuitable|unsupported) certificate purpose$/ ],
	'for servers' => [ issue(issuer => $root, @san, purpose => 'serverAuth'), 'in' ],
	'intermediate sent' => [ issue(issuer => $middle, @san), 'in' ],
	'intermediate not sent' => [ \%chainless, $foreign ],
	'revoked' => [ $revoked, unverified('certificate revoked'), "--crl=$lists" ],
	'revoked, without --crl' => [ $revoked, 'in' ],
	'not revoked' => [ issue(issuer => $middle, @san), 'in', "--crl=$lists" ],
	'no revocation list of the intermediate' => [ issue(issuer => $middle, @san),
		unverified('unable to get certificate CRL'), "--crl=$lists[0]" ],
	'RSA' => [ issue(issuer => $root, @san, key => 'RSA'), 'in' ],
	'Ed25519' => [ issue(issuer => $root, @san, key => 'ed25519'), 'in' ],
);

for my $case (sort keys %wrong) {
	subtest "certificate: $case" => sub {
		my ($cert, $said, @args) = @{ $wrong{$case} };
		$said = qr/^\Q$said\E$/ unless ref $said;
		like(outcome($cert, ca($root), $name, @args), $said, 'verify-full');
		like(outcome($cert, ca($root), '--sslmode=require', @args), $said,
			'require with -A verifies like verify-ca');
	};
}

subtest 'a self-signed certificate can be given as -A' => sub {
	my $self = issue(@san);
	is(outcome($self, ca($self), $name), 'in', 'trusted');
};

subtest '-A system' => sub {
	is(outcome($good, { env => { SSL_CERT_FILE => $root->{cert} } }, '-A', 'system', $name),
		'in', 'SSL_CERT_FILE has the authority');
	is(outcome($good, { env => { SSL_CERT_FILE => $other->{cert} } }, '-A', 'system', $name),
		$foreign, 'SSL_CERT_FILE has another one');
	is(outcome($good, { env => { SSL_CERT_FILE => $root->{cert} } }, '-A', 'system',
		'--servername=db'), not_for('db.example.org', 'db'), 'the name is checked');
	is(outcome($good, '-A', 'system', $name), $foreign, "the system's own authorities")
		if -r '/etc/ssl/certs/ca-certificates.crt';
};

subtest 'unusable files: the client gets an error, the log names the file' => sub {
	my $told = "pgssl has an error in its TLS settings, see its log";
	my $empty = spew("$TMP/empty.pem", '');
	for my $case ([ [ '-A', "$TMP/no.pem" ], 66, qr{"\Q$TMP\E/no\.pem".*No such file} ],
		[ [ '-A', $empty ], 78, qr{no certificate in "\Q$empty\E"} ],
		[ [ ca($root), "--crl=$TMP/no.pem" ], 66, qr{"\Q$TMP\E/no\.pem".*No such file} ],
			[ [ '-p', "$TMP/no.pem" ], 66, qr{"\Q$TMP\E/no\.pem".*No such file} ]) {
		my ($args, $status, $log) = @$case;
		my $fake = tls_backend($good);
		my $s = local_session(pg => $fake, args => $args);
		my ($type, $body) = first_message($s);
		like($body->{M},
			qr/^could not establish a TLS connection to PostgreSQL at .*: \Q$told\E$/,
			"@$args");
		is($body->{C}, '08006', 'SQLSTATE');
		like($s->log, $log, 'log');
		is($s->wait, $status, 'status');
		is($fake->connections, 0, 'no connection was made');
	}
};

subtest '-d: every child verifies, with the current files' => sub {
	my $fake = tls_backend($good);
	my $trusted = spew("$TMP/trusted.pem", slurp($root->{cert}));
	my $come = sub {
		my ($service) = @_;
		my $conn = connect_to($service->port);
		my ($type, $body) = first_message({ conn => $conn });
		$conn->close;
		return $type eq 'R' ? 'in'
			: $body->{M}
			=~ s/^could not establish a TLS connection to PostgreSQL at \S+: //r;
	};
	my $s = serve_listen(client => 1, pg => $fake, args => [ '-A', $trusted ]);
	is($come->($s), 'in', "child $_") for 1, 2;
	rename spew("$TMP/new.pem", slurp($other->{cert})), $trusted;
	is($come->($s), $foreign, 'the file now has another authority');
	rename spew("$TMP/new.pem", slurp($root->{cert})), $trusted;
	is($come->($s), 'in', 'the file has the right authority again');
	$s = serve_listen(client => 1, pg => $fake, args => [ '-A', $trusted, '--servername=db' ]);
	is($come->($s), not_for('db.example.org', 'db'), "a wrong name, child $_") for 1, 2;
};

subtest 'SNI and ALPN' => sub {
	my $fake = tls_backend($good, alpn => ['postgresql']);
	is(outcome($fake, $name), 'in', '--servername');
	is(slurp("$fake->{base}.1.hello"), 'postgresql db.example.org', 'is sent as SNI');
	is(outcome($fake), 'in', 'the address of -r');
	is(slurp("$fake->{base}.2.hello"), 'postgresql -', 'is not sent');
	is(outcome($fake, { host => 'localhost' }), 'in', 'the host of -r');
	is(slurp("$fake->{base}.3.hello"), 'postgresql localhost', 'is sent as SNI');
	my $n = 3;
	for my $case ([ 'DB.Example.org.', 'db.example.org' ], [ 'my_db.example.org', 'my_db.example.org' ],
		[ 'fe80::7%eth0', '-' ], [ '::ffff:192.0.2.7', '-' ], [ '192.0.2.7.', '-' ]) {
		is(outcome($fake, "--servername=$case->[0]"), 'in', $case->[0]);
		is(slurp("$fake->{base}." . ++$n . '.hello'), "postgresql $case->[1]", "SNI: $case->[1]");
	}
	is(outcome($fake, { host => 'LOCALHOST.' }, ca($root), '--sslmode=verify-ca'), 'in', 'the host of -r');
	is(slurp("$fake->{base}." . ++$n . '.hello'), 'postgresql localhost', 'is sent as SNI');
	is(outcome($fake, { host => '[::ffff:127.0.0.1]' }, ca($root)), 'in', 'an address of -r');
	is(slurp("$fake->{base}." . ++$n . '.hello'), 'postgresql -', 'is no SNI');
};
done_testing;
