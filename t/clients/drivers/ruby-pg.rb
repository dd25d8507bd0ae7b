# SPDX-License-Identifier: ISC
require 'pg'

def connect = PG.connect

CHECKS = {
  connected: ->(c) { c.exec('select current_user').getvalue(0, 0) },
  parameters: lambda do |c|
    c.prepare('s', 'select $1::text, $2::int, $3::text')
    c.exec_prepared('s', ["käse 'x'", 42, nil]).values[0].map { |v| v.nil? ? 'NULL' : v }.join('|')
  end,
  rows: lambda do |c|
    all = c.exec('select repeat(md5(i::text), 320) from generate_series(1, 10000) i').column_values(0)
    "#{all.size} rows, #{all.sum(&:size)} bytes"
  end,
  copy: lambda do |c|
    c.exec('create temp table t (a int, b text)')
    c.copy_data('copy t from stdin') { 10_000.times { |i| c.put_copy_data("#{i}\tline #{i}\n") } }
    out = []
    c.copy_data('copy (select * from t order by a) to stdout') do
      while (line = c.get_copy_data) do out << line end
    end
    "#{out.size} lines, last #{out.last.chomp}"
  end,
  error: lambda do |c|
    c.exec('select 1/0')
  rescue PG::Error => e
    "#{e.result.error_field(PG::PG_DIAG_SQLSTATE)} then #{c.exec('select 1').getvalue(0, 0)}"
  end,
  notify: lambda do |c|
    c.exec('listen c')
    connect.exec("notify c, 'hello'")
    got = nil
    c.wait_for_notify { |channel, _, payload| got = "#{channel} #{payload}" }
    got
  end,
  # A request that comes before the query has no effect: repeat it.
  cancel: lambda do |c|
    c.send_query('select pg_sleep(60)')
    c.cancel until c.block(0.1)
    c.get_result.error_field(PG::PG_DIAG_SQLSTATE)
  end,
  many: ->(_) { Array.new(50) { connect }.map { |c| c.exec('select pg_backend_pid()').getvalue(0, 0) }.uniq.size }
}.freeze

$stdout.sync = true
ARGV.each do |name|
  result = begin
    CHECKS[name.to_sym].call(connect)
  rescue PG::Error => e
    "failed: #{e.message.split.join(' ')}"
  end
  puts "#{name} #{result}"
end
