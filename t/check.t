# SPDX-License-Identifier: ISC
#
# --check: all lines for a good installation, and the right line for each problem. The exit status
# is 0, or 78 if connections would fail.
# sabotage: wire/startup.c s/replication = database == NULL/replication = false/
# sabotage: check/report.c s/errors == 0 ? EX_OK : EX_CONFIG/errors == 0 ? EX_OK : EX_OK/
# sabotage: check/check.c s/missing \&\& !needed/missing/
# sabotage: check/check.c s/held->status == EX_TEMPFAIL ? LOG_WARNING/false ? LOG_WARNING/
# sabotage: check/certificates.c s/days < soon ? LOG_WARNING/days < 0 ? LOG_WARNING/
# sabotage: check/certificates.c s/if (error != X509_V_OK)/if (false)/
# sabotage: check/certificates.c s/!has_successor(t, x)/true/
# sabotage: tls/credential.c s/if (\*line == '#' ||/if (true ||/
use lib 't/lib';
use T;
use T::X509;

my $hba = "local all all trust\nhost all all 127.0.0.1/32 scram-sha-256\n";
my $pg = start_pg(hba => $hba);
my $ca = make_ca(name => 'ca', days => 400);
my $good = make_pem(make_cert(name => 'good', issuer => $ca, days => 90));
my $nobody = is_root() ? 'nobody' : getpwuid $>;

# check(arguments..., env => {...}): { status, out, err }. With -o, since the machine may have no
# syslogd, which --check warns of; what is logged is in err.
sub check {
	my (@args) = @_;
	my %o = ref $args[-1] ? %{ pop @args } : ();
	my $log = spew("$TMP/check.log", '', 0666);
	my $r = T::run([ $PGSSL, '--check', '-o', $log, @args ], quiet => 1, %o);
	$r->{err} .= slurp($log);
	return $r;
}

# Test the exit status and the lines that must be in the output.
sub expect {
	my ($title, $r, $status, @lines) = @_;
	subtest $title => sub {
		is($r->{status}, $status, "status $status");
		like($r->{out}, $_, "$_") for @lines;
		is($r->{err}, '', 'nothing on standard error');
		like($r->{out}, qr/^\d+ errors?, \d+ warnings?(?:: .*)?\n\z/m,
			'the last line has the counts');
		diag($r->{out}) unless Test::More->builder->is_passing;
	};
}

sub with_cert { return check('-p', $_[0], '-r', $pg->port, @_[ 1 .. $#_ ]) }

my $fine = with_cert($good);
expect('a good installation', $fine, 0,
	qr/^ok       certificate "\Q$good\E": owner \S+, group \S+, mode 0600$/m,
	qr/^ok       subject: CN=localhost$/m,
	qr/^ok       names: DNS:localhost, IP:127\.0\.0\.1$/m,
	qr/^ok       issuer: CN=Test CA$/m,
	qr/^ok       certificate: valid until \d{4}-\d\d-\d\d \d\d:\d\d:\d\d UTC: (?:89|90) days left$/m,
	qr/^ok       key: EC, prime256v1$/m,
	qr/^note     chain: ends below "CN=Test CA": correct if clients have that as root; if it is an intermediate authority, append its certificate$/m,
	qr/^ok       private key: matches the certificate; owner and mode are correct$/m,
	qr/^ok       openssl\.cnf: \S+$/m,
	qr/^ok       protocols: TLSv1\.2 and up$/m,
	qr/^ok       TLS 1\.3 suites: TLS_\S+$/m,
	qr/^ok       TLS 1\.2 ciphers: \S*ECDHE-ECDSA-AES256-GCM-SHA384\S*$/m,
	qr/^ok       groups: \S+$/m,
	qr/^ok       trial handshake: TLSv1\.3, TLS_\S+$/m,
	qr/^ok       runs as: user \Q$nobody\E, group \S+$/m,
	qr/^ok       PostgreSQL: connected to 127\.0\.0\.1:${\$pg->port}$/m,
	qr/^ok       login of user "postgres": PostgreSQL asks for a password \(scram-sha-256\)$/m,
	qr/^ok       sandbox: entered$/m,
	qr/^0 errors, 0 warnings\n\z/m);
unlike($fine->{out}, qr/PRIVATE|^(?:WARNING|ERROR)/m, 'no warning, and no private key');

is(with_cert($good, '--max-connections=50', '--max-per-source=5', '--idle-exit=60', '--grace=5')->{status}, 0,
	'the options of a waiting service');

# --- certificates: [title, arguments of make_cert, status, lines]
my @certificates = (
	[ 'expired', { expired => 1 }, 78,
		qr/^ERROR    certificate: EXPIRED at .* UTC: replace it$/m ],
	[ 'few days left', { days => 29 }, 0,
		qr/^WARNING  certificate: valid until .*: 2[89] days left: replace it soon$/m ],
	[ 'no name except the CN', { san => undef }, 0,
		qr/^WARNING  names: none \(no subjectAltName\)/m ],
	[ 'many names', { san => 'DNS:*.example.org,IP:::1,email:a@b.c,URI:pg://x' }, 0,
		qr/^ok       names: DNS:\*\.example\.org, IP:::1, email:a\@b\.c, URI:pg:\/\/x$/m ],
	[ 'an iPAddress of 3 bytes',
		{ san => undef, ext => ['subjectAltName=DER:30:0A:82:03:61:2E:62:87:03:01:02:03'] },
		0, qr/^ok       names: DNS:a\.b$/m,
		qr/^WARNING  names: an iPAddress has 3 bytes, not 4 or 16$/m ],
	[ 'for clients only', { ext => ['extendedKeyUsage=clientAuth'] }, 78,
		qr/^ERROR    purpose: .*not for servers/m ],
	[ 'RSA', { key => 'rsa' }, 0, qr/^ok       key: RSA, 2048 bits$/m ],
	[ 'RSA of 1024 bits', { key => 'rsa1024' }, 78, qr/^WARNING  key: RSA, 1024 bits: weak/m ],
	[ 'Ed25519', { key => 'ed25519' }, 0, qr/^ok       key: ED25519, 256 bits$/m ],
	[ 'self-signed', { issuer => undef }, 0,
		qr/^note     chain: self-signed: clients need this certificate as sslrootcert$/m ],
	[ 'a name with terminal escapes', { cn => "a\x{1b}[2Jb" }, 0,
		qr/^ok       subject: CN=a\\1B\[2Jb$/m ],
);

for my $case (@certificates) {
	my ($title, $made, $status, @lines) = @$case;
	expect($title, with_cert(make_pem(make_cert(issuer => $ca, days => 90, %$made))), $status,
		@lines);
}

expect('two certificates',
	with_cert($good, '-p',
	make_pem(make_cert(cn => 'two', key => 'rsa', issuer => $ca, days => 90))), 0,
	qr/^ok       in "\Q$good\E":\nok       subject: CN=localhost$/m,
	qr/^ok       in "[^"]+":\nok       subject: CN=two$/m);

# --- files
my $other = make_cert(name => 'other', issuer => $ca, days => 90);
expect('no such file', with_cert("$TMP/nosuch.pem"), 78,
	qr/^ERROR    could not open "\Q$TMP\E\/nosuch\.pem": No such file/m);
expect('two certificates with errors', with_cert("$TMP/nosuch.pem", '-p', "$TMP/neither.pem"), 78,
	map({ qr/^ERROR    could not open "\Q$TMP\E\/$_\.pem": No such file/m } qw(nosuch neither)),
	qr/^2 errors/m);
expect('a file without a certificate', with_cert(spew("$TMP/empty.pem", '', 0600)), 78,
	qr/^ERROR    no certificate in/m);
expect("another certificate's key", with_cert("$TMP/good.crt", "--key=$other->{key}"), 78,
	qr/^ERROR    the private key in .* does not belong to the first certificate/m,
	qr/^ok       subject: CN=localhost$/m);
my $open = spew("$TMP/open.pem", slurp($good), 0644);
expect('a world-readable key', with_cert($open), 78,
	qr/^ERROR    private key file "\Q$open\E" has group or world access/m);
chmod 0666, my $writable = spew("$TMP/writable.crt", slurp($other->{chain}), 0666);
expect('a world-writable certificate', with_cert($writable, "--key=$other->{key}"), 0,
	qr/^WARNING  certificate "\Q$writable\E": .*mode 0666: others can change it; chmod go-w$/m);
if (is_root()) {
	my $theirs = spew("$TMP/theirs.crt", slurp($other->{chain}));
	chown 12345, 0, $theirs;
	expect("another user's certificate", with_cert($theirs, "--key=$other->{key}"), 0,
		qr/^WARNING  certificate "\Q$theirs\E": its owner 12345 can change it: give it to root or/m);
}
mkdir "$TMP/shared";
chmod 0777, "$TMP/shared";
expect('a world-writable directory', with_cert(spew("$TMP/shared/s.pem", slurp($good), 0600)), 0,
	qr/^WARNING  directory "\Q$TMP\E\/shared": mode 0777: others than its owner can replace/m);

# --- the chain
my $middle = make_ca(name => 'middle', cn => 'Middle', issuer => $ca, days => 90);
my $leaf = make_cert(name => 'leaf', issuer => $middle, days => 90);
my ($key, $leaf_pem, $middle_pem, $root_pem) = map { slurp($_) } $leaf->{key}, $leaf->{cert},
	$middle->{cert}, $ca->{cert};
sub chain { my ($name, @parts) = @_; return spew("$TMP/chain-$name.pem", join('', @parts), 0600) }
expect('in order', with_cert(chain('order', $leaf_pem, $middle_pem, $key)), 0,
	qr/^ok       chain: CN=Middle: valid until/m, qr/^note     chain: ends below "CN=Test CA"/m,
	qr/^0 errors, 0 warnings/m);
expect('with the root', with_cert(chain('root', $leaf_pem, $middle_pem, $root_pem, $key)), 0,
	qr/^ok       chain: complete, 3 certificates including the root \(which may be omitted\)$/m);
expect('a root that this machine trusts',
	check('-p', chain('known', $leaf_pem, $middle_pem, $key), '-r', $pg->port,
	{ env => { SSL_CERT_FILE => $ca->{cert} } }), 0,
	qr/^ok       chain: complete, 2 certificates; the root is trusted on this machine: CN=Test CA$/m);
expect('out of order', with_cert(chain('disorder', $leaf_pem, $root_pem, $middle_pem, $key)), 0,
	qr/^WARNING  chain: out of order: "CN=Test CA" is not the issuer of "CN=localhost" before it$/m);
my ($signer, $impostor) = map { issue(cn => 'Middle', ca => 1, until => 90 * 86400) } 1, 2;
my $signed = issue(cn => 'localhost', san => 'DNS:localhost', issuer => $signer,
	until => 90 * 86400);
expect('an intermediate with another key',
	with_cert(chain('impostor', map { slurp($_) } $signed->{cert}, $impostor->{cert},
	$signed->{key})), 78,
	qr/^ERROR    chain: "CN=localhost" does not verify: certificate signature failure at depth 0$/m);
my $old = make_ca(name => 'old', cn => 'Old', issuer => $ca, expired => 1);
my $below_old = make_cert(issuer => $old, days => 90);
expect('an expired intermediate', with_cert(make_pem($below_old)), 78,
	qr/^ERROR    chain: CN=Old: EXPIRED/m);
my $no_ca = make_cert(name => 'noca', cn => 'No CA', issuer => $ca, days => 90);
expect('an intermediate that is not allowed to sign',
	with_cert(make_pem(make_cert(issuer => $no_ca, days => 90))), 78,
	qr/^ERROR    chain: "CN=No CA" is not allowed to sign/m);
my $public = make_cert(issuer => $middle, days => 90,
	ext => [ 'subjectAltName=DNS:x',
	'authorityInfoAccess=caIssuers;URI:http://ca.example/middle.crt' ]);
expect("a public authority's certificate without its intermediate",
	with_cert(chain('lone', slurp($public->{cert}), slurp($public->{key}))), 0,
	qr/^WARNING  chain: ends below "CN=Middle"/m);

my $tomorrow = issue(cn => 'localhost', san => 'DNS:localhost', from => 86400, until => 90 * 86400);
expect('not yet valid', with_cert(make_pem($tomorrow)), 78,
	qr/^ERROR    certificate: not valid before .* UTC: wait, or correct this machine's clock$/m);

# --- authorities and revocation lists
my $root = issue(cn => 'Clients', ca => 1, until => 400 * 86400);
my $sub = issue(cn => 'Below', ca => 1, issuer => $root, until => 90 * 86400);
my @revoked = map { issue(cn => "c$_", issuer => $root) } 1, 2;
my $crl = crl($root, revoked => \@revoked, until => 30 * 86400);
sub trust {
	my ($authorities, $crls, @args) = @_;
	return with_cert($good, '-A', join_files(@$authorities),
		@$crls ? ('--crl', join_files(@$crls)) : (), @args);
}
my $joined;
sub join_files { return spew("$TMP/joined" . ++$joined, join '', map { slurp($_) } @_) }

expect('-A and --crl', trust([ $root->{cert} ], [$crl]), 0,
	qr/^ok       authorities "[^"]+": owner/m, qr/^ok       revocation lists "[^"]+": owner/m,
	qr/^ok       authority: CN=Clients: valid until .*: (?:399|400) days left$/m,
		qr/^ok       revocation list of CN=Clients, 2 revoked: valid until .* (?:29|30) days left$/m,
		qr/^0 errors, 0 warnings/m);
expect('an authority without a list', trust([ $root->{cert}, $sub->{cert} ], [$crl]), 78,
	qr/^ERROR    revocation list: none of "CN=Below": all certificates that it issued are refused$/m);
expect('an expired list', trust([ $root->{cert} ], [ crl($root, until => -3600) ]), 78,
	qr/^ERROR    revocation list of CN=Clients, 0 revoked: EXPIRED at/m);
expect('a list that ends soon', trust([ $root->{cert} ], [ crl($root, until => 86400) ]), 0,
	qr/^WARNING  revocation list of CN=Clients, 0 revoked: valid until .*: [01] days? left: replace it soon/m);
my $namesake = issue(cn => 'Clients', ca => 1);
expect('a list signed by another authority with the same name',
	trust([ $root->{cert} ], [ crl($namesake, until => 30 * 86400) ]), 78,
	qr/^ERROR    revocation list of "CN=Clients": not signed by that authority's key/m);
my $single = issue(cn => 'Single', ca => 1, until => 400 * 86400);
expect('a list without its authority',
	trust([ $single->{cert} ], [ $crl, crl($single, until => 30 * 86400) ]), 0,
	qr/^note     revocation list of "CN=Clients": this authority is not in -A$/m);
expect('an expired authority',
	trust([ issue(cn => 'Gone', ca => 1, from => -86400, until => -3600)->{cert} ], []), 78,
	qr/^ERROR    authority: CN=Gone: EXPIRED/m);
my @expired = (ca => 1, from => -86400, until => -3600);
expect('an expired authority beside a valid one', trust([ issue(cn => 'Gone', @expired)->{cert}, $root->{cert} ], [$crl]), 0,
	qr/^WARNING  authority: CN=Gone: EXPIRED/m, qr/^0 errors/m);
expect('an expired intermediate authority beside its root', trust([ issue(cn => 'Gone', issuer => $root, @expired)->{cert}, $root->{cert} ], []), 78,
	qr/^ERROR    authority: CN=Gone: EXPIRED/m);
expect('an expired list beside a valid one', trust([ $root->{cert} ], [ $crl, crl($root, from => -9000, until => -3600) ]), 0,
	qr/^WARNING  revocation list of CN=Clients, 0 revoked: EXPIRED/m, qr/^0 errors/m);
expect('an authority for servers', trust([ issue(cn => 'S', ca => 1, purpose => 'serverAuth', until => 90 * 86400)->{cert} ], []), 78,
	qr/^ERROR    authority: "CN=S" is not allowed to issue client certificates \(extendedKeyUsage\)$/m);
expect('an authority with a weak key', trust([ make_ca(name => 'weak', key => 'rsa1024', days => 90)->{cert} ], []), 78,
	qr/^ERROR    authority: "CN=Test CA" does not verify: (?:EE|CA) (?:certificate )?key too (?:weak|small)/m);
expect("a client's certificate as an authority",
	trust([ issue(cn => 'x', issuer => $root, until => 90 * 86400)->{cert} ], []), 0,
	qr/^WARNING  authority: "CN=x" is not allowed to sign certificates \(basicConstraints\)$/m);
expect('an intermediate authority without its root', trust([ $sub->{cert} ], []), 78,
	qr/^ERROR    authority: "CN=Below" has no issuer in the file.*: unable to get (?:local )?issuer certificate at depth 0$/m);
expect('a root with another key', trust([ $sub->{cert}, $namesake->{cert} ], []), 78,
	qr/^ERROR    authority: "CN=Below" does not verify: certificate signature failure at depth 0$/m);
expect('two roots with the same name', trust([ $root->{cert}, $namesake->{cert} ], []), 0,
	qr/^WARNING  authority: "CN=Clients" has the same name as another in the file, but another key: certificates without authorityKeyIdentifier are accepted from one of them only$/m);
expect('no authorities', with_cert($good, '-A', spew("$TMP/none.crt", '')), 78,
	qr/^ERROR    no certificate in/m);

# The names of -A must fit into a CertificateRequest; here one has about 560 bytes.
my @many = map { slurp(issue(ca => 1, until => 90 * 86400, subject => [ [ CN => "Authority $_" ], map { [ OU => $_ x 64 ] } 'a' .. 'h' ])->{cert}) } 1 .. 120;
expect('names of more than 16 KiB', with_cert($good, '-A', spew("$TMP/many.crt", join '', @many[ 0 .. 34 ])), 0,
	qr/^WARNING  authorities: their names have \d{5} bytes: clients that use BoringSSL accept only 16384$/m);
expect('names of more than 64 KiB', with_cert($good, '-A', spew("$TMP/many.crt", join '', @many)), 78,
	qr/^ERROR    the names of the 120 authorities in "\Q$TMP\E\/many\.crt" have \d{5} bytes, but TLS allows only 65535: remove some authorities$/m);

# OpenSSL silently skips blocks in these forms.
my ($one, $two) = (slurp($root->{cert}), slurp($single->{cert}));
my %form = ('indented' => $two =~ s/^/\t/gmr, 'quoted' => $two =~ s/^/"/gmr, 'on one line' => $two =~ s/\n/ /gr,
	'UTF-16' => join('', map { "$_\0" } split //, $two));
expect("-A, $_", with_cert($good, '-A', spew("$TMP/form.crt", $one . $form{$_})), 78,
	qr/^ERROR    "\Q$TMP\E\/form\.crt" has a PEM block that OpenSSL does not read: put its -----BEGIN/m) for sort keys %form;
expect("-p, $_", with_cert(spew("$TMP/form.pem", slurp($good) . $form{$_}, 0600)), 78,
	qr/^ERROR    "\Q$TMP\E\/form\.pem" has a PEM block that OpenSSL does not read/m) for sort keys %form;
my $trusted = T::run([ qw(openssl x509 -trustout -in), $root->{cert} ])->{out};
expect('-A, TRUSTED CERTIFICATE', with_cert($good, '-A', spew("$TMP/trusted.crt", $trusted)), 0,
	qr/^ok       authority: CN=Clients: valid/m);
my $map = spew("$TMP/ident.map", "staff CN=a alice\n");
my @full = ('--clientcert=verify-full', "--ident-map=$map", '--map=staff');
expect('an ident map', trust([ $root->{cert} ], [], @full), 0,
	qr/^ok       ident map "\Q$map\E": owner/m, qr/^ok       map "staff": no errors$/m);
spew($map, "staff /( alice\n");
expect('an invalid ident map', trust([ $root->{cert} ], [], @full), 78,
	qr/^ERROR    .*\Q$map\E.*line 1|^ERROR .*\Q$map\E:1/m);

# --- settings
my $conf = spew("$TMP/openssl.cnf",
	"openssl_conf=a\n[a]\nssl_conf=b\n[b]\nsystem_default=c\n[c]\nMinProtocol=TLSv1.3\nGroups=P-384:P-256\nCiphersuites=TLS_CHACHA20_POLY1305_SHA256\n");
my %env = (env => { OPENSSL_CONF => $conf });
expect('openssl.cnf', check('-p', $good, '-r', $pg->port, \%env), 0,
	qr/^ok       openssl\.cnf: \Q$conf\E$/m, qr/^ok       protocols: TLSv1\.3 and up$/m,
	qr/^ok       groups: secp384r1:secp256r1$/m,
	qr/^ok       TLS 1\.3 suites: TLS_CHACHA20_POLY1305_SHA256$/m,
		qr/^ok       trial handshake: TLSv1\.3, TLS_CHACHA20_POLY1305_SHA256$/m);
expect('options override openssl.cnf',
	check('-p', $good, '-r', $pg->port, '--min-protocol=TLSv1.2', '--max-protocol=TLSv1.2',
	'--groups=P-256', '-C', 'ECDHE-ECDSA-AES128-GCM-SHA256', \%env), 0,
	qr/^ok       protocols: TLSv1\.2 and up to TLSv1\.2$/m,
		qr/^ok       TLS 1\.2 ciphers: ECDHE-ECDSA-AES128-GCM-SHA256$/m,
		qr/^ok       groups: P-256$/m,
		qr/^ok       trial handshake: TLSv1\.2, ECDHE-ECDSA-AES128-GCM-SHA256$/m);
expect('options contradict openssl.cnf',
	check('-p', $good, '-r', $pg->port, '--max-protocol=TLSv1.2', \%env), 78,
	qr/^ERROR    the highest TLS version allowed is below the lowest/m);
expect('ciphers for another key type',
	with_cert($good, '--max-protocol=TLSv1.2', '-C', 'ECDHE-RSA-AES128-GCM-SHA256'), 78,
	qr/^ERROR    trial handshake: failed: no shared cipher$/m);

# --- the listener's address and pid file
my $free = free_port();
my $at = "address 127\\.0\\.0\\.1, port";
sub parent { my ($d, @args) = @_; return with_cert($good, '-d', $d, @args) }
expect('-d: a free port', parent("127.0.0.1:$free", '-P', "$TMP/parent.pid"), 0,
	qr/^ok       listener: $at $free is free$/m,
	qr/^ok       pid file: "\Q$TMP\E\/parent\.pid" can be written$/m);
ok(!-e "$TMP/parent.pid", 'it is removed');
expect('-d: the port of another program', parent('127.0.0.1:' . $pg->port), 78,
	qr/^ERROR    listener: $at \d+: Address already in use: another program uses the port, or this listener is running$/m);
expect('-d: an address of another machine', parent('192.0.2.123:9000'), 78,
	qr/^ERROR    listener: address 192\.0\.2\.123, port 9000: Cannot assign requested address$/m);
expect('-d: an unknown service', parent('127.0.0.1:nosuch'), 78,
	qr/^ERROR    -d 127\.0\.0\.1:nosuch: \S/m);
expect('-d: a pid file that cannot be written', parent("127.0.0.1:$free", '-P', "$TMP/none/p.pid"), 78,
	qr/^ERROR    could not write pid file "\Q$TMP\E\/none\/p\.pid": No such file or directory$/m);
my $running = serve_listen(pg => $pg, bind => '127.0.0.1', args => [ '-P', "$TMP/running.pid" ]);
expect('-d: the listener runs', parent('127.0.0.1:' . $running->port, '-P', "$TMP/running.pid"), 0,
	qr/^WARNING  pid file "\Q$TMP\E\/running\.pid" is locked by process $running->{pid}$/m,
	qr/^WARNING  listener: $at \d+: Address already in use: expected if this listener is already running$/m);
ok(-e "$TMP/running.pid", 'its pid file stays');

# --- PostgreSQL
my $dead = free_port();
expect('PostgreSQL is not running', check('-p', $good, '-r', $dead), 78,
	qr/^ERROR    could not connect to PostgreSQL at 127\.0\.0\.1:$dead: Connection refused: is it running, and is -r correct\?$/m);
my $fake = fake_backend(sub {
	my ($socket) = @_;
	sysread $socket, my $x, 1;
	print $socket "HTTP/1.0 400 Bad Request\r\n\r\n";
	close $socket;
});
expect('a server of another protocol', check('-p', $good, '-r', $fake->port), 78,
	qr/^ERROR    PostgreSQL at 127\.0\.0\.1:\d+: no valid answer in time: is -r correct, and is it PostgreSQL\?$/m);
my %odd = (
	'an authentication request without a method' => [ "R\0\0\0\4", 78,
		qr/^ERROR    PostgreSQL at .*: no valid answer in time: is -r correct, and is it PostgreSQL\?$/m ],
	'an incomplete error' => [ "E\0\0\0\x0aC28P01", 0,
		qr/^note     login of user "postgres": PostgreSQL refuses:  \(28P01\)$/m ],
	'an unknown method' => [ "R\0\0\0\x08\0\0\0\x63", 0,
		qr/^note     login of user "postgres": PostgreSQL asks for a method that pgssl does not know$/m ],
);
for my $title (sort keys %odd) {
	my ($answer, $status, $line) = @{ $odd{$title} };
	my $backend = fake_backend(sub {
		my ($socket) = @_;
		sysread $socket, my $x, 1000;
		print $socket $answer;
		close $socket;
	});
	expect($title, check('-p', $good, '-r', $backend->port), $status, $line);
}
my $silent = fake_backend();
expect('a silent server', check('-p', $good, '-r', $silent->port, '--connect-timeout=1'), 78,
	qr/^ERROR    PostgreSQL at .*: no valid answer in time: is -r correct, and is it PostgreSQL\?$/m);

my $service = start_pg(hba => "local all all trust\nhost all postgres 127.0.0.1/32 trust\nhost all all 127.0.0.1/32 md5\n");
expect('trust for the superuser, md5 for others', check('-p', $good, '-r', $service->port), 0,
	qr/^WARNING  login of user "postgres": PostgreSQL asks for NO PASSWORD: EVERYBODY who can connect to pgssl can log in; pg_hba\.conf has trust \(or ident\)/m,
	qr/^note     login of user "\Q$nobody\E": PostgreSQL asks for a password \(md5: scram-sha-256 is stronger\)|$nobody": PostgreSQL asks for a password \(scram/m,
	qr/^0 errors, 1 warning: connections work, but see the warnings$/m);
my @ca = ('-A', $root->{cert});
expect('trust with verify-ca',
	check('-p', $good, '-r', $service->port, @ca, '--clientcert=verify-ca'), 0,
	qr/^WARNING  login of user "postgres": .* NO PASSWORD: everybody who has ANY certificate from the authorities in -A can log in; /m);
expect('trust with verify-full',
	check('-p', $good, '-r', $service->port, @ca, '--clientcert=verify-full'), 0,
	qr/^note     login of user "postgres": PostgreSQL asks for no password: the client certificate decides \(--clientcert=verify-full\)$/m);
$service = start_pg(hba => "local all all trust\nhost all postgres 127.0.0.1/32 reject\nhost all all 127.0.0.1/32 password\n");
expect('reject for the superuser, password for others', check('-p', $good, '-r', $service->port), 0,
	qr/^note     login of user "postgres": PostgreSQL refuses: pg_hba\.conf rejects connection for host "127\.0\.0\.1".* \(28000\)$/m,
	qr/^note     login of user "\Q$nobody\E": PostgreSQL asks for a password in clear text/m);
expect('--gss', check('-p', $good, '-r', $service->port, '--gss'), 0,
	qr/^ok       --gss: PostgreSQL accepts GSSAPI encryption$/m)
	if T::run([ 'pg_config', '--configure' ], quiet => 1)->{out} =~ /gssapi/;

# pg_basebackup could copy the cluster without a password, and --check reported no error. The lines
# for replication, for the database of the user's name and for another one may differ.
my $password = "local all all trust\nhost all all 127.0.0.1/32 scram-sha-256\n";
sub hba {
	my ($lines, @args) = @_;
	$service->configure('pg_hba.conf', $lines);
	return check('-p', $good, '-r', $service->port, @args);
}
my $everybody = qr/PostgreSQL asks for NO PASSWORD: EVERYBODY who can connect to pgssl can log in/;
expect('trust for replication',
	hba($password . "host replication all 127.0.0.1/32 trust\n"), 0,
	qr/^WARNING  login of user "postgres" for replication: $everybody and copy all data; pg_hba\.conf has trust/m,
	qr/^WARNING  login of user "pgssl_check" for replication: $everybody/m,
	qr/^ok       login of user "postgres": /m, qr/^0 errors, 2 warnings/m);
expect('trust for replication of others than the superuser',
	hba($password . "host replication postgres 127.0.0.1/32 reject\nhost replication all 127.0.0.1/32 trust\n"),
	0, qr/^note     login of user "postgres" for replication: PostgreSQL refuses: /m,
	qr/^WARNING  login of user "pgssl_check" for replication: $everybody/m);
expect('a password for replication',
	hba($password . "host replication all 127.0.0.1/32 scram-sha-256\n"), 0,
	qr/^ok       login of user "postgres" for replication: PostgreSQL asks for a password/m,
	qr/^0 errors, 0 warnings/m);
expect('no line for replication', hba($password), 0,
	qr/^note     login of user "postgres" for replication: PostgreSQL refuses: no pg_hba\.conf entry for replication connection/m,
	qr/^0 errors, 0 warnings/m);
expect('trust for the database of the user',
	hba("local all all trust\nhost all postgres 127.0.0.1/32 reject\nhost sameuser all 127.0.0.1/32 trust\nhost all all 127.0.0.1/32 scram-sha-256\n"),
	0, qr/^WARNING  login of user "\Q$nobody\E": $everybody/m, qr/^0 errors, 1 warning:/m);
expect('trust for other databases',
	hba("local all all trust\nhost postgres,sameuser all 127.0.0.1/32 scram-sha-256\nhost all all 127.0.0.1/32 trust\n"),
	0, qr/^WARNING  login of user "pgssl_check" to database "template1": $everybody/m,
	qr/^0 errors, 1 warning:/m);

my $socket = "$pg->{socket}:" . $pg->port;
expect('a Unix socket, trust', check('-p', $good, '-r', $socket, '--gss'), 0,
	qr/^WARNING  login of user "postgres": .*trust for this socket, or peer/m,
	qr/^note     --gss: PostgreSQL does not accept GSSAPI encryption/m);
expect('PostgreSQL on another machine',
	check('-p', $good, '-r', '192.0.2.1:5432', '--connect-timeout=1'), 78,
	qr/^WARNING  PostgreSQL at 192\.0\.2\.1:5432 is not on this machine: the connection to it is NOT ENCRYPTED; run pgssl there$/m);
expect('an unknown host name', check('-p', $good, '-r', 'no.such.host.invalid:5432'), 78,
	qr/^ERROR    PostgreSQL at no\.such\.host\.invalid:5432: could not look up/m);

# --- users
SKIP: {
	skip 'needs root', 7 unless is_root();
	expect('peer', do {
		my $peer = start_pg(hba => "local all all peer\nhost all all 127.0.0.1/32 scram-sha-256\n");
		check('-p', $good, '-r', "$peer->{socket}:" . $peer->port, '-s', 'postgres');
	}, 0, qr/^WARNING  login of user "postgres": PostgreSQL asks for NO PASSWORD/m,
		qr/^WARNING  -r is a Unix socket and sessions run as the user that runs PostgreSQL/m);
	expect('a Unix socket as root', check('-p', $good, '-r', $socket, '-s', 'root'), 0,
		qr/^WARNING  -r is a Unix socket and sessions run as root/m,
		qr/^WARNING  runs as: user root/m);
	my $s = session(connect => $socket, args => [ '-s', 'postgres' ]);
	$s->conn->login;
	like($s->logged(qr/a peer line in pg_hba\.conf/),
		qr/sessions run as the user that runs PostgreSQL.* host=127\.0\.0\.1/,
		'a session logs it too');
	$s->conn->close;
	$s = session(connect => $socket);
	$s->conn->login;
	unlike($s->log, qr/peer/, 'not if it runs as nobody');
	$s->conn->close;
	expect('no such user', with_cert($good, '-s', 'nosuchuser'), 78,
		qr/^ERROR    user "nosuchuser" does not exist; choose another one with -s$/m);
	mkdir "$TMP/closed", 0700;
	expect('a pid file directory that the final user cannot write',
		with_cert($good, "-P$TMP/closed/"), 0,
		qr/^WARNING  pid files: .*\Q$TMP\E\/closed/m);
	mkdir "$TMP/pids";
	chmod 01777, "$TMP/pids";
	expect('a pid file directory that the final user can write',
		with_cert($good, "-P$TMP/pids/"), 0,
		qr/^ok       pid files: "\Q$TMP\E\/pids\/" can be written$/m);
	is(join('', glob "$TMP/pids/*"), '', 'no file is left in it');
}
done_testing;
