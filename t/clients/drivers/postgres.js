// SPDX-License-Identifier: ISC
// postgres.js
const fs = require('fs');
const { Readable } = require('stream');
const { pipeline } = require('stream/promises');
const postgres = require(process.env.NPM + '/postgres');
const env = process.env;
const file = name => env[name] && fs.readFileSync(env[name]);
const ssl = { ca: file('PGSSLROOTCERT'), cert: file('PGSSLCERT'), key: file('PGSSLKEY') };
const connect = max => postgres({ ssl, max, onnotice() {} });

const checks = {
	connected: async sql => (await sql`select current_user`)[0].current_user,
	async parameters(sql) {
		const [row] = await sql`select ${"käse 'x'"}::text, ${42}::int, ${null}::text`.values();
		return row.map(v => v === null ? 'NULL' : v).join('|');
	},
	async rows(sql) {
		const rows = await sql`select repeat(md5(i::text), 320) as v from generate_series(1, 10000) i`;
		return `${rows.length} rows, ${rows.reduce((sum, row) => sum + row.v.length, 0)} bytes`;
	},
	async copy(sql) {
		await sql`create temp table t (a int, b text)`;
		const lines = Array.from({ length: 10000 }, (_, i) => `${i}\tline ${i}\n`);
		await pipeline(Readable.from(lines), await sql`copy t from stdin`.writable());
		let out = '';
		for await (const data of await sql`copy (select * from t order by a) to stdout`.readable())
			out += data;
		out = out.trimEnd().split('\n');
		return `${out.length} lines, last ${out.at(-1)}`;
	},
	async error(sql) {
		try {
			await sql`select 1/0`;
		} catch (e) {
			return `${e.code} then ${(await sql`select 1 as one`)[0].one}`;
		}
	},
	async notify(sql) {
		const got = new Promise(resolve => sql.listen('c', resolve, () => connect(1).notify('c', 'hello')));
		return `c ${await got}`;
	},
	// A request that comes before the query has no effect: repeat it.
	async cancel(sql) {
		const query = sql`select pg_sleep(60)`;
		const timer = setInterval(() => query.cancel(), 100);
		try {
			await query;
		} catch (e) {
			return e.code;
		} finally {
			clearInterval(timer);
		}
	},
	async many() {
		const sql = connect(50);
		const pids = await Promise.all(Array.from({ length: 50 }, () => sql`select pg_backend_pid(), pg_sleep(0.5)`));
		return new Set(pids.map(rows => rows[0].pg_backend_pid)).size;
	},
};

(async () => {
	for (const name of process.argv.slice(2)) {
		try {
			console.log(name, await checks[name](connect(1)));
		} catch (e) {
			console.log(name, 'failed:', e.code, e.message.replace(/\s+/g, ' '));
		}
	}
	process.exit(0);
})();
