# SPDX-License-Identifier: ISC
use strict;
use warnings;
use utf8;
use DBD::Pg qw(:async);
use DBI;

my $c;

sub open_connection { return DBI->connect('dbi:Pg:', $ENV{PGUSER}, $ENV{PGPASSWORD},
	{ RaiseError => 1, PrintError => 0, PrintWarn => 0 }) }

my %check = (
	connected => sub { $c->selectrow_array('select current_user') },
	parameters => sub {
		join '|', map { defined ? $_ : 'NULL' }
			$c->selectrow_array('select ?::text, ?::int, ?::text', undef, "käse 'x'", 42, undef);
	},
	rows => sub {
		my $all = $c->selectcol_arrayref('select repeat(md5(i::text), 320) from generate_series(1, 10000) i');
		my $bytes = 0;
		$bytes += length for @$all;
		@$all . " rows, $bytes bytes";
	},
	copy => sub {
		$c->do('create temp table t (a int, b text)');
		$c->do('copy t from stdin');
		$c->pg_putcopydata("$_\tline $_\n") for 0 .. 9999;
		$c->pg_putcopyend;
		$c->do('copy (select * from t order by a) to stdout');
		my ($n, $last, $line) = (0);
		($n++, $last = $line) while $c->pg_getcopydata($line) >= 0;
		"$n lines, last $last" =~ s/\n//r;
	},
	error => sub {
		eval { $c->do('select 1/0') };
		$c->state . ' then ' . $c->selectrow_array('select 1');
	},
	notify => sub {
		$c->do('listen c');
		open_connection()->do("notify c, 'hello'");
		my $got;
		1 until $got = $c->pg_notifies;
		"$got->[0] $got->[2]";
	},
	cancel => sub {
		my $watch = open_connection();
		my $sleeping = "select count(*) from pg_stat_activity where pid = $c->{pg_pid} and state = 'active' and query like 'select pg_sleep%'";
		$c->do('select pg_sleep(60)', { pg_async => PG_ASYNC });
		1 until $watch->selectrow_array($sleeping);
		$c->pg_cancel;
		$c->state;
	},
	many => sub {
		my %pid = map { $_->{pg_pid} => $_ } map { open_connection() } 1 .. 50;
		scalar keys %pid;
	},
);

$| = 1;
binmode STDOUT, ':utf8';
for my $name (@ARGV) {
	my $result = eval { $c = open_connection(); $check{$name}->() };
	$result //= join ' ', 'failed:', $DBI::state || '', split ' ', $@;
	print "$name $result\n";
}
