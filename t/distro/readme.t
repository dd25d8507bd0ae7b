# SPDX-License-Identifier: ISC
#
# Run every command of README, in the order in which a newcomer meets them, in a new root of Debian
# that systemd boots as process 1: each must succeed, and print what README shows.
# t/check-distro DISTRO readme makes the root and calls this.
#
# In README "    # COMMAND" is for root and "    $ COMMAND" for a user; a line that ends in \ or in an
# open quote goes on in the next. The lines below it are the output: "..." alone is any number of
# lines, and inside a line any text.
# sabotage: README s/createdb --owner=alice sales/createdb --owner=alice sale/
use lib 't/lib';
use T;

my $root = $ENV{README_ROOT} or plan skip_all => 'needs README_ROOT: run make check-readme';
limit(900);
my $tree = '/usr/src/pgssl';

# The commands: { section, way (systemd, xinetd or inetd), prompt, line, out }.
sub commands {
	my ($section, $way, $last, @all) = ('', '');
	for my $line (split /\n/, slurp("$ROOT/README")) {
		if ($line =~ /^[A-Z][A-Z :]+$/) {
			($section, $way) = ($line, '');
		} elsif ($line =~ /^\d\. /) {
			$way = '';
		} elsif ($line =~ /^   (systemd|xinetd|inetd):$/) {
			$way = $1;
		} elsif ($line =~ /^    ([#\$]) (.*)/) {
			push @all, $last = { section => $section, way => $way, prompt => $1, line => $2, out => '' };
		} elsif ($last && $line =~ /^ {4}/) {
			my $open = $last->{line} =~ /\\$/ || ($last->{line} =~ tr/'//) % 2;
			my $more = substr $line, 4;
			$last->{ $open ? 'line' : 'out' } .= $open ? "\n$more" : "$more\n";
		} else {
			undef $last;
		}
	}
	return @all;
}

sub pattern {
	my ($out) = @_;
	my $text = join '', map { $_ eq "...\n" ? '(?:.*\n)*' : quotemeta =~ s/\\\.\\\.\\\./.*/gr =~ s/(?:\\ )+/ +/gr } split /^/, $out;
	return qr/\A$text\z/;
}

my $host = boot_systemd(root => $root);
my @clean = qw(env -i LC_ALL=C TERM=dumb DEBIAN_FRONTEND=noninteractive PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin);
my %who = ('#' => [ 'HOME=/root' ], '$' => [ 'HOME=/tmp', qw(runuser -u nobody --) ]);

sub try {
	my ($c) = @_;
	my $r = $host->run([ @clean, @{ $who{ $c->{prompt} } }, 'sh', '-c', "cd $tree; exec 2>&1; $c->{line}" ], stdin => "sesame\nsesame\n", quiet => 1, seconds => 600);
	my $ok = is($r->{status}, 0, "$c->{prompt} $c->{line}");
	$ok &= like($r->{out}, pattern($c->{out}), 'prints what README shows') if $c->{out} ne '';
	diag($r->{out}) unless $ok;
}

sub start_session {
	return spawn(cmd => [ 'nsenter', "--target=$host->{pid}", qw(--mount --pid --net --), @clean, 'PGPASSWORD=sesame', 'psql', 'host=localhost port=9000 user=alice dbname=sales', '-c', '\! sleep 600' ], quiet => 1);
}

# End psql as its user would. If only the nsenter outside were killed, process 1 would wait for its
# child at the end.
sub stop_session {
	my ($pid) = @_;
	wait_for('the end of its sleep', sub { kill 'TERM', grep { slurp("/proc/$_/comm") eq "sleep\n" } T::descendants($pid) });
	wait_exit($pid);
}

my @all = commands();
my @start = grep { $_->{section} =~ /^FIVE/ } @all;
my ($first) = grep { $start[$_]{way} } 0 .. $#start;
my @before = @start[0 .. $first - 1];
my @try = grep { !$_->{way} } @start[$first .. $#start];

# Step 5, with a session to be listed.
sub step5 {
	my ($way) = @_;
	try($_) for grep { $_->{way} eq $way } @start;
	for my $c (@try) {
		my $pid = $c->{line} =~ /--sessions/ ? start_session() : undef;
		wait_for('the session', sub { $host->journal('-t', 'pgssl') =~ /application_name=psql.*\n\z/ }) if $pid;
		try($c);
		stop_session($pid) if $pid;
	}
}

cmp_ok(scalar @all, '>', 30, 'README has commands');
try({ prompt => '#', line => 'make demo', out => '' });
try($_) for @before;
step5('systemd');
try($_) for grep { $_->{section} !~ /^FIVE/ } @all;
$host->inside('systemctl disable --now pgssl.socket; rm /etc/xinetd.d/pgssl-client');
step5('xinetd');
$host->inside('rm /etc/xinetd.d/pgssl');
step5('inetd');
done_testing;
