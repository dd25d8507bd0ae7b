# SPDX-License-Identifier: ISC
#
# T::Handshake - many TLS handshakes in a short time, with pgssl and with `openssl s_server` as the
# reference. The client is t/bin/handshakes.
package T::Handshake;

use strict;
use warnings;
use Exporter 'import';
use T ();

our @EXPORT = qw(openssl_list s_server handshakes in_parallel conf_file);

# The names that `openssl COMMAND...` prints; () if this version lacks the command.
sub openssl_list {
	my (@command) = @_;
	my $r = T::run([ 'openssl', @command ], quiet => 1);
	return $r->{status} ? () : grep { length } split /[:\s]+/, $r->{out};
}

# Write an openssl.cnf from the lines of its first section and further sections. Returns the
# environment that selects it.
my $files = 0;

sub conf_file {
	my ($init, $sections) = @_;
	return { OPENSSL_CONF => T::spew("$T::TMP/openssl" . ++$files . '.cnf',
		"openssl_conf = init\n[init]\n$init\n$sections\n") };
}

# Run shell commands, four at a time. The caller can tell from their output files which succeeded.
sub in_parallel {
	my (@commands) = @_;
	T::run([ qw(xargs -d \n -n 1 -P 4 sh -c), 'eval "$1" 2>&1', 'sh' ],
		stdin => join('', map { "$_\n" } @commands), quiet => 1);
}

# Start `openssl s_server`, which answers each client with a page. Options are those of T::spawn;
# listening => 0: do not wait until it listens.
sub s_server {
	my ($args, %o) = @_;
	my $self = bless { port => T::free_port() }, 'T::Serve';
	$self->{pid} = T::spawn(%o,
		cmd => [ qw(openssl s_server -www -quiet -accept), "127.0.0.1:$self->{port}",
		@$args ]);
	return defined $o{listening} && !$o{listening} ? $self : $self->wait_port;
}

# Do one handshake for each line of input to t/bin/handshakes; return the answers in the same order.
sub handshakes {
	my (@lines) = @_;
	my $processes = @lines > 20 ? 2 : 1;
	my (@pids, @part, @answers);
	for my $i (0 .. $processes - 1) {
		$part[$i] = [ grep { $_ % $processes == $i } 0 .. $#lines ];
		T::spew("$T::TMP/handshakes$i.in", join '', map { "$lines[$_]\n" } @{ $part[$i] });
		push @pids, T::spawn(cmd => ["$T::ROOT/t/bin/handshakes"],
			in => "$T::TMP/handshakes$i.in", out => "$T::TMP/handshakes$i.out",
			env => { OPENSSL_CONF => '/dev/null' });
	}
	for my $i (0 .. $processes - 1) {
		die "t/bin/handshakes failed\n" if T::wait_exit($pids[$i], 300);
		@answers[ @{ $part[$i] } ] = split /\n/, T::slurp("$T::TMP/handshakes$i.out");
	}
	return @answers;
}

1;
