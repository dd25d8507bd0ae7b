# SPDX-License-Identifier: ISC
#
# T::Net - simulated hosts. A host is an unnamed network namespace, kept alive by one process and
# gone when that process ends. spawn, run, psql, start_pg and serve_listen take netns => HOST.
package T::Net;

use strict;
use warnings;
use POSIX qw(_exit);

our @EXPORT = qw(net_host net_link net_do net_eval can_netns);

my %setns = (x86_64 => 308, aarch64 => 268);
my $machine = (POSIX::uname())[4];
my $links = 0;

sub can_netns {
	return T::is_root() && $setns{$machine}
		&& T::run([ qw(unshare -n true) ], quiet => 1)->{status} == 0
		&& T::run([ qw(ip -V) ], quiet => 1)->{status} == 0;
}

# Make a host with a loopback interface; returns the pid of its process.
sub net_host {
	my $pid = T::spawn(cmd => [ qw(unshare -n sleep infinity) ]);
	my $ours = readlink '/proc/self/ns/net';
	T::wait_for('a network namespace', sub {
		my $its = readlink "/proc/$pid/ns/net";
		$its && $its ne $ours;
	});
	net_do($pid, 'ip link set lo up');
	return $pid;
}

# Enter a host. Called in a child that T.pm has forked.
sub enter {
	my ($host) = @_;
	open my $ns, '<', "/proc/$host/ns/net" or _exit(124);
	syscall($setns{$machine}, fileno $ns, 0x40000000) == 0 or _exit(124); # CLONE_NEWNET
}

# Run shell commands on a host, one per line. All must succeed.
sub net_do {
	my ($host, $commands) = @_;
	for my $command (grep { /\S/ } split /\n/, $commands) {
		my $r = T::run([ 'sh', '-c', $command ], netns => $host);
		die "$command: $r->{err}" if $r->{status};
	}
}

# Link two hosts: net_link(a, 'address ...', b, 'address ...'), with addresses like "192.0.2.1/24".
# Returns the names of the two interfaces.
sub net_link {
	my ($a, $of_a, $b, $of_b) = @_;
	my @names = ('v' . ++$links, 'w' . $links);
	net_do($a, "ip link add $names[0] type veth peer name $names[1] netns $b");
	for my $end ([ $a, $names[0], $of_a ], [ $b, $names[1], $of_b ]) {
		my ($host, $name, $addresses) = @$end;
		net_do($host, "ip link set $name up");
		net_do($host, "ip addr add $_ dev $name" . (/:/ ? ' nodad' : ''))
			for split ' ', $addresses;
	}
	return @names;
}

# Run Perl code on a host and return its result, a string.
sub net_eval {
	my ($host, $code) = @_;
	pipe(my $read, my $write) or die "pipe: $!\n";
	my $pid = fork;
	die "fork: $!\n" unless defined $pid;
	if (!$pid) {
		close $read;
		enter($host);
		my $text = eval { $code->() };
		syswrite $write, defined $text ? $text : "died: $@";
		_exit(0);
	}
	close $write;
	my $text = do { local $/; <$read> };
	waitpid $pid, 0;
	return $text;
}

1;
