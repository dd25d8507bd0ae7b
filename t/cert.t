#!/usr/bin/perl
# SPDX-License-Identifier: ISC
#
# make cert: the contents and mode of the file, and invalid variables. Needs only openssl(1), not
# pgssl.
# sabotage: contrib/mkcert s/^umask 077/umask 022/
# sabotage: contrib/mkcert s/chmod 640 /chmod 644 /
use strict;
use warnings;
use Test::More;
use File::Temp qw(tempdir);
use Cwd qw(getcwd);

my $top = getcwd();
my $dir = tempdir(CLEANUP => 1);

# Run make cert with these variables; returns the exit status and all output.
sub cert
{
	my @vars = @_;
	my $pid = open(my $out, '-|') // die "fork: $!";
	if ($pid == 0) {
		open STDERR, '>&', \*STDOUT;
		delete @ENV{qw(MAKEFLAGS MAKELEVEL MFLAGS CN SAN OUT DAYS GROUP)};
		exec 'make', '-s', '-C', $top, 'cert', @vars or exit 127;
	}
	local $/;
	my $text = <$out> // '';
	close $out;
	return ($? >> 8, $text);
}

sub x509 {
	my ($file, @what) = @_;
	return join '', map { `openssl x509 -in '$file' -noout $_` } @what;
}

sub mode { return sprintf '%04o', (stat shift)[2] & 07777 }

sub slurp { open my $f, '<', shift or return ''; local $/; return scalar <$f> }

umask 0;

# The defaults: the host's name, localhost, 127.0.0.1, ::1.
my ($status, $text) = cert("OUT=$dir/a.pem");
is $status, 0, 'make cert' or diag $text;
is mode("$dir/a.pem"), '0600', 'mode 0600, although the umask is 0';
my $host = `hostname -f 2>/dev/null || hostname`;
chomp $host;
like x509("$dir/a.pem", '-subject -nameopt RFC2253'), qr/^subject=CN=\Q$host\E$/,
	'CN is the host\'s name';
like x509("$dir/a.pem", '-ext subjectAltName'),
    qr/DNS:\Q$host\E, (?:DNS:localhost, )?IP Address:127\.0\.0\.1, IP Address:0:0:0:0:0:0:0:1/,
	'the default names';
like x509("$dir/a.pem", '-text'), qr/ASN1 OID: prime256v1/, 'ECDSA, P-256';
like x509("$dir/a.pem", '-text'), qr/CA:FALSE.*TLS Web Server Authentication/s,
	'a server certificate, not an authority';
is `openssl pkey -in $dir/a.pem -pubout`, x509("$dir/a.pem", '-pubkey'),
	'the key in the file is the certificate\'s';
like `openssl verify -CAfile $dir/a.pem -verify_hostname localhost -purpose sslserver $dir/a.pem 2>&1`,
	qr/: OK$/, 'verifies by itself';

# GROUP, for a user that reads the file by its group: owner root, mode 0640. Only root can do this.
SKIP: {
	my ($name) = getgrgid((split ' ', $))[-1]);
	($status, $text) = $> == 0 ? cert("OUT=$dir/g.pem", 'GROUP=daemon', 'CN=localhost')
		: cert("OUT=$dir/g.pem", "GROUP=$name");
	if ($> != 0) {
		isnt $status, 0, 'GROUP without root is refused';
		skip 'needs root', 4;
	}
	is $status, 0, 'GROUP=daemon' or diag $text;
	is mode("$dir/g.pem"), '0640', 'mode 0640';
	is_deeply [(stat "$dir/g.pem")[4, 5]], [0, scalar getgrnam 'daemon'], 'root:daemon';
	for my $bad ('nosuchgroup', '-R', '*') {
		($status, $text) = cert("OUT=$dir/refused.pem", "GROUP=$bad");
		isnt $status, 0, "GROUP=$bad is refused";
		like $text, qr/group/, '... by name';
	}
}

# An existing file is never overwritten, and a dangling link is not followed.
my $before = slurp("$dir/a.pem");
($status, $text) = cert("OUT=$dir/a.pem");
isnt $status, 0, 'an existing file is refused';
like $text, qr/a\.pem exists already/, '... by name';
is slurp("$dir/a.pem"), $before, '... and is unchanged';
symlink "$dir/elsewhere", "$dir/link.pem" or die;
($status, $text) = cert("OUT=$dir/link.pem");
isnt $status, 0, 'a dangling link is refused';
ok !-e "$dir/elsewhere", '... and not followed';

# Names and addresses, separated by commas or blanks.
($status, $text) = cert("OUT=$dir/b.pem", 'CN=db.example.org',
	'SAN=db.example.org,*.db.example.org 192.0.2.5 2001:db8::5', 'DAYS=7');
is $status, 0, 'CN, SAN and DAYS' or diag $text;
like x509("$dir/b.pem", '-subject -nameopt RFC2253'), qr/CN=db\.example\.org$/, 'CN as given';
like x509("$dir/b.pem", '-ext subjectAltName'),
    qr/DNS:db\.example\.org, DNS:\*\.db\.example\.org, IP Address:192\.0\.2\.5, IP Address:2001:DB8:0:0:0:0:0:5/,
	'SAN as given';
is system("openssl x509 -in $dir/b.pem -noout -checkend 518400 >/dev/null") >> 8, 0,
	'valid in six days';
is system("openssl x509 -in $dir/b.pem -noout -checkend 691200 >/dev/null") >> 8, 1, 'not in eight';

# openssl.cnf is missing or invalid: `openssl req` would fail with "can't open config file".
for my $cnf ("$dir/missing.cnf", "$dir/broken.cnf") {
	open my $f, '>', "$dir/broken.cnf" or die;
	print $f "[ this is = no configuration\n";
	close $f;
	local $ENV{OPENSSL_CONF} = $cnf;
	my $out = $cnf =~ s/cnf$/pem/r;
	($status, $text) = cert("OUT=$out", 'CN=localhost');
	is $status, 0, "works with OPENSSL_CONF=$cnf" or diag $text;
	ok -s $out, '... and writes the file';
}

# Invalid variables: each is refused with one line that names it.
for my $case (
	['CN=a b',            qr/CN "a b" has a character/],
	["CN=a\nb",           qr/CN "a\?b" has a character/],
	['CN=a,DNS:b',        qr/CN "a,DNS:b" has a character/],
	["CN=\xc3\xa4",       qr/CN ".*" has a character/],
	['CN=' . 'a' x 65,    qr/CN ".*" is longer than 64/],
	['SAN=db;true',       qr/SAN "db;true" has a character/],
	['SAN=DNS:db',        qr/SAN "DNS:db" is neither/],
	['SAN=192.0.2.256',   qr/SAN "192\.0\.2\.256" is not an IPv4 address/],
	['SAN=1::2::3',       qr/no name or address: value=IP:1::2::3/],
	['SAN=,',             qr/SAN is empty/],
	['DAYS=forever',      qr/DAYS "forever"/],
	["OUT=$dir/no/x.pem", qr/there is no directory/],
    ) {
	my ($var, $like) = @$case;
	(my $shown = $var) =~ s/[^ -~]/?/g;
	my @out = $var =~ /^OUT=/ ? () : "OUT=$dir/refused.pem";
	($status, $text) = cert($var, @out);
	isnt $status, 0, "refused: $shown";
	my @lines = grep { !/^make/ } split /\n/, $text;
	is scalar @lines, 1, '... with one line' or diag $text;
	like $lines[0] // '', $like, '... that names it';
}
ok !-e "$dir/refused.pem", 'a refused command leaves no file';
opendir my $d, $dir or die;
is_deeply [grep { /^\.mkcert/ } readdir $d], [], 'no temporary directory is left';

done_testing;
