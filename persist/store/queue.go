package store

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"strings"
	"time"

	"sluice/engine/order"
)

// queueFact is the identity of the queue that the deployment's orders are accepted into, on shard 0. It is the one fact
// that a person can change, by AdoptQueue.
const queueFact = "queue"

// adopting stands before the identity while AdoptQueue makes it the deployment's: until that has ended no process starts.
const adopting = "adopting "

// otherQueue says why a queue is not the one that is stored; empty: it is, or none is stored yet. Another queue would
// cut what lies in the stored one: its barriers come without the batches that were accepted before them.
func otherQueue(stored, found string) string {
	what := "and this one is " + found
	switch {
	case strings.HasPrefix(stored, adopting):
		return "`sluice queue adopt` has begun to make another queue the deployment's (" + stored[len(adopting):] + ") and has not ended: run it again"
	case stored == "" || stored == found:
		return ""
	case found == "":
		what = "and there is none here yet"
	}
	return fmt.Sprintf("the queue of this deployment is %s, %s: accepted orders may lie in the deployment's own, so no other is begun in silence. "+
		"Are queue.driver, its settings and data_dir right, and is this the machine that has it? If it is lost for ever, "+
		"`sluice queue adopt` says what goes with it, and begins anew", stored, what)
}

// KeepQueue makes the queue the deployment's if it has none yet, which adopted tells, and refuses another one than the
// deployment's, in words for the person who starts the program. It is called with a lease of a node number in hand: then
// AdoptQueue cannot change the queue under this process.
func (s *Store) KeepQueue(ctx context.Context, identity string) (adopted bool, err error) {
	before, err := s.keptQueue(ctx)
	if err != nil {
		return false, err
	}
	stored, err := s.storedFact(ctx, 0, queueFact, identity)
	if err != nil {
		return false, err
	}
	if text := otherQueue(stored, identity); text != "" {
		return false, errors.New(text)
	}
	return before == "", nil
}

// Queue is the identity of the deployment's queue; empty if none is stored yet. unfinished: AdoptQueue has begun to make it
// that, and has to be repeated.
func (s *Store) Queue(ctx context.Context) (identity string, unfinished bool, err error) {
	stored, err := s.keptQueue(ctx)
	identity, unfinished = strings.CutPrefix(stored, adopting)
	return identity, unfinished, err
}

// keptQueue is the fact as it is stored.
func (s *Store) keptQueue(ctx context.Context) (stored string, err error) {
	err = s.query(ctx, 0, "SELECT value FROM fact WHERE name = ?", func(r *sql.Rows) error { return r.Scan(&stored) }, queueFact)
	return stored, onShard(err, "read the queue's identity", 0)
}

// AliveError says that a process of the deployment runs, or ran so lately that nobody can know.
type AliveError struct {
	Owner string
	Until order.Milli // when its lease ends, unless it renews it
}

func (e *AliveError) Error() string {
	return fmt.Sprintf("process %s (host, process id) of this deployment has been running within the last minute: stop every process, then come back after %s",
		e.Owner, e.Until.Time().UTC().Format(time.TimeOnly+" MST"))
}

// AdoptQueue makes another queue the deployment's, for one that is lost for ever or drained. What was claimed for orders
// whose message was lost before they were recorded is given back, and units tells how much that was. Every partition is
// to be rebuilt at the next start: what fast stock counts as sold may have been in the lost queue only. No process of the
// deployment may run, which the leases of node numbers tell: otherwise *AliveError, and nothing is changed. From then on
// KeepQueue refuses every process that starts, until the call has ended; after an error it has to be repeated.
func (s *Store) AdoptQueue(ctx context.Context, identity string) (units int64, err error) {
	err = s.update(ctx, 0, 0, func(t *tx) error {
		if err := t.nobodyRuns(); err != nil {
			return err
		}
		return t.keepTo(adopting + identity)
	})
	if err != nil {
		return 0, err
	}
	if units, err = s.returnLost(ctx); err != nil {
		return units, err
	}
	for home := range s.shards {
		err := s.update(ctx, home, 0, func(t *tx) error {
			_, err := t.exec("UPDATE part SET wanted = epoch")
			return err
		})
		if err != nil {
			return units, onShard(err, "ask for rebuilds", home)
		}
	}
	err = s.update(ctx, 0, 0, func(t *tx) error { return t.keepTo(identity) })
	return units, onShard(err, "store the queue's identity", 0)
}

func (t *tx) keepTo(queue string) error {
	_, err := t.exec("INSERT INTO fact (name, value) VALUES (?, ?)"+t.d.upsert("name", "value = new(value)"), queueFact, queue)
	return err
}

// nobodyRuns locks every node number: until the transaction ends nobody gets one.
func (t *tx) nobodyRuns() error {
	now, err := t.now()
	if err != nil {
		return err
	}
	var alive *AliveError
	err = t.query("SELECT owner, until_at FROM node ORDER BY n"+t.d.forUpdate, func(r *sql.Rows) error {
		var e AliveError
		err := r.Scan(&e.Owner, &e.Until)
		if err == nil && e.Until > now && (alive == nil || e.Until > alive.Until) {
			alive = &e
		}
		return err
	})
	if err == nil && alive != nil {
		return alive
	}
	return err
}
