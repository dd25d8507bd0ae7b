// SPDX-License-Identifier: ISC
// Go's lib/pq. It has no function for COPY TO.
package main

import (
	"context"
	"database/sql"
	"fmt"
	"os"
	"strings"
	"time"

	"github.com/lib/pq"
)

var ctx = context.Background()

func connect() (*sql.Conn, error) {
	db, err := sql.Open("postgres", "") // takes all from the environment
	if err != nil {
		return nil, err
	}
	return db.Conn(ctx)
}

func value(c *sql.Conn, query string) string {
	var v string
	if err := c.QueryRowContext(ctx, query).Scan(&v); err != nil {
		return err.Error()
	}
	return v
}

func state(err error) string {
	if e, ok := err.(*pq.Error); ok {
		return string(e.Code)
	}
	return fmt.Sprint(err)
}

var checks = map[string]func(*sql.Conn) string{
	"connected": func(c *sql.Conn) string { return value(c, "select current_user") },
	"parameters": func(c *sql.Conn) string {
		s, _ := c.PrepareContext(ctx, "select $1::text, $2::int, $3::text")
		var a string
		var b int
		var null sql.NullString
		s.QueryRow("käse 'x'", 42, nil).Scan(&a, &b, &null)
		return fmt.Sprintf("%s|%d|%s", a, b, map[bool]string{false: "NULL", true: ""}[null.Valid])
	},
	"rows": func(c *sql.Conn) string {
		rows, _ := c.QueryContext(ctx, "select repeat(md5(i::text), 320) from generate_series(1, 10000) i")
		n, bytes, text := 0, 0, ""
		for ; rows.Next(); n++ {
			rows.Scan(&text)
			bytes += len(text)
		}
		return fmt.Sprintf("%d rows, %d bytes", n, bytes)
	},
	"copy": func(c *sql.Conn) string {
		c.ExecContext(ctx, "create temp table t (a int, b text)")
		tx, _ := c.BeginTx(ctx, nil)
		in, _ := tx.Prepare(pq.CopyIn("t", "a", "b"))
		for i := 0; i < 10000; i++ {
			in.Exec(i, fmt.Sprint("line ", i))
		}
		in.Exec()
		in.Close()
		tx.Commit()
		return value(c, "select count(*) || ' lines, last ' || max(a) || E'\\t' || max(b) from t")
	},
	"error": func(c *sql.Conn) string {
		_, err := c.ExecContext(ctx, "select 1/0")
		return state(err) + " then " + value(c, "select 1")
	},
	"notify": func(c *sql.Conn) string {
		l := pq.NewListener("", time.Second, time.Second, nil)
		l.Listen("c")
		value(c, "select pg_notify('c', 'hello')")
		n := <-l.Notify
		return n.Channel + " " + n.Extra
	},
	"cancel": func(c *sql.Conn) string {
		pid := value(c, "select pg_backend_pid()")
		watch, _ := connect()
		canceled, cancel := context.WithCancel(ctx)
		go func() {
			for value(watch, "select count(*) from pg_stat_activity where state = 'active' and query like 'select pg_sleep%' and pid = "+pid) == "0" {
			}
			cancel()
		}()
		_, err := c.ExecContext(canceled, "select pg_sleep(60)")
		return state(err)
	},
	"many": func(*sql.Conn) string {
		pids := map[string]bool{}
		for i := 0; i < 50; i++ {
			c, err := connect()
			if err != nil {
				return err.Error()
			}
			pids[value(c, "select pg_backend_pid()")] = true
		}
		return fmt.Sprint(len(pids))
	},
}

func main() {
	for _, name := range os.Args[1:] {
		c, err := connect()
		if err != nil {
			fmt.Println(name, "failed:", state(err), strings.Join(strings.Fields(err.Error()), " "))
			continue
		}
		fmt.Println(name, checks[name](c))
	}
}
