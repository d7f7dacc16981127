package store

import (
	"context"
	"database/sql"
	"fmt"
	"slices"
	"time"

	"sluice/engine/order"
)

// Part is the row of a partition: who may sell it and how far its log and its records are.
type Part struct {
	Partition order.Partition
	Epoch     order.Epoch // of the latest rebuild that began
	Barrier   order.Epoch // older batches that were not claimed are rejected whole
	Recorded  order.Epoch // everything in front of its barrier is recorded
	Wanted    order.Epoch // a rebuild is asked for when it is Epoch
	Logged    uint64      // number of the last stock-log row
	BusyUntil order.Milli // until when the owner of a rebuild has it for itself; 0: nobody has
	SettledAt order.Milli // time of the latest heartbeat before which everything is recorded
}

// rebuildLease is how long a rebuild belongs to its owner without a renewal.
const rebuildLease = 5 * time.Second

const partColumns = "p, epoch, barrier, recorded, wanted, logged, busy_until, settled_at"

func (p *Part) fields() []any {
	return []any{&p.Partition, &p.Epoch, &p.Barrier, &p.Recorded, &p.Wanted, &p.Logged, &p.BusyUntil, &p.SettledAt}
}

// Parts reads all partitions of a home shard, in ascending order, and the database's clock.
func (s *Store) Parts(ctx context.Context, home int) (parts []Part, now order.Milli, err error) {
	err = s.query(ctx, home, "SELECT "+partColumns+", "+s.dialect.now+" FROM part ORDER BY p", func(r *sql.Rows) error {
		var p Part
		err := r.Scan(append(p.fields(), &now)...)
		parts = append(parts, p)
		return err
	})
	if err == nil && len(parts) == 0 {
		now, err = s.Now(ctx, home)
	}
	return parts, now, onShard(err, "read partitions", home)
}

// lockParts locks and reads the rows of partitions in ascending order: the first statement of every transaction of the
// home side. Repeated partitions are read once.
func (t *tx) lockParts(ps ...order.Partition) (map[order.Partition]*Part, error) {
	sorted := slices.Clone(ps)
	slices.Sort(sorted)
	sorted = slices.Compact(sorted)
	parts := make(map[order.Partition]*Part, len(sorted))
	err := in(sorted, func(marks string, args []any) error {
		query := "SELECT " + partColumns + " FROM part WHERE p IN " + marks + " ORDER BY p" + t.d.forUpdate
		return t.query(query, func(r *sql.Rows) error {
			p := new(Part)
			err := r.Scan(p.fields()...)
			parts[p.Partition] = p
			return err
		}, args...)
	})
	if err == nil && len(parts) != len(sorted) {
		err = fmt.Errorf("shard %d has rows of %d of the partitions %v", t.shard.number, len(parts), sorted)
	}
	return parts, err
}

// onPart runs a transaction that concerns one partition; f gets the locked row and the database's clock, read after
// the lock was there.
func (s *Store) onPart(ctx context.Context, p order.Partition, what string, f func(*tx, *Part, order.Milli) error) error {
	err := s.update(ctx, s.Home(p), s.opts.Partitions.Kind(p), func(t *tx) error {
		parts, err := t.lockParts(p)
		if err != nil {
			return err
		}
		now, err := t.now()
		if err != nil {
			return err
		}
		return f(t, parts[p], now)
	})
	if err != nil {
		return fmt.Errorf("%s of partition %d: %w", what, p, err)
	}
	return nil
}

// BeginRebuild begins the epoch after seen and makes the caller its owner for five seconds. ok is false, and nothing
// changed, if the partition's epoch is another one by now or somebody else's rebuild is still busy; ownerDead says that
// it cannot be. A caller whose COMMIT was lost is told false: nobody owns that epoch, and it is begun anew when the
// five seconds have run out.
func (s *Store) BeginRebuild(ctx context.Context, p order.Partition, seen order.Epoch, ownerDead bool) (e order.Epoch, ok bool, err error) {
	err = s.onPart(ctx, p, "begin the rebuild", func(t *tx, part *Part, now order.Milli) error {
		ok = false
		if part.Epoch != seen || (part.BusyUntil >= now && !ownerDead) {
			return nil
		}
		e, ok = max(seen+1, order.Epoch(now)), true
		_, err := t.exec("UPDATE part SET epoch = ?, busy_until = ? WHERE p = ?", e, now+order.Milli(rebuildLease.Milliseconds()), p)
		return err
	})
	if err != nil || !ok {
		return 0, false, err
	}
	return e, true, nil
}

// RenewRebuild keeps the rebuild of epoch e for another five seconds. ok is false if a later epoch has begun.
func (s *Store) RenewRebuild(ctx context.Context, p order.Partition, e order.Epoch) (ok bool, err error) {
	err = s.onPart(ctx, p, "renew the rebuild", func(t *tx, part *Part, now order.Milli) error {
		if ok = part.Epoch == e; !ok {
			return nil
		}
		_, err := t.exec("UPDATE part SET busy_until = ? WHERE p = ?", now+order.Milli(rebuildLease.Milliseconds()), p)
		return err
	})
	return ok && err == nil, err
}

// EndRebuild says that nobody works on the rebuild of epoch e any more: it opened, or its owner gave up. It does nothing
// if a later epoch has begun.
func (s *Store) EndRebuild(ctx context.Context, p order.Partition, e order.Epoch) error {
	return s.onPart(ctx, p, "end the rebuild", func(t *tx, _ *Part, _ order.Milli) error {
		_, err := t.exec("UPDATE part SET busy_until = 0 WHERE p = ? AND epoch = ?", p, e)
		return err
	})
}

// WantRebuild asks for a rebuild of the stock of epoch e. Engines begin one while the partition is still at e.
func (s *Store) WantRebuild(ctx context.Context, p order.Partition, e order.Epoch) error {
	return s.onPart(ctx, p, "ask for a rebuild", func(t *tx, _ *Part, _ order.Milli) error {
		return t.wantRebuild(p, e)
	})
}

func (t *tx) wantRebuild(p order.Partition, e order.Epoch) error {
	_, err := t.exec("UPDATE part SET wanted = "+t.d.greatest+"(wanted, ?) WHERE p = ?", e, p)
	return err
}

// Settled says how far the records of a partition are. Neither value ever goes back: lower ones are ignored.
type Settled struct {
	Partition order.Partition
	Recorded  order.Epoch
	SettledAt order.Milli
}

// Settle stores how far records are, and deletes the claims that can no longer be asked for, in transactions of at most
// settlePiece rows.
func (s *Store) Settle(ctx context.Context, settled []Settled) error {
	homes := make(map[int][]Settled)
	for _, st := range settled {
		homes[s.Home(st.Partition)] = append(homes[s.Home(st.Partition)], st)
	}
	for home, list := range homes {
		slices.SortFunc(list, func(a, b Settled) int { return int(a.Partition) - int(b.Partition) })
		for more := true; more; {
			err := s.update(ctx, home, s.opts.Partitions.Kind(list[0].Partition), func(t *tx) (err error) {
				more, err = t.settle(list)
				return err
			})
			if err != nil {
				return onShard(err, "settle partitions", home)
			}
		}
	}
	return nil
}

// settlePiece bounds the claims that one transaction deletes.
const settlePiece = 1000

// settle tells whether claims are left to delete.
func (t *tx) settle(list []Settled) (more bool, err error) {
	ps := make([]order.Partition, len(list))
	for i := range list {
		ps[i] = list[i].Partition
	}
	parts, err := t.lockParts(ps...)
	if err != nil {
		return false, err
	}
	room := settlePiece
	for _, st := range list {
		part := parts[st.Partition]
		part.Recorded, part.SettledAt = max(part.Recorded, st.Recorded), max(part.SettledAt, st.SettledAt)
		_, err := t.exec("UPDATE part SET recorded = ?, settled_at = ? WHERE p = ?", part.Recorded, part.SettledAt, st.Partition)
		if err != nil {
			return false, err
		}
		deleted, err := t.deleteClaims(st.Partition, part.Recorded, room)
		if err != nil {
			return false, err
		}
		room -= deleted
	}
	return room == 0, nil
}

func (t *tx) deleteClaims(p order.Partition, recorded order.Epoch, limit int) (int, error) {
	var ids []any
	err := t.query("SELECT batch_id FROM claimed_batch WHERE p = ? AND epoch < ? ORDER BY epoch LIMIT ?", func(r *sql.Rows) error {
		var id int64
		err := r.Scan(&id)
		ids = append(ids, id)
		return err
	}, p, recorded, limit)
	if err != nil || len(ids) == 0 {
		return 0, err
	}
	_, err = t.exec("DELETE FROM claimed_batch WHERE p = ? AND batch_id IN "+tuple(len(ids)), append([]any{p}, ids...)...)
	return len(ids), err
}
