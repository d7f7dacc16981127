package store

import (
	"context"
	"crypto/rand"
	"database/sql"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"sluice/engine/order"
)

// testPartitions is what newStore creates: enough for several per shard and kind.
var testPartitions = order.Partitions{Normal: 4, Flash: 4}

// onDialects runs a test on SQLite, and on MySQL when SLUICE_TEST_MYSQL names a server (user:password@tcp(host:port)/).
// In CI a missing server is a failure.
func onDialects(t *testing.T, f func(t *testing.T, d Dialect)) {
	t.Parallel()
	for _, d := range []Dialect{SQLite, MySQL} {
		t.Run(string(d), func(t *testing.T) {
			t.Parallel()
			if d == MySQL {
				needMySQL(t)
			}
			f(t, d)
		})
	}
}

func needMySQL(t testing.TB) {
	t.Helper()
	if os.Getenv("SLUICE_TEST_MYSQL") != "" {
		return
	}
	if os.Getenv("SLUICE_CI") == "1" {
		t.Fatal("SLUICE_TEST_MYSQL is not set, and in CI nothing is skipped")
	}
	t.Skip("SLUICE_TEST_MYSQL is not set")
}

// testOptions are options of a new deployment with its own databases, which go when the test ends.
func testOptions(t *testing.T, d Dialect, shards int) Options {
	t.Helper()
	o := Options{Dialect: d, Partitions: testPartitions, Deadline: time.Second}
	dir := t.TempDir()
	for i := range shards {
		if d == SQLite {
			o.Shards = append(o.Shards, filepath.Join(dir, fmt.Sprintf("shard-%d.db", i)))
		} else {
			o.Shards = append(o.Shards, testDatabase(t))
		}
	}
	return o
}

func testDatabase(t testing.TB) string {
	t.Helper()
	server := os.Getenv("SLUICE_TEST_MYSQL")
	name := "sluice_test_" + strings.ToLower(rand.Text())
	db, err := sql.Open("mysql", server)
	noError(t, err)
	_, err = db.Exec("CREATE DATABASE " + name)
	noError(t, err)
	t.Cleanup(func() {
		if _, err := db.Exec("DROP DATABASE " + name); err != nil {
			t.Error(err)
		}
		_ = db.Close()
	})
	return wired(t, server+name)
}

// newStore opens a new deployment, which is closed and dropped when the test ends.
func newStore(t *testing.T, d Dialect, shards int) *Store {
	t.Helper()
	return openStore(t, testOptions(t, d, shards))
}

func openStore(t *testing.T, o Options) *Store {
	t.Helper()
	s, err := Open(context.Background(), o)
	noError(t, err)
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
	return s
}

func noError(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func TestOpenTwice(t *testing.T) {
	onDialects(t, func(t *testing.T, d Dialect) {
		o := testOptions(t, d, 2)
		first := openStore(t, o)
		noError(t, first.Close())
		second := openStore(t, o)
		now, err := second.Now(context.Background(), 1)
		noError(t, err)
		if off := time.Since(now.Time()); off < -time.Minute || off > time.Minute {
			t.Errorf("the database's clock says %v", now.Time())
		}
	})
}
