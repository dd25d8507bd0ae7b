# SPDX-License-Identifier: ISC
# SQLAlchemy with psycopg2. It has no functions for COPY, NOTIFY and cancel; psycopg2's are tested there.
import dbapi
from sqlalchemy import create_engine, text

engine = create_engine("postgresql+psycopg2://", pool_size=51, isolation_level="AUTOCOMMIT")

def parameters(c):
    row = c.execute(text("select cast(:a as text), cast(:b as int), cast(:c as text)"), dict(a="käse 'x'", b=42, c=None)).fetchone()
    return "|".join("NULL" if v is None else str(v) for v in row)

def rows(c):
    all = [len(r[0]) for r in c.execute(text(dbapi.ROWS))]
    return "%d rows, %d bytes" % (len(all), sum(all))

def one(c, sql):
    return c.execute(text(sql)).fetchone()

dbapi.main(connect=engine.connect, parameters=parameters, rows=rows, one=one,
           sqlstate=lambda e: getattr(getattr(e, "orig", None), "pgcode", None))
