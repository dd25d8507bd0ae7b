# SPDX-License-Identifier: ISC
#
# Pid files: their names, that they are safe in /tmp, and that they are removed however a session
# ends.
# sabotage: pidfile.c s/pidfile_remove(handle);/;/
# sabotage: s/!S_ISREG(st.st_mode) || st.st_uid != geteuid() || st.st_nlink != 1/0/ pidfile.c
use lib 't/lib';
use T;
use Socket;

my $pg = start_pg();
my $directory = "$TMP/pids";
mkdir $directory;
chmod 01777, $directory;

sub files { return map { s{.*/}{}r } glob "$_[0]/*" }

# The name that pgssl will use. It has the process id, so it is found in the child before exec.
sub own_name {
	my $port = (unpack_sockaddr_in(getsockname STDIN))[0];
	return "$directory/pgssl.localhost.$port.$$.pid";
}

subtest 'a directory' => sub {
	my $s = session(pg => $pg, args => [ "-P$directory/" ]);
	my $port = (unpack_sockaddr_in(getpeername $s->conn->{read}))[0];
	ok($s->conn->login, 'login');
	is_deeply([ files($directory) ], [ "pgssl.localhost.$port.$s->{pid}.pid" ],
		'the name of the file');
	my ($file) = glob "$directory/*";
	like(slurp($file), qr/^$s->{pid}\n?$/, 'the process id');
	my $owner = (stat $file)[4];
	is($owner, is_root() ? scalar getpwnam('nobody') : $>, 'written as the final user');
	my $list = T::run([ $PGSSL, "--sessions=$directory" ]);
	is($list->{status}, 0, '--sessions');
	like($list->{out}, qr/\b$s->{pid}\b/, 'lists the session');
	$s->conn->close;
	$s->wait;
	is_deeply([ files($directory) ], [], 'removed');
};

subtest 'a directory without a trailing slash, and a file name' => sub {
	for my $case ([ $directory, qr/^pgssl\.localhost\.\d+\.PID\.pid$/ ],
		[ "$directory/mine.pid", qr/^mine\.PID\.pid$/ ]) {
		my ($path, $want) = @$case;
		my $s = session(pg => $pg, args => [ '-P', $path ]);
		ok($s->conn->login, $path);
		my ($name) = files($directory);
		like($name =~ s/\.$s->{pid}\./.PID./r, $want, 'the name of the file');
		$s->conn->close;
		$s->wait;
		is_deeply([ files($directory) ], [], 'removed');
	}
};

subtest 'removed however the session ends' => sub {
	my %end = (
		'Terminate' => sub { $_[0]->send("X\0\0\0\4"); $_[0]->rest },
		'a plain close' => sub { $_[0]->close },
		'a reset' => sub { $_[0]->reset },
		'SIGTERM' => sub { kill 'TERM', $_[1]{pid}; $_[0]->rest },
		"PostgreSQL's end" => sub {
			my $sql = "select pg_terminate_backend(pid) from pg_stat_activity where usename='alice'";
			psql($sql, user => 'postgres', port => $pg->port, sslmode => 'disable');
			$_[0]->rest;
		},
	);
	for my $how (sort keys %end) {
		my $s = session(pg => $pg, args => [ '-P', $directory ]);
		ok($s->conn->login, $how);
		is(scalar(files($directory)), 1, 'created');
		$end{$how}->($s->conn, $s);
		$s->wait;
		is(scalar(files($directory)), 0, 'removed');
	}
};

subtest 'removed after every failure before a session' => sub {
	my %failure = (
		'silence' => sub { },
		'garbage' => sub { $_[0]->send('GET / HTTP/1.0') },
		'a failed handshake' => sub { $_[0]->send(ssl_request() . 'rubbish rubbish rubbish') },
		'a probe' => sub { $_[0]->finish },
		'no TLS' => sub { $_[0]->send(startup_packet(user => 'alice')) },
		'a cancel' => sub { $_[0]->send(cancel_request(12345, 'abcd')) },
		'garbage under TLS' => sub { $_[0]->negotiate; $_[0]->send('GET / HTTP/1.0') },
		'a FATAL of PostgreSQL' => sub { $_[0]->login(database => 'nosuch') },
		'a reset in the handshake' => sub { $_[0]->send(ssl_request()); $_[0]->recv(1); $_[0]->reset },
	);
	for my $how (sort keys %failure) {
		my $s = session(pg => $pg, args => [ '-P', $directory, '--handshake-timeout=1' ]);
		$failure{$how}->($s->conn);
		if ($how !~ /reset/) {
			$s->conn->rest;
			$s->conn->close;
		}
		$s->wait;
		is(scalar(files($directory)), 0, $how);
	}
};

# PostgreSQL cannot be reached, our own time limits, and the wrong kind of server.
subtest 'removed after failures on our side' => sub {
	my %here = (
		'PostgreSQL cannot be reached' => [ connect => '127.0.0.1:' . free_port() ],
		'an idle session' => [ args => ['--idle-timeout=1'] ],
		'client mode, to a server without TLS' => [ client => 1,
			args => [ '-A', server_pem()->{root} ] ],
	);
	for my $how (sort keys %here) {
		my %o = @{ $here{$how} };
		my $s = session(pg => $pg, %o, args => [ '-P', $directory, @{ $o{args} || [] } ]);
		$o{client} ? $s->conn->send(startup_packet(user => 'alice')) : $s->conn->login;
		$s->conn->rest;
		$s->conn->close;
		$s->wait;
		is(scalar(files($directory)), 0, $how);
	}
};

# Ten sessions at a time, which end in different ways. In every tenth turn the files must be seen
# while the sessions live, so that the empty directory proves something.
subtest '1,000 sessions leave an empty directory' => sub {
	my $service = serve(pg => $pg, args => [ "-P$directory/", qw(-D warning) ]);
	my @end = (
		sub { $_[0]->finish },
		sub { $_[0]->send(ssl_request()); $_[0]->reset },
		sub { $_[0]->send('GET / HTTP/1.0'); $_[0]->finish },
		sub { $_[0]->send(ssl_request()); $_[0]->finish },
		sub { $_[0]->send(startup_packet(user => 'alice')); $_[0]->finish },
	);
	my (%seen, $n);
	for my $turn (1 .. 100) {
		my @conns = map { connect_to($service->port) } 1 .. 10;
		if ($turn % 10 == 0) {
			wait_for('ten pid files', sub { files($directory) >= 10 });
			$seen{$_}++ for files($directory);
		}
		$end[ $n++ % @end ]->($_) for @conns;
		wait_for('most of them to end', sub { $service->sessions < 6 }) if $turn % 10 == 0;
	}
	wait_for('the sessions to end', sub { !$service->sessions });
	cmp_ok(scalar keys %seen, '>=', 100, 'pid files were seen');
	is(scalar(files($directory)), 0, 'none is left');
};

# If another user has put something in the place of our file, it stays unchanged, and the session
# continues with a warning.
subtest 'planted files are not touched' => sub {
	plan skip_all => 'needs root' unless is_root();
	my $victim = spew("$TMP/victim", "precious\n", 0666);
	my %plant = (
		'a symbolic link' => sub { symlink $victim, $_[0] },
		'a dangling link' => sub { symlink "$TMP/created", $_[0] },
		'a hard link' => sub { link $victim, $_[0] },
		"another user's file" => sub { spew($_[0], "precious\n", 0666); chown 1, 1, $_[0] },
		'a directory' => sub { mkdir $_[0] },
		'a pipe' => sub { POSIX::mkfifo($_[0], 0666) },
	);
	for my $what (sort keys %plant) {
		my $s = session(pg => $pg, args => [ '-P', $directory ],
			before => sub { $plant{$what}->(own_name()) });
		ok($s->conn->login, "$what: the session continues");
		$s->conn->close;
		is($s->wait, 0, 'status');
		is(slurp($victim), "precious\n", 'the target is unchanged');
		ok(!-e "$TMP/created", 'nothing was created through a link');
		like($s->log, qr/pid/i, 'a warning');
		my @left = glob "$directory/*";
		is(scalar @left, 1, 'it is not removed');
		is(slurp($left[0]), "precious\n", 'its contents are unchanged') if $what =~ /file/;
		T::run([ 'rm', '-rf', @left ]);
	}
};

subtest 'a directory that everybody can write to is refused without the sticky bit' => sub {
	my $open = "$TMP/open";
	mkdir $open;
	chmod 0777, $open;
	my $s = session(pg => $pg, args => [ '-P', $open ]);
	ok($s->conn->login, 'the session continues');
	is(scalar(files($open)), 0, 'no file is created');
	like($s->log, qr/\Q$open\E.*(?:sticky|writ)/, 'a warning with the reason');
	$s->conn->close;
	is($s->wait, 0, 'status');
};

subtest 'a missing directory: only a warning' => sub {
	my $s = session(pg => $pg, args => [ '-P', "$TMP/nosuch/" ]);
	ok($s->conn->login, 'the session continues');
	like($s->log, qr/\Q$TMP\E\/nosuch/, 'a warning');
	$s->conn->close;
	is($s->wait, 0, 'status');
};

subtest '--sessions ignores stale files' => sub {
	spew("$directory/pgssl.localhost.9000.1.pid", "1\n");
	spew("$directory/pgssl.localhost.9000.999999999.pid", "999999999\n");
	my $list = T::run([ $PGSSL, "--sessions=$directory" ]);
	is($list->{status}, 0, 'status');
	unlike($list->{out}, qr/999999999/, 'not listed');
};
done_testing;
