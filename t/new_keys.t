# SPDX-License-Identifier: ISC
#
# SM2, ML-DSA and SLH-DSA authorities work in server mode, in client mode and with --check, and two
# strengths of ML-DSA can be used at once. OpenSSL 3.0 has only SM2. (t/matrix.t tries all types of
# keys below an ordinary root.)
# sabotage: s/OPENSSL_init_ssl(OPENSSL_INIT_NO_ATEXIT/OPENSSL_init_ssl(OPENSSL_INIT_NO_ADD_ALL_DIGESTS/ tls.c
use lib 't/lib';
use T;
use T::Handshake;

limit(300);
my $pg = start_pg();
my $conf = spew("$TMP/req.cnf", "[req]\ndistinguished_name=dn\n[dn]\n[ca]\nbasicConstraints=critical,CA:TRUE\n[leaf]\nbasicConstraints=CA:FALSE\nsubjectAltName=DNS:localhost,IP:127.0.0.1\n");

# A certificate with a key of this type, self-signed or signed by an issuer, as make_cert returns
# it; undef if this OpenSSL cannot make it.
sub new_cert {
	my ($name, $type, $issuer) = @_;
	my $base = "$TMP/$name";
	my @by = $issuer ? ('-CA', $issuer->{cert}, '-CAkey', $issuer->{key}) : ();
	my $r = run([ qw(openssl req -x509 -nodes -days 7 -config), $conf, '-extensions', $name =~ /^root/ ? 'ca' : 'leaf', '-subj', $issuer ? '/CN=alice' : "/CN=$name", '-newkey', split(' ', $type), '-keyout', "$base.key", '-out', "$base.crt", @by ], quiet => 1);
	return undef if $r->{status};
	return { key => "$base.key", cert => "$base.crt", chain => "$base.crt", name => $base,
		root => !$issuer };
}

my $ec = 'EC -pkeyopt ec_paramgen_curve:P-256';

for my $type (qw(SM2 ML-DSA-65 SLH-DSA-SHA2-128f SLH-DSA-SHAKE-128f)) {
	SKIP: {
		my $root = new_cert("root-$type", $type) or skip "this OpenSSL has no $type", 1;
		my $leaf = new_cert("below-$type", $ec, $root);
		my $pem = make_pem($leaf);
		subtest "an authority that signs with $type" => sub {
			my $s = serve(pg => $pg, pem => $pem,
				args => [ '-A', $root->{cert}, '--clientcert=verify-full' ]);
			my $try = sub { my ($cert, @more) = @_; return (handshakes(join ' ', $s->port, 'postgres', '-cert', $cert->{cert}, '-key', $cert->{key}, @more))[0] };
			like($try->($leaf, @$_), qr/^done/, "accepts a client certificate: @$_")
				or diag($s->log) for [], [qw(-max_protocol TLSv1.2)];
			is(() = $s->log =~ /connection authorized: user=alice .*subject="?CN=alice"? issuer="?CN=root-$type/g, 2, 'and its name') or diag($s->log);
			like($try->(new_cert("other-$type", $ec, new_cert("root2-$type", $type))),
				qr/^failed/, 'refuses that of another authority');
			my $local = serve(client => 1, pg => $s, pem => $pem,
				args => [ '-A', $root->{cert}, '--servername=localhost' ]);
			my $r = psql('select 43', port => $local->port, sslmode => 'disable');
			is($r->{out}, "43\n", 'pgssl -c trusts a server certificate')
				or diag($r->{err}, $local->log);
			$r = run([ $PGSSL, '--check', '-p', $pem, '-A', $root->{cert}, '-r',
				'127.0.0.1:' . $pg->port ], quiet => 1);
			unlike($r->{out} . $r->{err}, qr/^error/m, '--check finds no error');
		};
	}
}

SKIP: {
	my %pem = map { my $cert = new_cert("server$_", "ML-DSA-$_"); $cert ? ($_ => make_pem($cert)) : () } 44, 65;
	skip 'this OpenSSL has no ML-DSA', 1 unless %pem;
	subtest 'two strengths of ML-DSA at once' => sub {
		my $fake = after_startup(sub { syswrite $_[0], 'R' });
		my $s = serve(pg => $fake, pem => $pem{44}, args => [ '-p', $pem{65} ]);
		like($_, qr/^done/, 'each client gets the one it asks for') for handshakes(map { $s->port . " postgres -sigalgs $_" } qw(mldsa44 mldsa65));
		like((handshakes($s->port . ' postgres -sigalgs mldsa87'))[0], qr/^failed/,
			'a client that wants a third is refused');
		$s = serve(pg => $fake, pem => $pem{44},
			args => [ '-p', make_pem(new_cert('again', 'ML-DSA-44')) ]);
		ok(!connect_to($s->port)->negotiate, 'two of the same strength are refused');
		$s->logged(qr/both have ML-DSA-44 keys: two certificates must have different types of keys/);
	};
}
done_testing;
