# SPDX-License-Identifier: ISC
#
# The AppArmor profile allows what the entries beside it need. It forbade -P/tmp/ of xinetd's entry
# in each session, -d -P/run/ did not start, -o /var/log/pgssl.log could not be created, and
# --sessions showed nothing. Few test machines have AppArmor in the kernel. So each entry is run
# with the capabilities that the profile has, and every file that strace sees is looked up in the
# rules that the parser makes of the profile.
# sabotage: contrib/apparmor/usr.local.sbin.pgssl s/capability dac_read_search,//
# sabotage: contrib/apparmor/usr.local.sbin.pgssl s/{pgssl.log,pgssl/{pgssl.txt,pgssl/
# sabotage: contrib/apparmor/usr.local.sbin.pgssl s,/children r,/child r,
use lib 't/lib';
use T;

my $profile = "$ROOT/contrib/apparmor/usr.local.sbin.pgssl";
needs(!T::run([ 'apparmor_parser', '--version' ], quiet => 1)->{status}, 'apparmor_parser');
my $parsed = T::run([ 'apparmor_parser', '-Q', '-K', '-d', $profile ]);
is($parsed->{status}, 0, 'the profile can be parsed');

# AppArmor's patterns as regular expressions.
my %meaning = ('**' => '.*', '*' => '[^/]*', '?' => '[^/]', '{' => '(?:', '}' => ')', ',' => '|');
sub pattern {
	my ($glob) = @_;
	$glob =~ s{//+}{/}g;
	$glob =~ s{(\[[^]]*\]|\\.|\*\*|.)}{ length $1 > 2 || $1 =~ /^\\/ ? $1 : $meaning{$1} // quotemeta $1 }ge;
	return qr/^$glob$/;
}

# Pairs of a pattern and what it allows to everybody, not only to the file's owner.
my @rules = map { /^(?:Mode|Perms):\s+\S*?:(\S*)\s.*?Name:\s+\((.*)\)$/ ? [ pattern($2), $1 ] : () }
	split /\n/, $parsed->{out};
cmp_ok(scalar @rules, '>', 50, 'file rules');
my ($capabilities) = $parsed->{out} =~ /^Capabilities:\s*(.*?)\s*$/m;

sub allowed {
	my ($path, $mode) = @_;
	my $has = join '', map { $path =~ $_->[0] ? $_->[1] : () } @rules;
	return !grep { index($has, $_) < 0 } split //, $mode;
}

ok(allowed('/dev/pts/0', 'w'), 'it may write to a terminal');
ok(!allowed('/etc/shadow', 'r') && !allowed('/etc/cron.d/x', 'w'), '... and not read everything');

if (!is_root() || grep { T::run($_, quiet => 1)->{status} } [qw(strace -V)], [qw(unshare -m true)]) {
	diag('needs root, strace and mount namespaces for the rest');
	done_testing;
	exit;
}

# ---- the files that pgssl uses ----

my $pg = start_pg();
my $pem = server_pem()->{pem};
chown 0, (getpwnam 'nobody')[3], $pem;
chmod 0640, $pem;

# The files of a trace and the permissions that they need, from the execution of pgssl on.
sub files {
	my ($trace) = @_;
	my %needs;
	my (undef, $calls) = split /execve\("\Q$PGSSL\E"/, slurp($trace), 2;
	for (split /\n/, $calls // '') {
		if (/\bopen(?:at2?)?\(.*?(?:, |flags=)(O_[A-Z_|]+)\b.*\) += \d+<(.*?)>/) {
			my ($flags, $path) = ($1, $2);
			next if $flags =~ /O_PATH/ || $path !~ m{^/};
			$path .= '/' if $flags =~ /O_DIRECTORY/ && $path ne '/';
			$needs{$path} .= $flags =~ /O_RDWR/ ? 'rw' : $flags !~ /O_WRONLY/ ? 'r'
				: $flags =~ /O_APPEND/ && $flags !~ /O_CREAT/ ? 'a' : 'w';
		} elsif (/\bunlink(?:at)?\((?:\w+(?:<(.*?)>)?, )?"(.*?)".*= 0$/) {
			my ($in, $name) = ($1, $2);
			$needs{ $name =~ m{^/} ? $name : "$in/$name" } .= 'w';
		} elsif (/\bflock\(\d+<(.*?)>/) {
			$needs{$1} .= 'k';
		} elsif (/\bconnect\(.*sun_path="(.*?)"/) {
			$needs{$1} .= 'w';
		}
	}
	return %needs;
}

my $traces = 0;
my $prepare = 'mount -t tmpfs -o mode=755 none /run && mount -t tmpfs -o mode=755 none /var/log'
	. ' && install -d -o nobody /run/pgssl /var/log/pgssl && exec "$@"';

# A command that runs pgssl as `user` with the profile's capabilities. "hidden": with its own /run
# and /var/log.
sub traced {
	my ($user, %o) = @_;
	my @hide = $o{hidden} ? ('unshare', '-m', '--propagation', 'private', 'sh', '-c', $prepare, 'sh') : ();
	my $bounds = join ',', '-all', map { "+$_" } split ' ', $capabilities;
	my $to = $user eq 'root' ? [] : [ "--reuid=$user", '--regid=' . (getpwnam $user)[3], '--clear-groups' ];
	return (@hide, qw(strace -f -qq -y -s 4096 -e), 'trace=%file,flock,connect', '-o',
		"$TMP/trace" . ++$traces, 'setpriv', @$to, "--bounding-set=$bounds");
}

# Our paths stand for the installed ones.
sub check_trace {
	my %needs = files("$TMP/trace$traces");
	my @denied;
	for my $path (sort keys %needs) {
		my $installed = $path =~ s{^\Q$TMP\E/(?=[^/]*$)}{/etc/pgssl/}r;
		push @denied, "$installed $needs{$path}" unless allowed($installed, $needs{$path});
	}
	cmp_ok(scalar keys %needs, '>', 3, 'files are used');
	is(join("\n", @denied), '', 'the profile allows them');
	return %needs;
}

sub arguments {
	my ($text) = @_;
	my $port = $pg->port;
	$text =~ s{/etc/pgssl/pgssl\.pem}{$pem};
	$text =~ s{/etc/pgssl/root\.crt}{server_pem()->{root}}e;
	$text =~ s{-r (?:db\.example\.org:)?5432}{-r 127.0.0.1:$port};
	return split ' ', $text;
}

# The command lines of the shipped entries: file => arguments.
my %entry;
for my $file (qw(xinetd.d/pgssl xinetd.d/pgssl-client xinetd.d/pgssl-wait inetd.conf.example
	contrib/systemd/pgssl@.service contrib/systemd/pgssl-wait.service)) {
	my @lines = slurp("$ROOT/$file") =~ m{^(?:\s*server_args\s*=|ExecStart=\S+|#?pgssl\s+stream\s.*\spgssl)\s+(-.*)$}mg;
	ok(scalar @lines, "$file has arguments");
	$entry{"$file: $_"} = $_ for @lines;
}
my $unit = slurp("$ROOT/contrib/systemd/pgssl\@.service");
my @with = map { $unit =~ /$_/ ? $1 : die "no $_ in the unit\n" } qr{(-P/run/pgssl/)}, qr{(-o /var/log/pgssl/log)};
$entry{'the unit with -P and -o'} = join ' ', $entry{(grep { /pgssl@/ } keys %entry)[0]}, @with;

for my $name (sort keys %entry) {
	my @args = arguments($entry{$name});
	subtest $name => sub {
		if ($name =~ /wait|max-connections/) { # what a listener needs, whatever its socket
			my $s = serve_listen(listening => 0, argv => [ @args ], wrap => [ traced('nobody', hidden => 1) ]);
			wait_for('the port', sub { T::Serve::listening($s->port) });
			is(psql('select 1', port => $s->port)->{out}, "1\n", 'a query');
			kill 'TERM', grep { slurp("/proc/$_/comm") eq "pgssl\n" } T::descendants($s->{pid});
			is(wait_exit($s->{pid}), 0, 'the listener ends');
		} else {
			my $s = session(argv => \@args, wrap => [ traced('nobody', hidden => 1) ]);
			ok($s->conn->login, 'a login') unless $name =~ /client/;
			$s->conn->close;
			$s->wait;
		}
		check_trace();
	};
}

subtest '-d as root, -P/run/, -o /var/log/pgssl.log' => sub {
	my $s = serve_listen(listening => 0, argv => [ arguments('-p /etc/pgssl/pgssl.pem -r 5432 -P/run/ -o /var/log/pgssl.log') ], wrap => [ traced('root', hidden => 1) ]);
	wait_for('the port', sub { T::Serve::listening($s->port) });
	my $conn = connect_to($s->port);
	ok($conn->login, 'a login');
	my ($parent) = grep { slurp("/proc/$_/comm") eq "pgssl\n" } T::descendants($s->{pid});
	my $log = "/proc/$parent/root/var/log/pgssl.log";
	like(slurp($log), qr/connection authorized/, 'the log');
	unlike(slurp($log), qr/pid file|CAP_KILL/, 'no warning');
	open my $keep, '<', $log or die "$log: $!\n";
	kill 'TERM', $parent;
	is(wait_exit($s->{pid}), 0, 'the listener ends the session of nobody');
	like(do { local $/; <$keep> }, qr/disconnection.*stopped/s, '... in an orderly way');
	my %needs = check_trace();
	ok((grep { m{^/run/pgssl\..*\.pid$} } keys %needs), 'a pid file');
};

subtest '--sessions=/run/pgssl as root' => sub {
	my $s = session(argv => [ arguments('-p /etc/pgssl/pgssl.pem -r 5432 -P/run/pgssl/') ], wrap => [ traced('nobody', hidden => 1) ]);
	ok($s->conn->login, 'a session of nobody');
	my ($pid) = T::descendants($s->{pid});
	my $r = T::run([ qw(nsenter -m -r -t), $pid, traced('root'), $PGSSL, '--sessions=/run/pgssl' ]);
	like($r->{out}, qr/^$pid +alice +sales /m, 'it is listed') or diag($r->{err});
	check_trace();
};

subtest '--sessions as root, of a listener' => sub {
	my $s = serve_listen(listening => 0, argv => [ arguments('-p /etc/pgssl/pgssl.pem -r 5432 -P/run/pgssl/') ], wrap => [ traced('nobody', hidden => 1) ]);
	wait_for('the port', sub { T::Serve::listening($s->port) });
	my $conn = connect_to($s->port);
	ok($conn->login, 'a session');
	my ($parent) = grep { slurp("/proc/$_/cmdline") =~ /^pgssl: listening/ } T::descendants($s->{pid});
	my $r = T::run([ qw(nsenter -m -r -t), $parent, traced('root'), $PGSSL, '--sessions' ]);
	like($r->{out}, qr/^\d+ +alice +sales /m, 'it is listed') or diag($r->{err});
	check_trace();
};
done_testing;
