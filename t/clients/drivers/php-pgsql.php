<?php
// SPDX-License-Identifier: ISC
ini_set('memory_limit', '-1');
set_error_handler(function ($level, $message) { throw new Exception($message); });

function connect() { return pg_connect('', PGSQL_CONNECT_FORCE_NEW); }
function state($result) { return pg_result_error_field($result, PGSQL_DIAG_SQLSTATE); }
function value($c, $sql) { return pg_fetch_result(pg_query($c, $sql), 0, 0); }

$checks = [
	'connected' => fn($c) => value($c, 'select current_user'),
	'parameters' => function ($c) {
		pg_prepare($c, 's', 'select $1::text, $2::int, $3::text');
		$row = pg_fetch_row(pg_execute($c, 's', ["käse 'x'", 42, null]));
		return implode('|', array_map(fn($v) => $v ?? 'NULL', $row));
	},
	'rows' => function ($c) {
		$all = pg_query($c, 'select repeat(md5(i::text), 320) from generate_series(1, 10000) i');
		for ($bytes = $n = 0; $row = pg_fetch_row($all); $n++)
			$bytes += strlen($row[0]);
		return "$n rows, $bytes bytes";
	},
	'copy' => function ($c) {
		pg_query($c, 'create temp table t (a int, b text)');
		pg_copy_from($c, 't', array_map(fn($i) => "$i\tline $i\n", range(0, 9999)));
		$out = pg_copy_to($c, '(select * from t order by a)');
		return count($out) . ' lines, last ' . rtrim(end($out));
	},
	'error' => function ($c) {
		pg_send_query($c, 'select 1/0');
		return state(pg_get_result($c)) . ' then ' . value($c, 'select 1');
	},
	'notify' => function ($c) {
		pg_query($c, 'listen c');
		pg_query(connect(), "notify c, 'hello'");
		while (!($n = pg_get_notify($c)))
			pg_query($c, 'select 1');
		return "$n[message] $n[payload]";
	},
	'cancel' => function ($c) {
		$watch = connect();
		$pid = pg_get_pid($c);
		pg_send_query($c, 'select pg_sleep(60)');
		while (!value($watch, "select count(*) from pg_stat_activity where pid = $pid and state = 'active' and query like 'select pg_sleep%'"));
		pg_cancel_query($c);
		return value($watch, "select count(*) from pg_stat_activity where pid = $pid and state = 'active'") . ' running, then ' . value($c, 'select 1');
	},
	'many' => function ($c) {
		$all = array_map(fn($i) => connect(), range(1, 50));
		return count(array_unique(array_map(fn($c) => value($c, 'select pg_backend_pid()'), $all)));
	},
];

foreach (array_slice($argv, 1) as $name) {
	try {
		echo "$name " . $checks[$name](connect()) . "\n";
	} catch (Exception $e) {
		echo "$name failed: ", preg_replace('/\s+/', ' ', $e->getMessage()), "\n";
	}
}
