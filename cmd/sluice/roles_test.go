package main

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"sluice/engine/order"
	"sluice/engine/queue/sqlitequeue"
)

// cast is a deployment whose stages are servers of their own: two gateways, the sides, and those behind them.
type cast struct {
	*deployment
	behind map[string]*side // by name: persist-0, persist-1, lifecycle-0
}

// TestRoles runs two gateways, two persists and a lifecycle on one queue, one Redis and the same MySQL shards.
func TestRoles(t *testing.T) {
	t.Parallel()
	d := &cast{deployment: prepareDeployment(t), behind: map[string]*side{}}
	d.role = "gateway"
	for _, name := range []string{"persist-0", "lifecycle-0"} { // nothing of them waits for a gateway
		d.startBehind(name)
	}
	d.start(0)
	d.start(1)
	d.startBehind("persist-1")
	d.run("the life of orders", d.life)
	d.run("what a role has not", d.lacks)
	d.run("every role stopped and started", d.comeAndGo)
}

func (d *cast) startBehind(name string) {
	d.t.Helper()
	role, _, _ := strings.Cut(name, "-")
	d.behind[name] = d.serve(name, role, nil)
}

// life: whichever gateway a client asks, and whoever stored it, an order is the same one, and its units come back once.
func (d *cast) life(t *testing.T) {
	const units = 60
	offer := d.sides[0].offer("flash", units, 0)
	d.known(offer)
	for _, name := range []string{"persist-0", "persist-1"} {
		p := d.behind[name].server
		tuning := p.config.Persist.Tuning
		long := tuning
		tuning.Unpaid = 4 * time.Second
		if err := p.persist.Tune(tuning); err != nil {
			t.Fatal(err)
		}
		defer func() { _ = p.persist.Tune(long) }()
	}
	expired := 0
	for user := range order.UserID(units) {
		at, other := d.sides[user%2], d.sides[1-user%2]
		e := d.buy(int(user), user+1, "life", line(offer, 1), 1)
		if e.Code >= 300 {
			t.Fatalf("user %d: %+v", user+1, e)
		}
		path := "/v1/orders/" + e.Order.String()
		a := other.must(200, "GET", other.gateway+path+"?wait=10", other.token(user+1), "")
		if status := a.field("status"); status != "awaiting_payment" {
			t.Errorf("order %s at the other gateway: %s", e.Order, status)
		}
		if user%2 == 0 {
			expired++
			continue
		}
		at.must(200, "POST", at.gateway+path+"/cancel", at.token(user+1), "")
		if again := other.must(200, "POST", other.gateway+path+"/cancel", other.token(user+1), ""); again.field("status") != "cancelled" {
			t.Errorf("cancelled again at the other gateway: %s", again.field("status"))
		}
	}
	l := d.behind["lifecycle-0"].server.lifecycle
	d.await("the rest to expire", func() bool { return int(l.Stats().Expired) >= expired })
	for _, s := range d.sides {
		s.remaining(offer, fmt.Sprint(units))
		if st := s.server.lifecycle.Stats(); st.Cancelled+st.AlreadyCancelled == 0 || st.Expired != 0 || st.GivenBack != 0 || st.EventsNumbered != 0 {
			t.Errorf("a gateway has done what is lifecycle's: %+v", st)
		}
	}
}

// comeAndGo stops and starts every server while buyers order, cancel and repeat.
func (d *cast) comeAndGo(t *testing.T) {
	of := d.offers(100_000, 0)
	sold, stop := d.crowd(of)
	selling := func() {
		t.Helper()
		for _, offer := range of {
			had := sold(offer)
			d.await("orders to flow", func() bool { return sold(offer) > had })
		}
	}
	selling()
	names := []string{"persist-0", "lifecycle-0", "persist-1"}
	if testing.Short() {
		names = names[:1]
	}
	for _, name := range names {
		d.behind[name].stop()
		selling()
		d.startBehind(name)
		selling()
	}
	d.behind["persist-0"].stop()
	d.behind["persist-1"].stop()
	selling() // into the queue
	d.startBehind("persist-1")
	d.startBehind("persist-0")
	selling()
	for i := range d.sides {
		d.sides[i].stop()
		<-time.After(50 * time.Millisecond) // clients of it see broken connections
		d.start(i)
		selling()
	}
	stop()
	stored := int64(0)
	for _, name := range []string{"persist-0", "persist-1"} {
		stored += d.behind[name].server.persist.Stats().Stored
	}
	if stored == 0 {
		t.Error("those that were started again have stored nothing")
	}
	d.feedTells(t)
}

// feedTells: every order that a client was told of is in the feed, once per change and in order, whoever is asked.
func (d *cast) feedTells(t *testing.T) {
	types := map[string][]string{}
	readers := []*side{d.sides[0], d.behind["persist-0"], d.behind["lifecycle-0"]}
	read := func() {
		clear(types)
		for shard, shards := 0, 1; shard < shards; shard++ {
			for after, more := 0, true; more; {
				s := readers[after%len(readers)]
				page := s.must(200, "GET", fmt.Sprintf("%s/ops/feed?shard=%d&after=%d&limit=1000", s.ops, shard, after), s.secrets.OpsToken, "")
				var read struct {
					Shards int
					Data   []struct {
						Shard, Number, Event int
						Order                string `json:"order_id"`
						Type                 string
					}
				}
				if err := json.Unmarshal(page.body, &read); err != nil {
					t.Fatal(err)
				}
				for _, e := range read.Data {
					if after++; e.Number != after || e.Shard != shard {
						t.Fatalf("shard %d: behind number %d came %+v", shard, after-1, e)
					}
					if e.Event != len(types[e.Order]) {
						t.Errorf("order %s: event %d behind %v", e.Order, e.Event, types[e.Order])
					}
					types[e.Order] = append(types[e.Order], e.Type)
				}
				shards, more = read.Shards, len(read.Data) > 0
			}
		}
	}
	want := map[string]bool{}
	for _, e := range d.seen {
		if e.Order != 0 {
			want[e.Order.String()] = true
		}
	}
	d.await("the feed to have every order", func() bool {
		read()
		for id := range want {
			if len(types[id]) == 0 {
				return false
			}
		}
		return true
	})
	told := map[string]int{}
	for id, list := range types {
		if told[strings.Join(list, " ")]++; list[0] != "recorded" {
			t.Errorf("order %s begins with %v", id, list)
		}
	}
	if told["recorded"] == 0 || told["recorded cancelled"] == 0 || told["recorded expired"] == 0 {
		t.Errorf("%d orders, told of as %v", len(want), told)
	}
}

// lacks: calls that need another role say so, and nothing that a role does not run is shown as broken.
func (d *cast) lacks(t *testing.T) {
	persist, lifecycle := d.behind["persist-0"], d.behind["lifecycle-0"]
	for _, c := range []struct {
		who         *side
		call        string
		status      int
		field, says string
	}{
		{persist, "GET /ops/stock", 404, "detail", "role gateway"},
		{persist, "POST /ops/rebuild", 404, "detail", "role gateway"},
		{persist, "GET /ops/offers", 404, "detail", "role gateway"},
		{lifecycle, "GET /ops/offers/1", 404, "detail", "role gateway"},
		{lifecycle, "POST /ops/parked/1/1/replay", 404, "detail", "role persist"},
		{d.sides[0], "POST /ops/parked/1/1/reject", 404, "detail", "role persist"},
		{persist, "POST /ops/parked/1/1/replay", 404, "detail", "no order is parked"},
		{lifecycle, "GET /ops/parked", 200, "next_cursor", ""},
		{lifecycle, "GET /ops/deadletters", 200, "next_cursor", ""},
		{persist, "GET /readyz", 200, "status", "ready"},
		{lifecycle, "GET /readyz", 200, "status", "ready"},
		{persist, "GET /ops/stats", 200, "role", "persist"},
		{d.sides[1], "GET /ops/stats", 200, "role", "gateway"},
	} {
		method, path, _ := strings.Cut(c.call, " ")
		a := c.who.must(c.status, method, c.who.ops+path, c.who.secrets.OpsToken, "")
		if text := a.field(c.field); !strings.Contains(text, c.says) {
			t.Errorf("%s of role %s: %q", c.call, c.who.server.role(), text)
		}
	}
	id := lifecycle.offer("flash", 3, 0) // 201: it is committed
	for _, s := range d.sides {
		d.await("a gateway to know it", func() bool {
			a, err := s.try("GET", s.gateway+"/v1/offers/"+id, "", "")
			return err == nil && a.status == 200
		})
		s.remaining(id, "3")
	}
	for _, s := range []*side{persist, lifecycle, d.sides[0]} {
		text := string(s.must(200, "GET", s.ops+"/metrics", s.secrets.OpsToken, "").body)
		sells := s.server.role().sells()
		for _, name := range []string{"sluice_partition_open", "sluice_orders_accepted_total"} {
			if strings.Contains(text, "\n"+name) != sells {
				t.Errorf("role %s: it is %v that %s is shown", s.server.role(), !sells, name)
			}
		}
		if !strings.Contains(text, "\nsluice_ready 1\n") {
			t.Errorf("role %s is not ready", s.server.role())
		}
		if behind := s.server.role() != "lifecycle"; strings.Contains(text, "\nsluice_partition_backlog_messages{") != behind {
			t.Errorf("role %s: it is %v that the backlog is shown", s.server.role(), !behind)
		}
	}
}

// A role that has no engine is ready when its stage runs, and its stores and the queue answer.
func TestRolesAreReady(t *testing.T) {
	t.Parallel()
	d := prepareDeployment(t)
	c, _ := config(t, d.dir, d.set...)
	q, err := sqlitequeue.Open(t.Context(), sqlitequeue.Options{Path: filepath.Join(d.dir, "own.db"), Partitions: c.Engine.Partitions})
	if err != nil {
		t.Fatal(err)
	}
	d.queue = q
	for _, role := range []string{"persist", "lifecycle"} {
		c, drivers := config(t, filepath.Join(d.dir, role), d.set...)
		c.Role, drivers.shared = role, lent{q}
		s := NewServer(c, drivers, d.env, quiet)
		for _, open := range []func(context.Context) error{s.openDataDir, s.openSecrets, s.openStore, s.openQueue} {
			if err := open(t.Context()); err != nil {
				t.Fatal(err)
			}
		}
		if got := s.missing(); !slices.Equal(got, []string{role + " is starting"}) {
			t.Errorf("before its stage runs, role %s misses %q", role, got)
		}
		if err := s.Close(t.Context()); err != nil {
			t.Error(err)
		}
	}
	persist := d.serve("persist", "persist", nil)
	ready := func() (int, string) {
		a, err := persist.try("GET", persist.ops+"/readyz", "", "")
		if err != nil {
			t.Fatal(err)
		}
		return a.status, string(a.body)
	}
	if status, text := ready(); status != 200 {
		t.Errorf("%d %s", status, text)
	}
	if err := q.Close(); err != nil {
		t.Fatal(err)
	}
	d.await("the queue to be missed", func() bool {
		status, text := ready()
		return status == http.StatusServiceUnavailable && strings.Contains(text, "the queue does not answer")
	})
	if err := persist.server.store.Close(); err != nil { // as if its servers were gone
		t.Fatal(err)
	}
	d.await("the shards to be missed", func() bool {
		status, text := ready()
		return status == http.StatusServiceUnavailable && strings.Contains(text, "shard 1 does not answer")
	})
}

func TestRolesAreRefusedByName(t *testing.T) {
	t.Parallel()
	distributed := []string{"stock.driver=redisstock", "stock.redisstock.addrs=127.0.0.1:1", "store.dialect=mysql", "store.shards=u@tcp(127.0.0.1:1)/a"}
	for _, c := range []struct {
		set  []string
		says string
	}{
		{[]string{"role=persists"}, `role must be all, gateway, persist or lifecycle, not "persists"`},
		{[]string{"role=persist"}, "role persist is one of several processes, which cannot share stock.driver memstock"},
		{append([]string{"role=gateway"}, distributed...), "role gateway is one of several processes, which cannot share queue.driver sqlitequeue"},
	} {
		s := settings{set: append(c.set, "data_dir="+t.TempDir())}
		if _, _, err := s.load(); err == nil || !strings.Contains(err.Error(), c.says) {
			t.Errorf("%q: %v", c.set, err)
		}
	}
	c, d := config(t, t.TempDir(), distributed...)
	c.Role, d.shared = "lifecycle", lent{}
	if err := d.validateRole(c); err != nil {
		t.Errorf("with what can be shared: %v", err)
	}
	c.Store.Dialect = "sqlite"
	if err := d.validateRole(c); err == nil || !strings.Contains(err.Error(), "store.dialect sqlite") {
		t.Errorf("with files: %v", err)
	}
}
