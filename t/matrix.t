# SPDX-License-Identifier: ISC
#
# pgssl completes every handshake that `openssl s_server` on this machine completes: every type of
# key, group, signature algorithm, cipher suite and cipher is tried with both, except for what pgssl
# refuses by design. The openssl command lists the algorithms, so those of a new version are tried
# without a change here.
# sabotage: s/o->ciphers == NULL \&\& !set_default_ciphers/false \&\& !set_default_ciphers/ tls/settings.c
# sabotage: s/OPENSSL_init_ssl(OPENSSL_INIT_NO_ATEXIT/OPENSSL_init_ssl(OPENSSL_INIT_NO_ADD_ALL_DIGESTS/ tls.c
# sabotage: s/SSL_CTX_set_dh_auto(ctx, 1)/SSL_CTX_set_dh_auto(ctx, 0)/ tls/settings.c
use lib 't/lib';
use T;
use T::Handshake;

limit(300);

# What pgssl refuses by default and s_server accepts: [description, version, cipher, group]. With -C
# and --groups pgssl must accept it, unless the description begins with "never".
my @by_design = (
	[ 'TLS 1.2 without ECDHE or without AEAD', qr/^TLSv1\.2$/,
		qr/^(?!ECDHE-.*(?:GCM|CCM|CHACHA20))/, qr/./ ],
	[ 'a finite-field group', qr/./, qr/./, qr/^ffdhe/ ],
	[ 'never: TLS below 1.2', qr/^TLSv1(?:\.1)?$/, qr/./, qr/./ ],
);

# ---- the algorithms

my $nowhere = free_port();

# The values of an option that this OpenSSL knows.
sub known {
	my ($option, @values) = @_;
	my @answers = handshakes(map { "$nowhere http $option $_" } @values);
	return @values[ grep { $answers[$_] !~ /^unknown/ } 0 .. $#values ];
}

my @curves = known('-groups', map { /^\s*(\S+)\s*:/ ? $1 : () } split /\n/,
	T::run([ qw(openssl ecparam -list_curves) ])->{out});
my @groups = map { openssl_list('list', $_, '-tls-groups') } qw(-tls1_2 -tls1_3);
# OpenSSL before 3.5 cannot list them.
@groups = ('X25519', 'X448', grep({ /^ffdhe/ } openssl_list(qw(list -objects))), @curves)
	unless @groups;

my @sigalgs = openssl_list(qw(list -tls-signature-algorithms));
# OpenSSL before 3.4 cannot list them.
@sigalgs = (qw(ecdsa_secp256r1_sha256 ecdsa_secp384r1_sha384 ecdsa_secp521r1_sha512 ed25519 ed448),
	map { my $sha = $_; map({ "${_}_sha$sha" } qw(rsa_pss_rsae rsa_pss_pss)), map({ "$_+SHA$sha" } qw(RSA ECDSA DSA)) } qw(1 224 256 384 512)) unless @sigalgs;

# [name, authentication]
my @ciphers = map { [ /^(\S+).*\bAu=(\S+)/ ] } split /\n/,
	T::run([ qw(openssl ciphers -v -s -tls1_2 ALL:COMPLEMENTOFALL:@SECLEVEL=0) ])->{out};

# OpenSSL cannot list all TLS 1.3 suites. It picks those that it has from all names that can be made
# of its ciphers and digests.
my @aead = map { /((?:AES|ARIA|CAMELLIA|SM4)(?:-?\d+)?)-(GCM|CCM)$/i ? uc "$1_$2" =~ tr/-/_/r : () } map { s/id-aes/AES-/r } openssl_list(qw(list -cipher-algorithms));
my @suites = map { my $aead = $_; map { "TLS_${aead}_$_" } qw(SHA256 SHA384 SM3) } qw(CHACHA20_POLY1305 SHA256 SHA384), map { /CCM/ ? ($_, "${_}_8") : $_ } @aead;
@suites = grep { /^TLS_/ } openssl_list(qw(ciphers -s -tls1_3 -ciphersuites), join(':', @suites),
	'ALL:@SECLEVEL=0');

sub unique { my %seen; return grep { !$seen{$_}++ } @_ }
@groups = unique(known('-groups', @groups));
@sigalgs = known('-sigalgs', @sigalgs);
@suites = unique(@suites);

# ---- keys
#
# For each type of key: a certificate that is used by a server, by a client and as an authority, and
# below it the certificate of a client with an ordinary key.

my $conf = spew("$TMP/req.cnf", "[req]\ndistinguished_name=dn\n[dn]\n[ca]\nbasicConstraints=critical,CA:TRUE\n[leaf]\nbasicConstraints=CA:FALSE\n");
my $req = "openssl req -x509 -config $conf -days 7 -nodes -subj";
my ($leaf, $root) = ("$TMP/leaf.key", "$TMP/root");
in_parallel("openssl genpkey -algorithm EC -pkeyopt ec_paramgen_curve:P-256 -out $leaf", "$req /CN=root -extensions ca -newkey ec -pkeyopt ec_paramgen_curve:P-256 -keyout $root.key -out $root.crt");

# Try `openssl req -newkey` with every public key algorithm and every curve. Algorithms that cannot
# sign fail when they sign the certificate below.
my %newkey = map { ($_ => $_) } grep { $_ } map { (grep { !/^(?:[\d.]+|id-.*|EC)?$/ } split /[{}, ]+/)[0] } map { /IDs: (.*) @/ } split /\n/, T::run([ qw(openssl list -public-key-algorithms) ])->{out};
$newkey{$_} .= ' -pkeyopt rsa_keygen_bits:2048' for qw(RSA RSA-PSS);
$newkey{DSA} = "dsa:$TMP/dsa.param";
# No keys on binary curves or of fewer than 224 bits, which OpenSSL accepts only at security level
# 0. All curves are tried as groups.
$newkey{$_} = "ec -pkeyopt ec_paramgen_curve:$_"
	for grep { !/^sect/ && /(\d+)/ && $1 >= 224 } @curves;

sub make_key {
	my ($kind) = @_;
	my $base = "$TMP/$kind";
	my @steps = $kind eq 'DSA' ? "openssl dsaparam -out $TMP/dsa.param 2048" : ();
	push @steps, "$req /CN=$kind -extensions ca -newkey $newkey{$kind} -keyout $base.key -out $base.crt -CA $root.crt -CAkey $root.key";
	push @steps, "$req /CN=below-$kind -extensions leaf -key $leaf -out $base.leaf -CA $base.crt -CAkey $base.key";
	return join ' && ', @steps, "cat $base.crt $base.key >$base.pem",
		"cat $base.leaf $base.crt $leaf >$base.below.pem",
		"chmod 600 $base.pem $base.below.pem";
}
in_parallel(map { make_key($_) } sort keys %newkey);
my @kinds = grep { -s "$TMP/$_.below.pem" } sort keys %newkey;

# ---- the servers: one for each certificate, with the defaults and with everything enabled ("open")

my %open = (
	s_server => [ '-cipher', 'ALL:COMPLEMENTOFALL:@SECLEVEL=0', '-groups', join(':', @groups),
		'-ciphersuites', join(':', @suites) ],
	pgssl => [ '-C', 'ALL:COMPLEMENTOFALL:@SECLEVEL=0', '--groups=' . join(':', @groups),
		'--ciphersuites=' . join(':', @suites) ],
);
my %ask = (s_server => [ qw(-Verify 3 -verify_return_error -CAfile), "$root.crt" ],
	pgssl => [ '-A', "$root.crt", '--clientcert=verify-ca' ]);
my $postgres = quick_backend();

# A backend that sends one message to each client. Unlike fake_backend it forks no process for each.
sub quick_backend {
	my $port = free_port();
	my $listener = IO::Socket::INET->new(LocalAddr => '127.0.0.1', LocalPort => $port,
		Listen => 64, ReuseAddr => 1) or die "listen: $!\n";
	return bless { port => $port }, 'T::Fake' if fork;
	$SIG{$_} = 'DEFAULT' for qw(TERM INT HUP ALRM);
	while (my $socket = $listener->accept) {
		sysread $socket, my $startup, 8192;
		syswrite $socket, "R\0\0\0\10\0\0\0\0";
	}
}

# Start the server "KIND", or "KIND?", which requires a client certificate.
sub begin {
	my ($program, $name, $mode) = @_;
	my ($kind, $asks) = $name =~ /^(.*?)(\??)$/;
	my @args = ($mode eq 'open' ? @{ $open{$program} } : (), $asks ? @{ $ask{$program} } : ());
	return serve_listen(pg => $postgres, pem => "$TMP/$kind.pem", args => \@args,
		listening => 0) if $program eq 'pgssl';
	return s_server([ '-cert', "$TMP/$kind.pem", '-key', "$TMP/$kind.pem", @args ],
		listening => 0);
}

my %server;
my %tried;

# Do the handshakes of all rows, [server, options of the client], and return the answers. Servers
# are started when they are needed.
sub round {
	my ($program, $mode, @rows) = @_;
	my $server = $server{$program}{$mode} ||= {};
	my @new = grep { !$server->{$_} } unique(map { $_->[0] } @rows);
	$server->{$_} = begin($program, $_, $mode) for @new;
	for my $new (map { $server->{$_} } @new) {
		# It may refuse its certificate.
		wait_for('a server', sub { T::Serve::listening($new->port) || defined T::reap($new->{pid}) });
	}
	$tried{$program} += @rows;
	my $protocol = $program eq 'pgssl' ? 'postgres' : 'http';
	return handshakes(map { my ($name, @options) = @$_; join ' ', $server->{$name}->port, $protocol, @options } @rows);
}

# ---- the handshakes

my ($tls12, $tls13, $old) = ([qw(-min_protocol TLSv1.2 -max_protocol TLSv1.2)],
	[qw(-min_protocol TLSv1.3)], [qw(-max_protocol TLSv1.1)]);
my @any = ('-groups', join ':', @groups);
my @keys = map { my $kind = $_; map { [ $kind, @$_, @any ] } $tls12, $tls13, $old } @kinds;
my @first = round(s_server => 'default', @keys);
# Try each signature algorithm with all types of keys that work with TLS 1.3.
my %modern = map { ($keys[$_][0] => 1) } grep { $first[$_] =~ /^done TLSv1\.3/ } 0 .. $#keys;
my @signs = map { [ @{ $keys[$_] }[ 0 .. $#{ $keys[$_] } - @any ] ] } grep { $first[$_] =~ /^done TLSv1\.[23]/ && $modern{ $keys[$_][0] } } 0 .. $#keys;
my %signer = (RSA => 'RSA', ECDSA => 'prime256v1', DSS => 'DSA', None => 'RSA', any => 'RSA');
my @more = (
	map({ my $group = $_; map { [ 'RSA', @$_, '-groups', $group, $_ == $tls12 ? qw(-cipher ECDHE:DHE) : () ] } $tls12, $tls13 } @groups),
	map({ my $sigalg = $_; map { [ @$_, '-sigalgs', $sigalg, @any ] } @signs } @sigalgs),
	map({ [ 'DSA', @$tls12, qw(-cipher ALL:@SECLEVEL=0 -sigalgs), $_ ] } @sigalgs),
	map({ [ 'prime256v1', @$tls13, '-ciphersuites', $_ ] } @suites),
	map({ $signer{ $_->[1] } ? [ $signer{ $_->[1] }, @$tls12, '-cipher', "$_->[0]:\@SECLEVEL=0", @any ] : () } @ciphers),
	# Client certificates: with each type of key, and signed by each.
	map({ my $kind = $_; map { my $who = "$TMP/$kind.$_"; map { [ 'prime256v1?', @$_, '-cert', $who, '-key', $who, @any ] } $tls12, $tls13 } qw(pem below.pem) } @kinds),
);
my @rows = (@keys, @more);
my @default = (@first, round(s_server => 'default', @more));

# The description of what pgssl refuses in this answer of s_server, or undef.
sub refusal {
	my ($answer) = @_;
	my (undef, $version, $cipher, $group) = split ' ', $answer;
	my ($rule) = grep { $version =~ $_->[1] && $cipher =~ $_->[2] && $group =~ $_->[3] } @by_design;
	return $rule && $rule->[0];
}

sub is_done { return defined $_[0] && $_[0] =~ /^done/ }
sub by_design { return is_done($_[0]) && refusal($_[0]) }

sub sigalg { my ($row) = @_; return "@$row" =~ /(TLS\S+) (-sigalgs \S+)/ ? "$1 $2" : '' }

# Try again, with everything enabled, what failed and what pgssl refuses by default. If a signature
# algorithm works with one key by default, the others do not fit.
my %known = map { (sigalg($rows[$_]) => 1) } grep { sigalg($rows[$_]) && is_done($default[$_]) } 0 .. $#rows;
my @again = grep { !is_done($default[$_]) && !$known{ sigalg($rows[$_]) } || by_design($default[$_]) } 0 .. $#rows;
my @open;
@open[@again] = round(s_server => 'open', @rows[@again]);
stop($_->{pid}) for grep { !defined T::reap($_->{pid}) } map { values %$_ } values %{ $server{s_server} };

# ---- the same with pgssl

sub name {
	my ($row) = @_;
	return join ' ', map { s{^\Q$TMP\E/}{}r } map { length > 60 ? 'all' : $_ } @$row;
}

my %count;
for my $mode (qw(default open)) {
	my $of = $mode eq 'open' ? \@open : \@default;
	my @do = grep { is_done($of->[$_]) } 0 .. $#rows;
	my @answers = round(pgssl => $mode, @rows[@do]);
	for my $i (@do) {
		my $answer = shift @answers;
		my $why = refusal($of->[$i]);
		my $refused = $why && ($mode eq 'default' || $why =~ /^never/);
		$count{ $refused ? 'refused' : $mode }++;
		my $ok = $refused ? like($answer, qr/^failed/, "$mode: refuses " . name($rows[$i]) . ": $why") : like($answer, qr/^done/, "$mode: " . name($rows[$i]));
		diag("s_server: $of->[$i]") unless $ok;
	}
}
note(sprintf '%d handshakes with s_server, %d with pgssl: %d by default, %d with -C, --groups and --ciphersuites, %d refused by design', $tried{s_server}, $tried{pgssl}, map { $count{$_} || 0 } qw(default open refused));

# An empty list above would go unnoticed.
subtest 'the lists contain what every OpenSSL has' => sub {
	my @done = map { name($rows[$_]) . " $default[$_]" } grep { is_done($default[$_]) } 0 .. $#rows;
	for my $pattern (qr/^RSA .*TLSv1\.2/, qr/^ED25519 .*TLSv1\.3/, qr/-groups X25519 .*TLSv1\.3/i, qr/-sigalgs rsa_pss_rsae_sha256/, qr/TLS_CHACHA20_POLY1305_SHA256/, qr/ECDHE-RSA-AES128-GCM-SHA256/, qr/^prime256v1\? .*-cert RSA.pem/, qr/below\.pem/) {
		ok(scalar grep({ /$pattern/ } @done), $pattern);
	}
};
done_testing;
