# SPDX-License-Identifier: ISC
#
# Each driver of PostgreSQL that people use has a program in t/clients/drivers. It does the same
# checks through pgssl and directly with PostgreSQL's own TLS and the same certificate. Both must
# print what is expected here, and the same errors.
# sabotage: s/CODE(1234, 5678)/CODE(1234, 5699)/ wire/startup.c
# sabotage: s/"connection requires a valid client certificate"/"no certificate"/ wire/startup.c
# sabotage: s/57P03/08006/ wire/startup.c
use lib 't/lib';
use T;
use T::Clients;
use JSON::PP ();

limit(2400);
needs(is_root(), 'root, to mount a file over /etc/hosts');
my $programs = "$ROOT/t/clients/drivers";
my $bin = "$ROOT/build/clients/bin";
my $npm = "$ROOT/build/npm/node_modules";

# ---- the drivers

my $python = '/usr/bin/python3';
my %none = (
	own => 'it leaves that to the driver below',
	odbc => 'ODBC has no function for it',
	function => 'the driver has no function for it',
);

# Name; the Debian package with its version, or npm:PACKAGE; command; what it cannot do, and why;
# what it prints instead of what is expected. "lost": it may lose an error that comes just before
# the end of the connection, also with PostgreSQL's own TLS, and then prints this.
my @drivers = map { { name => $_->[0], package => $_->[1], cmd => $_->[2], cannot => $_->[3] || {},
	prints => $_->[4] || {} } } (
	[ 'psql', 'postgresql-client-[0-9]*', [ 'perl', "$programs/psql.pl" ] ],
	[ 'libpq (pipeline)', 'libpq5', ["$bin/libpq"] ],
	[ 'psycopg2', 'python3-psycopg2', [ $python, "$programs/python-psycopg2.py" ] ],
	[ 'psycopg 3', 'python3-psycopg', [ $python, "$programs/python-psycopg.py" ] ],
	[ 'asyncpg', 'python3-asyncpg', [ $python, "$programs/python-asyncpg.py" ], {},
		{ cancel => 'timeout then 1' } ], # it hides the SQLSTATE
	[ 'SQLAlchemy', 'python3-sqlalchemy', [ $python, "$programs/python-sqlalchemy.py" ],
		{ copy => $none{own}, notify => $none{own}, cancel => $none{own} } ],
	[ 'pg8000', 'python3-pg8000', [ $python, "$programs/python-pg8000.py" ],
		{ cancel => $none{function} } ],
	[ 'JDBC', 'libpostgresql-jdbc-java',
		[ 'java', '-Xmx512m', '-Duser.home=/nonexistent', '-cp', "/usr/share/java/postgresql.jar:$bin", 'Jdbc' ] ],
	[ 'node-postgres', 'npm:pg', [ 'node', "$programs/node-pg.js", 'pg' ],
		{ copy => $none{function}, cancel => $none{function} } ],
	[ 'pg-native', 'npm:pg-native', [ 'node', "$programs/node-pg.js", 'native' ],
		{ copy => $none{function}, cancel => $none{function} } ],
	[ 'postgres.js', 'npm:postgres', [ 'node', "$programs/postgres.js" ] ],
	[ 'DBD::Pg', 'libdbd-pg-perl', [ '/usr/bin/perl', "$programs/dbd-pg.pl" ] ],
	[ 'Ruby pg', 'ruby-pg', [ '/usr/bin/ruby', "$programs/ruby-pg.rb" ] ],
	[ 'PHP pgsql', 'php[78].[0-9]-pgsql', [ '/usr/bin/php', "$programs/php-pgsql.php" ], {},
		{ cancel => '0 running, then 1' } ], # pg_cancel_query() discards the SQLSTATE
	[ 'psqlODBC', 'odbc-postgresql', [ $python, "$programs/python-pyodbc.py" ],
		{ copy => $none{odbc}, notify => $none{odbc} } ],
	[ 'Pgtcl', 'libpgtcl', [ '/usr/bin/tclsh', "$programs/pgtcl.tcl" ] ],
	[ 'Go lib/pq', 'golang-github-lib-pq-dev', ["$bin/go-pq"], { 'COPY TO' => $none{function} } ],
	[ 'Go pgx', 'golang-github-jackc-pgx-v4-dev', ["$bin/go-pgx"] ],
	[ 'tokio-postgres', 'librust-tokio-postgres-dev', ["$bin/tokio-postgres"] ],
	[ 'p1_pgsql', 'erlang-p1-pgsql', [ 'escript', "$programs/erlang-p1.escript" ],
		{ map { $_ => $none{function} } qw(copy notify cancel) },
		{ rows => '1000 rows, 102400000 bytes', lost => qr/badmatch,\{error,closed\}/ } ],
);

sub version {
	my ($package) = @_;
	return debian_version($package) unless $package =~ s/^npm://;
	my $json = slurp("$npm/$package/package.json") or return undef;
	return JSON::PP::decode_json($json)->{version};
}
$_->{version} = version($_->{package}) for @drivers;
# The pg8000 of Debian 12 knows neither SCRAM nor verification of the server.
my ($too_old) = grep { $_->{name} eq 'pg8000' && ($_->{version} // '') =~ /^1\.10\./ } @drivers;
# DRIVER=PATTERN in the environment selects drivers.
my $selected = $ENV{DRIVER} // '.';
my @present = grep { defined $_->{version} && $_ != ($too_old || 0) && $_->{name} =~ /$selected/ } @drivers;
my $made = T::run([ 'make', '-j2', '-f', "$programs/Makefile", "OUT=$bin" ], dir => $ROOT, seconds => 900);
is($made->{status}, 0, 'the compiled drivers') or diag($made->{out}, $made->{err});

# ---- the servers

# Names for 127.0.0.1, in /etc/hosts of this process and its children.
my ($host, $wrong_host) = ('db.example.org', 'other.example.org');
my %unshare = (x86_64 => 272, aarch64 => 97);
spew("$TMP/hosts", "127.0.0.1 localhost $host $wrong_host\n");
syscall($unshare{ (POSIX::uname())[4] }, 0x20000) == 0 or die "unshare: $!\n"; # CLONE_NEWNS
T::run([ qw(mount --make-rprivate /) ]);
T::run([ 'mount', '--bind', "$TMP/hosts", '/etc/hosts' ])->{status} == 0 or die "mount\n";

my ($ca, $other_ca) = (make_ca(name => 'ca'), make_ca(name => 'other', cn => 'Other CA'));
my $server = make_cert(name => 'db', cn => $host, san => "DNS:$host", issuer => $ca);
my $client = make_cert(name => 'alice', cn => 'alice', san => undef, issuer => $ca);
# The form that JDBC reads.
T::run([ qw(openssl pkcs8 -topk8 -nocrypt -outform DER -in), $client->{key}, '-out', "$client->{key}.der" ]);
# PostgreSQL sends the root certificate, too, because it has ssl_ca_file.
append($server->{chain}, slurp($ca->{cert}));
my $pem = make_pem($server);

# PostgreSQL accepts alice only with SCRAM: from pgssl on the socket, and from others only with TLS.
my $pg = start_pg(ssl => $server, max_connections => 200, conf => "ssl_ca_file='$ca->{cert}'\n", hba => <<'END');
local all postgres trust
local all alice scram-sha-256
hostssl direct_cert alice 127.0.0.1/32 scram-sha-256 clientcert=verify-full
hostssl direct alice 127.0.0.1/32 scram-sha-256
END
for my $database (qw(direct direct_cert pgssl)) {
	my $r = psql("create database $database owner alice", host => $pg->{socket}, port => $pg->port,
		user => 'postgres', dbname => 'postgres', sslmode => 'disable');
	die $r->{err} if $r->{status};
}
my @to_postgres = (connect => "$pg->{socket}/.s.PGSQL." . $pg->port, pem => $pem);
# --max-connections as in the shipped entries: the default allows 25 connections from one address.
# -A, because PostgreSQL with ssl_ca_file requests a certificate, too.
my $pgssl = serve_listen(@to_postgres, args => [ '--max-connections=400', '-A', $ca->{cert} ]);
my $with_cert = serve_listen(@to_postgres, args => [ '-A', $ca->{cert}, '--clientcert=verify-full' ]);
my $without_postgres = serve_listen(connect => '127.0.0.1:' . free_port(), pem => $pem);

# ---- the checks

my @checks = qw(connected parameters rows copy error notify cancel many);
my %expected = (
	connected => 'alice',
	parameters => "k\xc3\xa4se 'x'|42|NULL",
	rows => '10000 rows, 102400000 bytes',
	copy => "10000 lines, last 9999\tline 9999",
	error => '22012 then 1',
	notify => 'c hello',
	cancel => '57014',
	many => '50',
);

# Runs of `connected` that differ from the others: environment, and the expected output.
my %certificate = (PGSSLCERT => $client->{cert}, PGSSLKEY => $client->{key});
my %runs = (
	direct => {
		all => { PGPORT => $pg->port, PGDATABASE => 'direct' },
		certificate => { PGDATABASE => 'direct_cert', %certificate },
		'no certificate' => { PGDATABASE => 'direct_cert' },
		down => { PGPORT => free_port() },
	},
	pgssl => {
		all => { PGPORT => $pgssl->port, PGDATABASE => 'pgssl' },
		certificate => { PGPORT => $with_cert->port, %certificate },
		'no certificate' => { PGPORT => $with_cert->port },
		down => { PGPORT => $without_postgres->port },
	},
);
for my $path (values %runs) {
	$path->{'wrong authority'} = { PGSSLROOTCERT => $other_ca->{cert} };
	$path->{'wrong name'} = { PGHOST => $wrong_host };
	$path->{'wrong password'} = { PGPASSWORD => 'wrong' };
}
my $untrusted = qr/verif|unknown authority|self.?signed|unable to (?:get|find)|not trusted|PKIX|unknown.ca/i;
my $misnamed = qr/host ?name|altnames|valid for|mismatch|hostname_check_failed/i;
my %failure = (
	'wrong authority' => $untrusted,
	'wrong name' => $misnamed,
	'wrong password' => qr/28P01|password authentication failed/,
	'no certificate' => qr/connection requires a valid client certificate/,
	down => qr/could not connect to PostgreSQL at 127\.0\.0\.1:\d+: Connection refused/,
);

# Run one driver on one path; returns the output of each run.
sub run_driver {
	my ($driver, $path) = @_;
	my %out;
	for my $run (sort keys %{ $runs{$path} }) {
		my @names = $run eq 'all' ? grep { !$driver->{cannot}{$_} } @checks : 'connected';
		my $seconds = $run eq 'all' ? 300 : 60;
		my $r = T::run([ 'timeout', $seconds, @{ $driver->{cmd} }, @names ], quiet => 1,
			seconds => $seconds + 10, env => { PGHOST => $host, PGUSER => 'alice',
			PGPASSWORD => 'secret', PGSSLMODE => 'verify-full', PGSSLROOTCERT => $ca->{cert},
			PGPASSFILE => '/nonexistent', HOME => $TMP, NPM => $npm, LC_ALL => 'C.UTF-8',
			PATH => "/usr/bin:$ENV{PATH}", %{ $runs{$path}{all} }, %{ $runs{$path}{$run} } });
		$out{$run} = $r->{out} . ($r->{status} ? "status $r->{status}: $r->{err}" : '');
	}
	return \%out;
}

# All drivers on both paths, one process for each path.
my $directory = $TMP;
my @workers = map { my $path = $_; fork || do {
	mkdir $T::TMP = "$directory/$path"; # the processes must not share temporary files
	for my $i (0 .. $#present) {
		spew("$directory/$path.$i", JSON::PP->new->encode(run_driver($present[$i], $path)));
	}
	POSIX::_exit(0);
} } sort keys %runs;
is(wait_exit($_, 2300), 0, 'a run of all drivers') for @workers;

# ---- the results

# A failure without what differs between the paths.
sub failure { return $_[0] =~ s/\b\d{4,5}\b/PORT/gr =~ s/database=\w+/DATABASE/gr }

# The names of the checks in the manual.
my %title = (connected => 'verify-full, SCRAM', copy => 'COPY', notify => 'NOTIFY',
	many => '50 connections', certificate => 'client certificate', down => 'PostgreSQL is down');

sub report {
	my ($driver, $check, $result) = @_;
	client_result($driver->{name}, $driver->{version}, $title{$check} || $check, $result);
}

sub judge {
	my ($driver, $direct, $pgssl) = @_;
	my %direct = $direct->{all} =~ /^(\S+) (.*)$/mg;
	my %pgssl = $pgssl->{all} =~ /^(\S+) (.*)$/mg;
	for my $check (grep { !$driver->{cannot}{$_} } @checks) {
		my $want = $driver->{prints}{$check} || $expected{$check};
		is($direct{$check}, $want, "$check, directly") or diag($direct->{all});
		is($pgssl{$check}, $want, "$check, through pgssl") ? report($driver, $check, 'ok')
			: diag($pgssl->{all});
	}
	my $lost = $driver->{prints}{lost};
	for my $run (grep { !$lost || "$pgssl->{$_}$direct->{$_}" !~ $lost } sort keys %failure) {
		like($pgssl->{$run}, qr/^connected failed: .*$failure{$run}/, "$run: refused");
		is(failure($pgssl->{$run}), failure($direct->{$run}), "$run: as with PostgreSQL's TLS")
			unless $run eq 'down';
	}
	# Some drivers show no SQLSTATE for a failed connection.
	like($pgssl->{down}, qr/57P03/, 'down: the SQLSTATE')
		if !$lost && $pgssl->{'wrong password'} =~ /28P01/;
	report($driver, 'down', 'ok');
	is($_->{certificate}, "connected alice\n", 'a client certificate') for $direct, $pgssl;
	report($driver, 'certificate', 'ok');
	report($driver, $_, "- $driver->{cannot}{$_}") for sort keys %{ $driver->{cannot} };
}

my $i = 0;
for my $driver (@drivers) {
	if (!defined $driver->{version}) {
		client_missing($driver->{name});
	} elsif ($driver == ($too_old || 0)) {
		client_result($driver->{name}, 'too old', 'everything', '- too old');
	} elsif ($driver->{name} =~ /$selected/) {
		my @results = map { JSON::PP->new->decode(slurp("$TMP/$_.$i")) } qw(direct pgssl);
		subtest $driver->{name} => sub { judge($driver, @results) };
		$i++;
	}
}
my $canceled = () = $pg->log =~ /canceling statement due to user request/g;
cmp_ok($canceled, '>=', 2 * grep({ !$_->{cannot}{cancel} } @present), 'canceled queries');
done_testing;
