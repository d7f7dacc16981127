package sqlitecopy

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// TestMain lets writers write between the reads of a moment, if they can.
func TestMain(m *testing.M) {
	begun = func() { <-time.After(3 * time.Millisecond) }
	os.Exit(m.Run())
}

// ledger is files that are written in turn: number n goes into the first file, then into the second, and so on, each in a
// transaction of its own. At every moment the first has at most one number more than the last.
type ledger struct {
	t     *testing.T
	paths []string
	dbs   []*sql.DB
	done  atomic.Int64 // numbers that are in all files
}

func newLedger(t *testing.T, files int) *ledger {
	l := &ledger{t: t}
	for i := range files {
		path := filepath.Join(t.TempDir(), fmt.Sprintf("%d.db", i))
		db, err := sql.Open("sqlite", "file:"+path+"?_pragma=journal_mode(WAL)&_pragma=busy_timeout(10000)&_txlock=immediate&_pragma=auto_vacuum(INCREMENTAL)")
		if err == nil {
			db.SetMaxOpenConns(1)
			_, err = db.Exec("CREATE TABLE entry (n INTEGER PRIMARY KEY, body BLOB NOT NULL)")
		}
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = db.Close() })
		l.paths, l.dbs = append(l.paths, path), append(l.dbs, db)
	}
	return l
}

// write goes on until stop, from number first.
func (l *ledger) write(first int64, stop <-chan struct{}) (next int64) {
	for n := first; ; n++ {
		for _, db := range l.dbs {
			if _, err := db.Exec("INSERT INTO entry (n, body) VALUES (?, randomblob(3000))", n); err != nil {
				l.t.Error(err)
				return n
			}
		}
		l.done.Store(n)
		select {
		case <-stop:
			return n + 1
		default:
		}
	}
}

// last is the highest number of a file, all below which must be there.
func last(t *testing.T, path string) (n int64) {
	t.Helper()
	db, err := sql.Open("sqlite", "file:"+path+"?mode=ro")
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	var count int64
	var check string
	err = db.QueryRow("SELECT coalesce(max(n), 0), count(*) FROM entry").Scan(&n, &count)
	if err == nil {
		err = db.QueryRow("PRAGMA integrity_check").Scan(&check)
	}
	if err != nil || count != n || check != "ok" {
		t.Fatalf("%s has %d entries up to %d, %s, %v", path, count, n, check, err)
	}
	return n
}

// TestOneMoment copies files that are written all the time, again and again. Between the moment and the copies the
// writer goes on, and its checkpoints try to put what is new into the files.
func TestOneMoment(t *testing.T) {
	t.Parallel()
	l := newLedger(t, 3)
	stop := make(chan struct{})
	var writer sync.WaitGroup
	writer.Go(func() { l.write(1, stop) })
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	defer cancel()
	for round := range 8 {
		before := l.done.Load()
		c, err := Take(ctx, l.paths)
		if err != nil {
			t.Fatal(err)
		}
		after := l.done.Load()
		for l.done.Load() < after+50 && ctx.Err() == nil { // the files move on
			time.Sleep(time.Millisecond)
		}
		var have []int64
		for i := len(l.paths) - 1; i >= 0; i-- {
			to := filepath.Join(t.TempDir(), "copy.db")
			looks := 0
			if err := c.Copy(i, to, func(int64) error { looks++; return nil }); err != nil || looks == 0 {
				t.Fatalf("%d looks, %v", looks, err)
			}
			if left, _ := filepath.Glob(to + "-*"); len(left) > 0 {
				t.Errorf("the copy needs %v", left)
			}
			if info, err := os.Stat(to); err != nil || info.Size() != c.files[i].bytes {
				t.Errorf("copy of %d bytes, %v", c.files[i].bytes, err)
			}
			have = append(have, last(t, to))
		}
		if err := c.Close(); err != nil {
			t.Error(err)
		}
		// have is of the last file first.
		for i := 1; i < len(have); i++ {
			if d := have[i] - have[i-1]; d < 0 || d > 1 {
				t.Errorf("round %d: the files are of different moments: %v", round, have)
			}
		}
		if have[2] > have[0]+1 || have[0] < before || have[0] > after+1 {
			t.Errorf("round %d: %v, and the moment was between %d and %d", round, have, before, after)
		}
	}
	close(stop)
	writer.Wait()
}

// TestMomentLetsGo: who cannot get every lock gives back those that it has, and again when it has tried again.
func TestMomentLetsGo(t *testing.T) {
	t.Parallel()
	l := newLedger(t, 2)
	held, err := l.dbs[1].Begin()
	if err != nil {
		t.Fatal(err)
	}
	if _, err := l.dbs[0].Exec("PRAGMA busy_timeout = 0"); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	taken := make(chan error, 1)
	go func() {
		_, err := Take(ctx, l.paths)
		taken <- err
	}()
	waited, given := false, 0 // how often the first file was free again
	for n := 1; ; n++ {
		_, err := l.dbs[0].Exec("INSERT INTO entry (n, body) VALUES (?, x'')", n)
		switch {
		case err == nil && waited:
			given++
		case err != nil && !busy(err):
			t.Fatal(err)
		}
		if waited = err != nil; given == 3 {
			break
		}
		select {
		case err := <-taken:
			t.Fatalf("the first file was free %d times before %v", given, err)
		case <-time.After(time.Millisecond):
		}
	}
	cancel()
	if err := <-taken; !errors.Is(err, context.Canceled) {
		t.Errorf("a moment of a file that is locked: %v", err)
	}
	if err := held.Rollback(); err != nil {
		t.Fatal(err)
	}
	if c, err := Take(t.Context(), l.paths); err != nil || c.Close() != nil {
		t.Errorf("when it is free again: %v", err)
	}
}

func TestMomentRefuses(t *testing.T) {
	t.Parallel()
	l := newLedger(t, 1)
	if _, err := l.dbs[0].Exec("PRAGMA journal_mode=DELETE"); err != nil {
		t.Fatal(err)
	}
	for _, paths := range [][]string{l.paths, {filepath.Join(t.TempDir(), "none.db")}} {
		if _, err := Take(t.Context(), paths); err == nil {
			t.Errorf("a moment of %v", paths)
		}
		if files, _ := filepath.Glob(filepath.Join(filepath.Dir(paths[0]), "none*")); len(files) > 0 {
			t.Errorf("it made %v", files)
		}
	}
	whole := newLedger(t, 1)
	c, err := Take(t.Context(), whole.paths)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	enough := errors.New("enough")
	if err := c.Copy(0, filepath.Join(t.TempDir(), "copy.db"), func(int64) error { return enough }); !errors.Is(err, enough) {
		t.Errorf("a look that fails: %v", err)
	}
}
