package main

import (
	"encoding/binary"
	"fmt"
	"maps"
	"slices"
	"strings"
	"syscall"
	"time"

	"sluice/engine/order"
	"sluice/internal/rocketmqtest"
)

// sufferLoss lets the broker forget what it has written last, as a disk does that lies about what it has. What was claimed
// by then is stored, what lies in the outbox is published again, and the orders of the other batches in that end are lost:
// these and no others. Nobody gives their units back: engines find at rest that fast stock and the shards disagree.
func (c *cluster) sufferLoss(name string) {
	c.t.Helper()
	before := len(c.lost)
	broken, over := c.struck(c.loseEnd)
	c.awaitReady()
	c.awaitUnits()
	c.judge(c.shop, name)
	c.tell(name, broken, over)
	c.t.Logf("%d orders were lost", len(c.lost)-before)
	c.askAgain(c.lost[before:])
}

func (c *cluster) loseEnd() time.Time {
	c.t.Helper()
	sleeper := c.some("persist")
	c.awaitStored(time.Now())
	c.signal(sleeper, syscall.SIGSTOP)
	stopped := time.Now()
	c.awaitOrders(100)
	c.rocket.Broker.Kill()
	broken := time.Now()
	c.signal(sleeper, syscall.SIGCONT)
	all := batches(c.rocket.Log())
	from := slices.IndexFunc(all, func(b logged) bool { return b.Stored.After(stopped.Add(-300 * time.Millisecond)) })
	if from < 0 {
		c.t.Fatal("nothing was written to the broker's log while a persister was stopped")
	}
	c.lost = append(c.lost, c.doomed(all, from)...)
	c.rocket.LoseAt(all[from].At)
	c.rocket.Broker.Start()
	c.awaitStored(time.Now())
	return broken
}

// logged is a batch in the broker's log.
type logged struct {
	rocketmqtest.Message
	batch *order.Message
}

func batches(log []rocketmqtest.Message) (list []logged) {
	for _, m := range log {
		if d, err := order.DecodeMessage(m.Body); err == nil && d.Kind == order.BatchMessage {
			list = append(list, logged{m, d})
		}
	}
	return list
}

// doomed are the orders that are gone with the batches from one on: nobody has claimed them, and the outbox has not kept
// them. The broker is down.
func (c *cluster) doomed(all []logged, from int) (orders []order.ID) {
	c.t.Helper()
	kept := map[order.BatchID]bool{}
	for _, b := range all[:from] {
		kept[b.batch.Batch] = true
	}
	claimed, since := c.claimed(), time.Now()
	c.await("persisters to have stored what they hold", func() bool {
		if now := c.claimed(); len(now) > len(claimed) {
			claimed, since = now, time.Now()
		}
		return time.Since(since) > 3*time.Second
	})
	maps.Copy(kept, claimed)
	maps.Copy(kept, c.outboxes())
	consumed := 0
	for _, b := range all[from:] {
		if claimed[b.batch.Batch] {
			consumed++
		}
		if !kept[b.batch.Batch] {
			for i := range b.batch.Records {
				orders = append(orders, b.batch.Records[i].ID)
			}
		}
	}
	c.t.Logf("of %d batches in the end of the log %d were consumed", len(all)-from, consumed)
	if len(orders) == 0 || consumed == 0 {
		c.t.Fatalf("%d orders are lost, and %d batches were consumed: the test shows nothing", len(orders), consumed)
	}
	return orders
}

// claimed are the batches that the home shards have decided.
func (c *cluster) claimed() map[order.BatchID]bool {
	c.t.Helper()
	ids := map[order.BatchID]bool{}
	for i, s := range c.shards {
		db := s.Open(fmt.Sprint("sluice_", i))
		defer func() { _ = db.Close() }()
		rows, err := db.Query("SELECT batch_id FROM claimed_batch")
		if err != nil {
			c.t.Fatal(err)
		}
		for rows.Next() {
			var id order.BatchID
			if err := rows.Scan(&id); err != nil {
				c.t.Fatal(err)
			}
			ids[id] = true
		}
		if err := rows.Err(); err != nil {
			c.t.Fatal(err)
		}
	}
	return ids
}

// outboxes are the batches that Redis has and the queue has not confirmed.
func (c *cluster) outboxes() map[order.BatchID]bool {
	c.t.Helper()
	ids := map[order.BatchID]bool{}
	keys, _ := c.redis.Do("KEYS", "*:outbox").([]any)
	for _, key := range keys {
		fields, _ := c.redis.Do("HKEYS", key).([]any)
		for _, field := range fields {
			if id := fmt.Sprint(field); len(id) == 8 {
				ids[order.BatchID(binary.BigEndian.Uint64([]byte(id)))] = true
			}
		}
	}
	if len(keys) == 0 {
		c.t.Fatal("Redis has no outbox")
	}
	return ids
}

// awaitUnits waits until fast stock has what the shards say is left of every offer.
func (c *cluster) awaitUnits() {
	c.t.Helper()
	differs := ""
	if !await(func() bool {
		differs = ""
		for offer, left := range c.left() {
			a, err := c.shop.try("GET", c.shop.gateway+"/v1/offers/"+offer, "", "")
			if err != nil || !strings.Contains(string(a.body), `"remaining":`+left+",") {
				differs += fmt.Sprintf("offer %s has %s left: %v, %v\n", offer, left, a, err)
			}
		}
		return differs == ""
	}) {
		c.t.Fatalf("units did not come back:\n%s%s", differs, c.log())
	}
}

// left is what the shards say is left of each offer.
func (c *cluster) left() map[string]string {
	c.t.Helper()
	left := map[string]string{}
	for i, s := range c.shards {
		db := s.Open(fmt.Sprint("sluice_", i))
		defer func() { _ = db.Close() }()
		rows, err := db.Query("SELECT offer_id, total - sold FROM offer_stock")
		if err != nil {
			c.t.Fatal(err)
		}
		for rows.Next() {
			var offer, n string
			if err := rows.Scan(&offer, &n); err != nil {
				c.t.Fatal(err)
			}
			left[offer] = n
		}
		if err := rows.Err(); err != nil {
			c.t.Fatal(err)
		}
	}
	return left
}

// askAgain: the key of a lost order finds it, in Redis, and its buyer reads pending. Once Redis has forgotten it, the same
// key gets an order that is stored.
func (c *cluster) askAgain(lost []order.ID) {
	c.t.Helper()
	var e *sight
	for i := range c.calls {
		if s := &c.calls[i]; s.accepted() && slices.Contains(lost, s.Order) && s.offer != c.goods[0][0] {
			e = s
		}
	}
	if e == nil {
		c.t.Fatal("no buyer was told of any lost order")
	}
	again := *e
	ask := func() *answer {
		again.Sent = time.Now().UnixMicro()
		a, err := c.shop.try("POST", c.shop.gateway+"/v1/orders?wait=5", c.shop.token(e.User), line(e.offer, int(e.Units)), "Idempotency-Key", e.Key)
		if err != nil {
			c.t.Fatal(err)
		}
		again.Answered, again.Code = time.Now().UnixMicro(), a.status
		id, _ := order.ParseID(a.field("id"))
		again.Order = order.ID(id)
		c.note(again)
		return a
	}
	if a := ask(); a.status != 202 || again.Order != e.Order || a.field("status") != "pending" {
		c.t.Errorf("the key of lost order %d is answered %v", e.Order, a)
	}
	c.redis.Do("FLUSHALL")
	var a *answer
	c.await("the partition to be counted anew", func() bool { a = ask(); return a.status != 503 })
	if a.status != 201 || again.Order == e.Order || !strings.HasPrefix(a.field("status"), "awaiting") {
		c.t.Errorf("when Redis has forgotten lost order %d, its key is answered %v", e.Order, a)
	}
}
