# SPDX-License-Identifier: ISC
import asyncio, io, sys
import asyncpg, dbapi

async def connected(c):
    return await c.fetchval("select current_user")

async def parameters(c):
    statement = await c.prepare("select $1::text, $2::int, $3::text")
    return "|".join("NULL" if v is None else str(v) for v in await statement.fetchrow("käse 'x'", 42, None))

async def rows(c):
    all = [len(r[0]) for r in await c.fetch(dbapi.ROWS)]
    return "%d rows, %d bytes" % (len(all), sum(all))

async def copy(c):
    out = io.BytesIO()
    await c.execute("create temp table t (a int, b text)")
    await c.copy_to_table("t", source=io.BytesIO(dbapi.LINES.encode()))
    await c.copy_from_query("select * from t order by a", output=out)
    return dbapi.copied(out.getvalue().decode())

async def error(c):
    try:
        await c.fetchval("select 1/0")
    except asyncpg.PostgresError as e:
        return "%s then %s" % (e.sqlstate, await c.fetchval("select 1"))

async def notify(c):
    got = asyncio.get_running_loop().create_future()
    await c.add_listener("c", lambda c, pid, channel, payload: got.set_result("%s %s" % (channel, payload)))
    await (await asyncpg.connect()).execute("notify c, 'hello'")
    return await got

# asyncpg cancels a query that exceeds its time limit, and hides the SQLSTATE.
async def cancel(c):
    try:
        await c.fetchval("select pg_sleep(60)", timeout=1)
    except asyncio.TimeoutError:
        return "timeout then %s" % await c.fetchval("select 1")

async def many(c):
    all = await asyncio.gather(*[asyncpg.connect() for _ in range(50)])
    return len({await c.fetchval("select pg_backend_pid()") for c in all})

async def main():
    for check in sys.argv[1:]:
        try:
            print(check, await globals()[check](await asyncpg.connect()), flush=True)
        except Exception as e:
            print(check, "failed:", getattr(e, "sqlstate", None), " ".join(str(e).split()), flush=True)

asyncio.run(main())
