# SPDX-License-Identifier: ISC
# psqlODBC with pyodbc. ODBC has no functions for COPY and NOTIFY.
import dbapi, pyodbc
from dbapi import ENV

def connect():
    return pyodbc.connect("Driver={PostgreSQL Unicode};Servername=%(PGHOST)s;Port=%(PGPORT)s;Database=%(PGDATABASE)s;"
                          "UID=%(PGUSER)s;PWD=%(PGPASSWORD)s;SSLmode=verify-full" % ENV, autocommit=True)

# Only the cursor that runs a query can cancel it.
class WithCursor:
    def __init__(self, cursor):
        self.cursor = lambda: cursor

def cancel(c):
    k = c.cursor()
    return dbapi.canceled(WithCursor(k), k.cancel)

dbapi.main(MARK="?", connect=connect, cancel=cancel, sqlstate=lambda e: e.args[0])
