# SPDX-License-Identifier: ISC
#
# pgssl -d -f as process 1 of a container: only the program and its libraries, a root file system
# that is mounted read-only, an arbitrary user without capabilities and without an entry in
# /etc/passwd, no syslog, no /tmp, no /etc. Certificate and key are a Kubernetes secret with
# defaultMode 0440 and fsGroup: links through "..data", which a renewal replaces.
# sabotage: listen/listen.c s/waitpid(-1, &status/waitpid(0, \&status/
# sabotage: sandbox/landlock.c s/!allow_beneath(fd, dirname(name), rights, e)/dirname(name) == NULL/
# sabotage: tls/credential.c s/S_IWGRP | S_IXGRP | S_IRWXO : /S_IRWXG | S_IRWXO : /
# sabotage: listen/listen.c s/int grace = s->options.grace;/int grace = 0;/
use lib 't/lib';
use T;
use File::Copy qw(copy);

needs(is_root() && !T::run([qw(unshare --mount --pid --fork true)], quiet => 1)->{status}, 'root and namespaces');

my ($uid, $group) = (14711, 24711); # of nobody here, runAsUser and fsGroup
my $root = "$TMP/root";
my $ca = server_pem()->{ca};
my $pg = start_pg();

# ---- the image ----

T::run([ 'mkdir', '-p', map { "$root/$_" } qw(proc dev tls run) ]);
copy($PGSSL, "$root/pgssl") && chmod 0755, "$root/pgssl" or die "$PGSSL: $!\n";
for my $library (T::run([ 'ldd', $PGSSL ])->{out} =~ m{(/\S+)}g) {
	my ($directory) = $library =~ m{(.*)/};
	T::run([ 'mkdir', '-p', "$root$directory" ]);
	copy($library, "$root$library") && chmod 0755, "$root$library" or die "$library: $!\n";
}
spew("$root/dev/$_", '') for qw(null urandom);

# ---- the volumes ----

mkdir "$TMP/run";
chown $uid, $uid, "$TMP/run";
mkdir "$TMP/secret";
chown 0, $group, "$TMP/secret";
chmod 03777, "$TMP/secret";

# What the kubelet does: a new directory, then the link to it replaced by rename(2).
my $version = 0;
sub write_secret {
	my ($cert) = @_;
	my $new = '..version' . ++$version;
	mkdir "$TMP/secret/$new";
	for my $case ([ 'tls.crt', $cert->{chain} ], [ 'tls.key', $cert->{key} ]) {
		my $file = spew("$TMP/secret/$new/$case->[0]", slurp($case->[1]), 0440);
		chown 0, $group, $file;
		symlink "..data/$case->[0]", "$TMP/secret/$case->[0]";
	}
	symlink $new, "$TMP/secret/..data_tmp" or die "symlink: $!\n";
	rename "$TMP/secret/..data_tmp", "$TMP/secret/..data" or die "rename: $!\n";
	T::run([ 'rm', '-r', "$TMP/secret/..version" . ($version - 1) ]) if $version > 1;
}

# ---- the container ----

my $mounts = <<'END';
set -e
mount --bind "$T/root" "$T/root" && cd "$T/root"
mount -t proc proc proc
for f in null urandom; do mount --bind /dev/$f dev/$f; done
mount --bind "$T/secret" tls && mount -o remount,bind,ro tls
mount --bind "$T/run" run
mount -o remount,bind,ro "$T/root"
exec "$@"
END

sub as { my ($user, $to) = @_; return (qw(setpriv --no-new-privs --inh-caps=-all chroot), "--userspec=$user:$user", "--groups=$group", $to) }

# Start it; $o{user} and arguments. Its standard error is a pipe or a file of the runtime.
sub container {
	my ($user, @args) = @_;
	local $T::PGSSL = '/pgssl';
	my $s = serve_listen(listening => 0, env => { T => $TMP, map { $_ => undef } grep { $_ ne 'PATH' } keys %ENV },
		argv => [ '-p', '/tls/tls.crt', '--key=/tls/tls.key', '-r', $pg->port, @args ],
		wrap => [ qw(unshare --mount --propagation private --pid --fork --kill-child sh -c), $mounts, 'sh', as($user, $root) ]);
	wait_for('it to listen or to end', sub { slurp($s->{err}) =~ /listening on/ || defined T::reap($s->{pid}) });
	($s->{first}) = T::descendants($s->{pid});
	return $s;
}

# What `kubectl exec` and `docker exec` do, with our commands and with the container's.
sub in_container { my ($s, @cmd) = @_; return ('nsenter', '-p', '-t', $s->{first}, @cmd) }
sub execute { my ($s, @cmd) = @_; return T::run([ in_container($s, as($uid, "/proc/$s->{first}/root"), @cmd) ], quiet => 1) }

# The subject of the certificate that the server sends.
sub served {
	my ($s) = @_;
	my $conn = connect_to($s->port);
	$conn->negotiate or return $conn->{tls_error};
	return Net::SSLeay::X509_NAME_oneline(Net::SSLeay::X509_get_subject_name(Net::SSLeay::get_peer_certificate($conn->{ssl})));
}

write_secret(T::Cert::make_cert(issuer => $ca, name => 'first'));
my $s = container($uid, '--grace=600', '-P/run/');

subtest 'process 1' => sub {
	like(slurp("/proc/$s->{first}/status"), qr/^NSpid:\s+\d+\s+1$/m, 'it is process 1');
	is(psql('select 6*7', port => $s->port, sslmode => 'verify-full', rootcert => $ca->{cert})->{out}, "42\n", 'it serves');
	wait_for('the log', sub { slurp($s->{err}) =~ /disconnection:/ });
	like(slurp($s->{err}), qr/^pgssl\[\d+\]: connection authorized: user=alice database=sales/m, 'the log is on standard error');
	unlike(slurp($s->{err}), qr/sandbox|could not|cannot|warning/i, 'it misses nothing');
};

subtest 'an orphan' => sub {
	POSIX::mkfifo("$TMP/fifo", 0600);
	T::run([ in_container($s, 'setsid', 'sh', '-c', "cat <'$TMP/fifo' >/dev/null 2>&1 &") ]);
	my ($orphan) = wait_for('it to be adopted', sub { my ($o) = grep { slurp("/proc/$_/stat") =~ /^\d+ \((?:sh|cat)\) \S $s->{first} / } T::descendants($s->{first}); $o });
	spew("$TMP/fifo", '');
	wait_for('its end', sub { !-e "/proc/$orphan" });
	pass('process 1 reaps it');
};

subtest 'commands in the container' => sub {
	my $conn = connect_to($s->port);
	ok($conn->login, 'a session');
	my $r = execute($s, '/pgssl', '--sessions=/run');
	like($r->{out}, qr/^\d+ +alice +sales +127\.0\.0\.1\(\d+\) +TLSv1\.3 /m, '--sessions') or diag($r->{err});
	$r = execute($s, '/pgssl', '--check', '-p', '/tls/tls.crt', '--key=/tls/tls.key', '-r', $pg->port);
	is($r->{err}, '', '--check');
	unlike($r->{out}, qr/^ERROR/m, 'no error') or diag($r->{out});
	$conn->close;
};

subtest 'a renewal' => sub {
	like(served($s), qr/CN=localhost/, 'the first certificate');
	write_secret(T::Cert::make_cert(issuer => $ca, name => 'second', cn => 'renewed'));
	like(served($s), qr/CN=renewed/, 'the next client gets the second one');
	write_secret(T::Cert::make_cert(issuer => $ca, name => 'third', cn => 'again', key => 'rsa'));
	like(served($s), qr/CN=again/, 'and the third one, of another kind');
	unlike(slurp($s->{err}), qr/could not|keep/, 'nothing is reported');
};

subtest 'SIGTERM, with --grace' => sub {
	my $conn = connect_to($s->port);
	ok($conn->login, 'a session');
	kill 'TERM', $s->{first};
	wait_for('it to stop listening', sub { !T::Serve::listening($s->port) });
	$conn->send("Q\0\0\0\x0dselect 1\0");
	like($conn->recv(5), qr/^T/, 'the session goes on');
	$conn->send("X\0\0\0\4");
	$conn->rest;
	is(wait_exit($s->{pid}), 0, 'status 0 after it');
	like(slurp($s->{err}), qr/: stopped\n\z/, 'the last line');
};

subtest 'as root' => sub {
	my $r = container(0);
	is(wait_exit($r->{pid}) >> 8, 67, 'there is no nobody to become');
	like(slurp($r->{err}), qr/user "nobody" does not exist; choose another one with -s/, '... and it says so');
	$r = container(0, '-s', $uid, '-g', $group);
	is(psql('select 6*7', port => $r->port)->{out}, "42\n", 'numbers will do');
	kill 'TERM', $r->{first};
	is(wait_exit($r->{pid}), 0, 'status');
};
done_testing;
