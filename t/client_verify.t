# SPDX-License-Identifier: ISC
#
# Client mode: the server's certificate of every kind against every --sslmode, as libpq judges it; and each failure told to the local client as FATAL 08006 with its reason.
# sabotage: tls/client.c s/return type == GEN_IPADD ||.*/return false;/
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

# 'in', or what the local client is told behind "could not establish a TLS connection to PostgreSQL at 127.0.0.1:PORT: ".
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
	is($fake->bytes, '', 'the server got nothing under TLS');
	is($s->conn->ending, 'closed', 'closed, not reset');
	isnt($s->wait, 0, 'status');
	my ($place, $reason) = $body->{M} =~ /^could not establish a TLS connection to PostgreSQL at (\S+:\d+): (.*)$/ or return $body->{M};
	like($s->log, qr/\Q$body->{M}\E host=/, 'the log has it, too') unless $reason =~ /see pgssl's log/;
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
	is(outcome($good, ca($root)), 'in', '-A: verify-full by the address of -r');
	is(outcome($good, ca($root), $name), 'in', '-A and --servername: verify-full by that');
	is(outcome($good, ca($root), '--servername=db.example.com'), not_for('db.example.org', 'db.example.com'), '-A alone is verify-full');
	is(outcome($good, ca($root), '--servername=db.example.com', "--sslmode=$_"), 'in', "$_: any name") for qw(require verify-ca);
	is(outcome($good, ca($root), '--servername=db.example.com', '--sslmode=verify-full'), not_for('db.example.org', 'db.example.com'), 'verify-full: another name');
	is(outcome($false, ca($root), $name, "--sslmode=$_"), $foreign, "$_: another authority") for qw(require verify-ca verify-full);
	is(outcome($good, { host => 'localhost' }, ca($root)), not_for('db.example.org', 'localhost'), 'the name of -r is what counts');
};

subtest 'warned of when the server is not verified, and only then' => sub {
	my $s = local_session(pg => tls_backend($good));
	first_message($s);
	like($s->log, qr/the server's certificate is not verified, so anyone could impersonate it: use -A/, 'warned');
	$s = local_session(pg => tls_backend($good), args => [ ca($root), '--sslmode=require' ]);
	first_message($s);
	unlike($s->log, qr/not verified/, 'not warned');
};

# name => [certificate, name asked for, what is said]
my %names = (
	'SAN' => [ { san => 'DNS:db.example.org' }, 'db.example.org', 'in' ],
	'case is nothing' => [ { san => 'DNS:DB.example.ORG' }, 'db.Example.org', 'in' ],
	'the second SAN' => [ { san => 'DNS:a.example.org,DNS:db.example.org' }, 'db.example.org', 'in' ],
	'CN, no SAN' => [ { cn => 'db.example.org' }, 'db.example.org', 'in' ],
	'CN, SAN of an address only' => [ { cn => 'db.example.org', san => 'IP:192.0.2.1' }, 'db.example.org', 'in' ],
	'CN right, SAN of another' => [ { cn => 'db.example.org', san => 'DNS:a.example.org' }, 'db.example.org', not_for('a.example.org', 'db.example.org') ],
	'CN of another' => [ { cn => 'a.example.org' }, 'db.example.org', not_for('a.example.org', 'db.example.org') ],
	'a name that begins with ours' => [ { san => 'DNS:db.example.org.evil.org' }, 'db.example.org', not_for('db.example.org.evil.org', 'db.example.org') ],
	'a blank and an escape in the name' => [ { cn => "a \e[31m" }, 'db.example.org', not_for('a\x20\x1B[31m', 'db.example.org') ],
	'wildcard' => [ { san => 'DNS:*.example.org' }, 'db.example.org', 'in' ],
	'wildcard in CN' => [ { cn => '*.example.org' }, 'db.example.org', 'in' ],
	'wildcard: one label' => [ { san => 'DNS:*.example.org' }, 'a.db.example.org', not_for('*.example.org', 'a.db.example.org') ],
	'wildcard: not none' => [ { san => 'DNS:*.example.org' }, 'example.org', not_for('*.example.org', 'example.org') ],
	'wildcard: a whole label' => [ { san => 'DNS:d*.example.org' }, 'db.example.org', not_for('d*.example.org', 'db.example.org') ],
	'wildcard: the first label' => [ { san => 'DNS:db.*.org' }, 'db.example.org', not_for('db.*.org', 'db.example.org') ],
	'wildcard alone' => [ { san => 'DNS:*' }, 'localhost', not_for('*', 'localhost') ],
	'SAN IP' => [ { san => 'IP:127.0.0.1' }, '127.0.0.1', 'in' ],
	'SAN IPv6, written otherwise' => [ { san => 'IP:2001:db8::1' }, '2001:DB8:0::1', 'in' ],
	'SAN of another IP' => [ { cn => 'x', san => 'IP:127.0.0.2' }, '127.0.0.1', not_for('x', '127.0.0.1') ],
	'IP in CN only' => [ { cn => '127.0.0.1' }, '127.0.0.1', 'in' ],
	'IP in CN, SAN DNS of another' => [ { cn => '127.0.0.1', san => 'DNS:db' }, '127.0.0.1', 'in' ],
	'IP in CN, SAN IP of another' => [ { cn => '127.0.0.1', san => 'IP:127.0.0.2' }, '127.0.0.1', not_for('127.0.0.1', '127.0.0.1') ],
	'IP as SAN DNS' => [ { cn => 'x', san => 'DNS:127.0.0.1' }, '127.0.0.1', 'in' ],
	'no wildcard stands for an address' => [ { cn => 'x', san => 'DNS:*.0.0.1' }, '127.0.0.1', not_for('*.0.0.1', '127.0.0.1') ],
	'SAN IP, asked for by name' => [ { cn => 'x', san => 'IP:127.0.0.1' }, 'localhost', not_for('x', 'localhost') ],
);

for my $case (sort keys %names) {
	subtest "names: $case" => sub {
		my ($cert, $asked, $said) = @{ $names{$case} };
		is(outcome(issue(issuer => $root, cn => 'x', %$cert), ca($root), "--servername=$asked"), $said, $asked);
	};
}

# The server learns from an alert that it is the wrong one, and does not get our certificate.
subtest 'our certificate is not shown to the wrong host' => sub {
	my $us = issue(issuer => $root, cn => 'alice');
	my $pem = spew("$TMP/us.pem", slurp($us->{chain}) . slurp($us->{key}), 0600);
	for my $version ('TLSv1.2', 'TLSv1.3') {
		my $shown = "$TMP/shown.$version";
		my $fake = tls_backend($good, ssl => { SSL_verify_mode => 1, SSL_verify_callback => sub { spew($shown, 'shown'); 1 } });
		my @args = ('-p', $pem, ca($root), "--max-protocol=$version");
		is(outcome($fake, @args, '--servername=db'), not_for('db.example.org', 'db'), "$version: another host");
		wait_for('the alert', sub { -s "$fake->{base}.1.end" });
		like(slurp("$fake->{base}.1.end"), qr/alert bad certificate/, 'an alert');
		ok(!-e $shown, 'our certificate was not sent');
		is(outcome($fake, @args, $name), 'in', 'the right host');
		ok(-e $shown, 'gets it');
	}
};

# What is wrong with the certificate, verify-full.
my @lists = map { crl($root), crl($middle, revoked => [$_]) } $revoked;
my $lists = spew("$TMP/lists.pem", join '', map { slurp($_) } @lists);
my @san = (cn => 'x', san => 'DNS:db.example.org');
my %wrong = (
	'expired' => [ issue(issuer => $root, @san, from => -9000, until => -60), unverified('certificate has expired') ],
	'not yet valid' => [ issue(issuer => $root, @san, from => 3600), unverified(not_yet_valid()) ],
	'self-signed' => [ issue(@san), unverified('self-signed certificate') ],
	'for clients only' => [ issue(issuer => $root, @san, purpose => 'clientAuth'), qr/^the server's certificate cannot be verified: (?:unsuitable|unsupported) certificate purpose$/ ],
	'for servers' => [ issue(issuer => $root, @san, purpose => 'serverAuth'), 'in' ],
	'intermediate sent' => [ issue(issuer => $middle, @san), 'in' ],
	'intermediate not sent' => [ \%chainless, $foreign ],
	'revoked' => [ $revoked, unverified('certificate revoked'), "--crl=$lists" ],
	'revoked, nobody looks' => [ $revoked, 'in' ],
	'not revoked' => [ issue(issuer => $middle, @san), 'in', "--crl=$lists" ],
	'no list of the intermediate' => [ issue(issuer => $middle, @san), unverified('unable to get certificate CRL'), "--crl=$lists[0]" ],
	'RSA' => [ issue(issuer => $root, @san, key => 'RSA'), 'in' ],
	'Ed25519' => [ issue(issuer => $root, @san, key => 'ed25519'), 'in' ],
);

for my $case (sort keys %wrong) {
	subtest "certificate: $case" => sub {
		my ($cert, $said, @args) = @{ $wrong{$case} };
		$said = qr/^\Q$said\E$/ unless ref $said;
		like(outcome($cert, ca($root), $name, @args), $said, 'verify-full');
		like(outcome($cert, ca($root), '--sslmode=require', @args), $said, 'require with -A is no less than verify-ca');
	};
}

subtest 'a self-signed certificate can be its own -A' => sub {
	my $self = issue(@san);
	is(outcome($self, ca($self), $name), 'in', 'trusted');
};

subtest '-A system' => sub {
	is(outcome($good, { env => { SSL_CERT_FILE => $root->{cert} } }, '-A', 'system', $name), 'in', 'SSL_CERT_FILE has the authority');
	is(outcome($good, { env => { SSL_CERT_FILE => $other->{cert} } }, '-A', 'system', $name), $foreign, 'SSL_CERT_FILE has another one');
	is(outcome($good, { env => { SSL_CERT_FILE => $root->{cert} } }, '-A', 'system', '--servername=db'), not_for('db.example.org', 'db'), 'the name counts');
	is(outcome($good, '-A', 'system', $name), $foreign, "the system's own") if -r '/etc/ssl/certs/ca-certificates.crt';
};

subtest 'files that are not in order: the client is told, the log has which' => sub {
	my $told = "TLS is misconfigured here, see pgssl's log";
	my $empty = spew("$TMP/empty.pem", '');
	for my $case ([ [ '-A', "$TMP/no.pem" ], 66, qr{"\Q$TMP\E/no\.pem".*No such file} ], [ [ '-A', $empty ], 78, qr{no certificate in "\Q$empty\E"} ],
		[ [ ca($root), "--crl=$TMP/no.pem" ], 66, qr{"\Q$TMP\E/no\.pem".*No such file} ], [ [ '-p', "$TMP/no.pem" ], 66, qr{"\Q$TMP\E/no\.pem".*No such file} ]) {
		my ($args, $status, $log) = @$case;
		my $fake = tls_backend($good);
		my $s = local_session(pg => $fake, args => $args);
		my ($type, $body) = first_message($s);
		like($body->{M}, qr/^could not establish a TLS connection to PostgreSQL at .*: \Q$told\E$/, "@$args");
		is($body->{C}, '08006', 'SQLSTATE');
		like($s->log, $log, 'log');
		is($s->wait, $status, 'status');
		is($fake->connections, 0, 'nobody was connected to');
	}
};

subtest 'listening: every child verifies, and takes the files as they are' => sub {
	my $fake = tls_backend($good);
	my $trusted = spew("$TMP/trusted.pem", slurp($root->{cert}));
	my $come = sub {
		my ($service) = @_;
		my $conn = connect_to($service->port);
		my ($type, $body) = first_message({ conn => $conn });
		$conn->close;
		return $type eq 'R' ? 'in' : $body->{M} =~ s/^could not establish a TLS connection to PostgreSQL at \S+: //r;
	};
	my $s = serve_listen(client => 1, pg => $fake, args => [ '-A', $trusted ]);
	is($come->($s), 'in', "child $_") for 1, 2;
	rename spew("$TMP/new.pem", slurp($other->{cert})), $trusted;
	is($come->($s), $foreign, 'another authority is trusted now');
	rename spew("$TMP/new.pem", slurp($root->{cert})), $trusted;
	is($come->($s), 'in', 'and again the right one');
	$s = serve_listen(client => 1, pg => $fake, args => [ '-A', $trusted, '--servername=db' ]);
	is($come->($s), not_for('db.example.org', 'db'), "a wrong name, child $_") for 1, 2;
};

subtest 'SNI and ALPN' => sub {
	my $fake = tls_backend($good, alpn => ['postgresql']);
	is(outcome($fake, $name), 'in', 'a name');
	is(slurp("$fake->{base}.1.hello"), 'postgresql db.example.org', 'is sent');
	is(outcome($fake), 'in', 'an address');
	is(slurp("$fake->{base}.2.hello"), 'postgresql -', 'is not');
	is(outcome($fake, { host => 'localhost' }), 'in', 'the host of -r');
	is(slurp("$fake->{base}.3.hello"), 'postgresql localhost', 'is sent');
};
done_testing;
