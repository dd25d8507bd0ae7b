#!/usr/bin/perl
# SPDX-License-Identifier: ISC
#
# The texts: pgssl.8 is clean mdoc and has every message of the program, the line counts of README
# are correct, and the examples for super-servers have the form that those programs expect.
# sabotage: pgssl.8 s/^\.Sh FILES/.Sh FILE/
# sabotage: pgssl.8 s/^\.It 74//
use strict;
use warnings;
use Test::More;
use File::Temp qw(tempdir);

sub slurp { open my $f, '<', shift or return ''; local $/; return scalar <$f> }
sub have { my ($prog) = @_; return grep { -x "$_/$prog" } split(/:/, $ENV{PATH}), '/usr/sbin', '/sbin' }

my $dir = tempdir(CLEANUP => 1);
my $man = slurp('pgssl.8');

SKIP: {
	skip 'mandoc is not installed', 1 unless have('mandoc');
	is `mandoc -T lint pgssl.8 2>&1`, '', 'mandoc -T lint reports nothing';
}

my @sections = $man =~ /^\.Sh (.*)$/mg;
my %seen = map { $_ => 1 } @sections;
ok $seen{$_}, "the manual has the section $_"
    for 'NAME', 'SYNOPSIS', 'DESCRIPTION', 'OPTIONS', 'WHAT THE CLIENT IS TOLD', 'THE LOG',
    'PID FILES', 'END OF A SESSION', 'EXIT STATUS', 'SECURING POSTGRESQL', 'FILES', 'EXAMPLES', 'DIAGNOSTICS',
    'SEE ALSO', 'CAVEATS', 'SECURITY CONSIDERATIONS';

# Every message of the table of refusals must be in the manual, with its SQLSTATE.
{
	my ($table) = slurp('wire/startup.c') =~ /refusals\[\] = \{(.*?)^\};/ms;
	(my $rows = $man) =~ s/VERSION/%s/g;
	$rows =~ s/ADDRESS: REASON/%s/g;
	my $count = 0;
	$rows =~ s/USER|KIND/%s/g;
	while ($table =~ /\{"(\w{5})",\s*"((?:[^"\\]|\\.)+)"/g) {
		my ($state, $message) = ($1, $2);
		$message =~ s/\\"/""/g; # a quote in C, a quote in mdoc
		$message =~ s/protocol 2\.0/protocol %s/;
		like $rows, qr/^\.It \Q$state\E\n\.Dq "\Q$message\E"/m,
			"the manual has $state $message";
		$count++;
	}
	cmp_ok $count, '>', 5, 'the table was found';
}

# Each status of sysexits.h that the program uses, but success.
{
	my ($listed) = $man =~ /^\.Sh EXIT STATUS\n(.*?)^\.Sh /ms;
	my %number = `echo '#include <sysexits.h>' | cc -E -dM -` =~ /^#define (EX_[A-Z]+) (\d+)$/mg;
	my @used = sort { $a <=> $b } keys %{ { map { $number{$_} // 0 => 1 }
		map { slurp($_) =~ /\bEX_[A-Z]+/g } grep { !m{^(?:t|bench)/} } glob '*.c */*.c' } };
	is "@used", join(' ', 0, $listed =~ /^\.It (\d+)/mg), 'the manual has each exit status';
}

is system('t/clients/make-table', '--check'), 0, 'the manual has the clients of t/clients/table';

is `env -u MAKEFLAGS -u MAKELEVEL make -s counts-check 2>&1`, '', 'the line counts of README are correct';

my ($readme, $warning) = (slurp('README'));
cmp_ok index($readme, 'trust'), '<', index($readme, 'make demo'),
	'README warns before it gives instructions';
unlike $readme, qr/^#|\*\*|```/m, 'README is plain text';
is_deeply [grep { length > 96 } split /\n/, $readme], [],
	'README has lines of at most 96 columns';

SKIP: {
	skip 'systemd-analyze is not installed', 1 unless have('systemd-analyze');
	my @units = ('pgssl.socket', 'pgssl@.service', 'pgssl-wait.socket', 'pgssl-wait.service');
	for my $unit (@units) {
		(my $text = slurp("contrib/systemd/$unit")) =~ s{/usr/local/sbin/pgssl}{/bin/true}g;
		open my $f, '>', "$dir/$unit" or die;
		print $f $text;
		close $f;
	}
	my $said = `cd $dir && systemd-analyze verify --man=no @units 2>&1`;
	is join('', grep { /pgssl/ } split /^/, $said), '',
		'systemd-analyze verify reports nothing about the units';
}

# Fields of inetd.conf: service, type, protocol, nowait, user, path, and arguments from argv[0] on.
my @entry = split ' ', (grep { !/^#/ } split /\n/, slurp('inetd.conf.example'))[0];
is "@entry[0, 1, 2, 4]", 'pgssl stream tcp pgssl', 'inetd.conf.example has the fields in order';
like $entry[3], qr/^nowait\.\d+$/, '... raises the limit of starts per minute';
is $entry[6], 'pgssl', '... and has the program name as argv[0]';
like slurp('services.example'), qr/^pgssl\s+9000\/tcp\s/m, 'services.example has the port';

done_testing;
