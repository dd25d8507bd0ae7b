# SPDX-License-Identifier: ISC
import dbapi, psycopg

def connect():
    return psycopg.connect("", autocommit=True)

# In a pipeline, as a prepared statement.
def parameters(c):
    with c.pipeline():
        k = [c.execute("select %s::text, %s::int, %s::text", ("käse 'x'", i, None), prepare=True) for i in (41, 42)]
        return "|".join("NULL" if v is None else str(v) for v in k[1].fetchone())

def copy(c):
    k = c.cursor()
    k.execute("create temp table t (a int, b text)")
    with k.copy("copy t from stdin") as into:
        into.write(dbapi.LINES)
    with k.copy("copy (select * from t order by a) to stdout") as out:
        return dbapi.copied(b"".join(bytes(data) for data in out).decode())

def notify(c):
    c.execute("listen c")
    def wait(c):
        n = next(c.notifies())
        return n.channel, n.payload
    return dbapi.notified(c, wait)

# cancel_safe, since 3.2, cancels under TLS.
dbapi.main(connect=connect, parameters=parameters, copy=copy, notify=notify,
           sqlstate=lambda e: getattr(e, "sqlstate", None),
           cancel=lambda c: dbapi.canceled(c, getattr(c, "cancel_safe", c.cancel)))
