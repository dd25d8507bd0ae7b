# SPDX-License-Identifier: ISC
#
# T::Faults - for t/torture: the ways to run pgssl, and what must be left when the sessions have
# gone: the same processes with the same descriptors and about as much memory, and no zombies.
package T::Faults;

use strict;
use warnings;
use Exporter 'import';
use Test::More;
use T ();

our @EXPORT = qw(start_as log_in warm_up note_processes nothing_left new_sessions);

# Start a service: -d, xinetd with a process per connection, or a waiting service of xinetd; the
# first two also in client mode (-c -d, -c xinetd). pids => DIRECTORY: with pid files there, which a
# waiting service always has.
sub start_as {
	my ($kind, %o) = @_;
	my $client = $kind =~ s/^-c // ? 1 : 0;
	my @args = @{ $o{args} || [] };
	push @args, '-P', "$o{pids}/" if $o{pids} && $kind ne 'waiting';
	my @many = ('--max-connections=600', '--max-per-source=600');
	my $s = $kind eq '-d' ? T::Serve::serve_listen(%o, client => $client, args => [ @args, @many ])
		: $kind eq 'xinetd' ? T::Serve::serve_xinetd(%o, client => $client, args => \@args)
		: T::Serve::serve_xinetd(%o, shipped => 'pgssl-wait', args => [ @args, @many, '--idle-exit=600' ]);
	$s->{pids} ||= $o{pids};
	$s->{clear} = $client;
	$s->{waiting} = $kind eq 'waiting'; # it has a listener that stays
	return warm_up($s);
}

# A client of this service that is logged in.
sub log_in {
	my ($s) = @_;
	my $conn = T::Conn::connect_to($s->port);
	return $conn->login(clear => $s->{clear}) ? $conn : undef;
}

# One session, before which a waiting service has no listener; then note what there is.
sub warm_up {
	my ($s) = @_;
	my $conn = log_in($s) or die 'no login: ' . $s->log;
	$conn->close;
	T::wait_for('the session to end', sub { T::descendants($s->{pid}) == ($s->{waiting} || 0) });
	return note_processes($s);
}

# From here on nothing_left expects these.
sub note_processes {
	my ($s) = @_;
	$s->{kept} = { processes($s) };
	return $s;
}

# Its processes, with `only` those of that name, with the numbers of their descriptors and their
# resident memory in KiB.
sub processes {
	my ($s) = @_;
	return map { ($_ => [ scalar(() = glob "/proc/$_/fd/*"),
		T::slurp("/proc/$_/status") =~ /^VmRSS:\s+(\d+)/m ? $1 : 0 ]) }
		grep { !$s->{only} || T::slurp("/proc/$_/comm") eq "$s->{only}\n" } $s->{pid}, T::descendants($s->{pid});
}

# The processes that were not there after warm_up.
sub new_sessions {
	my ($s) = @_;
	return grep { !$s->{kept}{$_} } T::descendants($s->{pid});
}

# What differs from what is kept. The parent of -d closes a pipe of a session when it looks again,
# so there may be fewer descriptors. growth: by how many KiB memory may have grown.
sub differences {
	my ($s) = @_;
	my $kept = $s->{kept};
	my %now = processes($s);
	my @files = map { glob "$_/*" } $s->{pids} || ();
	return ((map { "process $_: " . T::slurp("/proc/$_/stat") } grep { !$kept->{$_} } keys %now),
		(map { "no process $_" } grep { !$now{$_} } keys %$kept),
		(map { "process $_: $now{$_}[0] descriptors, not $kept->{$_}[0]" }
			grep { $now{$_} && $now{$_}[0] > $kept->{$_}[0] } keys %$kept),
		(map { "process $_: $now{$_}[1] KiB, not $kept->{$_}[1]" }
			grep { $now{$_} && $now{$_}[1] > $kept->{$_}[1] + ($s->{growth} || 2048) } keys %$kept),
		(map { "file $_" } grep { T::slurp($_) =~ /^(\d+)/ && !T::alive($1) } @files));
}

sub nothing_left {
	my ($s, $what) = @_;
	my $until = time + $T::SECONDS;
	my @left;
	T::nap(0.05) while (@left = differences($s)) && time < $until;
	is(join("\n", @left), '', "$what: nothing is left behind");
}
1;
