# SPDX-License-Identifier: ISC
# psqlODBC with pyodbc. ODBC has no functions for COPY and NOTIFY.
import dbapi, pyodbc
from dbapi import ENV

def connect():
    return pyodbc.connect("Driver={PostgreSQL Unicode};Servername=%(PGHOST)s;Port=%(PGPORT)s;Database=%(PGDATABASE)s;"
                          "UID=%(PGUSER)s;PWD=%(PGPASSWORD)s;SSLmode=verify-full" % ENV, autocommit=True)

def cancel(c):
    k = c.cursor()
    c.cursor = lambda: k  # the same cursor
    return dbapi.canceled(c, k.cancel)

dbapi.main(MARK="?", connect=connect, sqlstate=lambda e: e.args[0])
