package main

import (
	"context"
	"database/sql"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"sluice/engine/queue/sqlitequeue"
)

// TestLostQueue: the server dies between claiming a batch and recording it, and the queue's file is gone. Nobody begins
// another in silence; who says so aloud gets every unit back, and the old file is refused from then on.
func TestLostQueue(t *testing.T) {
	t.Parallel()
	c := newCrashes(t)
	c.die("claim:20")
	file := filepath.Join(c.dir, "queue.db")
	move(t, file, file+".lost")
	const none = "and there is none here yet: accepted orders may lie in the deployment's own, so no other is begun in silence"
	c.refused(none)
	if _, err := os.Stat(file); !os.IsNotExist(err) {
		t.Errorf("a start or a look made %s: %v", file, err)
	}
	adopt := func(want string, args ...string) {
		t.Helper()
		out, _, err := cli(t, nil, append([]string{"queue", "adopt", "--set", "data_dir=" + c.dir, "--set", longD}, args...)...)
		if said := fmt.Sprint(out, err); !strings.Contains(said, want) {
			t.Errorf("adopt %v says %q, want %q", args, said, want)
		}
	}
	elsewhere := t.TempDir()
	if _, _, err := cli(t, nil, "queue", "adopt", "--yes", "--set", "data_dir="+elsewhere); err == nil || !strings.Contains(err.Error(), "is not there: is") {
		t.Errorf("adopted in a directory without shards: %v", err)
	}
	if made, _ := filepath.Glob(filepath.Join(elsewhere, "*.db*")); len(made) > 0 {
		t.Errorf("the refusal made %v", made)
	}
	adopt("Orders that were answered 202 and lay in the former queue only are lost.")
	adopt("nothing was changed: `sluice queue adopt --yes` does it")
	adopt("has been running within the last minute: stop every process", "--yes")
	c.refused("and this one is sqlitequeue:")
	c.minuteGoesBy()

	cfg, _ := config(t, c.dir)
	full, err := sqlitequeue.Open(t.Context(), sqlitequeue.Options{Path: file, Partitions: cfg.Engine.Partitions})
	if err == nil {
		err = full.Publish(t.Context(), 1, []byte("a message"))
	}
	if err != nil {
		t.Fatal(err)
	}
	if err := full.Close(); err != nil {
		t.Fatal(err)
	}
	adopt("is not empty: 1 messages wait in it", "--yes")
	move(t, file, file+".full")
	adopt(" units were given back that were taken for orders which were never recorded\nthe deployment's queue is sqlitequeue:", "--yes")
	adopt("is the deployment's queue already: there is nothing to do", "--yes")
	c.onShard("UPDATE fact SET value = 'adopting ' || value WHERE name = 'queue'") // as if that had been killed on its way
	adopt("An earlier `sluice queue adopt` has begun to make sqlitequeue:")
	adopt("no process starts until `sluice queue adopt --yes` has ended")
	c.refused("has begun to make another queue the deployment's (sqlitequeue:")
	adopt("the deployment's queue is sqlitequeue:", "--yes")
	p := spawn(t, c.dir, "--set", longLife)
	p.audited(true)
	c.each([]*shop{p.shop}, func(v *visit) { // life goes on
		for i := 0; i < 20 && v.step(); i++ {
			v.rest()
		}
	})
	p.audited(true)
	p.end(os.Kill)
	move(t, file, file+".new")
	move(t, file+".lost", file)
	c.refused("and this one is sqlitequeue:")
}

func move(t *testing.T, from, to string) {
	t.Helper()
	for _, end := range []string{"", "-wal", "-shm"} {
		if err := os.Rename(from+end, to+end); err != nil && (end == "" || !os.IsNotExist(err)) {
			t.Fatal(err)
		}
	}
}

// refused wants a start and a look to say the same.
func (c *crashes) refused(want string) {
	c.t.Helper()
	lines, ok := looked(c.t, c.dir)
	if ok || !strings.Contains(strings.Join(lines, "\n"), want) {
		c.t.Errorf("the check says %v, %q; want %q", ok, lines, want)
	}
	cfg, d := config(c.t, c.dir)
	s := NewServer(cfg, d, nil, quiet)
	if err := s.Start(c.t.Context()); err == nil || !strings.Contains(err.Error(), want) {
		c.t.Errorf("a start says %v; want %q", err, want)
	}
	if err := s.Close(context.Background()); err != nil {
		c.t.Error(err)
	}
}

// minuteGoesBy ends the leases of dead processes.
func (c *crashes) minuteGoesBy() {
	c.t.Helper()
	c.onShard("UPDATE node SET until_at = min(until_at, CAST(unixepoch('subsec')*1000 AS INTEGER))")
}

// onShard runs a statement on the first shard, of which nobody has the file.
func (c *crashes) onShard(query string) {
	c.t.Helper()
	db, err := sql.Open("sqlite", filepath.Join(c.dir, "shard-0.db"))
	if err == nil {
		_, err = db.Exec(query)
	}
	if err != nil {
		c.t.Fatal(err)
	}
	if err := db.Close(); err != nil {
		c.t.Fatal(err)
	}
}
