// SPDX-License-Identifier: ISC
// Go's pgx, version 4.
package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"strings"
	"time"

	"github.com/jackc/pgconn"
	"github.com/jackc/pgx/v4"
)

var ctx = context.Background()

func connect() (*pgx.Conn, error) { return pgx.Connect(ctx, "") }

func value(c *pgx.Conn, query string) (v string) {
	if err := c.QueryRow(ctx, query).Scan(&v); err != nil {
		return err.Error()
	}
	return v
}

func state(err error) string {
	var e *pgconn.PgError
	if errors.As(err, &e) {
		return e.Code
	}
	return fmt.Sprint(err)
}

var checks = map[string]func(*pgx.Conn) string{
	"connected": func(c *pgx.Conn) string { return value(c, "select current_user::text") },
	"parameters": func(c *pgx.Conn) string {
		c.Prepare(ctx, "s", "select $1::text, $2::int, $3::text")
		var a string
		var b int
		var null *string
		c.QueryRow(ctx, "s", "käse 'x'", 42, nil).Scan(&a, &b, &null)
		return fmt.Sprintf("%s|%d|%s", a, b, map[bool]string{true: "NULL", false: ""}[null == nil])
	},
	"rows": func(c *pgx.Conn) string {
		rows, _ := c.Query(ctx, "select repeat(md5(i::text), 320) from generate_series(1, 10000) i")
		n, size := 0, 0
		for ; rows.Next(); n++ {
			size += len(rows.RawValues()[0])
		}
		return fmt.Sprintf("%d rows, %d bytes", n, size)
	},
	"copy": func(c *pgx.Conn) string {
		var in, out bytes.Buffer
		for i := 0; i < 10000; i++ {
			fmt.Fprintf(&in, "%d\tline %d\n", i, i)
		}
		c.Exec(ctx, "create temp table t (a int, b text)")
		c.PgConn().CopyFrom(ctx, &in, "copy t from stdin")
		c.PgConn().CopyTo(ctx, &out, "copy (select * from t order by a) to stdout")
		lines := strings.Split(strings.TrimSpace(out.String()), "\n")
		return fmt.Sprintf("%d lines, last %s", len(lines), lines[len(lines)-1])
	},
	"error": func(c *pgx.Conn) string {
		_, err := c.Exec(ctx, "select 1/0")
		return state(err) + " then " + value(c, "select '1'")
	},
	"notify": func(c *pgx.Conn) string {
		c.Exec(ctx, "listen c")
		other, _ := connect()
		other.Exec(ctx, "notify c, 'hello'")
		n, err := c.WaitForNotification(ctx)
		if err != nil {
			return err.Error()
		}
		return n.Channel + " " + n.Payload
	},
	// A request that comes before the query has no effect: repeat it.
	"cancel": func(c *pgx.Conn) string {
		done := make(chan bool)
		go func() {
			for {
				select {
				case <-done:
					return
				case <-time.After(100 * time.Millisecond):
					c.PgConn().CancelRequest(ctx)
				}
			}
		}()
		_, err := c.Exec(ctx, "select pg_sleep(60)")
		done <- true
		return state(err)
	},
	"many": func(*pgx.Conn) string {
		pids := map[uint32]bool{}
		for i := 0; i < 50; i++ {
			c, err := connect()
			if err != nil {
				return err.Error()
			}
			pids[c.PgConn().PID()] = true
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
