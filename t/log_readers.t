# SPDX-License-Identifier: ISC
#
# pgBadger counts the connections and errors of PostgreSQL alone when pgssl's lines are in the same
# syslog file, and the sed command of the manual lets it count pgssl's, with the clients' addresses.
# sabotage: log.c s/connection %s:%s"/connected %s:%s"/
# sabotage: log.c s/"disconnection: session time: /"session time: /
use lib 't/lib';
use T;
use IO::Socket::INET;

needs(!T::run([ 'pgbadger', '--version' ], quiet => 1)->{status}, 'pgbadger');
my ($sed) = slurp("$ROOT/pgssl.8") =~ /^.*sed -E '(.*)'/m;
$sed //= 's/\]: /]: LOG:  /; s/ application_name=[^ ]*//'; # the manual's, without mdoc's escapes
$sed =~ s/\\e/\\/g;

my $pg = start_pg();
my $s = serve(pg => $pg, args => [ '-D', 'info' ], bind => '0.0.0.0');
psql('select 6*7', port => $s->port) for 1 .. 2;
my $socket = IO::Socket::INET->new(LocalAddr => '127.0.0.2', PeerAddr => '127.0.0.1', PeerPort => $s->port) or die;
my $other = T::Conn->new($socket, $socket);
ok($other->login, 'a client of another address');
$other->send("X\0\0\0\4");
$other->rest;
psql('select 1/0', port => $s->port);
psql('select 1', port => $s->port, dbname => 'nosuch');
my $c = connect_to($s->port);
$c->send('GET / HTTP/1.0');
$c->rest;
wait_for('the sessions to end', sub { !$s->sessions });
wait_for("PostgreSQL's lines", sub { 4 == (() = $pg->log =~ /disconnection:/g) });

# Start pgBadger, which sleeps most of its time.
my $reports = 0;
sub start_report {
	my ($log, @args) = @_;
	my $name = "$TMP/report" . ++$reports;
	mkdir $name; # for its pid file, which excludes others
	my $pid = spawn(cmd => [ qw(pgbadger -q -x text --pid-dir), $name, '-o', "$name.txt", @args, '-' ], in => spew("$name.log", $log));
	return { pid => $pid, out => "$name.txt" };
}

# The numbers of a report.
sub numbers {
	my ($report) = @_;
	is(wait_exit($report->{pid}), 0, 'pgbadger');
	my $text = slurp($report->{out});
	my %n = map { /^.*?Total number of (connections|sessions): (\d+)/ ? ($1 => $2) : () } map { split /(?=Total)/ } split /\n/, $text;
	$n{$2} = $1 while $text =~ /^\d+\) (\d+) - ((?:FATAL|ERROR): .*)$/mg;
	my ($hosts) = $text =~ /Connections per host\s.*?\n\n(.*?)\n\n/s;
	$n{hosts} = join ', ', sort grep { /^\d/ } split /\n/, $hosts // '';
	$n{unknown} = () = $text =~ /pgssl/g;
	return \%n;
}

# A file as rsyslogd writes it: ISO time, host, program[pid]. PostgreSQL numbers its messages.
my $n = 0;
my @postgres = map { my ($time, $pid) = /^(\S+ \S+) \S+ \[(\d+)\]/; [ $time, "postgres[$pid]: [" . ++$n . "-1] $_" ] } split /\n/, $pg->log;
my @pgssl = map { /^(\S+ \S+) \S+ (pgssl\[\d+\]: .*)/ ? [ $1, $2 ] : () } split /\n/, $s->log;
sub syslog { return join '', map { $_->[0] =~ s/ /T/r . "+00:00 db $_->[1]\n" } sort { $a->[0] cmp $b->[0] } @_ }

my @args = ('-f', 'syslog2', '-p', '%m [%p] %u@%d ');
my ($without, $with) = map { start_report(syslog(@$_), @args) } [@postgres], [ @postgres, @pgssl ];
my @with_sed = map { start_report(T::run([ 'sed', '-E', $sed ], stdin => $_->[0])->{out}, @{$_}[ 1 .. $#$_ ]) }
	[ $s->log, '-f', 'stderr', '-p', '%m pgssl[%p]: ' ], [ syslog(@pgssl), qw(-f syslog2 -i pgssl) ];

subtest 'in one syslog file' => sub {
	cmp_ok(scalar @pgssl, '>=', 11, "pgssl's lines");
	my $found = numbers($without);
	is($found->{connections}, 5, "PostgreSQL's connections");
	is($found->{'ERROR:  division by zero'}, 1, '... and errors');
	is($found->{hosts}, '127.0.0.1 - 5', '... which all come from here');
	is_deeply(numbers($with), $found, 'the same with ours');
};

subtest "the manual's sed command" => sub {
	for my $report (@with_sed) {
		my $found = numbers($report);
		is($found->{connections}, 5, 'connections');
		is($found->{sessions}, 5, 'sessions');
		is($found->{hosts}, '127.0.0.1 - 4, 127.0.0.2 - 1', "the clients' addresses");
	}
};
done_testing;
