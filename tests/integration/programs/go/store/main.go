// SPDX-License-Identifier: Apache-2.0

// A server to be observed that keeps what it has in databases: PORT LOG REDIS POSTGRES, of which the first two are ports and the last is a URL.
// /redis/KIND and /postgres/KIND do what is in the tables here on the goroutine that serves, and write a line each to LOG.
package main

import (
	"context"
	"fmt"
	"log"
	"net/http"
	"os"
	"strings"
	"sync"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/redis/go-redis/v9"
)

type server struct {
	lock  sync.Mutex
	log   *os.File
	redis *redis.Client
	pool  *pgxpool.Pool
}

// Commands of a kind are told from those of another by their names.
var commands = map[string][]string{
	"text":  {"SET key v", "GET key", "APPEND key w"},
	"list":  {"LPUSH list a", "LRANGE list 0 1", "LPOP list"},
	"hash":  {"HSET hash f v", "HGET hash f"},
	"fails": {"EXISTS key", "LPUSH key x", "STRLEN key"},
}

func (s *server) commands(ctx context.Context, kind string, pipeline bool) (errs []string) {
	note := func(err error) {
		if err != nil && err != redis.Nil {
			errs = append(errs, err.Error())
		}
	}
	p := s.redis.Pipeline()
	for _, line := range commands[kind] {
		var args []any
		for _, word := range strings.Fields(line) {
			args = append(args, word)
		}
		if pipeline {
			p.Do(ctx, args...)
		} else {
			note(s.redis.Do(ctx, args...).Err())
		}
	}
	if pipeline {
		_, err := p.Exec(ctx)
		note(err)
	}
	return errs
}

// Statements likewise: by table, or by the names of columns.
func (s *server) statements(ctx context.Context, kind string, id int, mode pgx.QueryExecMode) (errs []string) {
	run := func(text string, args ...any) {
		if _, err := s.pool.Exec(ctx, text, append([]any{mode}, args...)...); err != nil {
			errs = append(errs, err.Error())
		}
	}
	switch kind {
	case "write":
		run("INSERT INTO things VALUES ($1, $2)", id, "name")
		run("UPDATE things SET name = $2 WHERE id = $1", id, "other")
		run("DELETE FROM things WHERE id = $1", id)
	case "read":
		run("SELECT name FROM things WHERE id = $1", id)
		run("SELECT id FROM others WHERE id = $1", id)
	case "fails":
		run("SELECT nothing FROM things")
	}
	return errs
}

var modes = map[string]pgx.QueryExecMode{"simple": pgx.QueryExecModeSimpleProtocol, "exec": pgx.QueryExecModeExec,
	"prepared": pgx.QueryExecModeCacheStatement, "described": pgx.QueryExecModeDescribeExec}

func (s *server) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	var store, kind, how string
	var id int
	var errs []string
	fmt.Sscan(strings.ReplaceAll(r.URL.Path, "/", " "), &store, &kind, &how, &id)
	begun := time.Now()
	if store == "redis" {
		errs = s.commands(r.Context(), kind, how == "pipeline")
	} else {
		errs = s.statements(r.Context(), kind, id, modes[how])
	}
	fmt.Fprintf(w, "%d", len(errs))
	s.lock.Lock()
	defer s.lock.Unlock()
	fmt.Fprintf(s.log, `{"path":"%s","errors":%d,"text":%q,"seconds":%.9f}`+"\n", r.URL.Path, len(errs), strings.Join(errs, ";"), time.Since(begun).Seconds())
}

func main() {
	out, err := os.OpenFile(os.Args[2], os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o644)
	if err != nil {
		log.Fatal(err)
	}
	pool, err := pgxpool.New(context.Background(), os.Args[4])
	if err != nil {
		log.Fatal(err)
	}
	s := &server{log: out, redis: redis.NewClient(&redis.Options{Addr: "127.0.0.1:" + os.Args[3], PoolSize: 20}), pool: pool}
	log.Fatal(http.ListenAndServe("127.0.0.1:"+os.Args[1], s))
}
