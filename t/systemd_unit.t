# SPDX-License-Identifier: ISC
#
# The shipped pgssl.socket and pgssl@.service, installed as README says, under a systemd that is
# process 1: psql connects through the unchanged units, and the log is in the journal. A client's
# fault, or a PostgreSQL that is down, leaves no failed unit. A broken installation does.
# sabotage: contrib/systemd/pgssl@.service s/^SuccessExitStatus=69 76 77/SuccessExitStatus=76 77/
# sabotage: contrib/systemd/pgssl@.service s/^SuccessExitStatus=69 76 77/SuccessExitStatus=69/
# sabotage: contrib/systemd/pgssl@.service s/^SuccessExitStatus=69 76 77/SuccessExitStatus=66 69 76 77/
# sabotage: contrib/systemd/pgssl@.service s/-P.run.pgssl. //
# sabotage: contrib/systemd/pgssl@.service s/^CollectMode=.*//
# sabotage: contrib/systemd/pgssl@.service s/^StandardError=journal/StandardError=null/
# sabotage: contrib/systemd/pgssl@.service s/^ProtectSystem=strict/&\nPrivateTmp=yes/
# sabotage: contrib/systemd/pgssl@.service s/ pipe pipe2 / /
use lib 't/lib';
use T;

my $why = cannot_boot_systemd();
plan skip_all => $why if $why;

my $c = server_pem();
my $secret = T::Cert::make_cert(name => 'secret', issuer => $c->{ca}, passphrase => 'sesame');
my $tree = installed_tree('pgssl.pem' => slurp($c->{pem}), 'secret.pem' => slurp(T::Cert::make_pem($secret)));

my $host = boot_systemd(tree => $tree);
my $pg = start_pg(netns => $host->{pid}, port => 5432);
$host->make_user;
drop_in('keep', "[Unit]\nCollectMode=inactive\n"); # a failed instance stays, to be seen
inside('systemctl enable --now pgssl.socket');

sub inside { $host->inside(@_) }
sub drop_in { $host->drop_in('pgssl@.service', @_) }

sub query { return psql($_[0] || 'select 6*7', port => 9000, sslmode => 'verify-full', rootcert => $c->{root}, netns => $host->{pid}) }

# Send these bytes and read until pgssl closes the connection.
sub stranger {
	my ($bytes) = @_;
	return T::Net::net_eval($host->{pid},
		sub { my $conn = connect_to(9000); $conn->send($bytes); $conn->rest; 'closed' });
}

# The exit statuses of the failed instances that systemd keeps. Waits until no session is left.
sub failed {
	wait_for('the sessions to end', sub { $host->systemctl(qw(show --property=NConnections pgssl.socket))->{out} eq "NConnections=0\n" });
	return join ' ', sort $host->systemctl(qw(show --state=failed --property=ExecMainStatus pgssl@*))->{out} =~ /^ExecMainStatus=(\d+)/mg;
}

is(query()->{out}, "42\n", 'psql with sslmode=verify-full');
like(query($host->list_sessions)->{out}, qr/alice.*sales/, 'pgssl --sessions shows the session');
is(failed(), '', 'no failed instance is left');
like($host->journal('-t', 'pgssl'), qr/^connection authorized: user=alice .*^disconnection: session time: .* user=alice /ms, 'the log is in the journal');

stranger("GET / HTTP/1.0\r\n\r\n");
stranger(ssl_request() . 'x' x 100);
stranger(startup_packet(user => 'alice'));
is(failed(), '', 'strangers leave no failed unit');

$pg->stop;
like(query()->{err}, qr/could not connect to PostgreSQL/,
	'PostgreSQL is down: the client gets the error');
is(failed(), '', '... and no unit fails');
$pg->start;

inside('mv /etc/pgssl/pgssl.pem /etc/pgssl/gone');
query();
is(failed(), '66', 'a missing certificate is a failure');
inside('echo nothing >/etc/pgssl/pgssl.pem');
query();
is(failed(), '66 78', '... and so is an unusable one');
inside('mv /etc/pgssl/gone /etc/pgssl/pgssl.pem');

# Otherwise each connection to a broken installation would leave a unit in the memory of process 1.
inside('rm /etc/systemd/system/pgssl@.service.d/keep.conf; systemctl daemon-reload');
is(failed(), '', 'with the shipped unit, failed instances are not kept');
like($host->journal(), qr/^pgssl@\S+: Main process exited, code=exited, status=66.*^pgssl@\S+: Failed with result 'exit-code'/ms, '... but the journal has them');

subtest 'pgssl connects from 127.0.0.2' => sub {
	$pg->configure('pg_hba.conf', "local all all trust\nhost all all 127.0.0.0/8 trust\n");
	drop_in('local', "[Service]\nExecStart=\nExecStart=/usr/local/sbin/pgssl -r 5432 -I 127.0.0.2\n");
	is(query('select inet_client_addr()')->{out}, "127.0.0.2\n", 'PostgreSQL sees it');
	inside('rm /etc/systemd/system/pgssl@.service.d/local.conf');
};

subtest 'a passphrase command with three programs, and a PostgreSQL whose socket is in /tmp' => sub {
	$host->postgres_in_tmp;
	drop_in('secret', "[Service]\nExecStart=\nExecStart=/usr/local/sbin/pgssl -p /etc/pgssl/secret.pem '--passphrase-command=echo sesame | cat | head -1' -r /tmp\n");
	is(query()->{out}, "42\n", 'psql');
};

$host->stop;
done_testing;
