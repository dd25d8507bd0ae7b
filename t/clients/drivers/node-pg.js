// SPDX-License-Identifier: ISC
// node-postgres: `node node-pg.js pg CHECK...`, or with "native" for libpq. It has no function for
// COPY (pg-copy-streams has) and none that is public for cancel.
const fs = require('fs');
const pg = require(process.env.NPM + '/pg');
const [, , kind, ...names] = process.argv;
const Client = kind === 'native' ? pg.native.Client : pg.Client;
const env = process.env;
const file = name => env[name] && fs.readFileSync(env[name]);
const ssl = { ca: file('PGSSLROOTCERT'), cert: file('PGSSLCERT'), key: file('PGSSLKEY') };

async function connect() {
	const c = new Client(kind === 'native' ? { nativeConnectionString: 'sslmode=verify-full' } : { ssl });
	c.on('error', () => {});
	await c.connect();
	return c;
}

const value = async (c, sql) => Object.values((await c.query(sql)).rows[0])[0];

const checks = {
	connected: c => value(c, 'select current_user'),
	async parameters(c) {
		const r = await c.query({ name: 's', text: 'select $1::text, $2::int, $3::text', values: ["käse 'x'", 42, null], rowMode: 'array' });
		return r.rows[0].map(v => v === null ? 'NULL' : v).join('|');
	},
	async rows(c) {
		const { rows } = await c.query('select repeat(md5(i::text), 320) as v from generate_series(1, 10000) i');
		return `${rows.length} rows, ${rows.reduce((sum, row) => sum + row.v.length, 0)} bytes`;
	},
	async error(c) {
		try {
			await c.query('select 1/0');
		} catch (e) {
			return `${e.code} then ${await value(c, 'select 1 as one')}`;
		}
	},
	async notify(c) {
		const got = new Promise(resolve => c.on('notification', resolve));
		await c.query('listen c');
		await (await connect()).query("notify c, 'hello'");
		const { channel, payload } = await got;
		return `${channel} ${payload}`;
	},
	async many() {
		const all = await Promise.all(Array.from({ length: 50 }, connect));
		const pids = await Promise.all(all.map(c => value(c, 'select pg_backend_pid()')));
		return new Set(pids).size;
	},
};

(async () => {
	for (const name of names) {
		try {
			console.log(name, await checks[name](await connect()));
		} catch (e) {
			console.log(name, 'failed:', e.code, e.message.replace(/\s+/g, ' '));
		}
	}
	process.exit(0);
})();
