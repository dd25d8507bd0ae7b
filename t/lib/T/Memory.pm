# SPDX-License-Identifier: ISC
#
# T::Memory - sessions in which an allocation fails, by t/bin/failing_malloc.
package T::Memory;

use strict;
use warnings;
use Exporter 'import';
use Test::More;
use T ();
use T::X509;

our @EXPORT = qw(fail_allocations);

my $c = T::Serve::server_pem();
my $alice = T::Cert::make_pem(T::Cert::make_cert(name => 'alice', cn => 'alice', issuer => $c->{ca}));
my @debug = ('-r', 'BACKEND', '-D', 'debug');
my @server = ('-p', $c->{pem}, @debug);

# A server whose common name is right, but not its names.
my $wrong = T::Cert::make_pem(T::Cert::make_cert(name => 'wrong', cn => 'b.example',
	san => 'DNS:a.example', issuer => $c->{ca}));

# A client whose certificate is revoked.
my $root = issue(cn => 'Root', ca => 1);
my $revoked = issue(cn => 'alice', issuer => $root);
my $mallory = T::Cert::make_pem($revoked);
my $crl = crl($root, revoked => [$revoked]);

# The options of each kind of failing_malloc, which looks at the first letter. "p" has all that step
# 8 may need; a stranger has no certificate or a revoked one, and "cstranger" meets the wrong server.
my %arguments = (
	s => \@server,
	stranger => [ @server, '-A', $c->{root}, '--clientcert=verify-ca' ],
	'stranger, revoked' => [ @server, '-A', $root->{cert}, '--clientcert=verify-ca', '--crl', $crl ],
	c => [ '-c', '-A', $c->{root}, @debug ],
	cstranger => [ '-c', '-A', $c->{root}, '--servername=b.example', @debug ],
	l => \@server,
	p => [ @server, '--proxy-protocol', '-A', $c->{root}, '--clientcert=verify-full', '--map=m',
		'--ident-map=' . T::spew("$T::TMP/map", "m /^(.*)\$ \\1\nm alice bob\n") ],
);

# What may become of a run: it is as if nothing had failed, or ends with status 71 and a line that
# says why. There may be no memory to tell a stranger. A listener goes on, and its session has the
# line.
my $served = qr/ exit 0 served .*disconnection: .*\|$/;
my $refused = qr/ exit (?:77|76|69) (?:cut|refused) .*\|$/;
my $ended = qr/ exit 71 (?:cut|nothing|refused|served) .*out of memory[^|]*\|$/;
my $listener = qr/ exit 0 (?:cut|refused|served) .*(?:disconnection: |out of memory).*stopped\|$/;

sub is_good {
	my ($kind, $run) = @_;
	return 1 if $run =~ / glibc /;
	return $run =~ /$refused|$ended/ && $run !~ / served |authorized/ if $kind =~ /stranger/;
	return $run =~ /$served|$ended/ || ($kind eq 'l' && $run =~ $listener);
}

# Processes. A session that can no longer send waits 5 s for the rest of the answer, and others use
# the processors.
use constant PARTS => 4;

# Fail allocations FIRST, FIRST + STEP, ... up to LAST.
sub fail_allocations {
	my ($what, $kind, $first, $step, $last) = @_;
	my @pids;
	for my $part (0 .. PARTS - 1) {
		my @listen = $kind eq 'l' ? ('-d', '127.0.0.1:' . T::free_port(), '-f') : ();
		my @cert = $kind eq 'stranger' ? () : 'CLIENT_PEM=' . ($kind =~ /revoked/ ? $mallory : $alice);
		my $server = $kind eq 'cstranger' ? $wrong : $c->{pem};
		push @pids, T::spawn(quiet => 1, out => "$T::TMP/runs.$part", cmd => [ 'env', '-i',
			@cert, "BACKEND_PEM=$server", "$T::ROOT/t/bin/failing_malloc", $kind,
			"$first+" . $part * $step, PARTS * $step, $last, @listen, @{ $arguments{$kind} } ]);
	}
	T::wait_exit($_, 3000) for @pids;
	my @runs = map { T::log_lines("$T::TMP/runs.$_") } 0 .. PARTS - 1;
	my @wrong = grep { !is_good($kind, $_) } @runs;
	splice @wrong, 20 if @wrong > 20;
	is(join("\n", @wrong), '', "$what: @{[ scalar @runs ]} runs");
	cmp_ok(scalar(grep { / 71 |out of memory/ } @runs), '>', 5, 'that ended the session');
	cmp_ok(scalar(grep { / served | exit (?:77|76|69) / } @runs), '>', 2, 'that did not');
}

1;
