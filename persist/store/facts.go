package store

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"sluice/engine/order"
)

// fact is something that never changes once there are data. Its value is compared with the stored one.
type fact struct {
	name, value string
	setting     string // that says it, and how the value reads
}

// facts are what shard 0 holds of the whole deployment. The number of shards decides some of the others.
func (s *Store) facts() []fact {
	o := &s.opts
	return []fact{
		{"shards", strconv.Itoa(len(s.shards)), "store.shards (their number)"},
		{"partitions", fmt.Sprintf("%d normal, %d flash", o.Partitions.Normal, o.Partitions.Flash), "engine.partitions"},
		{"partition_shards", runs(o.Partitions.Count(), func(p int) int { return s.Home(order.Partition(p)) }),
			"partition_shards (partitions:shard, from engine.partitions and store.shards)"},
		{"virtual_shards", runs(order.VirtualShards, func(v int) int { return s.virtual[v] }), "store.virtual_shards (slices of users:shard)"},
		{"deadline", o.Deadline.String(), "engine.deadline"},
	}
}

// complete is a fact of shard 0 that is there once the first start has made every row on every shard. A shard that is
// empty afterwards has lost its data, or is another database.
const complete = "complete"

// shardFact is how shard i of a deployment calls itself.
const shardFact = "shard %d of %s"

// differences says how the state of shard i does not fit the configuration and the other shards, in words for the
// person who starts the program. All shards empty is a new deployment.
func (s *Store) differences(i int, states []*state) []string {
	first, own := states[0].facts, states[i].facts
	if n := first["shards"]; i > 0 && n != "" && n != strconv.Itoa(len(states)) {
		return nil // shard 0 says so
	}
	if len(own) == 0 {
		switch {
		case i == 0 && slices.ContainsFunc(states, func(st *state) bool { return st.facts["shard"] != "" }):
			return []string{"it is empty, while other shards of store.shards hold data: is it the right database, and are the shards in their order?"}
		case first[complete] != "":
			return []string{"it is empty, but this deployment has had its first start: is it the right database? " +
				"A shard that has lost its data is restored from a backup before the start"}
		}
		return nil
	}
	var number int
	var deployment string
	if own["shard"] != "" {
		if _, err := fmt.Sscanf(own["shard"], shardFact, &number, &deployment); err != nil {
			return []string{fmt.Sprintf("it calls itself %q, which this program does not understand", own["shard"])}
		}
	}
	switch name := first["deployment"]; {
	case own["shard"] == "":
		return nil // a first start that did not come far
	case number != i:
		return []string{fmt.Sprintf("it is shard %d of its deployment, and store.shards names it as number %d (from 0): "+
			"check the list of shards and its order", number, i)}
	case i > 0 && name != "" && deployment != name:
		return []string{"it belongs to another deployment than shard 0: check the list of shards"}
	case i > 0:
		return nil
	}
	return s.changed(own)
}

// changed compares the facts with what was stored at the first start.
func (s *Store) changed(stored map[string]string) (texts []string) {
	for _, f := range s.facts() {
		if was, ok := stored[f.name]; ok && was != f.value {
			texts = append(texts, differs(f.setting, was, f.value))
			if f.name == "shards" {
				break // the others follow from it
			}
		}
	}
	if q := s.opts.Queue; q != nil {
		if text := otherQueue(stored[queueFact], *q); text != "" {
			texts = append(texts, text)
		}
	}
	return texts
}

func differs(setting, stored, value string) string {
	return fmt.Sprintf("%s: this deployment was created with %q, the configuration now says %q; it cannot change once there are data: "+
		"put it back, or begin a new deployment with empty databases", setting, stored, value)
}

// settleFacts stores what never changes where it is not stored yet, and compares it again: another process may have had
// its first start at the same time. Then it creates the rows of partitions and node numbers.
func (s *Store) settleFacts(ctx context.Context) error {
	deployment, err := s.storedFact(ctx, 0, "deployment", newDeployment())
	if err != nil {
		return err
	}
	for _, f := range s.facts() {
		stored, err := s.storedFact(ctx, 0, f.name, f.value)
		if err == nil && stored != f.value {
			err = errors.New(differs(f.setting, stored, f.value))
		}
		if err != nil {
			return err
		}
	}
	for i := range s.shards {
		want := fmt.Sprintf(shardFact, i, deployment)
		stored, err := s.storedFact(ctx, i, "shard", want)
		if err == nil && stored != want {
			err = fmt.Errorf("shard %d (%s): it calls itself %q and should be %q: check the list of shards and its order",
				i, s.dialect.place(s.opts.Shards[i]), stored, want)
		}
		if err != nil {
			return err
		}
	}
	if err := s.createRows(ctx); err != nil {
		return err
	}
	_, err = s.storedFact(ctx, 0, complete, "yes")
	return err
}

// Fact stores a fact of the deployment at the first start and refuses another value later, in words for the person who
// starts the program. Values are text of at most 60,000 bytes.
func (s *Store) Fact(ctx context.Context, name, value string) error {
	stored, err := s.storedFact(ctx, 0, name, value)
	if err == nil && stored != value {
		err = errors.New(differs(name, stored, value))
	}
	return err
}

// Facts reads the facts of a deployment on SQLite, and the version of its tables, as Check reads: nothing is changed.
func Facts(ctx context.Context, o Options) (facts map[string]string, tables int64, err error) {
	s := &Store{opts: o, dialect: dialects[SQLite]}
	sh := &shard{}
	if sh.read, err = openReadOnly(o.Shards[0]); err != nil || sh.read == nil {
		return nil, 0, err
	}
	st := &state{}
	err = s.readState(ctx, sh, st)
	return st.facts, st.schema, errors.Join(err, sh.close())
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
