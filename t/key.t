# SPDX-License-Identifier: ISC
#
# The private key: owner and mode of its file (as PostgreSQL checks server.key), passphrases, a key
# that does not match, and files that are replaced while clients connect. (With another wrapper 18
# of 200 such connections failed.)
# sabotage: s/S_IWGRP | S_IXGRP | S_IRWXO/0/ tls/credential.c
# sabotage: s/complete = complete \&\& await_command(pid, status, when);/waitpid(pid, status, 0);/ tls/passphrase.c
# sabotage: s/return asked ? fail/return true ? fail/ tls/credential.c
# sabotage: s/PEM_read_bio_X509_AUX/PEM_read_bio_X509/ tls/credential.c
# sabotage: s/return X509_get0_pubkey(c->leaf) != NULL ||/return true ||/ tls/credential.c
use lib 't/lib';
use File::Temp qw(tempdir);
use MIME::Base64;
use T;

limit(600);

my $c = server_pem();
my $fake = fake_backend();

# Try a handshake with a pgssl that has these arguments: (success, the log, the exit status).
sub try_with {
	my (@args) = @_;
	unlink "$TMP/try.log";
	my @more = ('-r', '127.0.0.1:' . $fake->port, '-o', "$TMP/try.log", '-D', 'debug');
	my $s = session(argv => [ @args, @more ], stderr => 'client');
	my $ok = $s->conn->negotiate ? 1 : 0;
	$s->conn->close;
	my $status = $s->wait;
	return ($ok, slurp("$TMP/try.log"), $status);
}

sub refused {
	my ($what, $status, $pattern, @args) = @_;
	my ($ok, $log, $got) = try_with(@args);
	ok(!$ok, "$what: no handshake");
	is($got, $status, "exit status $status");
	like($log, $pattern, 'the log has the reason');
}

sub accepted {
	my ($what, @args) = @_;
	my ($ok, $log) = try_with(@args);
	ok($ok, "$what: accepted") or diag($log);
}

subtest 'owner and mode' => sub {
	my $pem = make_pem($c->{cert}, "$TMP/mode.pem");
	for my $mode (0600, 0400, 0700) {
		chmod $mode, $pem;
		accepted(sprintf('mode %o', $mode), '-p', $pem);
	}
	for my $mode (0644, 0604, 0660, 0620, 0601, 0666) {
		chmod $mode, $pem;
		refused(sprintf('mode %o', $mode), 77,
			qr/\Q$pem\E.*(?:0600|permission|group|world)/i, '-p', $pem);
	}
	chmod 0640, $pem;
	is_root() ? accepted('mode 640 of root', '-p', $pem) : refused('mode 640', 77, qr/\Q$pem\E/,
		'-p', $pem);
	if (is_root()) {
		chmod 0600, $pem;
		chown 1, 1, $pem;
		refused("another user's file", 77, qr/\Q$pem\E.*own/i, '-p', $pem);
	}
};

# The certificate (PEM) with one bit of its public key's point changed.
sub damage {
	my ($pem) = @_;
	my ($text) = $pem =~ /-----BEGIN CERTIFICATE-----(.*?)-----END/s;
	my $der = decode_base64($text);
	my $point = index $der, "\x03\x42\x00\x04";
	die "no uncompressed point of 256 bits\n" if $point < 0;
	substr($der, $point + 20, 1) ^= "\x01";
	return "-----BEGIN CERTIFICATE-----\n" . encode_base64($der) . "-----END CERTIFICATE-----\n";
}

subtest "a certificate whose public key OpenSSL cannot use" => sub {
	my $ec = make_cert(name => 'ec', key => 'ecdsa');
	my $damaged = spew("$TMP/damaged.pem", slurp($ec->{key}) . damage(slurp($ec->{chain})),
		0600);
	my ($key, $public, $crt) = map { "$TMP/x25519.$_" } qw(key public crt);
	T::run($_, quiet => 1) for [ qw(openssl genpkey -algorithm X25519 -out), $key ],
		[ qw(openssl pkey -pubout -in), $key, '-out', $public ],
	    [ qw(openssl x509 -new -subj /CN=x25519 -days 3 -key), $ec->{key}, '-force_pubkey',
		$public, '-out', $crt ];
	my $x25519 = spew("$TMP/x25519.pem", slurp($key) . slurp($crt), 0600);
	for my $case (
		[ 'damaged', $damaged, qr/cannot use the public key of the first certificate in "\Q$damaged\E": .*: it is damaged, or of a type/ ],
		[ 'X25519', $x25519, qr/does not accept the certificate in "\Q$x25519\E" for TLS: unknown certificate type \(its key is of type X25519\)/ ],
	) {
		my ($what, $pem, $words) = @$case;
		refused($what, 78, $words, '-p', $pem);
		my $r = T::run([ $PGSSL, '--check', '-p', $pem, '-r', '127.0.0.1:' . free_port() ],
			quiet => 1);
		like($r->{out} . $r->{err}, $words, '--check reports it too');
	}
	my $pem = make_pem($c->{cert}, "$TMP/live.pem");
	my $s = serve_listen(pg => $fake, pem => $pem);
	ok(connect_to($s->port)->negotiate, '-d: a good certificate');
	rename spew("$TMP/live.new", slurp($damaged), 0600), $pem;
	ok(connect_to($s->port)->negotiate,
		'replaced by a bad certificate: the old one stays in use');
	wait_for('the reason', sub { $s->log =~ /could not reload .*public key of the first certificate/ });
	ok(alive($s->{pid}), 'the listener still runs');
	stop($s->{pid});
};

subtest 'a separate key file: its mode is checked, not that of the certificate' => sub {
	my $cert = spew("$TMP/sep.crt", slurp($c->{cert}{chain}), 0644);
	my $key = spew("$TMP/sep.key", slurp($c->{cert}{key}), 0600);
	accepted('certificate 0644, key 0600', '-p', $cert, "--key=$key");
	chmod 0644, $key;
	refused('key 0644', 77, qr/\Q$key\E/, '-p', $cert, "--key=$key");
};

subtest 'missing and unusable files' => sub {
	refused('no file', 66, qr{\Q$TMP\E/none\.pem.*No such file}, '-p', "$TMP/none.pem");
	refused('a directory', 66, qr/\Q$TMP\E.*(?:directory|regular)/, '-p', $TMP);
	refused('a file without a key', 78, qr/key/i, '-p',
		spew("$TMP/nokey.pem", slurp($c->{cert}{chain}), 0600));
	refused('a file without a certificate', 78, qr/certificate/i, '-p',
		spew("$TMP/nocert.pem", slurp($c->{cert}{key}), 0600));
	refused('an empty file', 78, qr/certificate/i, '-p', spew("$TMP/empty.pem", '', 0600));
	refused('random bytes', 78, qr/certificate/i, '-p',
		spew("$TMP/noise.pem", join('', map { chr int rand 256 } 1 .. 5000), 0600));
	my $other = make_cert(name => 'othercert');
	refused('the key of another certificate', 78, qr/match/i, '-p',
		spew("$TMP/mismatch.pem", slurp($c->{cert}{chain}) . slurp($other->{key}), 0600));
};

subtest 'passphrases' => sub {
	my $pem = make_pem(make_cert(name => 'locked', passphrase => 'open sesame'));
	accepted('the right passphrase', '-p', $pem, '--passphrase-command=echo open sesame');
	accepted('only the first line is used', '-p', $pem,
		'--passphrase-command=printf "open sesame\nsecond\n"');
	refused('a wrong passphrase', 78, qr/passphrase/i, '-p', $pem,
		'--passphrase-command=echo nonsense');
	refused('a command that fails', 78, qr/passphrase/i, '-p', $pem,
		'--passphrase-command=exit 3');
	refused('a command that a signal ends', 78, qr/--passphrase-command was ended by signal 9/, '-p', $pem,
		'--passphrase-command=echo open sesame; kill -9 $$');
	refused('no command: no prompt', 78, qr/passphrase/i, '-p', $pem);
	unlike((try_with('-p', $pem, '--passphrase-command=echo nonsense'))[1],
		qr/nonsense\b(?!.*command)|open sesame/, 'no passphrase in the log');
};

subtest "the passphrase command gets none of the client's descriptors" => sub {
	my $pem = make_pem(make_cert(name => 'locked2', passphrase => 'x'));
	my $cmd = "ls -l /proc/self/fd >$TMP/fds; echo to-stderr >&2; cat >/dev/null; echo x";
	accepted('a command that lists its descriptors', '-p', $pem, "--passphrase-command=$cmd");
	my $fds = slurp("$TMP/fds");
	like($fds, qr{0 -> /dev/null}, 'standard input is /dev/null');
	unlike($fds, qr/socket:/, 'it has no socket');
};

# A passphrase command that did not end after its output kept pgssl waiting forever, since the
# deadline and SIGTERM were checked only until the passphrase was read. They must end that wait too.
subtest 'a passphrase command that prints the passphrase and does not end' => sub {
	my $pem = make_pem(make_cert(name => 'lingers', passphrase => 'x'));
	my $cmd = "echo x; exec >/dev/null; echo \$\$ >$TMP/lingers.new; mv $TMP/lingers.new $TMP/lingers; exec sleep 1000";
	my $s = session(pg => $fake, pem => $pem, args => ["--passphrase-command=$cmd"]);
	wait_for('the command', sub { -s "$TMP/lingers" });
	my ($pid) = slurp("$TMP/lingers") =~ /(\d+)/;
	ok(alive($pid), 'the command runs');
	kill 'TERM', $s->{pid};
	$s->conn->close;
	is($s->wait, 75, 'SIGTERM ends the wait');
	ok(!alive($pid), 'and ends the command');
	like($s->log, qr/terminated by SIGTERM while --passphrase-command ran/, 'logged');
};

# A key that OpenSSL 1.0 had encrypted was reported as a wrong passphrase. What openssl(1) reads must
# be read; what it does not is reported with the algorithm. Old ciphers are in the legacy provider.
subtest 'each form and cipher of an encrypted key' => sub {
	my $rsa = make_cert(name => 'forms', key => 'rsa');
	my $legacy = spew("$TMP/legacy.cnf", "openssl_conf=a\n[a]\nproviders=b\n[b]\ndefault=c\nlegacy=c\n[c]\nactivate=1\n");
	my @more = qw(-provider legacy -provider default -passout pass:open);
	my %form = (
		(map { ("PKCS#8, $_" => [ qw(pkcs8 -topk8), split / /, $_ ]) } '-v2 aes256', '-v2 camellia256', '-v2 des3', '-v2 des', '-v2 rc2', '-scrypt',
			'-v1 PBE-MD5-DES', '-v1 PBE-SHA1-3DES', '-v1 PBE-SHA1-RC2-40', '-v1 PBE-SHA1-RC4-128'),
		(map { ("old form, $_" => [ qw(rsa -traditional), $_ ]) } '-aes128', '-des3', '-camellia256', '-aria256', '-des', '-seed'),
	);
	my ($read, $unread) = (0, 0);
	for my $form (sort keys %form) {
		my ($key, $pem) = ("$TMP/form.key", "$TMP/form.pem");
		my $r = T::run([ 'openssl', @{ $form{$form} }, @more, '-in', $rsa->{key}, '-out', $key ], quiet => 1);
		next if $r->{status}; # this OpenSSL does not have it
		spew($pem, slurp($rsa->{cert}) . slurp($key), 0600);
		for my $env ({}, { OPENSSL_CONF => $legacy }) {
			my $errors = sub {
				my ($word) = @_;
				my $r = T::run([ $PGSSL, '--check', '-p', $pem, '-r', '127.0.0.1:1', "--passphrase-command=echo $word" ], quiet => 1, env => $env);
				return $r->{out} =~ /^ERROR +(.*(?:key|certificate).*)$/m ? $1 : '';
			};
			my $what = $form . (%$env ? ', with the legacy provider' : '');
			if (T::run([ qw(openssl pkey -passin pass:open -noout -in), $pem ], quiet => 1, env => $env)->{status} == 0) {
				$read++;
				is($errors->('open'), '', "$what: read");
				like($errors->('shut'), qr/: wrong passphrase, or damaged file$/, 'a wrong passphrase');
			} else {
				$unread++;
				like($errors->('open'), qr/: unsupported: this OpenSSL has no algorithm [-A-Z0-9]+ without its legacy/i, "$what: not read");
			}
		}
	}
	cmp_ok($read, '>', 10, 'some are read');
	cmp_ok($unread, '>', 0, 'some are not');
};

subtest 'blocks of other kinds, and blocks that run together' => sub {
	my $crt = slurp($c->{cert}{cert});
	my $key = slurp($c->{cert}{key});
	my $joined = qr/has a PEM block that OpenSSL does not read: put its -----BEGIN and -----END on lines of their own/;
	my $trusted = T::run([ qw(openssl x509 -trustout -in), $c->{cert}{cert} ])->{out};
	like($trusted, qr/BEGIN TRUSTED/, 'TRUSTED CERTIFICATE');
	accepted('is read', '-p', spew("$TMP/trusted.pem", $trusted . $key, 0600));
	accepted('also behind the key', '-p', spew("$TMP/trusted.pem", $key . $trusted, 0600));
	accepted('other blocks between', '-p', spew("$TMP/other.pem", "$crt-----BEGIN X-----\nAAAA\n-----END X-----\n$key", 0600));
	refused('certificate and key run together', 78, $joined, '-p', spew("$TMP/joined.pem", $crt =~ s/\n\z//r . $key, 0600));
	refused('key and certificate', 78, $joined, '-p', spew("$TMP/joined.pem", $key =~ s/\n\z//r . $crt, 0600));
	refused('an indented key', 78, $joined, '-p', spew("$TMP/indented.pem", $crt . $key =~ s/^/ /gmr, 0600));
	my $ssh = "$TMP/ssh";
	T::run([ qw(ssh-keygen -q -t ed25519 -N), '', '-f', $ssh ], quiet => 1);
	SKIP: {
		skip 'needs ssh-keygen', 1 unless -e $ssh;
		refused("OpenSSH's own form", 78, qr/could not load private key .*: unsupported \(OPENSSH PRIVATE KEY\)/, '-p', spew("$TMP/ssh.pem", $crt . slurp($ssh), 0600));
	}
	refused('cut off', 78, qr/could not load .*: bad end line/, '-p', spew("$TMP/cut.pem", $crt . substr($key, 0, 100), 0600));
	refused('damaged', 78, qr/could not load private key .*: (?!unsupported).* \(PRIVATE KEY\)/, '-p', spew("$TMP/shorter.pem", $crt . $key =~ s/(\n.{64}\n).{64}\n/$1/r, 0600));
};

# Connect 200 times while a process calls `replace` again and again. Every handshake must succeed.
sub replaced_while_connecting {
	my ($replace, @args) = @_;
	my $s = serve(argv => [ @args, '-r', '127.0.0.1:' . $fake->port, '-o',
		"$TMP/replace.log" ]);
	watch_log("$TMP/replace.log");
	my $pid = fork;
	if (!$pid) {
		$SIG{TERM} = 'DEFAULT';
		alarm 600; # not earlier than this file: it would leave an empty PEM file
		setpriority 0, 0, -10; # a busy machine must not stop root's writer between open and write
		for (my $n = 0;; $n++) { $replace->($n % 2); nap(0.003) }
	}
	my ($good, %name) = (0);
	for (1 .. 200) {
		my $k = connect_to($s->port);
		$good++, $name{ ($k->chain)[0] }++ if $k->negotiate;
		$k->close;
	}
	stop($pid, 'KILL');
	is($good, 200, 'all handshakes succeed');
	is(scalar keys %name, 2, 'both certificates were used');
}

# Files that are replaced again and again are in memory. On a busy disk ext4 leaves a file that is
# rewritten in place empty until an earlier write has ended: for half a second and more.
my $memory = tempdir('pgssl-key-XXXXXX', DIR => -w '/dev/shm' ? '/dev/shm' : $TMP, CLEANUP => 1);
my @pair = map { make_cert(name => "turn$_", cn => "turn$_", issuer => $c->{ca}) } 0, 1;

subtest 'one PEM file replaced by rename' => sub {
	my $pem = make_pem($pair[0], "$memory/rename.pem");
	replaced_while_connecting(sub { make_pem($pair[ $_[0] ], "$memory/rename.new"); rename "$memory/rename.new", $pem }, '-p', $pem);
};

subtest 'one PEM file rewritten in place' => sub {
	my $pem = make_pem($pair[0], "$memory/place.pem");
	replaced_while_connecting(sub { make_pem($pair[ $_[0] ], $pem) }, '-p', $pem);
};

subtest 'certificate and key in two files, replaced one after the other' => sub {
	my ($cert, $key) = ("$memory/two.crt", "$memory/two.key");
	my $put = sub {
		my ($n) = @_;
		rename spew("$cert.new", slurp($pair[$n]{chain}), 0644), $cert;
		nap(0.002);
		rename spew("$key.new", slurp($pair[$n]{key}), 0600), $key;
		nap(0.05);
	};
	$put->(0);
	replaced_while_connecting($put, '-p', $cert, "--key=$key");
};
done_testing;
