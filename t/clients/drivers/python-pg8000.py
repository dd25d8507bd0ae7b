# SPDX-License-Identifier: ISC
# pg8000 has no function that cancels a query.
import dbapi, io, pg8000.dbapi, ssl
from dbapi import ENV

def connect():
    context = ssl.create_default_context(cafile=ENV["PGSSLROOTCERT"])
    if "PGSSLCERT" in ENV:
        context.load_cert_chain(ENV["PGSSLCERT"], ENV["PGSSLKEY"])
    c = pg8000.dbapi.connect(ENV["PGUSER"], host=ENV["PGHOST"], port=int(ENV["PGPORT"]), database=ENV["PGDATABASE"],
                             password=ENV["PGPASSWORD"], ssl_context=context)
    c.autocommit = True
    return c

def copy(c):
    k, out = c.cursor(), io.BytesIO()
    k.execute("create temp table t (a int, b text)")
    k.execute("copy t from stdin", stream=io.BytesIO(dbapi.LINES.encode()))
    k.execute("copy (select * from t order by a) to stdout", stream=out)
    return dbapi.copied(out.getvalue().decode())

def notify(c):
    c.cursor().execute("listen c")
    def wait(c):
        while not c.notifications:
            dbapi.one(c, "select 1")
        return c.notifications[0][1:3]
    return dbapi.notified(c, wait)

# The fields of a server's error are in a dictionary.
def field(e, name):
    return e.args[0].get(name) if e.args and isinstance(e.args[0], dict) else None

dbapi.main(connect=connect, copy=copy, notify=notify, sqlstate=lambda e: field(e, "C"),
           message=lambda e: field(e, "M") or e)
