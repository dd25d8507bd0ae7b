# SPDX-License-Identifier: ISC
# The checks of a driver with Python's DB-API. A driver's program passes its functions to main():
# connect(), sqlstate(exception), and a function for each check that is not in the DB-API.
import os, sys, threading

ENV = os.environ
MARK = "%s"  # the placeholder of a parameter
ROWS = "select repeat(md5(i::text), 320) from generate_series(1, 10000) i"
LINES = "".join("%d\tline %d\n" % (i, i) for i in range(10000))

def one(c, sql, *args):
    k = c.cursor()
    k.execute(sql, args) if args else k.execute(sql)
    return k.fetchone()

def connected(c):
    return one(c, "select current_user")[0]

def parameters(c):
    sql = "select {0}::text, {0}::int, {0}::text".format(MARK)
    return "|".join("NULL" if v is None else str(v) for v in one(c, sql, "käse 'x'", 42, None))

def rows(c):
    k = c.cursor()
    k.execute(ROWS)
    all = [len(r[0]) for r in k.fetchall()]
    return "%d rows, %d bytes" % (len(all), sum(all))

def copied(out):
    lines = out.split("\n")
    return "%d lines, last %s" % (len(lines) - 1, lines[-2])

def error(c):
    try:
        one(c, "select 1/0")
    except Exception as e:
        return "%s then %s" % (sqlstate(e), one(c, "select 1")[0])

def notified(c, wait):
    one(connect(), "select pg_notify('c', 'hello')")
    return "%s %s" % wait(c)

# A request that comes before the query has no effect: repeat it.
def canceled(c, request):
    done = threading.Event()
    def again():
        while not done.wait(0.1):
            request()
    thread = threading.Thread(target=again)
    thread.start()
    try:
        one(c, "select pg_sleep(60)")
    except Exception as e:
        return sqlstate(e)
    finally:
        done.set()
        thread.join()

def many(c):
    all = [connect() for _ in range(50)]
    return len({one(c, "select pg_backend_pid()")[0] for c in all})

def message(e):
    return " ".join(str(e).split())

def main(**driver):
    globals().update(driver)
    for check in sys.argv[1:]:
        try:
            print(check, globals()[check](connect()), flush=True)
        except Exception as e:
            print(check, "failed:", sqlstate(e), message(e), flush=True)
