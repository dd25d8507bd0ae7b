# SPDX-License-Identifier: ISC
#
# T::Serve - the ways to start pgssl: xinetd, inetd, systemd-socket-activate, a minimal inetd in
# Perl (serve: fast, and the test decides where descriptor 2 goes), with -d, and directly on a
# socket or pipes with the test as its client.
package T::Serve;

use strict;
use warnings;
use IO::Socket::INET;
use POSIX qw(_exit);
use Socket;

our @EXPORT = qw(serve serve_xinetd serve_inetd serve_systemd serve_listen session start after_startup server_pem build_program);

# The certificate that most tests use, made once per test file: { ca, cert, pem, root }.
my $made;

sub server_pem {
	return $made ||= do {
		my $ca = T::Cert::make_ca(name => 'ca');
		my $cert = T::Cert::make_cert(name => 'server', issuer => $ca);
		{ ca => $ca, cert => $cert, pem => T::Cert::make_pem($cert), root => $ca->{cert} };
	};
}

my $services = 0;

# Common to all ways: port, log and arguments. pg: an object with a port, for -r; connect: another
# -r; client: -c; args: further arguments; argv: the arguments instead of all these.
sub service {
	my (%o) = @_;
	my $self = bless { port => $o{port} || T::free_port(),
		log => "$T::TMP/pgssl" . ++$services . '.log', host => '127.0.0.1' }, 'T::Serve';
	$self->{args} = $o{argv} || [
		$o{client} ? ('-c', $o{pem} ? ('-p', $o{pem}) : ())
			: ('-p', $o{pem} || server_pem()->{pem}), '-r',
			$o{connect} || '127.0.0.1:' . ($o{pg} ? $o{pg}->port : 1),
			$o{nolog} ? () : ('-o', $self->{log}), '-D', 'debug', @{ $o{args} || [] } ];
	T::watch_log($self->{log});
	return $self;
}

sub port { return $_[0]{port} }
sub log { return T::slurp($_[0]{log}) }

# Wait for a log line that matches and return the last such line.
sub logged {
	my ($self, $pattern) = @_;
	my @found;
	T::wait_for("log line $pattern",
		sub { @found = grep { /$pattern/ } split /\n/, T::slurp($self->{log}) });
	return $found[-1];
}

# The pgssl processes below this service.
sub sessions {
	my ($self) = @_;
	return T::descendants($self->{pid});
}

sub wait_port {
	my ($self) = @_;
	T::wait_for("port $self->{port} to listen", sub { listening($self->{port}) });
	return $self;
}

# Does a socket listen on this port? A trial connection would start a session, so look into /proc.
# Listening sockets come first in these tables, which can be long.
sub listening {
	my ($port) = @_;
	my $local = sprintf ':%04X', $port;
	for my $table ('/proc/net/tcp', '/proc/net/tcp6') {
		open my $fh, '<', $table or next;
		readline $fh;
		while (defined(my $line = readline $fh)) {
			last if $line !~ /^\s*\d+: [0-9A-F]+(:[0-9A-F]+) [0-9A-F:]+ 0A /;
			return 1 if $1 eq $local;
		}
	}
	return 0;
}

# A minimal inetd. stderr => 'client' (the default, as inetd does) or a path; env; program.
sub serve {
	my (%o) = @_;
	my $self = service(%o);
	my $listener = IO::Socket::INET->new(LocalAddr => $o{bind} || '127.0.0.1',
		LocalPort => $self->{port}, Listen => 1024, ReuseAddr => 1) or die "serve: $!\n";
	$self->{pid} = fork;
	die "fork: $!\n" unless defined $self->{pid};
	if ($self->{pid}) {
		close $listener;
		return $self;
	}
	alarm 0;
	$SIG{$_} = 'DEFAULT' for qw(TERM INT HUP ALRM);
	$SIG{CHLD} = 'IGNORE';
	while (1) {
		my $socket = $listener->accept or next;
		next if fork;
		my $err = !defined $o{stderr} || $o{stderr} eq 'client' ? $socket : $o{stderr};
		$SIG{CHLD} = 'DEFAULT';
		T::child(%o, cmd => [ $o{argv0} || 'pgssl', @{ $self->{args} } ],
			program => $o{program} || $T::PGSSL, in => $socket, out => $socket,
			err => $err);
		_exit(127);
	}
}

# The user that replaces pgssl's user in the shipped files: nobody, with group access to the key. If
# the test does not run as root: the current user.
sub shipped_user {
	my ($self, $pem) = @_;
	return scalar getpwuid($>) unless T::is_root();
	my ($uid, $gid) = (getpwnam 'nobody')[2, 3];
	chown 0, $gid, $pem and chmod 0640, $pem if $pem;
	chown $uid, $gid, T::spew($self->{log}, '', 0640);
	return 'nobody';
}

# One object for each of `ports`, or one with a free port.
sub services_of {
	my (%o) = @_;
	return map { service(%o, port => $_) } @{ $o{ports} || [ $o{port} ] };
}

# The services of a super-server that is process `pid`: a list if `ports` were given.
sub started {
	my ($o, $pid, @all) = @_;
	$_->{pid} = $pid for @all;
	$_->wait_port for @all;
	return $o->{ports} ? @all : $all[0];
}

# The arguments that a shipped file has, with our certificate, PostgreSQL's port and a directory for
# the pid files, and what the test adds. Client mode's are replaced.
sub shipped_args {
	my ($self, $args, %o) = @_;
	return join ' ', @{ $self->{args} } if $o{client};
	my ($pem, $port) = ($o{pem} || server_pem()->{pem}, $o{pg}->port);
	$self->{pids} = "$T::TMP/pids";
	mkdir $self->{pids} and chmod 01777, $self->{pids};
	$args =~ s{/etc/pgssl/pgssl\.pem}{$pem} && $args =~ s{-r 5432\b}{-r $port} && $args =~ s{-P/run/pgssl/}{-P$self->{pids}/} or die "shipped arguments: $args\n";
	return join ' ', $args, '-o', $self->{log}, '-D', 'debug', @{ $o{args} || [] };
}

# xinetd in the foreground. shipped => 'pgssl': the project's own file of that name in xinetd.d,
# with program, user, port and paths put in, and `args` added. ports => [...]: a service for each.
sub serve_xinetd {
	my (%o) = @_;
	my @all = services_of(%o);
	my $log = "$T::TMP/xinetd$services.log";
	my $conf = T::spew("$T::TMP/xinetd$services.conf", "defaults\n{\n\tlog_type = FILE $log\n\tlog_on_failure = HOST\n}\n" . join '', map { "\n" . $_->xinetd_entry(%o) } @all);
	T::watch_log($log);
	return started(\%o, T::spawn(cmd => [ 'xinetd', '-dontfork', '-stayalive', '-f', $conf, '-pidfile', "$T::TMP/xinetd$services.pid" ], env => $o{env}), @all);
}

sub xinetd_entry {
	my ($self, %o) = @_;
	my $entry = $o{shipped} ? T::slurp("$T::ROOT/xinetd.d/$o{shipped}") : "service pgssl\n{\n\tsocket_type = stream\n\tprotocol = tcp\n\twait = no\n\tinstances = UNLIMITED\n\tcps = 10000 1\n\tper_source = UNLIMITED\n}\n";
	my %set = (server => $o{program} || $T::PGSSL, port => $self->{port}, bind => '127.0.0.1', type => 'UNLISTED', disable => 'no', user => scalar getpwuid($>));
	my ($shipped_args) = $entry =~ /^\s*server_args\s*=\s*(.*)/m;
	$set{server_args} = $o{shipped} ? $self->shipped_args($shipped_args, %o) : join ' ', @{ $self->{args} };
	$set{user} = $self->shipped_user($o{client} ? $o{pem} : $o{pem} || server_pem()->{pem}) if $o{shipped};
	for my $key (sort keys %set) {
		$entry =~ s/^\s*\Q$key\E\s*=.*\n//mg;
		$entry =~ s/^\}/\t$key = $set{$key}\n}/m;
	}
	$entry =~ s/^service \S+/service pgssl-$self->{port}/m;
	return $entry;
}

# The binary of openbsd-inetd, or inetd => 'inetutils'. argv: the words of inetd.conf after the
# program's path, argv[0] first. shipped => 'nowait' or 'wait': that line of inetd.conf.example,
# with port, user and paths put in, and `args` added. ports => [...]: a line for each.
sub serve_inetd {
	my (%o) = @_;
	my @all = services_of(%o);
	my $conf = T::spew("$T::TMP/inetd$services.conf", join '', map { $_->inetd_line(%o) . "\n" } @all);
	return started(\%o, ($o{inetd} || '') eq 'inetutils' ? inetutils($conf, %o) : openbsd_inetd($conf, %o), @all);
}

sub openbsd_inetd {
	my ($conf, %o) = @_;
	my ($inetd) = grep { -x } "$T::ROOT/build/inetd/usr/sbin/inetd", '/usr/sbin/inetd', '/usr/libexec/inetd';
	die "no inetd: run t/setup\n" unless $inetd;
	return T::spawn(cmd => [ $inetd, '-i', $conf ], env => $o{env});
}

# It goes to the background and is our child all the same (see T.pm).
sub inetutils {
	my ($conf, %o) = @_;
	my ($inetd) = grep { -x } "$T::ROOT/build/inetutils/usr/sbin/inetutils-inetd", '/usr/sbin/inetutils-inetd';
	die "no inetutils-inetd: run t/setup\n" unless $inetd;
	my $file = "$T::TMP/inetutils$services.pid";
	T::run([ $inetd, "--pidfile=$file", $conf ], env => $o{env});
	return T::wait_for('the pid file of inetutils-inetd', sub { T::slurp($file) =~ /^(\d+)/ && $1 });
}

sub inetd_line {
	my ($self, %o) = @_;
	return $self->shipped_line(%o) if $o{shipped};
	my @words = $o{argv} ? @{ $self->{args} } : ('pgssl', @{ $self->{args} });
	return join ' ', "127.0.0.1:$self->{port}", 'stream tcp nowait.100000', scalar getpwuid($>), $o{program} || $T::PGSSL, @words;
}

sub shipped_line {
	my ($self, %o) = @_;
	my ($flags, $args) = T::slurp("$T::ROOT/inetd.conf.example") =~ m{^#?pgssl\s+stream\s+tcp\s+($o{shipped}\S*)\s+pgssl\s+/usr/local/sbin/pgssl\s+(pgssl .*)$}m or die "inetd.conf.example has no such line\n";
	return join ' ', "127.0.0.1:$self->{port}", 'stream tcp', $flags, $self->shipped_user($o{pem} || server_pem()->{pem}), $o{program} || $T::PGSSL, $self->shipped_args($args, %o);
}

# systemd-socket-activate, where descriptor 2 is not the client.
sub serve_systemd {
	my (%o) = @_;
	my $self = service(%o);
	$self->{err} = "$T::TMP/systemd$services.err";
	my @cmd = ('systemd-socket-activate', '--accept', '--inetd', '-l',
		"127.0.0.1:$self->{port}");
	$self->{pid} = T::spawn(cmd => [ @cmd, $o{program} || $T::PGSSL, @{ $self->{args} } ],
		env => $o{env}, err => $self->{err});
	return $self->wait_port;
}

# pgssl -d in the foreground. bind: an address; wrap: a command that runs pgssl; listening => 0: do
# not wait until it listens.
sub serve_listen {
	my (%o) = @_;
	my $self = service(%o);
	$self->{err} = "$T::TMP/listen$services.err";
	my $at = defined $o{bind} ? "$o{bind}:$self->{port}" : $self->{port};
	$self->{pid} = T::spawn(%o,
		cmd => [ @{ $o{wrap} || [] }, $o{program} || $T::PGSSL, '-d', $at, '-f',
		@{ $self->{args} } ], err => $self->{err});
	T::watch_log($self->{err});
	return $self if defined $o{listening} && !$o{listening};
	T::wait_for('pgssl to listen', sub {
		die "pgssl -d ended\n" if defined T::reap($self->{pid});
		T::slurp($self->{log}) =~ /listening on/;
	});
	return $self;
}

# One pgssl with the test as its client. over => 'tcp' (default), 'pair' (socketpair), 'pairs' (two
# of them), 'pipes'. stderr as in serve, but the default is the file {err}. keep: keep pgssl's ends
# open in {child_in} and {child_out}. first: bytes that are sent before it starts. Returns an object
# with conn (a T::Conn), pid, log, wait().
sub session {
	my (%o) = @_;
	my $self = service(%o);
	$self->{err} = "$T::TMP/session$services.err";
	my ($in, $out, $read, $write) = endpoints($o{over} || 'tcp', $o{rcvbuf});
	my $err = defined $o{stderr} ? ($o{stderr} eq 'client' ? $out : $o{stderr}) : $self->{err};
	my @wrap = @{ $o{wrap} || [] };
	my $program = @wrap ? $wrap[0] : $o{program} || $T::PGSSL;
	syswrite $write, $o{first} if defined $o{first};
	my @cmd = @wrap ? (@wrap, $o{program} || $T::PGSSL) : ($o{argv0} || 'pgssl');
	$self->{pid} = T::spawn(%o, cmd => [ @cmd, @{ $self->{args} } ], program => $program,
		in => $in, out => $out, err => $err);
	T::watch_log($self->{err});
	@$self{qw(child_in child_out)} = ($in, $out) if $o{keep};
	close $in unless $o{keep};
	close $out if $out != $in && !$o{keep};
	$self->{conn} = T::Conn->new($read, $write, chop => $o{chop});
	return $self;
}

# A fake PostgreSQL that reads the startup packet sent by `start`, then calls $then.
sub after_startup {
	my ($then) = @_;
	return T::Pg::fake_backend(sub {
		my ($socket, $fake) = @_;
		$fake->take($socket, length T::Conn::startup_packet(user => 'alice'));
		$then->($socket, $fake);
	});
}

# A session after the handshake and the startup packet.
sub start {
	my (%o) = @_;
	my $s = session(%o);
	Test::More::ok($s->conn->negotiate(%{ $o{tls} || {} }), 'handshake')
		or Test::More::diag($s->conn->{tls_error});
	$s->conn->send(T::Conn::startup_packet(user => 'alice'));
	return $s;
}

sub conn { return $_[0]{conn} }
# The exit status, or "signal N".
sub wait {
	my ($self, $seconds) = @_;
	my $status = T::wait_exit($self->{pid}, $seconds);
	return $status & 127 ? 'signal ' . ($status & 127) : $status >> 8;
}

# (pgssl's descriptor 0, pgssl's descriptor 1, our end for reading, our end for writing)
sub endpoints {
	my ($over, $rcvbuf) = @_;
	if ($over eq 'pipes') {
		pipe(my $in, my $write) && pipe(my $read, my $out) or die "pipe: $!\n";
		return ($in, $out, $read, $write);
	}
	my ($a, $b) = $over eq 'tcp' ? tcp_pair($rcvbuf) : pair();
	return ($a, $a, $b, $b) unless $over eq 'pairs';
	my ($c, $d) = pair();
	return ($a, $c, $d, $b);
}

sub pair {
	socketpair(my $a, my $b, AF_UNIX, SOCK_STREAM, PF_UNSPEC) or die "socketpair: $!\n";
	return ($a, $b);
}

sub tcp_pair {
	my ($rcvbuf) = @_;
	my $listener = IO::Socket::INET->new(LocalAddr => '127.0.0.1', LocalPort => T::free_port(),
		Listen => 1, ReuseAddr => 1) or die "listen: $!\n";
	socket(my $b, PF_INET, SOCK_STREAM, 0) or die "socket: $!\n";
	setsockopt $b, SOL_SOCKET, SO_RCVBUF, $rcvbuf if $rcvbuf;
	connect($b, $listener->sockname) or die "connect: $!\n";
	my $a = $listener->accept or die "accept: $!\n";
	return ($a, $b);
}

1;
