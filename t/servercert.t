# SPDX-License-Identifier: ISC
#
# Every kind of server certificate with every sslmode of psql: the connection succeeds, or psql
# gives the exact reason. The log has the alert.
# sabotage: tls/credential.c s/c->key, chain, 0)/c->key, NULL, 0)/
# sabotage: tls/credential.c s/sk_X509_num(c->chain) > 0 ? c->chain : NULL/c->chain/
use lib 't/lib';
use T;
use T::X509;

limit(600);
my $pg = start_pg();
my $root = issue(cn => 'Root', ca => 1);
my $middle = issue(issuer => $root, cn => 'Middle', ca => 1);
my $deep = $root;
$deep = issue(issuer => $deep, cn => "Level $_", ca => 1) for 1 .. 8;
my %chainless = map { %$_ } issue(issuer => $middle, cn => 'localhost');
$chainless{chain} = $chainless{cert};
my $revoked = issue(issuer => $root, cn => 'localhost');
my $lists = spew("$TMP/lists.pem", join '', map { slurp(crl(@$_)) } [ $root, revoked => [$revoked] ], [$middle]);

sub failed { return "SSL error: certificate verify failed" }
sub no_name { return qq(server certificate for "$_[0]" does not match host name "localhost") }
my @in = ('in') x 2;

# kind => [certificate, result of verify-ca, result of verify-full with host=localhost]. With
# sslmode=require every certificate is accepted.
my %matrix = (
	'CN only' => [ issue(issuer => $root, cn => 'localhost'), @in ],
	'another CN' => [ issue(issuer => $root, cn => 'elsewhere'), 'in', no_name('elsewhere') ],
	'SAN' => [ issue(issuer => $root, cn => 'elsewhere', san => 'DNS:localhost'), @in ],
	'another SAN, matching CN' => [ issue(issuer => $root, cn => 'localhost', san => 'DNS:elsewhere'), 'in', no_name('elsewhere') ],
	'several names' => [ issue(issuer => $root, cn => 'x', san => 'DNS:a,DNS:b,DNS:localhost'), @in ],
	'several other names' => [ issue(issuer => $root, cn => 'x', san => 'DNS:a,DNS:b'), 'in', 'server certificate for "a" (and 1 other name) does not match host name "localhost"' ],
	'IP addresses only' => [ issue(issuer => $root, cn => 'x', san => 'IP:127.0.0.1'), 'in', 'server certificate for "127.0.0.1" (and 1 other name) does not match host name "localhost"' ],
	'for servers' => [ issue(issuer => $root, cn => 'localhost', purpose => 'serverAuth'), @in ],
	'for clients only' => [ issue(issuer => $root, cn => 'localhost', purpose => 'clientAuth'), (failed()) x 2 ],
	'expired' => [ issue(issuer => $root, cn => 'localhost', from => -9000, until => -60), (failed()) x 2 ],
	'not yet valid' => [ issue(issuer => $root, cn => 'localhost', from => 3600), (failed()) x 2 ],
	'of another authority' => [ issue(issuer => issue(cn => 'Other', ca => 1), cn => 'localhost'), (failed()) x 2 ],
	'self-signed' => [ issue(cn => 'localhost'), (failed()) x 2 ],
	'with intermediate' => [ issue(issuer => $middle, cn => 'localhost'), @in ],
	'without intermediate' => [ \%chainless, (failed()) x 2 ],
	'long chain' => [ issue(issuer => $deep, cn => 'localhost'), @in ],
	'RSA' => [ issue(issuer => $root, cn => 'localhost', key => 'RSA'), @in ],
	'RSA-PSS' => [ issue(issuer => $root, cn => 'localhost', key => 'RSA-PSS'), @in ],
	'Ed25519' => [ issue(issuer => $root, cn => 'localhost', key => 'ed25519'), @in ],
);

sub outcome {
	my ($service, $sslmode, %o) = @_;
	my $r = psql('select 1', port => $service->port, host => 'localhost', PGHOSTADDR => '127.0.0.1', rootcert => $root->{cert}, sslmode => $sslmode, %o);
	return 'in' if $r->{out} eq "1\n" && $r->{status} == 0;
	return join ' | ', map { s/^(?:psql: error: )?connection to server at .*, port \d+ failed: //r }
		grep { !/^WARNING|^HINT|^\s/ } split /\n/, $r->{err};
}

for my $kind (sort keys %matrix) {
	subtest $kind => sub {
		my ($cert, $ca, $full) = @{ $matrix{$kind} };
		my $s = serve(pg => $pg, pem => T::Cert::make_pem($cert));
		is(outcome($s, 'verify-ca'), $ca, 'sslmode=verify-ca');
		is(outcome($s, 'verify-full'), $full, 'sslmode=verify-full');
		# libpq verifies in every mode if it has an authority. Without one these modes
		# accept everything.
		is(outcome($s, $_, rootcert => '/nonexistent'), 'in', "sslmode=$_") for qw(require prefer);
		like($s->logged(qr/could not accept/), qr/could not accept TLS connection: .*alert.* host=127\.0\.0\.1 port=\d+$/, "the client's alert is logged") if $ca eq failed();
	};
}

subtest "the client's revocation list" => sub {
	my $s = serve(pg => $pg, pem => T::Cert::make_pem($revoked));
	is(outcome($s, 'verify-full', PGSSLCRL => $lists), failed(), 'revoked');
	$s->logged(qr/could not accept TLS connection: .*revoked/);
	$s = serve(pg => $pg, pem => T::Cert::make_pem($matrix{'with intermediate'}[0]));
	is(outcome($s, 'verify-full', PGSSLCRL => $lists), 'in', 'not revoked');
};

subtest 'an intermediate certificate that is only in -A is sent, as PostgreSQL does' => sub {
	my $s = serve(pg => $pg, pem => T::Cert::make_pem(\%chainless), args => [ '-A', $middle->{cert} ]);
	is(outcome($s, 'verify-full'), 'in', 'sslmode=verify-full');
};

subtest 'IP addresses, connected by address' => sub {
	my $s = serve(pg => $pg, pem => T::Cert::make_pem($matrix{'IP addresses only'}[0]));
	is(outcome($s, 'verify-full', host => '127.0.0.1'), 'in', 'host=127.0.0.1');
};
done_testing;
