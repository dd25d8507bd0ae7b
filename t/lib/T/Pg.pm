# SPDX-License-Identifier: ISC
#
# T::Pg - temporary PostgreSQL clusters, psql, and a fake PostgreSQL that records every byte.
#
# A cluster is a copy of build/pgtemplate, which t/setup or the first test makes with initdb. It has
# a role alice and a database sales.
package T::Pg;

use strict;
use warnings;
use Fcntl qw(:flock);
use IO::Socket::INET;
use POSIX qw(_exit);
use Socket qw(SOL_SOCKET SO_LINGER);

our @EXPORT = qw(start_pg psql conninfo psql_cmd pg_env pg_do fake_backend pg_template);

my $HBA = "local all all trust\nhost all all ::1/128 trust\nlocal replication all trust\nhost all all 127.0.0.1/32 trust\nhost replication all 127.0.0.1/32 trust\n";

sub pg_template {
	my $build = "$T::ROOT/build";
	mkdir $build;
	open my $lock, '>', "$build/pgtemplate.lock" or die "$build: $!\n";
	flock $lock, LOCK_EX;
	return "$build/pgtemplate" if -e "$build/pgtemplate/PG_VERSION";
	my $data = "$T::TMP/template";
	mkdir $data, 0700;
	chown_postgres($data);
	my @as = (user => T::nobody());
	run_ok([ 'initdb', '--no-sync', '-U', 'postgres', '-A', 'trust', '-E', 'UTF8', '--locale=C',
		'-D', $data ], @as);
	my $sql = "create role alice login password 'secret'\ncreate database sales owner alice\n";
	run_ok([ 'postgres', '--single', '-F', '-D', $data, 'postgres' ], @as, stdin => $sql);
	run_ok([ 'rm', '-rf', "$build/pgtemplate.new" ]); # left by an interrupted run
	run_ok([ 'cp', '-a', $data, "$build/pgtemplate.new" ]);
	rename "$build/pgtemplate.new", "$build/pgtemplate" or die "pgtemplate: $!\n";
	return "$build/pgtemplate";
}

sub run_ok {
	my $r = T::run(@_);
	die "@{$_[0]}: $r->{err}" if $r->{status};
}

sub chown_postgres {
	my ($path) = @_;
	my $user = T::nobody() or return;
	run_ok([ 'chown', '-R', "$user:", $path ]);
}

my $clusters = 0;

# start_pg(max_connections => N, hba => text, conf => text, listen => addresses, ssl => certificate,
# port => N, netns => HOST) starts a cluster; returns an object with port, socket directory, log,
# pid.
sub start_pg {
	my (%o) = @_;
	my $base = "$T::TMP/pg" . ++$clusters;
	my $self = bless { base => $base, data => "$base/data", log => "$base/log",
		port => $o{port} || T::free_port(), host => '127.0.0.1', socket => $base,
		netns => $o{netns} }, 'T::Pg';
	mkdir $base, 0755;
	chown_postgres($base);
	run_ok([ 'cp', '-a', pg_template(), $self->{data} ]);
	chown_postgres($self->{data}); # a copied checkout loses the template's owner
	T::spew("$self->{data}/pg_hba.conf", $o{hba} || $HBA);
	my $conf = "fsync=off\nport=$self->{port}\nlisten_addresses='"
		. (defined $o{listen} ? $o{listen} : '127.0.0.1')
		. "'\nunix_socket_directories='$base'\n"
		. 'max_connections=' . ($o{max_connections} || 30)
			. "\nsuperuser_reserved_connections=0\nmax_wal_senders=4\nwal_level=replica\nshared_buffers=16MB\n"
		. "log_connections=on\nlog_disconnections=on\nlog_line_prefix='%m [%p] %u\@%d '\nautovacuum=off\njit=off\n"
			. ($o{conf} || '');
	$conf .= "md5_password_warnings=off\n" if $self->version >= 18;
	$conf .= ssl_files($self, $o{ssl}) if $o{ssl};
	T::append("$self->{data}/postgresql.conf", $conf);
	$self->start;
	T::at_end(sub { $self->stop if $self->{pid} });
	return $self;
}

sub ssl_files {
	my ($self, $cert) = @_;
	T::spew("$self->{data}/server.crt", T::slurp($cert->{chain}));
	T::spew("$self->{data}/server.key", T::slurp($cert->{key}), 0600);
	chown_postgres("$self->{data}/server.key");
	return "ssl=on\n";
}

sub start {
	my ($self) = @_;
	unlink $self->{log};
	T::watch_log($self->{log});
	T::spew($self->{log}, '', 0644);
	$self->{pid} = T::spawn(cmd => [ 'postgres', '-D', $self->{data} ], err => $self->{log},
		out => '/dev/null', user => T::nobody(), netns => $self->{netns});
	T::wait_for('PostgreSQL to start', sub {
		die "PostgreSQL ended\n" if defined T::reap($self->{pid});
		T::slurp($self->{log}) =~ /ready to accept/;
	}, 60);
}

# Write pg_hba.conf or pg_ident.conf, and have it read before the next connection.
sub configure {
	my ($self, $file, $text) = @_;
	T::spew("$self->{data}/$file", $text);
	my $before = () = $self->log =~ /received SIGHUP/g;
	kill 'HUP', $self->{pid};
	T::wait_for('PostgreSQL to reload', sub { $before < (() = $self->log =~ /received SIGHUP/g) });
}

sub stop {
	my ($self, $signal) = @_;
	my $pid = delete $self->{pid} or return;
	T::stop($pid, $signal || 'QUIT');
}

sub port { return $_[0]{port} }
sub log { return T::slurp($_[0]{log}) }
sub version { return int T::slurp("$_[0]{data}/PG_VERSION") }

# The number of client backends, without the one that counts them.
sub backends {
	my ($self) = @_;
	my $r = psql("select count(*) from pg_stat_activity where backend_type='client backend' and pid<>pg_backend_pid()",
		host => $self->{socket}, port => $self->{port}, sslmode => 'disable');
	return $r->{out} =~ /^(\d+)/ ? $1 : undef;
}

# The environment for libpq: host, port, user, dbname, sslmode, ..., or any PG* variable by its
# name.
sub pg_env {
	my (%o) = @_;
	my %env = (PGUSER => 'alice', PGDATABASE => 'sales', PGHOST => '127.0.0.1',
		PGSSLMODE => 'require', PGPASSFILE => '/nonexistent/pgpass',
		PGSSLROOTCERT => '/nonexistent', HOME => '/nonexistent');
	my %name = (dbname => 'PGDATABASE', password => 'PGPASSWORD', cert => 'PGSSLCERT',
		key => 'PGSSLKEY', rootcert => 'PGSSLROOTCERT', appname => 'PGAPPNAME');
	for my $key (grep { !/^(?:stdin|seconds|args|quiet|netns)$/ } keys %o) {
		$env{ $name{$key} || ($key =~ /^PG/ ? $key : 'PG' . uc $key) } = $o{$key};
	}
	return \%env;
}

sub psql_cmd { return [ 'psql', '-XAtqw', '-v', 'ON_ERROR_STOP=1', @_ ] }

# psql(SQL, %libpq options, args => [...], stdin => text) returns { out, err, status }. If the SQL
# is undef, psql reads standard input.
sub psql {
	my ($sql, %o) = @_;
	my @stdin = defined $o{stdin} ? (stdin => $o{stdin}) : ();
	return T::run(psql_cmd(defined $sql ? ('-c', $sql) : (), @{ $o{args} || [] }),
		env => pg_env(%o), @stdin, seconds => $o{seconds}, netns => $o{netns}, quiet => 1);
}

# Parse the output of psql's \conninfo, which is sentences before version 18 and a table since then:
# { database, user, host, address, port, protocol, cipher }.
sub conninfo {
	my ($text) = @_;
	my @fields = qw(database user host address port protocol cipher);
	my %is;
	if (@is{@fields[ 0 .. 4 ]} = $text
		=~ /You are connected to database "(.*?)" as user "(.*?)" on host "(.*?)" (?:\(address "(.*?)"\) )?at port "(\d+)"/) {
		@is{qw(protocol cipher)} = $text
			=~ /^ *SSL connection \(protocol: (\S+), cipher: (\S+),/m;
	} else {
		my %row = $text =~ /^ *(\w[^|\n]*?) *\| *(.*?) *$/mg;
		@is{@fields} = @row{ 'Database', 'Client User', 'Host', 'Host Address',
			'Server Port', 'SSL Protocol', 'SSL Cipher' };
	}
	return \%is;
}

# Run another client program of PostgreSQL.
sub pg_do {
	my ($cmd, %o) = @_;
	return T::run($cmd, env => pg_env(%o), stdin => $o{stdin}, seconds => $o{seconds} || 120);
}

# A fake PostgreSQL that records each connection and the bytes that take() reads. For each
# connection a child calls script->(socket, fake); without a script it reads to the end and closes.
# Returns an object with port(), connections(), bytes(N) and ended(N).
sub fake_backend {
	my ($script, %o) = @_;
	my $self = bless { port => T::free_port(), base => "$T::TMP/fake" . ++$clusters },
		'T::Fake';
	my $listener = IO::Socket::INET->new(LocalAddr => '127.0.0.1', LocalPort => $self->{port},
		Listen => 128, ReuseAddr => 1) or die "fake: $!\n";
	my $pid = fork;
	die "fork: $!\n" unless defined $pid;
	if ($pid) {
		close $listener;
		$self->{pid} = $pid;
		return $self;
	}
	alarm 0;
	$SIG{$_} = 'DEFAULT' for qw(TERM INT HUP ALRM);
	$SIG{CHLD} = 'IGNORE';
	serve_fake($self, $listener, $script, $o{rcvbuf});
	_exit(0);
}

sub serve_fake {
	my ($self, $listener, $script) = @_;
	for (my $n = 1; my $socket = $listener->accept; $n++) {
		T::append("$self->{base}.connections", "$n\n");
		pipe my $parent_closed, my $held or die "pipe: $!\n";
		if (fork) {
			close $socket;
			next; # this closes $held, after the socket
		}
		close $held;
		# no reset is sent while the parent has the socket open
		sysread $parent_closed, my $end, 1;
		close $listener;
		$socket->sockopt(Socket::SO_KEEPALIVE(), 0);
		$self->{n} = $n;
		$script ? $script->($socket, $self) : $self->take($socket);
		_exit(0);
	}
}

package T::Fake;

use strict;
use warnings;

# Read `want` bytes, or to the end, and record them.
sub take {
	my ($self, $socket, $want) = @_;
	my $all = '';
	while (!defined $want || length $all < $want) {
		my $got = sysread $socket, my $data, defined $want ? $want - length $all : 65536;
		T::append("$self->{base}.$self->{n}.end", defined $got ? 'closed' : 'reset')
			unless $got;
		last unless $got;
		T::append("$self->{base}.$self->{n}", $data);
		$all .= $data;
	}
	return $all;
}

# Close with a reset.
sub reset {
	my ($self, $socket) = @_;
	setsockopt $socket, Socket::SOL_SOCKET(), Socket::SO_LINGER(), pack('ii', 1, 0);
	close $socket;
}

sub port { return $_[0]{port} }
sub connections { return scalar split /\n/, T::slurp("$_[0]{base}.connections") }
sub bytes { return T::slurp("$_[0]{base}." . ($_[1] || 1)) }
sub ended { return T::slurp("$_[0]{base}." . ($_[1] || 1) . '.end') }

1;
