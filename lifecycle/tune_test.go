package lifecycle

import (
	"context"
	"database/sql"
	"errors"
	"path/filepath"
	"reflect"
	"testing"
	"time"

	"sluice/persist/store"
)

// TestEverySettingIsHot sees every setting of Tuning take effect on a lifecycle that runs.
func TestEverySettingIsHot(t *testing.T) {
	t.Parallel()
	tests := map[string]func(*testing.T){"ExpireEvery": expireEveryFollows, "GiveBackEvery": giveBackEveryFollows,
		"EventsEvery": eventsEveryFollows, "CallTimeout": callTimeoutFollows}
	for _, f := range reflect.VisibleFields(reflect.TypeFor[Tuning]()) {
		if tests[f.Name] == nil {
			t.Errorf("nothing shows that %s is hot", f.Name)
		}
	}
	for name, test := range tests {
		t.Run(name, test)
	}
}

// slow looks so seldom that a test sees none of it.
var slow = Tuning{ExpireEvery: time.Minute, GiveBackEvery: time.Minute, EventsEvery: time.Minute, CallTimeout: time.Minute}

// tune changes the tuning, and waits until the look that this brings with it is over.
func (x *shop) tune(t Tuning) {
	x.t.Helper()
	noError(x.t, x.Lifecycle.Tune(t))
	<-time.After(300 * time.Millisecond)
}

func expireEveryFollows(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	x := newShop(t, store.SQLite, filepath.Join(dir, "shard-0.db"), filepath.Join(dir, "shard-1.db"))
	x.start(Options{Tuning: slow})
	x.tune(slow)
	x.place(0, 1, "a", users(1, 20)...)
	<-time.After(2 * time.Second)
	if n := x.Lifecycle.Stats().Expired; n != 0 {
		t.Fatalf("%d expired, and nobody looks", n)
	}
	x.tune(Tuning{ExpireEvery: 10 * time.Millisecond})
	x.place(0, 1, "b", users(1, 20)...)
	x.await(0)
	x.tune(slow)
	x.place(0, 1, "c", users(1, 20)...)
	<-time.After(500 * time.Millisecond)
	if n := x.Lifecycle.Stats().Expired; n != 40 {
		t.Errorf("%d expired, want 40", n)
	}
}

func giveBackEveryFollows(t *testing.T) {
	t.Parallel()
	x := newShop(t, store.SQLite, filepath.Join(t.TempDir(), "shard-0.db"))
	x.start(Options{Tuning: slow})
	x.tune(slow)
	expire := func(key string) { // as another process does: nobody announces it
		t.Helper()
		x.place(0, 1, key, users(1, 20)...)
		_, err := x.ExpireDue(context.Background(), 0, 100)
		noError(t, err)
	}
	expire("a")
	<-time.After(time.Second)
	if n := x.Lifecycle.Stats().GivenBack; n != 0 {
		t.Fatalf("%d given back, and nobody looks", n)
	}
	noError(t, x.Lifecycle.Tune(Tuning{ExpireEvery: time.Minute, GiveBackEvery: 10 * time.Millisecond}))
	x.await(0)
	expire("b")
	x.await(0)
}

func eventsEveryFollows(t *testing.T) {
	t.Parallel()
	x := newShop(t, store.SQLite, filepath.Join(t.TempDir(), "shard-0.db"))
	x.start(Options{Tuning: slow})
	x.tune(slow)
	x.place(time.Hour, 1, "a", users(1, 20)...)
	<-time.After(time.Second)
	if n := x.Lifecycle.Stats().EventsNumbered; n != 0 {
		t.Fatalf("%d events are in the feed, and nobody looks", n)
	}
	x.tune(Tuning{EventsEvery: 10 * time.Millisecond})
	x.place(time.Hour, 1, "b", users(1, 20)...)
	x.awaitEvents(40)
}

func callTimeoutFollows(t *testing.T) {
	t.Parallel()
	ctx := context.Background()
	path := filepath.Join(t.TempDir(), "shard-0.db")
	x := newShop(t, store.SQLite, path)
	x.start(Options{Tuning: slow})
	x.tune(slow)
	db, err := sql.Open("sqlite", path)
	noError(t, err)
	defer func() { noError(t, db.Close()) }()
	conn, err := db.Conn(ctx)
	noError(t, err)
	defer func() { noError(t, conn.Close()) }()
	_, err = conn.ExecContext(ctx, "BEGIN IMMEDIATE")
	noError(t, err)
	ahead := make(chan error, 1)
	go func() { // it waits for the file, and lifecycle's calls wait for it
		_, err := x.ExpireDue(ctx, 0, 1)
		ahead <- err
	}()
	<-time.After(200 * time.Millisecond)
	x.tune(Tuning{ExpireEvery: 10 * time.Millisecond, GiveBackEvery: time.Minute, CallTimeout: time.Minute})
	if n := x.Lifecycle.Stats().ExpireFailures; n != 0 {
		t.Fatalf("%d failures with a minute for a call", n)
	}
	_, err = conn.ExecContext(ctx, "ROLLBACK")
	noError(t, errors.Join(err, <-ahead))
	x.tune(slow)

	_, err = conn.ExecContext(ctx, "BEGIN IMMEDIATE")
	noError(t, err)
	go func() {
		_, err := x.ExpireDue(ctx, 0, 1)
		ahead <- err
	}()
	<-time.After(200 * time.Millisecond)
	began := time.Now()
	x.tune(Tuning{ExpireEvery: 10 * time.Millisecond, CallTimeout: 50 * time.Millisecond})
	for x.Lifecycle.Stats().ExpireFailures == 0 && time.Since(began) < 4*time.Second {
		time.Sleep(time.Millisecond)
	}
	if x.Lifecycle.Stats().ExpireFailures == 0 {
		t.Error("no failure after 4 s with 50 ms for a call")
	}
	_, err = conn.ExecContext(ctx, "ROLLBACK")
	noError(t, errors.Join(err, <-ahead))
}
