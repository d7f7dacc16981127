package store

import (
	"context"
	"fmt"
	"strings"

	"sluice/engine/order"
)

// settleFacts stores what never changes, or compares it with what was stored; and creates the rows of partitions and
// node numbers.
func (s *Store) settleFacts(ctx context.Context) error {
	deployment, err := s.storedFact(ctx, 0, "deployment", newDeployment())
	if err != nil {
		return err
	}
	for i := range s.shards {
		if err := s.belongs(ctx, i, deployment); err != nil {
			return err
		}
	}
	o := &s.opts
	facts := [][2]string{
		{"partitions", fmt.Sprintf("%d normal, %d flash", o.Partitions.Normal, o.Partitions.Flash)},
		{"partition_shards", runs(o.Partitions.Count(), func(p int) int { return s.Home(order.Partition(p)) })},
		{"virtual_shards", runs(order.VirtualShards, func(v int) int { return s.virtual[v] })},
		{"deadline", o.Deadline.String()},
	}
	for _, f := range facts {
		if err := s.Fact(ctx, f[0], f[1]); err != nil {
			return err
		}
	}
	return s.createRows(ctx)
}

// Fact stores a fact of the deployment at the first start and refuses another value later, in words for the person who
// starts the program. Values are text of at most 60,000 bytes.
func (s *Store) Fact(ctx context.Context, name, value string) error {
	stored, err := s.storedFact(ctx, 0, name, value)
	if err != nil {
		return err
	}
	if stored != value {
		return fmt.Errorf("%s: this deployment was created with %q, the configuration now says %q; it cannot change once there are data",
			name, stored, value)
	}
	return nil
}

// belongs makes sure that shard i is shard i of this deployment: shards listed in another order, or those of another
// deployment, would mix up orders and stock without an error anywhere.
func (s *Store) belongs(ctx context.Context, i int, deployment string) error {
	want := fmt.Sprintf("shard %d of %s", i, deployment)
	stored, err := s.storedFact(ctx, i, "shard", want)
	if err != nil {
		return err
	}
	if stored != want {
		return fmt.Errorf("shard %d is not this deployment's: the database says %q, it should be %q; check the list of shards and its order",
			i, stored, want)
	}
	return nil
}

// storedFact returns the stored value of a fact: the given one if there was none.
func (s *Store) storedFact(ctx context.Context, shard int, name, value string) (stored string, err error) {
	err = s.update(ctx, shard, 0, func(t *tx) error {
		_, err := t.exec("INSERT INTO fact (name, value) VALUES (?, ?)"+t.d.upsert("name", ""), name, value)
		if err != nil {
			return err
		}
		return t.row("SELECT value FROM fact WHERE name = ?", name).Scan(&stored)
	})
	if err != nil {
		return "", fmt.Errorf("store fact %q on shard %d: %w", name, shard, err)
	}
	return stored, nil
}

// runs describes a mapping of 0 to n-1 by its runs: "0-127:0 128-255:1".
func runs(n int, f func(int) int) string {
	var b strings.Builder
	for from := 0; from < n; {
		to := from
		for to+1 < n && f(to+1) == f(from) {
			to++
		}
		fmt.Fprintf(&b, " %d-%d:%d", from, to, f(from))
		from = to + 1
	}
	return strings.TrimPrefix(b.String(), " ")
}

// createRows creates the rows that are only ever updated afterwards.
func (s *Store) createRows(ctx context.Context) error {
	for i := range s.shards {
		err := s.update(ctx, i, 0, func(t *tx) error {
			var parts, nodes []any
			for p := range s.opts.Partitions.Count() {
				if s.Home(order.Partition(p)) == i {
					parts = append(parts, p, 0, 0, 0, 0, 0, 0, 0)
				}
			}
			columns := "part (p, epoch, barrier, recorded, logged, wanted, busy_until, settled_at)"
			if err := t.insertRows(insert{columns, 8, t.d.upsert("p", "")}, parts); err != nil {
				return err
			}
			if i > 0 {
				return nil
			}
			for n := range order.NodesMax {
				nodes = append(nodes, n, "", 0, 0)
			}
			if err := t.insertRows(insert{"node (n, owner, since_at, until_at)", 4, t.d.upsert("n", "")}, nodes); err != nil {
				return err
			}
			return t.insertRows(insert{"counter (name, next)", 2, t.d.upsert("name", "")}, []any{"offer", 1})
		})
		if err != nil {
			return onShard(err, "create rows", i)
		}
	}
	return nil
}
