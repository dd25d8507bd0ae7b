# SPDX-License-Identifier: ISC
#
# T::Systemd - a systemd as process 1 of namespaces of its own (mount, pid, net, uts, ipc, cgroup).
#
#   my $host = boot_systemd(tree => DIRECTORY, units => [ NAMES ]);
#       net => 'host': in the network of the caller
#   $host->run([ 'systemctl', 'start', 'foo.service' ])    T::run, inside
#   psql('select 1', netns => $host->{pid})                a client outside, in its network
#   $host->inside(SHELL COMMANDS)                          a test that they succeed
#   $host->drop_in(UNIT, NAME, TEXT)                       a drop-in, loaded
#   $host->stop                                            or at the end of the test file
#
# Its root is a tmpfs with this machine's /usr (changes stay inside), the files of /etc that name
# users, hosts and libraries, and an empty /run, /tmp, /var and /usr/local. `tree` is copied over
# that. The only units are those in @BASE and `units`, taken from this machine's systemd, and those
# of the tree in /etc/systemd/system. Nothing inside sees or changes the machine's own systemd,
# cgroups, /run or /tmp. The only thing made outside is a cgroup below the test's own, which is
# removed at the end.
package T::Systemd;

use strict;
use warnings;
use File::Find qw(finddepth);
use POSIX qw(_exit);

our @EXPORT = qw(boot_systemd cannot_boot_systemd installed_tree);

# System calls that Perl has no function for.
my %numbers = (
	x86_64 => { unshare => 272, setns => 308, pivot_root => 155, umount2 => 166, mount => 165,
		prctl => 157 },
	aarch64 => { unshare => 97, setns => 268, pivot_root => 41, umount2 => 39, mount => 40,
		prctl => 167 },
);
my $number = $numbers{ (POSIX::uname())[4] };
my %new = (mnt => 0x20000, cgroup => 0x02000000, net => 0x40000000, others => 0x2c000000); # others: uts, ipc, pid

my $UNITS = '/usr/lib/systemd/system';
my $SYSTEMD = '/usr/lib/systemd/systemd';
# Enough for socket units, services with default dependencies, and the journal.
my @BASE = qw(sysinit.target basic.target sockets.target multi-user.target shutdown.target umount.target slices.target paths.target timers.target
	network.target network-online.target systemd-journald.service systemd-journald.socket systemd-journald-dev-log.socket);
my $booted = 0;

# The reason why boot_systemd cannot work on this machine, or undef.
sub cannot_boot_systemd {
	return 'needs root' unless T::is_root();
	return "needs $SYSTEMD" unless -x $SYSTEMD;
	return 'needs x86-64 or aarch64' unless $number;
	my $try = 'mount -t tmpfs none "$0" && cd "$0" && mkdir up work at && mount -t overlay -o lowerdir=/usr,upperdir=up,workdir=work overlay at && mount -t cgroup2 none at';
	my $r = T::run([ qw(unshare --mount --pid --fork --net --uts --ipc --cgroup sh -c), $try,
		$T::TMP ], quiet => 1);
	return 'needs namespaces, overlayfs and cgroup2: ' . ($r->{err} =~ /^(.*)/)[0]
		if $r->{status};
	return undef;
}

# What make install installs, and the files of /etc/pgssl: (NAME => its text, ...).
sub installed_tree {
	my (%files) = @_;
	my $tree = "$T::TMP/tree";
	my %no_make = map { $_ => undef } qw(MAKEFLAGS MAKELEVEL MFLAGS);
	T::run([ 'make', '-s', '-C', $T::ROOT, '-o', 'pgssl', 'install', "DESTDIR=$tree" ], env => \%no_make)->{status} == 0 or die "make install failed\n";
	T::spew("$tree/etc/pgssl/$_", $files{$_}, 0640) for keys %files;
	return $tree;
}

sub boot_systemd {
	my (%o) = @_;
	my $base = "$T::TMP/systemd" . ++$booted;
	mkdir $_ for $base, "$base/root", "$base/cgroup";
	my $self = bless { base => $base, console => T::spew("$base/console", ''),
		keeper => undef }, 'T::Systemd';
	T::watch_log("$base/boot", $self->{console});
	$self->{keeper} = T::spawn(
		cmd => [ 'setpriv', '--bounding-set=-sys_time,-sys_module,-sys_rawio,-syslog', '--',
			$SYSTEMD, '--unit=boot.target' ],
		env => { container => 'pgssl-test',
			SYSTEMD_UNIT_PATH => '/etc/systemd/system:/usr/local/lib/systemd/system:/etc/systemd/base',
			SYSTEMD_GENERATOR_PATH => '/nonexistent' },
		before => sub { make_namespaces($base, $o{tree}, $o{net}, @BASE, @{ $o{units} || [] }) },
		out => "$base/boot", err => "$base/boot",
	);
	T::at_end(sub { $self->stop });
	T::wait_for('systemd to be process 1', sub { $self->find_init });
	T::wait_for('systemd to be up',
		sub { $self->systemctl('is-active', 'boot.target')->{out} eq "active\n" });
	return $self;
}

# Find process 1 and store its pid, as seen from outside.
sub find_init {
	my ($self) = @_;
	die "booting systemd failed\n" if defined T::reap($self->{keeper});
	($self->{pid}) = grep { T::slurp("/proc/$_/comm")
		eq "systemd\n" } T::descendants($self->{keeper});
	return $self->{pid};
}

# T::run inside the namespaces.
sub run {
	my ($self, $cmd, %o) = @_;
	return T::run([ 'nsenter', "--target=$self->{pid}",
		qw(--mount --pid --net --uts --ipc --cgroup --), @$cmd ], %o);
}

sub systemctl { my ($self, @args) = @_; return $self->run([ 'systemctl', @args ], quiet => 1) }

sub inside {
	my ($self, $commands) = @_;
	my $r = $self->run([ 'sh', '-ec', $commands ]);
	Test::More::is($r->{status}, 0, "$commands" =~ s/\n.*//sr) or Test::More::diag($r->{err});
}

# The psql command that lists the sessions inside while its own session runs.
sub list_sessions {
	my ($self) = @_;
	return "\\! nsenter --target=$self->{pid} --mount --pid /usr/local/sbin/pgssl --sessions=/run/pgssl";
}

sub drop_in {
	my ($self, $unit, $name, $text) = @_;
	my $dir = "/etc/systemd/system/$unit.d";
	$self->run([ 'sh', '-ec', "mkdir -p $dir; cat >$dir/$name.conf; systemctl daemon-reload" ], stdin => $text)->{status} == 0 or die "drop-in failed\n";
}

# Make the user and the directory of the shipped units, as README says.
sub make_user {
	my ($self) = @_;
	$self->inside("systemd-sysusers pgssl.conf\nsystemd-tmpfiles --create pgssl.conf\nchgrp pgssl /etc/pgssl/*\nsystemctl daemon-reload");
}

# A PostgreSQL built from source has its Unix socket in /tmp. This leads to the one on port 5432.
sub postgres_in_tmp {
	my ($self) = @_;
	my $units = "/proc/$self->{pid}/root/etc/systemd/system";
	T::spew("$units/postgres.socket", "[Socket]\nListenStream=/tmp/.s.PGSQL.5432\n");
	T::spew("$units/postgres.service", "[Service]\nExecStart=/usr/lib/systemd/systemd-socket-proxyd 127.0.0.1:5432\n");
	$self->inside('systemctl start postgres.socket');
}

# The messages in the journal that the arguments of journalctl select.
sub journal {
	my ($self, @args) = @_;
	return $self->run([ qw(journalctl --quiet --no-pager --output=cat), @args ],
		quiet => 1)->{out};
}

sub stop {
	my ($self) = @_;
	my $keeper = delete $self->{keeper} or return;
	T::stop($keeper) unless defined T::reap($keeper);
}

# ---- in the child that becomes process 1

sub call {
	my ($name, @args) = @_;
	my $result = syscall $number->{$name}, @args;
	return if $result == 0;
	print STDERR "$name: $!\n";
	_exit(1);
}

sub command {
	my ($command, @args) = @_;
	system('sh', '-euc', $command, 'sh', @args) == 0 or _exit(1);
}

# Make the namespaces and the cgroup. The parent stays outside: on SIGTERM or when the test ends it
# kills process 1, and with it all others, and removes the cgroup. The child returns as process 1 in
# the new root.
sub make_namespaces {
	my ($base, $tree, $net, @units) = @_;
	my $init;
	$SIG{TERM} = sub { kill 'KILL', $init if $init };
	$SIG{$_} = 'IGNORE' for qw(INT HUP); # from the terminal: the test then sends SIGTERM
	call('prctl', 1, 15, 0, 0, 0); # PR_SET_PDEATHSIG, SIGTERM
	call('unshare', $new{mnt});
	my ($own) = T::slurp('/proc/self/cgroup') =~ /^0::(.*)/m or _exit(1);
	my $cgroup = "$base/cgroup$own/pgssl-test-$$";
	command('mount --make-rprivate / && mount -t cgroup2 none "$1" && mkdir "$2"',
		"$base/cgroup", $cgroup);
	call('unshare', $new{others} | (defined $net ? 0 : $new{net}));
	$init = fork;
	_exit(1) unless defined $init;
	return become_init($base, $cgroup, $tree, @units) unless $init;
	waitpid $init, 0;
	my $status = $?;
	# Do not run a command for this: fork() fails in a pid namespace whose process 1 has ended.
	T::wait_for('the cgroup to be empty', sub {
		finddepth({ no_chdir => 1, wanted => sub { rmdir } }, $cgroup) if -d $cgroup;
		!-d $cgroup;
	});
	_exit($status ? 1 : 0);
}

sub become_init {
	my ($base, $cgroup, $tree, @units) = @_;
	$SIG{TERM} = 'DEFAULT';
	call('prctl', 1, 9, 0, 0, 0);
	T::spew("$cgroup/cgroup.procs", '0');
	call('unshare', $new{cgroup} | $new{mnt});
	my $root = "$base/root";
	command(<<'EOS', $base, $tree || '');
root=$1/root
mount -t tmpfs -o mode=755 none $root
cd $root
for link in bin sbin lib lib64; do [ ! -L /$link ] || cp -a /$link .; done
mkdir -p usr usr/local dev etc/systemd/system etc/systemd/base home proc root run sys tmp var/tmp var/lib var/log
chmod 1777 tmp var/tmp
chmod 700 root
mkdir .usr .work
mount -t overlay -o lowerdir=/usr,upperdir=$root/.usr,workdir=$root/.work overlay usr
mount -t tmpfs -o mode=755 none usr/local
mount -t proc proc proc
for path in proc/sys proc/sysrq-trigger; do [ ! -e $path ] || { mount --bind $path $path; mount -o remount,bind,ro $path; }; done
mount -t sysfs -o ro sysfs sys
mount -t cgroup2 cgroup2 sys/fs/cgroup
mount -t tmpfs -o mode=755 none dev
mknod -m 666 dev/null c 1 3
mknod -m 666 dev/zero c 1 5
mknod -m 666 dev/full c 1 7
mknod -m 666 dev/random c 1 8
mknod -m 666 dev/urandom c 1 9
mknod -m 666 dev/tty c 5 0
mkdir dev/pts dev/shm
mount -t devpts -o newinstance,ptmxmode=666 devpts dev/pts
ln -s pts/ptmx dev/ptmx
: >dev/console
mount --bind $1/console dev/console
for file in passwd group shadow gshadow nsswitch.conf hosts services protocols ld.so.cache ld.so.conf ld.so.conf.d alternatives localtime ssl; do
	[ ! -e /etc/$file ] || cp -a /etc/$file etc
done
tr -d - </proc/sys/kernel/random/uuid >etc/machine-id
echo '[Unit]
Requires=multi-user.target systemd-journald.service
After=multi-user.target systemd-journald.service' >etc/systemd/base/boot.target
ln -s ../run var/run
[ -z "$2" ] || tar -C "$2" -cf - . | tar --no-overwrite-dir -xf -
EOS
	-e "$UNITS/$_" && symlink "$UNITS/$_", "$root/etc/systemd/base/$_" for @units;
	move_root($root);
}

# pivot_root that also works from a chroot: setns() goes to the root of the mount namespace. Without
# it the process could not make user namespaces.
sub move_root {
	my ($root) = @_;
	my ($here, $slash, $none) = ('.', '/', '');
	opendir my $dir, $root or _exit(1);
	open my $mine, '<', '/proc/self/ns/mnt' or _exit(1);
	call('setns', fileno $mine, $new{mnt});
	call('mount', $none, $slash, $none, 0x44000, 0); # MS_REC | MS_PRIVATE
	chdir $dir;
	call('pivot_root', $here, $here);
	call('umount2', $here, 2); # MNT_DETACH
	chdir '/';
}

1;
