# SPDX-License-Identifier: ISC
#
# bench/report.pl - write results.tsv, samples.tsv, report.md and the plots of bench/run.
package report;
use v5.30;
use warnings;

my ($o, %sample, @contenders, @measures);

sub median { my @v = sort { $a <=> $b } grep { defined } @_; return @v % 2 ? $v[@v / 2] : ($v[@v / 2 - 1] + $v[@v / 2]) / 2 }

# (median, minimum, maximum), or () without values.
sub spread {
	my @v = sort { $a <=> $b } grep { defined } @_;
	return @v ? (median(@v), $v[0], $v[-1]) : ();
}

# The ratios, for each round, of a contender's figure to another contender's, or to its own figure
# of another measure.
sub ratio {
	my ($measure, $name, $against) = @_;
	my $mine   = values_of($measure, $name);
	my $theirs = exists $sample{$against} ? values_of($against, $name) : values_of($measure,
		$against);
	return spread(map { defined $mine->[$_] && $theirs->[$_] ? $mine->[$_] / $theirs->[$_] : undef } 0 .. $#$mine);
}

# Three significant digits.
sub number {
	my ($v) = @_;
	return '' if !defined $v;
	return sprintf abs($v) >= 100 ? '%.0f' : abs($v) >= 10 ? '%.1f' : $v == int $v ? '%d' : '%.2f', $v;
}

sub cell {
	my ($mid, $min, $max) = @_;
	return '' if !defined $mid;
	return number($mid) . ($min < $max ? ' (' . number($min) . '..' . number($max) . ')' : '');
}

sub spew { my ($name, @text) = @_; open my $f, '>', "$o->{out}/$name" or die "$name: $!\n"; print $f @text; close $f or die "$name: $!\n" }

sub values_of { my ($measure, $name) = @_; return exists $sample{$measure} ? $sample{$measure}{$name} || [] : [] }

sub seen { my ($measure) = @_; return grep { @{ values_of($measure, $_->{name}) } } @contenders }

sub write_tsv {
	my (@samples, @results);
	for my $m (@measures) {
		for my $c (seen($m->[0])) {
			my $v = $sample{ $m->[0] }{ $c->{name} };
			push @samples, map { "$m->[0]\t$c->{name}\t$_\t$v->[$_]\n" } grep { defined $v->[$_] } 0 .. $#$v;
			my @cols = map { my @s = @$_; map { $_ // '' } @s[0 .. 2] } [spread(@$v)],
				map { [ratio($m->[0], $c->{name}, $_)] } 'native', 'stunnel-x';
			push @results, join("\t", $m->[0], $c->{name}, $m->[2], scalar(@$v),
				@cols) . "\n";
		}
	}
	spew('samples.tsv', "measure\tcontender\tround\tvalue\n", @samples);
	spew('results.tsv', join("\t", qw(measure contender unit rounds median min max),
		map { ("$_", "${_}_min", "${_}_max") } qw(by_native by_stunnel)) . "\n", @results);
}

sub target_lines {
	my $static = -x $o->{pgssl} && `ldd $o->{pgssl} 2>&1` !~ /libssl/;
	my @lines  = ("| target | limit | result (min..max) | |\n|---|---|---|---|\n");
	for my $t (@{ $o->{targets} }) {
		my ($text, $name, $measure, $against, $op, @limits) = @$t;
		my $limit = $limits[$static ? 1 : 0];
		my ($mid, @rest) = $against ? ratio($measure, $name,
			$against) : spread(@{ values_of($measure, $name) });
		my $shown   = number($mid);    # the rounded figure is compared with the limit
		my $verdict = $shown eq '' ? 'not measured' : ($op eq '<=' ? $shown <= $limit : $shown >= $limit) ? 'met' : '**not met**';
		push @lines, "| $text | $op $limit | @{[cell($mid, @rest)]} | $verdict |\n";
	}
	return ($static ? "pgssl is linked statically with OpenSSL (STATIC=1).\n\n" : "pgssl uses the system's shared libraries.\n\n", @lines);
}

# A table of the medians of the main measures.
sub overview_lines {
	my @keys  = grep { my $k = $_->[0]; $sample{$k} && $k !~ /_(negotiation|handshake|startup|failed)$|^growth_/ } @measures;
	my @names = grep { my $n = $_->{name}; grep { @{ values_of($_->[0], $n) } } @keys } @contenders;
	my @lines = ('| | ' . join(' | ', map { $_->{label} } @names) . " |\n",
		'|---' x (@names + 1) . "|\n");
	for my $m (@keys) {
		my @cells = map { number((spread(@{ values_of($m->[0], $_->{name}) }))[0]) } @names;
		push @lines, '| ' . join(' | ', $m->[1] . ($m->[2] ? ", $m->[2]" : ''),
			@cells) . " |\n";
	}
	return @lines;
}

sub detail_lines {
	my @lines;
	for my $m (grep { $sample{ $_->[0] } } @measures) {
		push @lines, "\n### $m->[1]" . ($m->[2] ? ", $m->[2]" : '') . "\n\n| | median (min..max) | to native TLS | to stunnel, xinetd |\n|---|---|---|---|\n";
		for my $c (seen($m->[0])) {
			my @cells = map { cell(@$_) } [spread(@{ $sample{ $m->[0] }{ $c->{name} } })], map { [ratio($m->[0], $c->{name}, $_)] } 'native', 'stunnel-x';
			push @lines, '| ' . join(' | ', $c->{label}, @cells) . " |\n";
		}
	}
	return @lines;
}

sub first_line { my ($command) = @_; my ($line) = `$command 2>&1`; chomp($line //= ''); return $line }

sub machine {
	my ($cpu) = first_line('grep -m1 "model name" /proc/cpuinfo') =~ /:\s*(.*)/;
	my ($stunnel) = `stunnel4 -version 2>&1` =~ /(stunnel [\d.]+)/;
	return join '; ', ($cpu // 'unknown processor') . ', ' . first_line('nproc') . ' processors', 'Linux ' . first_line('uname -r'), first_line('openssl version'),
	  first_line("$o->{bin}/postgres --version"), $stunnel // 'no stunnel',
		'load ' . first_line('cut -d" " -f1-3 /proc/loadavg');
}

sub write_markdown {
	spew('report.md', "# pgssl compared with other programs\n\n", machine(), ".\n\n",
		$o->{quick} ? "QUICK: few rounds and small transfers; the figures only show that the benchmark works.\n\n" : '',
		"Medians of the rounds; ratios are computed within each round. The minimum and maximum of the rounds are in parentheses.\n\n",
		"## Targets\n\n", target_lines(), "\n## Medians\n\n", overview_lines(), "\n## Every measure\n", detail_lines());
}

# ---- the section of README: a table of the main measures, and a plain-text plot of the first row

my @plain_columns = ([native => 'native'], ['stunnel-x' => 'stunnel'], ['stunnel-d' => 'stunnel'],
	[tlswrapper => 'tlswr.'], ['pgssl-x' => 'pgssl'], ['pgssl-w' => 'pgssl'],
	['pgssl-s' => 'pgssl'], ['pgssl-d' => 'pgssl']);
my @plain_under = ('TLS', 'xinetd', 'daemon', 'xinetd', 'xinetd', 'wait', 'systemd', '-d');
my @plain_rows = (
	[setup_ecdsa => 'set-up, ms'], [rate => 'connections a second'],
		[burst => '200 at once, the last, ms'], [pgbench_1 => 'pgbench -S, 1 client, ms'],
	[query_cpu => 'a query in the middle, us'], [copy_out => '300 MB COPY out, ms'],
		[copy_in => '300 MB COPY in, ms'], [copy_out_cpu => 'a GB out in the middle, s'],
	[copy_in_cpu => 'a GB in in the middle, s'], [memory_idle => 'memory, idle, KiB'],
);

sub middle_of { my ($measure, $name) = @_; return (spread(@{ values_of($measure, $name) }))[0] }

sub write_plain {
	my @lines = (sprintf("    %-25s%s\n", '', join '', map { sprintf '%8s', $_->[1] } @plain_columns), sprintf("    %-25s%s\n\n", '', join '', map { sprintf '%8s', $_ } @plain_under));
	for my $r (grep { $sample{ $_->[0] } } @plain_rows) {
		push @lines, sprintf "    %-25s%s\n", $r->[1], join '',
			map { sprintf '%8s', number(middle_of($r->[0], $_->[0])) } @plain_columns;
	}
	push @lines, "\n    Set-up, ms\n\n";
	my %ms = map { $_->{name} => middle_of('setup_ecdsa', $_->{name}) } seen('setup_ecdsa');
	my ($longest) = sort { $b <=> $a } values %ms;
	for my $c (seen('setup_ecdsa')) {
		my $ms = $ms{ $c->{name} };
		push @lines, sprintf "    %-31s%5.1f  %s\n", $c->{label}, $ms, '#' x (50 * $ms / $longest + 0.5);
	}
	spew('readme.txt', map { s/ +$//mr } @lines);
}

# ---- plots

sub gnuplot {
	my ($name, $text) = @_;
	spew("$name.gp", "set terminal svg size 900,420 font 'sans,12' background '#ffffff'\nset output '$o->{out}/$name.svg'\nset grid ytics\n"
		  . "set style fill solid 0.85 border -1\nset boxwidth 0.7\nset yrange [0:*]\nset xtics rotate by -25\nset key outside top right\n$text");
	system('gnuplot', "$o->{out}/$name.gp") == 0 or warn "gnuplot failed on $name\n";
	unlink "$o->{out}/$name.gp";
}

sub plot_setup {
	my ($kind) = @_;
	my @parts = grep { $sample{"setup_${kind}_$_"} } qw(negotiation handshake startup)
		or return;
	my @rows  = map { my $c = $_; join(' ', "\"$c->{label}\"", map { (spread(@{ values_of("setup_${kind}_$_", $c->{name}) }))[0] // 0 } @parts) . "\n" } seen("setup_${kind}_negotiation");
	gnuplot("setup_$kind", "set title 'Connection set-up, " . uc($kind) . ", ms'\nset style data histograms\nset style histogram rowstacked\n\$d << EOD\n" . join('', @rows) . "EOD\nplot "
		  . join(', ', map { "\$d using @{[$_ + 2]}:xtic(1) title '$parts[$_]'" } 0 .. $#parts) . "\n");
}

sub plot_bars {
	my ($m) = @_;
	my @rows = map { join(' ', "\"$_->{label}\"", spread(@{ $sample{ $m->[0] }{ $_->{name} } })) . "\n" } seen($m->[0]) or return;
	gnuplot($m->[0], "set title '$m->[1]" . ($m->[2] ? ", $m->[2]" : '') . "'\nset key off\n\$d << EOD\n" . join('', @rows)
		  . "EOD\nplot \$d using 0:2:xtic(1) with boxes lc rgb '#4477aa', \$d using 0:2:3:4 with yerrorbars lc rgb '#222222' pt 7 ps 0.1\n");
}

sub plot_growth {
	my @steps = sort { $a <=> $b } map { /^growth_(\d+)$/ ? $1 : () } keys %sample or return;
	my @who   = seen("growth_$steps[0]");
	my $data  = join '', map { my $c = $_; "\$$c->{name} << EOD\n" =~ tr/-/_/r . join('', map { join(' ', $_, spread(@{ $sample{"growth_$_"}{ $c->{name} } })) . "\n" } @steps) . "EOD\n" } @who;
	gnuplot('growth', "set title 'Set-up with idle connections, plain TCP = 1'\nset xlabel 'idle connections'\nset xtics norotate\n${data}plot "
		  . join(', ', map { my $d = $_->{name} =~ tr/-/_/r; "\$$d using 1:2:3:4 with yerrorlines title '$_->{label}'" } @who) . "\n");
}

sub write {
	($o) = @_;
	%sample     = %{ $o->{sample} };
	@contenders = @{ $o->{contenders} };
	my @growth = map { ["growth_$_" => "Set-up with $_ idle connections, relative to plain TCP", ''] } sort { $a <=> $b } map { /^growth_(\d+)$/ ? $1 : () } keys %sample;
	@measures = (@{ $o->{measures} }, @growth);
	write_tsv();
	write_markdown();
	write_plain();
	plot_setup($_) for qw(ecdsa rsa);
	plot_bars($_) for grep { $_->[0] =~ /^(rate|burst|pgbench_\d|copy_out|copy_in|copy_out_cpu|copy_in_cpu|query_cpu|memory_idle|memory_bulk|instructions)$/ } @measures;
	plot_growth();
	print "## Targets\n\n", target_lines(), "\n## Medians\n\n", overview_lines(),
		"\nFull report, tables and plots: $o->{out}/\n";
}

1;
