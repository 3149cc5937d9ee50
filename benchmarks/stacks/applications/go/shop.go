// pgx with a pool behind net/http.
package main

import (
	"context"
	"errors"
	"net/http"
	"os"

	"github.com/jackc/pgconn"
	"github.com/jackc/pgx/v4"
	"github.com/jackc/pgx/v4/pgxpool"
)

type connection interface {
	QueryRow(ctx context.Context, sql string, arguments ...interface{}) pgx.Row
	Exec(ctx context.Context, sql string, arguments ...interface{}) (pgconn.CommandTag, error)
}

var pool *pgxpool.Pool

func insert(ctx context.Context, connection connection) error {
	var number int
	if err := connection.QueryRow(ctx, "SELECT coalesce(max(number), 0) + 1 FROM orders").Scan(&number); err != nil {
		return err
	}
	_, err := connection.Exec(ctx, "INSERT INTO orders (number) VALUES ($1)", number)
	return err
}

func transaction(ctx context.Context, lock bool) error {
	return pool.BeginFunc(ctx, func(tx pgx.Tx) error {
		if lock {
			if _, err := tx.Exec(ctx, "SELECT pg_advisory_xact_lock(42)"); err != nil {
				return err
			}
		}
		return insert(ctx, tx)
	})
}

func insertAgainAndAgain(ctx context.Context) error {
	for tries := 1; ; tries++ {
		err := transaction(ctx, false)
		var refused *pgconn.PgError
		if tries == 10 || !errors.As(err, &refused) || refused.Code != "23505" {
			return err
		}
	}
}

// Several statements with one Sync: an implicit transaction.
func batch(ctx context.Context) error {
	batch := &pgx.Batch{}
	batch.Queue("INSERT INTO orders (number) SELECT coalesce(max(number), 0) + 1 FROM orders")
	batch.Queue("SELECT count(*) FROM orders")
	return pool.SendBatch(ctx, batch).Close()
}

func main() {
	var err error
	if pool, err = pgxpool.Connect(context.Background(), os.Getenv("DATABASE_URL")); err != nil {
		panic(err)
	}
	for path, operation := range map[string]func(context.Context) error{
		"/orders":            func(ctx context.Context) error { return transaction(ctx, false) },
		"/orders/autocommit": func(ctx context.Context) error { return insert(ctx, pool) },
		"/orders/locked":     func(ctx context.Context) error { return transaction(ctx, true) },
		"/orders/unique":     insertAgainAndAgain,
		"/orders/batch":      batch,
	} {
		operation := operation
		http.HandleFunc(path, func(response http.ResponseWriter, request *http.Request) {
			if err := operation(request.Context()); err != nil {
				http.Error(response, err.Error(), 500)
				return
			}
			response.WriteHeader(201)
		})
	}
	panic(http.ListenAndServe("127.0.0.1:"+os.Getenv("PORT"), nil))
}
