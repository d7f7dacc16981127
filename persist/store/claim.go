package store

import (
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"slices"

	"sluice/engine/order"
)

// Verdict is the final answer to one batch: every order of it is accepted except Rejects.
type Verdict struct {
	Rejects []Reject // sorted by Index
	// Stale says that the batch was recorded and acknowledged long ago (its epoch is below the recorded one): there is
	// nothing to write, and Rejects is empty because nobody remembers them.
	Stale bool
}

// Reject is an order that does not get its units.
type Reject struct {
	Index  int // of the order in its batch
	Reason order.Reason
}

// AheadError says that a message belongs to an epoch that its partition has not reached. Messages are made after their
// epoch was committed, so the shard has lost transactions and may not decide anything. Nothing was written.
type AheadError struct {
	Partition order.Partition
	Message   order.Epoch // the message's epoch
	Reached   order.Epoch // what the partition's row says
}

func (e *AheadError) Error() string {
	return fmt.Sprintf("partition %d has reached epoch %d and a message is of epoch %d: the home shard went back in time",
		e.Partition, e.Reached, e.Message)
}

// errGuard says that a guard refused and the orders have to be decided one by one.
var errGuard = errors.New("a guard refused")

// Claim decides the messages of one home shard, in queue order per partition, in one transaction. Verdicts are
// index-aligned with messages; a barrier's is empty. A batch decided before, also earlier in the same call, gets the
// same verdict again. *AheadError says that nothing was written and the partition has to stop; every other error means
// unknown, and claiming the same messages again is right.
//
// All orders are accepted at once if the guards let them pass, which they do as long as fast stock is right. Otherwise
// the transaction is rolled back, and a second one decides order by order and asks for a rebuild.
func (s *Store) Claim(ctx context.Context, home int, messages []*order.Message) ([]Verdict, error) {
	if len(messages) == 0 {
		return nil, nil
	}
	for _, m := range messages {
		if s.Home(m.Partition) != home {
			panic(fmt.Sprintf("BUG: partition %d claimed on shard %d", m.Partition, home))
		}
	}
	kind := s.opts.Partitions.Kind(messages[0].Partition)
	var verdicts []Verdict
	claim := func(oneByOne bool) error {
		return s.update(ctx, home, kind, func(t *tx) (err error) {
			verdicts, err = t.claim(messages, oneByOne)
			return err
		})
	}
	err := claim(false)
	if errors.Is(err, errGuard) {
		err = claim(true)
	}
	if err != nil {
		return nil, onShard(err, fmt.Sprintf("claim %d messages", len(messages)), home)
	}
	return verdicts, nil
}

func (t *tx) claim(messages []*order.Message, oneByOne bool) ([]Verdict, error) {
	ps := make([]order.Partition, len(messages))
	for i, m := range messages {
		ps[i] = m.Partition
	}
	parts, err := t.lockParts(ps...)
	if err != nil {
		return nil, err
	}
	before, err := t.claimedBefore(messages)
	if err != nil {
		return nil, err
	}
	c, err := sortOut(messages, parts, before)
	if err != nil {
		return nil, err
	}
	if err := t.takeUnits(c, parts, oneByOne); err != nil {
		return nil, err
	}
	if err := t.writeClaims(c); err != nil {
		return nil, err
	}
	return c.aligned(messages), nil
}

// takeUnits takes the units of the fresh batches under the guards.
func (t *tx) takeUnits(c *claims, parts map[order.Partition]*Part, oneByOne bool) error {
	if len(c.fresh) == 0 {
		return nil
	}
	limits, err := t.limits(c.fresh)
	if err != nil {
		return err
	}
	if oneByOne {
		g, err := t.readGuards(c.fresh, limits)
		if err != nil {
			return err
		}
		if err := t.rejectSome(c, parts, g); err != nil {
			return err
		}
	}
	d := c.demand(limits)
	if err := t.takeStock(d); err != nil {
		return err
	}
	return t.takeRoom(d, limits)
}

// rejectSome decides the fresh orders one by one. A reject in the present epoch proves that fast stock is wrong.
func (t *tx) rejectSome(c *claims, parts map[order.Partition]*Part, g *guards) error {
	for _, m := range c.fresh {
		rejects := g.decide(m.Records)
		c.verdicts[keyOf(m)] = Verdict{Rejects: rejects}
		part := parts[m.Partition]
		if len(rejects) > 0 && m.Epoch == part.Epoch && part.Wanted < part.Epoch {
			part.Wanted = part.Epoch
			if err := t.wantRebuild(m.Partition, part.Epoch); err != nil {
				return err
			}
		}
	}
	return nil
}

// claimedBefore reads the verdicts of those batches that earlier transactions have claimed.
func (t *tx) claimedBefore(messages []*order.Message) (map[batchKey]Verdict, error) {
	ids := make(map[order.Partition][]order.BatchID)
	for _, m := range messages {
		if m.Kind == order.BatchMessage {
			ids[m.Partition] = append(ids[m.Partition], m.Batch)
		}
	}
	before := make(map[batchKey]Verdict)
	for _, p := range sortedKeys(ids) {
		err := in(ids[p], func(marks string, args []any) error {
			query := "SELECT batch_id, rejects FROM claimed_batch WHERE batch_id IN " + marks + " AND p = ?"
			return t.query(query, func(r *sql.Rows) error {
				key := batchKey{p: p}
				var rejects []byte
				if err := r.Scan(&key.batch, &rejects); err != nil {
					return err
				}
				list, err := decodeRejects(rejects)
				before[key] = Verdict{Rejects: list}
				return err
			}, append(args, p)...)
		})
		if err != nil {
			return nil, err
		}
	}
	return before, nil
}

// writeClaims writes the raised barriers and one row per batch that is decided now.
func (t *tx) writeClaims(c *claims) error {
	for _, p := range sortedKeys(c.barriers) {
		if _, err := t.exec("UPDATE part SET barrier = ? WHERE p = ?", c.barriers[p], p); err != nil {
			return err
		}
	}
	slices.SortFunc(c.decided, func(a, b *order.Message) int { return compareKeys(keyOf(a), keyOf(b)) })
	values := make([]any, 0, 4*len(c.decided))
	for _, m := range c.decided {
		var rejects any
		if list := c.verdicts[keyOf(m)].Rejects; len(list) > 0 {
			rejects = encodeRejects(list)
		}
		values = append(values, int64(m.Partition), int64(m.Batch), int64(m.Epoch), rejects)
	}
	return t.insertRows(insert{"claimed_batch (p, batch_id, epoch, rejects)", 4, ""}, values)
}

// encodeRejects is the stored form of rejects: a JSON object of reason to the indexes of its orders.
func encodeRejects(rejects []Reject) []byte {
	byReason := make(map[order.Reason][]int)
	for _, r := range rejects {
		byReason[r.Reason] = append(byReason[r.Reason], r.Index)
	}
	b, err := json.Marshal(byReason)
	if err != nil {
		panic("BUG: rejects do not encode: " + err.Error())
	}
	return b
}

func decodeRejects(b []byte) ([]Reject, error) {
	if len(b) == 0 {
		return nil, nil
	}
	var byReason map[order.Reason][]int
	if err := json.Unmarshal(b, &byReason); err != nil {
		return nil, fmt.Errorf("stored rejects: %w", err)
	}
	var rejects []Reject
	for reason, indexes := range byReason {
		for _, i := range indexes {
			rejects = append(rejects, Reject{i, reason})
		}
	}
	slices.SortFunc(rejects, func(a, b Reject) int { return a.Index - b.Index })
	return rejects, nil
}
