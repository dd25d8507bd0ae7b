# SPDX-License-Identifier: ISC
#
# T::Tools - for t/clients/tools.t: a PostgreSQL with ssl=on, pgssl in front of it with the same
# certificate, and the checks that compare what a tool does through pgssl and through PostgreSQL's
# own TLS.
package T::Tools;

use strict;
use warnings;
use Digest::MD5;
use Exporter 'import';
use File::Basename qw(basename);
use Test::More;
use T;
use T::Clients;

our @EXPORT = qw($pg setup conn conn_string as_postgres direct program tidy check check_uses cannot
	restart same busy interrupt together hold from_backup digest_file digest_of);

our $pg;
my ($pgssl, $with_cert, $down, $control, %file);

# The role postgres needs no password, scram has one, and carol needs a certificate: her sessions
# come from pgssl to the Unix socket after pgssl has verified it.
my $hba = <<~'END';
	local all,replication all trust
	host all,replication postgres 127.0.0.1/32 trust
	host all,replication scram 127.0.0.1/32 scram-sha-256
	hostssl all,replication carol 127.0.0.1/32 cert
	END
my $conf = <<~'END';
	ssl_ca_file = 'root.crt'
	password_encryption = scram-sha-256
	max_connections = 120
	wal_level = logical
	max_wal_senders = 20
	max_replication_slots = 20
	max_wal_size = 4GB
	wal_keep_size = 4GB
	END

sub setup {
	$ENV{HOME} = '/nonexistent'; # a server must not look for a client certificate in ours
	my $made = server_pem();
	my $client = make_cert(name => 'carol', cn => 'carol', issuer => $made->{ca});
	%file = (ca => $made->{root}, wrong => make_ca(name => 'wrong')->{cert}, cert => $client->{chain}, key => $client->{key});
	$pg = start_pg(hba => $hba);
	direct("create role scram superuser replication login password 'secret'; create role carol superuser replication login");
	direct('create table t as select i, i * i as square from generate_series(1, 1000) i; alter table t add primary key (i)');
	direct("select lo_from_bytea(i, convert_to(repeat('large object ' || i, 5000), 'UTF8')) from generate_series(20001, 20020) i");
	spew("$pg->{data}/root.crt", slurp($made->{root}));
	append("$pg->{data}/postgresql.conf", $conf . T::Pg::ssl_files($pg, $made->{cert}));
	restart();
	$pgssl = serve_xinetd(pg => $pg);
	$with_cert = serve_listen(connect => "$pg->{socket}:" . $pg->port, args => [ '-A', $made->{root}, '--clientcert=verify-full' ]);
	$down = serve_listen(connect => '127.0.0.1:' . free_port());
}

# Restart PostgreSQL, and call a function while it is down.
sub restart {
	my ($meanwhile) = @_;
	undef $control;
	$pg->stop('INT');
	$meanwhile->() if $meanwhile;
	$pg->start;
}

# ---- connections

# The parameters of a connection by their names in libpq. via: 'native' or 'pgssl'.
sub conn {
	my ($via, %o) = @_;
	my $port = $via eq 'native' ? $pg->port : ($o{user} || '') eq 'carol' ? $with_cert->port : $pgssl->port;
	return (host => 'localhost', hostaddr => '127.0.0.1', port => $port, user => 'postgres', dbname => 'sales', sslmode => 'verify-full', sslrootcert => $file{ca}, %o);
}

sub conn_string {
	my (%conn) = @_;
	return join ' ', map { "$_='$conn{$_}'" } sort keys %conn;
}

# The same parameters for libpq in a server, which may run as another user than the test.
sub as_postgres {
	my (%conn) = @_;
	for my $name (grep { $conn{$_} } qw(sslcert sslkey)) {
		my $copy = "$conn{$name}.postgres";
		T::Pg::chown_postgres(spew($copy, slurp($conn{$name}), 0600)) unless -e $copy;
		$conn{$name} = $copy;
	}
	return %conn;
}

# Run SQL without TLS on the server or on another one (to => ...); returns the output.
sub direct {
	my ($sql, %o) = @_;
	my $to = $o{to} || $pg;
	my $r = psql($sql, host => $to->{socket}, port => $to->port, user => 'postgres', sslmode => 'disable', dbname => $o{dbname} || 'sales');
	die "$sql: $r->{err}" if $r->{status};
	chomp $r->{out};
	return $r->{out};
}

# Start the server whose data directory pg_basebackup has written, as a standby that reads
# primary.conf.
sub from_backup {
	my ($data, $conf) = @_;
	my $base = "$TMP/" . basename($data, '.data');
	my $self = bless { base => $base, data => $data, log => "$base/log", port => free_port(), socket => $base }, 'T::Pg';
	mkdir $base;
	append("$data/postgresql.conf", "port = $self->{port}\nunix_socket_directories = '$base'\ninclude_if_exists = 'primary.conf'\n$conf");
	spew("$data/standby.signal", '');
	T::Pg::chown_postgres($_) for $base, $data;
	$self->start;
	T::at_end(sub { $self->stop });
	return $self;
}

# ---- outcomes: "ok" and the tool's output, or its error messages

sub tidy {
	my ($text) = @_;
	return $text =~ s/\bport \d+/port N/gr =~ s/\Q$TMP\E[^\s"']*/FILE/gr;
}

# Run a program with the connection in its environment.
sub program {
	my ($conn, $cmd, %o) = @_;
	my $r = run($cmd, env => pg_env(%$conn), quiet => 1, %o);
	return $r->{status} || $r->{signal} ? tidy($r->{err}) : "ok\n$r->{out}";
}

sub digest_of { return Digest::MD5::md5_hex(@_) }

sub digest_file {
	my ($path) = @_;
	open my $fh, '<:raw', $path or return "$path: $!";
	return Digest::MD5->new->addfile($fh)->hexdigest . ' ' . -s $fh;
}

# ---- checks

my $only = $ENV{TOOLS} || qr/./; # a regular expression: make only these checks

# Test both ways with the same function, which gets "native" or "pgssl" and returns an outcome: it
# must match, and be the same.
sub same {
	my ($what, $pattern, $do) = @_;
	my ($native, $through) = map { $do->($_) } qw(native pgssl);
	like($native, $pattern, "$what, native TLS");
	is($through, $native, "$what, pgssl: the same");
}

sub check {
	my ($tool, $of, $check, $do) = @_;
	return if "$tool: $check" !~ /$only/;
	return client_missing($tool) unless defined $of;
	subtest "$tool: $check" => $do and client_result($tool, $of, $check, 'ok');
}

# Report checks that a tool cannot do: check => reason.
sub cannot {
	my ($tool, $of, %why) = @_;
	return unless defined $of;
	client_result($tool, $of, $_, "- $why{$_}") for sort keys %why;
}

# Check all kinds of connections with a function that gets the parameters of one.
# down => what the tool says while PostgreSQL is down.
sub check_uses {
	my ($tool, $of, $use, %o) = @_;
	my $both = sub { my ($what, $pattern, @with) = @_; same($what, $pattern, sub { $use->(conn($_[0], @with)) }) };
	check($tool, $of, 'verify-full', sub {
		$both->('verify-full', qr/^ok/);
		$both->('a wrong CA', $o{wrong_ca} || qr/certificate verify failed/, sslrootcert => $file{wrong});
	});
	check($tool, $of, 'SCRAM', sub {
		$both->('the password', qr/^ok/, user => 'scram', password => 'secret');
		$both->('a wrong password', $o{wrong_password} || qr/password authentication failed for user "scram"/, user => 'scram', password => 'wrong');
	}) unless $o{no_login};
	check($tool, $of, 'client certificate', sub {
		my @cert = (sslcert => $file{cert}, sslkey => $file{key});
		$both->('a certificate', qr/^ok/, user => 'carol', @cert);
		$both->('no certificate', $o{no_certificate} || qr/connection requires a valid client certificate/, user => 'carol');
	}) unless $o{no_cert};
	check($tool, $of, 'PostgreSQL down', sub {
		like($use->(conn('pgssl', port => $down->port)), $o{down} || qr/could not connect to PostgreSQL at 127\.0\.0\.1:\d+: Connection refused/, "pgssl's message");
	}) unless $o{no_down};
}

# ---- interrupting, and many connections

# A session of the test's own, and its first value in answer to a query.
sub session_in {
	my ($dbname) = @_;
	my $conn = connect_to($pg->port);
	$conn->login(user => 'postgres', database => $dbname) or die "login: $conn->{error}\n";
	return $conn;
}

sub value {
	my ($conn, $sql) = @_;
	my $value;
	$conn->query($sql);
	while (my ($type, $body) = $conn->message) {
		die "$sql: $body\n" if $type eq 'E';
		$value = substr $body, 6 if $type eq 'D';
		return $value if $type eq 'Z';
	}
	die "$sql: the session ended\n";
}

# Lock tables of a database; returns a session that has the locks until it is closed.
sub hold {
	my ($dbname, @tables) = @_;
	my $conn = session_in($dbname);
	value($conn, join '; ', 'begin', map { "lock table $_" } @tables);
	return $conn;
}

# The number of sessions for which the condition on pg_stat_activity is true.
sub busy {
	my ($condition) = @_;
	$control ||= session_in('postgres');
	return value($control, "select count(*) from pg_stat_activity where pid <> pg_backend_pid() and ($condition)");
}

# Interrupt a program when a session is as the condition says; the session must end. Returns how the
# program ended and its messages.
sub interrupt {
	my ($conn, $cmd, $condition, %o) = @_;
	my $err = spew("$TMP/interrupt.err", '');
	my $pid = spawn(cmd => $cmd, env => pg_env(%$conn), out => '/dev/null', err => $err, quiet => 1, %o);
	wait_for("$condition", sub { busy($condition) || defined reap($pid) });
	defined reap($pid) and return "ended early\n" . tidy(slurp($err));
	kill 'INT', $pid;
	my $status = wait_exit($pid);
	wait_for('the sessions to end', sub { !busy($condition) });
	return "interrupted: $status\n" . tidy(slurp($err));
}
# Run a program until fifty of its sessions wait for a lock, then release it.
sub together {
	my ($conn, $cmd, $lock) = @_;
	my $err = spew("$TMP/together.err", '');
	my $pid = spawn(cmd => $cmd, env => pg_env(%$conn), out => '/dev/null', err => $err, quiet => 1);
	wait_for('fifty sessions', sub { busy("wait_event_type='Lock'") == 50 || defined reap($pid) });
	my $early = defined reap($pid) ? 'early ' : '';
	$lock->close;
	return "${early}ended: " . wait_exit($pid) . "\n" . tidy(slurp($err));
}
1;
