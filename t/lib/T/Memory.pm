# SPDX-License-Identifier: ISC
#
# T::Memory - sessions in which an allocation fails, by t/bin/failing_malloc.
package T::Memory;

use strict;
use warnings;
use Exporter 'import';
use Test::More;
use T ();

our @EXPORT = qw(fail_allocations);

my $c = T::Serve::server_pem();
my $alice = T::Cert::make_pem(T::Cert::make_cert(name => 'alice', cn => 'alice', issuer => $c->{ca}));
my @debug = ('-r', 'BACKEND', '-D', 'debug');
my @server = ('-p', $c->{pem}, @debug);

# The options of each kind of failing_malloc. "p" has all that step 8 may need.
my %arguments = (
	s => \@server,
	c => [ '-c', '-A', $c->{root}, @debug ],
	l => \@server,
	p => [ @server, '--proxy-protocol', '-A', $c->{root}, '--clientcert=verify-full', '--map=m',
		'--ident-map=' . T::spew("$T::TMP/map", "m /^(.*)\$ \\1\nm alice bob\n") ],
);

# What may become of a run: the session is served, or ends with status 71 and a line that says why.
# A listener goes on, and its session has the line.
my $good = qr/ exit 0 served .*disconnection: .*\|$|^\d+ \w+ exit 71 (?!late|wrong)\w+ .*out of memory[^|]*\|$/;
my $listener = qr/ exit 0 (?!late|wrong)\w+ .*(?:disconnection: |out of memory).*stopped\|$/;

# Fail allocations FIRST, FIRST + STEP, ... up to LAST. Two processes share them.
sub fail_allocations {
	my ($what, $kind, $first, $step, $last) = @_;
	my @pids;
	for my $half (0, 1) {
		my @listen = $kind eq 'l' ? ('-d', '127.0.0.1:' . T::free_port(), '-f') : ();
		push @pids, T::spawn(quiet => 1, out => "$T::TMP/runs.$half", cmd => [ 'env', '-i',
			"CLIENT_PEM=$alice", "BACKEND_PEM=$c->{pem}",
			"$T::ROOT/t/bin/failing_malloc", $kind, "$first+" . $half * $step,
			2 * $step, $last, @listen, @{ $arguments{$kind} } ]);
	}
	T::wait_exit($_, 3000) for @pids;
	my @runs = map { T::log_lines("$T::TMP/runs.$_") } 0, 1;
	my @wrong = grep { !/$good/ && !/ glibc / && !($kind eq 'l' && /$listener/) } @runs;
	splice @wrong, 20 if @wrong > 20;
	is(join("\n", @wrong), '', "$what: @{[ scalar @runs ]} runs");
	cmp_ok(scalar(grep { / 71 |out of memory/ } @runs), '>', 5, 'that ended the session');
	cmp_ok(scalar(grep { / served / } @runs), '>', 2, 'that did not');
}

1;
