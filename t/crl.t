# SPDX-License-Identifier: ISC
#
# Revocation lists beyond one full list per authority. A delta list beside the full one let in whom
# the full one revokes, since OpenSSL took the newest (and so does PostgreSQL 15). Each kind is
# honoured, or refused when it is read, whatever the order; --check says the same. Directories, and
# lists of many megabytes.
# sabotage: tls/trust.c s/NID_delta_crl, -1) >= 0/NID_delta_crl, -1) >= 99/
# sabotage: tls/trust.c s/idp->onlysomereasons != NULL/false/
# sabotage: tls/trust.c s/kind == \&lists) \&\&/false) \&\&/
# sabotage: tls/trust.c s/if (n < 0)/if (false)/
# sabotage: tls/credential.c s/return n < 0 ? strerror(errno) : "it has/return n < 0 ? strerror(errno) : NULL; "it has/
# sabotage: sandbox/landlock.c s/ok = d != NULL || errno == ENOTDIR/ok = true || errno == ENOTDIR/
# sabotage: listen/reload.c s/if (S_ISDIR(st.st_mode))/if (false)/
# sabotage: sandbox/landlock.c s/ok = allow_beneath(fd, dirname(target)/ok = true || allow_beneath(fd, dirname(target)/
# sabotage: sandbox/sandbox.c s/MOST_MEMORY + lists_size()/MOST_MEMORY/
# sabotage: pgssl.8 s/^openssl ca -config ca.cnf -revoke.*//
use lib 't/lib';
use T;
use T::X509;
use File::Temp qw(tempdir);

my $pg = start_pg();
my $root = issue(cn => 'Root', ca => 1, until => 300 * 86400);
my ($alice, $bob) = map { issue(cn => $_, issuer => $root, until => 90 * 86400) } qw(alice bob);
my $server = T::Cert::make_pem(T::Cert::make_cert(name => 's', days => 90));
my $full = crl($root, revoked => [$alice], until => 30 * 86400);
my $files;

sub join_files { return spew("$TMP/joined" . ++$files, join '', map { slurp($_) } @_) }

# A list that is newer than the full one.
sub newer { return crl($root, from => -60, until => 30 * 86400, @_) }

sub point { return ext => "issuingDistributionPoint=critical,\@p\n[p]\n$_[0]" }

# 'in', or the alert.
sub outcome {
	my ($port, $who) = @_;
	my $r = psql('select current_user', port => $port, cert => $who->{cert}, key => $who->{key},
		user => 'postgres');
	return $r->{status} == 0 ? 'in' : $r->{err} =~ /alert (.*)/ ? $1 : $r->{err};
}

sub check { return T::run([ $PGSSL, '--check', '-p', $server, '-r', $pg->port, @_ ], quiet => 1) }

sub trust { return ('-A', $root->{cert}, '--crl', @_) }

my %refused = (
	'a delta list' => [ qr/is a delta list: use full lists only/,
		ext => '2.5.29.27=critical,ASN1:INTEGER:1' ],
	'a delta list, not critical' => [ qr/is a delta list/, ext => '2.5.29.27=ASN1:INTEGER:1' ],
	'an indirect list' => [ qr/is an indirect list/, point('indirectCRL=TRUE') ],
	'a list for some reasons' => [ qr/is limited to some reasons/,
		point('onlysomereasons=keyCompromise') ],
	'a list for attribute certificates' => [ qr/is limited to attribute certificates/,
		point('onlyAA=TRUE') ],
	'a list for nothing' => [ qr/issuingDistributionPoint that excludes every certificate/,
		point("onlyuser=TRUE\nonlyCA=TRUE") ],
	'a damaged scope' => [ qr/issuingDistributionPoint that is damaged|could not load/,
		ext => '2.5.29.28=critical,DER:0500' ],
	'an unknown critical extension' => [ qr/critical extension that OpenSSL does not support/,
		ext => '1.2.3.4=critical,DER:0500' ],
);
for my $kind (sort keys %refused) {
	my ($why, @options) = @{ $refused{$kind} };
	my $list = newer(@options);
	for my $lists ([$list], [ $full, $list ], [ $list, $full ]) {
		my $title = "$kind, " . @$lists . ' lists, ' . ($lists->[0] eq $full ? 'last' : 'first');
		my @trust = trust(join_files(@$lists));
		my $s = session(pg => $pg, args => \@trust);
		ok(!$s->conn->negotiate(cert => $bob->{cert}, key => $bob->{key}), "$title: nobody gets in");
		is($s->wait, 78, 'status 78');
		like($s->log, qr/a revocation list .*$why|$why/, 'the log says why');
		next if $lists->[0] ne $full;
		like(check(@trust)->{out}, qr/^ERROR    .*$why/m, '--check too');
	}
}

# [title, lists, alice, bob, what --check says]. OpenSSL 4.0 does not look for the root itself in a
# list, so a list for users alone serves, and one for a distribution point may.
my $scope = 'unsupported certificate|certificate unknown|unknown ca';
my $user = newer(point('onlyuser=TRUE'), revoked => [$alice]);
my $authority = newer(point('onlyCA=TRUE'));
my $named = newer(point('fullname=URI:http://ca.example/1.crl'));
my @honoured = (
	[ 'the full list', [$full], 'certificate revoked', 'in' ],
	[ 'for users only', [$user], 'certificate revoked', "$scope|in", qr/^ERROR    revocation list of "CN=Root": different CRL scope: clients of "CN=Root" are refused$/mi ],
	[ 'for authorities only', [$authority], $scope, $scope, qr/^ERROR    revocation list of .*scope/mi ],
	[ 'one of each', [ $user, $authority ], 'certificate revoked', 'in' ],
	[ 'for users, beside an older full list', [ crl($root, until => 30 * 86400), $user ], 'certificate revoked', 'in' ],
	[ 'for authorities, beside the full list', [ $authority, $full ], 'certificate revoked', 'in' ],
	[ 'for a distribution point', [$named], $scope, $scope, qr/^(?:ERROR    revocation list of .*scope|note     .* distribution point)/mi ],
	[ 'for a distribution point, beside the full list', [ $named, $full ], 'certificate revoked', 'in' ],
	[ 'for a distribution point, which serves', [ $authority, $named ], $scope, $scope, qr/^note     revocation list of .*distribution point/m ],
);
for my $case (@honoured) {
	my ($title, $lists, $for_alice, $for_bob, $said) = @$case;
	for my $order ($lists, @$lists > 1 ? [ reverse @$lists ] : ()) {
		subtest $title => sub {
			my @trust = trust(join_files(@$order));
			my $s = serve(pg => $pg, args => \@trust);
			like(outcome($s->port, $alice), qr/^(?:$for_alice)$/, 'alice');
			my $got = outcome($s->port, $bob);
			like($got, qr/^(?:$for_bob)$/, 'bob');
			undef $said if $got eq 'in';
			my $r = check(@trust);
			$said ? like($r->{out}, $said, '--check') : unlike($r->{out}, qr/^(?:ERROR|WARNING) .*revocation/m, '--check');
			is($r->{status}, $r->{out} =~ /^ERROR/m ? 78 : 0, 'its status') or diag($r->{out});
		};
	}
}

subtest 'a certificate that names the distribution point' => sub {
	my $carol = issue(cn => 'carol', issuer => $root, until => 90 * 86400,
		ext => { Net::SSLeay::NID_crl_distribution_points() => 'URI:http://ca.example/1.crl' });
	my $s = serve(pg => $pg, args => [ trust(join_files($named, $authority)) ]);
	is(outcome($s->port, $carol), 'in', 'gets in');
	$s = serve(pg => $pg, args => [ trust(join_files($authority,
		newer(point('fullname=URI:http://ca.example/1.crl'), revoked => [$carol]))) ]);
	is(outcome($s->port, $carol), 'certificate revoked', 'or is revoked');
};

# OpenSSL skips such a block, and takes the older list.
subtest 'a newer list that OpenSSL would skip' => sub {
	my $old = slurp(crl($root, until => 30 * 86400));
	my $text = slurp($full);
	my %form = (
		'indented' => $text =~ s/^/  /gmr,
		'quoted' => $text =~ s/^/> /gmr,
		'four dashes' => $text =~ s/-----(?=BEGIN)/----/r,
		'no dashes' => $text =~ s/-----(?=BEGIN)//r,
		'a blank after the dashes' => $text =~ s/-----(?=BEGIN)/----- /r,
		'other dashes' => $text =~ s/-----/\xe2\x80\x94-/gr,
		'on one line' => $text =~ s/\n/ /gr . "\n",
		'joined to the one before' => $text,
		'UTF-16' => join('', map { "$_\0" } split //, $text),
		'UTF-16, big endian' => join('', map { "\0$_" } split //, $text),
	);
	for my $form (sort keys %form) {
		my $list = spew("$TMP/skipped", ($form =~ /joined/ ? $old =~ s/\n\z//r : $old) . $form{$form});
		my $s = session(pg => $pg, args => [ trust($list) ]);
		ok(!$s->conn->negotiate, "$form: refused");
		is($s->wait, 78, 'status 78');
		like($s->log, qr/"\Q$list\E" has a PEM block that OpenSSL does not read: put its -----BEGIN/, 'with the cure');
	}
	for my $fine ("# $text", "\xef\xbb\xbf$text", $text =~ s/\n/\r\n/gr, $text =~ s/-\n/- \t\n/gr) {
		my $s = serve(pg => $pg, args => [ trust(spew("$TMP/fine", $fine =~ /^#/ ? $old . $fine =~ s/^/# /gmr : $fine)) ]);
		is(outcome($s->port, $bob), 'in', 'a comment, a byte order mark, or blanks at the end of a line');
	}
};

sub rehash {
	my ($dir) = @_;
	my $r = T::run([ 'openssl', 'rehash', $dir ]);
	die $r->{err} if $r->{status};
}

subtest 'directories' => sub {
	my $other = issue(cn => 'Other', ca => 1, until => 300 * 86400);
	my $carol = issue(cn => 'carol', issuer => $other, until => 90 * 86400);
	my ($cas, $crls) = map { mkdir "$TMP/$_"; "$TMP/$_" } qw(cas crls);
	my $else = tempdir('/tmp/pgssl-crl-XXXXXX', CLEANUP => 1); # a listener reads all of $TMP
	chmod 0755, $else;
	my @trust = ('-A', $cas, '--crl', $crls);
	spew("$cas/root.pem", slurp($root->{cert}));
	for my $case ([ 66, qr/no certificate in directory "\Q$cas\E": file names must have the form HASH\.0; run openssl rehash/ ],
		[ 66, qr/no revocation list in directory "\Q$crls\E": file names must have the form HASH\.r0; run openssl rehash/ ]) {
		my $s = session(pg => $pg, args => \@trust);
		ok(!$s->conn->negotiate, 'not without the names that OpenSSL looks for');
		is($s->wait, $case->[0], 'status');
		like($s->log, $case->[1], 'the log says what to do');
		rehash($cas);
	}
	spew("$crls/root.pem", slurp($full));
	spew("$else/other.pem", slurp(crl($other, until => 30 * 86400)));
	symlink "$else/other.pem", "$crls/other.pem";
	rehash($crls);
	# Names that OpenSSL does not look for.
	spew("$cas/$_", '') for qw(0123456789.0 01234567.x 01234567. 01234567.0x 01234567-0);
	spew("$crls/$_", '') for qw(0123456789.r0 01234567.x0 01234567.r 01234567.r0x);
	my $s = serve(pg => $pg, args => \@trust);
	my $listener = serve_listen(pg => $pg, args => \@trust);
	my $in = sub { return join ', ', map { my $port = $_->port; map { outcome($port, $_) } $alice, $bob, $carol } $s, $listener };
	my ($revoked, $unknown) = ('certificate revoked', 'unknown ca');
	is($in->(), join(', ', ($revoked, 'in', $unknown) x 2), 'one authority');
	spew("$cas/other.pem", slurp($other->{cert}));
	rehash($cas);
	is($in->(), join(', ', ($revoked, 'in', 'in') x 2), 'another is added');
	rename spew("$else/new", slurp(crl($other, revoked => [$carol], until => 30 * 86400))), "$else/other.pem";
	is($in->(), join(', ', ($revoked, 'in', $revoked) x 2), "a link's list is replaced");
	spew("$crls/root.pem", slurp(crl($root, until => 30 * 86400)));
	is($in->(), join(', ', ('in', 'in', $revoked) x 2), 'a list is rewritten');
	my $r = check(@trust);
	like($r->{out}, qr/^ok       authority: CN=$_: valid until/m, "--check: $_") for qw(Root Other);
	is($r->{status}, 0, '--check, status') or diag($r->{out});
};

# A directory that could not be read had "no list". A list was read twice: OpenSSL took a failing
# read() between two lists for the end of the file, and blocks that OpenSSL skips were not looked for
# if the file could not be read again.
subtest 'lists that cannot be read' => sub {
	plan skip_all => 'needs strace' if T::run([qw(strace -V)], quiet => 1)->{status};
	mkdir my $dir = "$TMP/unreadable";
	my $file = spew("$dir/list.pem", slurp($full) . '#' x 8000 . "\n" . slurp(newer(revoked => [$bob])));
	rehash($dir);
	my ($read, $open) = (qr/could not read "\Q$file\E"/, qr/could not open "\Q$file\E"/);
	for my $case ([ $dir, 'getdents64:error=EIO', qr/could not read directory "\Q$dir\E": Input\/output error/ ],
		[ $file, 'openat:error=EMFILE', qr/$open: Too many open files/ ],
		[ $file, 'read:error=EIO', qr/$read: Input\/output error/ ],
		[ $file, 'read:retval=0', qr/$read: it has become shorter meanwhile/ ]) {
		my ($path, $fault, $line) = @$case;
		my $s = session(pg => $pg, args => [ trust($path) ],
			wrap => [ qw(/usr/bin/strace -qq -P), $path, '-e', "inject=$fault", '-o', "$TMP/trace" ]);
		ok(!$s->conn->negotiate, "$fault: no session");
		is($s->wait, 66, 'status');
		like($s->log, $line, 'the log says why');
	}
	my $listener = serve_listen(pg => $pg, args => [ trust($file) ],
		wrap => [ qw(strace -qq -P), $file, qw(-e inject=read:error=EIO:when=2+ -o), "$TMP/trace" ]);
	is(outcome($listener->port, $bob), 'certificate revoked', 'it is read once, and honoured');
};

# Without its links in Landlock's rules, a listener kept the old lists.
subtest 'a directory of links that the sandbox cannot read' => sub {
	plan skip_all => 'needs strace' if T::run([qw(strace -V)], quiet => 1)->{status};
	my ($dir, $else) = map { tempdir('/tmp/pgssl-crl-XXXXXX', CLEANUP => 1) } 1, 2;
	chmod 0755, $dir, $else;
	symlink "$else/list.pem", "$dir/list.pem";
	my %seen;
	for my $when (1 .. 3) { # the others come with the filter, which kills a process whose call strace changes
		spew("$else/list.pem", slurp(crl($root)));
		rehash($dir);
		my $listener = serve_listen(pg => $pg, args => [ trust($dir) ], listening => 0,
			wrap => [ qw(strace -qq -P), $dir, '-e', "inject=openat:error=ENFILE:when=$when", '-o', "$TMP/trace" ]);
		wait_for('a line', sub { $listener->log =~ /listening on|Too many open files/ });
		rename spew("$else/new", slurp($full)), "$else/list.pem";
		my $outcome = outcome($listener->port, $alice);
		my $ended = $listener->log =~ /could not open directory "\Q$dir\E": Too many open files/;
		is($outcome, 'certificate revoked', "open() number $when: it listens and reloads") unless $ended;
		$seen{ $ended ? 'ended' : 'reloaded' } = 1;
	}
	is(join(' ', sort keys %seen), $T::SAN ? 'reloaded' : 'ended reloaded', 'others end the listener');
};

# The listener's limit of memory, 256 MiB, left no room for a second list of this size, and a
# session under it could not allocate anything.
subtest 'a list of many entries' => sub {
	my $large = crl($root, until => 30 * 86400, revoked => [ $alice, map { { serial => sprintf '7%015X', $_ } } 1 .. 150_000 ]);
	my $file = join_files($large);
	my $listener = serve_listen(pg => $pg, args => [ trust($file) ]);
	my $limit = sub { return slurp("/proc/$_[0]/limits") =~ /^Max data size +(\S+)/m ? $1 : 'none' };
	is($limit->($listener->{pid}), 'unlimited', 'the listener may need any size');
	is(outcome($listener->port, $alice), 'certificate revoked', 'honoured');
	my $k = connect_to($listener->port);
	ok($k->login(user => 'postgres'), 'a session');
	my ($child) = T::descendants($listener->{pid});
	cmp_ok($limit->($child), '>', 256 << 20, 'its limit does not count the list') unless $T::SAN;
	rename spew("$file.new", slurp($full)), $file;
	is(outcome($listener->port, $alice), 'certificate revoked', 'after a reload');
	like($listener->log, qr/reloaded certificate and key/, 'which is logged');
};

# The first block makes the certificates, the third the list; the second is a psql command.
subtest 'the commands in the manual' => sub {
	my ($section) = slurp("$ROOT/pgssl.8") =~ /^\.Sh CLIENT CERTIFICATES\n(.*?)^\.Ss User/ms;
	my ($make, undef, $revoke) = $section =~ /^\.Bd -literal.*?\n(.*?)^\.Ed$/msg;
	mkdir $_ for "$TMP/manual", "$TMP/manual/etc";
	for ($make, $revoke) {
		s/\\e/\\/g;
		s{/etc/pgssl/}{$TMP/manual/etc/}g;
	}
	my $sh = sub { return T::run([ 'sh', '-ec', "cd $TMP/manual\n$_[0]" ])->{status} };
	my $login = sub {
		my $s = serve(pg => $pg, pem => $server, args => [ '--clientcert=verify-full', @_ ]);
		my $r = psql('select current_user', port => $s->port, cert => "$TMP/manual/alice.crt", key => "$TMP/manual/alice.key");
		return $r->{out} . $r->{err};
	};
	is($sh->($make), 0, 'make the certificates');
	is($login->('-A', "$TMP/manual/etc/clients-ca.crt"), "alice\n", 'alice connects');
	is($sh->($revoke), 0, 'revoke hers');
	like($login->('-A', "$TMP/manual/etc/clients-ca.crt", "--crl=$TMP/manual/etc/clients.crl"), qr/alert certificate revoked/, 'alice is refused');
};
done_testing;
