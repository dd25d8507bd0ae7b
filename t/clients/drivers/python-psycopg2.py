# SPDX-License-Identifier: ISC
import dbapi, io, psycopg2, select

def connect():
    c = psycopg2.connect("")
    c.autocommit = True
    return c

def copy(c):
    k, out = c.cursor(), io.StringIO()
    k.execute("create temp table t (a int, b text)")
    k.copy_expert("copy t from stdin", io.StringIO(dbapi.LINES))
    k.copy_expert("copy (select * from t order by a) to stdout", out)
    return dbapi.copied(out.getvalue())

def wait(c):
    while not c.notifies:
        select.select([c], [], [])
        c.poll()
    return c.notifies[0].channel, c.notifies[0].payload

def notify(c):
    c.cursor().execute("listen c")
    return dbapi.notified(c, wait)

dbapi.main(connect=connect, copy=copy, notify=notify, sqlstate=lambda e: getattr(e, "pgcode", None),
           cancel=lambda c: dbapi.canceled(c, c.cancel))
