package main

import (
	"bytes"
	"cmp"
	"context"
	"crypto/rand"
	"fmt"
	"log/slog"
	"net/http"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"sluice/bench/audit"
	"sluice/engine/order"
	"sluice/engine/queue"
	"sluice/engine/queue/sqlitequeue"
)

// deployment is two whole servers in one process, which share a queue, a Redis and MySQL shards, as two processes will
// share them with RocketMQ.
type deployment struct {
	t     *testing.T
	dir   string
	set   []string
	role  string // of the two; empty: all
	env   []string
	redis *redis.Client
	name  string // in Redis
	queue *sqlitequeue.Queue
	sides [2]*side

	mu   sync.Mutex    // of seen, and of sides while buyers are under way
	seen []audit.Entry // every call that placed an order

	sleep sleep
}

// side is one of the servers.
type side struct {
	*shop
	server *Server
	stop   func()
}

// lent is a queue that outlives the server that uses it.
type lent struct{ queue.Queue }

func (lent) Close() error { return nil }

func newDeployment(t *testing.T) *deployment {
	t.Helper()
	d := prepareDeployment(t)
	for i := range d.sides {
		d.start(i)
	}
	return d
}

// prepareDeployment makes all but the servers.
func prepareDeployment(t *testing.T) *deployment {
	t.Helper()
	d := &deployment{t: t, dir: t.TempDir()}
	_, shards := onMySQL(t)
	var stock []string
	d.redis, d.name, stock = onRedis(t)
	// D is that of a deployment: a busy machine makes more unknown answers, and clients repeat them.
	d.set = append(append(stock, shards...), "engine.deadline=1s", "engine.request_deadline=300ms", "engine.in_flight=2", longLife)
	for _, secret := range []string{"SLUICE_JWT_SECRET", "SLUICE_OPS_TOKEN", "SLUICE_SERVICE_TOKEN"} {
		d.env = append(d.env, secret+"="+rand.Text()+rand.Text())
	}
	c, _ := config(t, d.dir, d.set...)
	q, err := sqlitequeue.Open(t.Context(), sqlitequeue.Options{Path: d.queueFile(), Partitions: c.Engine.Partitions})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = q.Close() })
	d.queue = q
	return d
}

func (d *deployment) queueFile() string { return filepath.Join(d.dir, "shared.db") }

// start starts one of the two servers.
func (d *deployment) start(i int) {
	d.t.Helper()
	s := d.serve(fmt.Sprint(i), d.role, func(p order.Partition, step string) { d.sleep.passed(i, p, step) })
	d.mu.Lock()
	d.sides[i] = s // buyers may be under way
	d.mu.Unlock()
}

// at is one of the two servers, as somebody finds it who goes on while they are stopped and started.
func (d *deployment) at(i int) *side {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.sides[i%2]
}

// serve starts a server with a directory of its own.
func (d *deployment) serve(name, role string, passed func(order.Partition, string)) *side {
	d.t.Helper()
	dir := filepath.Join(d.dir, name)
	c, drivers := config(d.t, dir, d.set...)
	drivers.shared = lent{d.queue}
	c.Role, c.Engine.Passed = cmp.Or(role, c.Role), passed
	server := NewServer(c, drivers, d.env, slog.New(slog.NewTextHandler(d.t.Output(), &slog.HandlerOptions{Level: slog.LevelError})))
	err := server.Start(d.t.Context())
	stop := sync.OnceFunc(func() {
		ctx, cancel := context.WithTimeout(context.Background(), stopWait)
		defer cancel()
		if err := server.Close(ctx); err != nil {
			d.t.Errorf("close: %v", err)
		}
	})
	d.t.Cleanup(stop)
	if err != nil {
		d.t.Fatal(err)
	}
	s := &side{&shop{t: d.t, dir: dir, ops: "http://" + server.ops.Addr(), secrets: server.secrets, set: d.set}, server, stop}
	if server.gateway != nil {
		s.gateway = "http://" + server.gateway.Addr()
	}
	return s
}

// run is a part of the story, as a subtest: it begins and ends with both servers at rest.
func (d *deployment) run(name string, story func(*testing.T)) {
	whole := d.t
	whole.Run(name, func(t *testing.T) {
		d.in(t)
		defer d.in(whole)
		story(t)
		d.audited()
	})
}

func (d *deployment) in(t *testing.T) {
	d.t = t
	for _, s := range d.sides {
		s.t = t
	}
}

// audited judges the stores, fast stock and all that clients have seen.
func (d *deployment) audited() {
	d.t.Helper()
	c, _ := config(d.t, d.dir, d.set...)
	places, err := shardPlaces(c, d.sides[0].secrets)
	if err != nil {
		d.t.Fatal(err)
	}
	for i, s := range d.sides {
		report, err := audit.Run(d.t.Context(), audit.Options{Dialect: string(c.Store.Dialect), Shards: places, QueueFile: d.queueFile(),
			OpsURL: s.ops, OpsToken: s.secrets.OpsToken, History: d.seen, Settle: 30 * time.Second})
		if err != nil {
			d.t.Fatal(err)
		}
		if !report.Passed() {
			var text bytes.Buffer
			_ = report.Text(&text) // to memory
			d.t.Fatalf("with the fast stock that server %d sees, the audit has failed:\n%s", i, text.String())
		}
	}
}

// await asks until done says yes.
func (d *deployment) await(what string, done func() bool) {
	d.t.Helper()
	for end := time.Now().Add(time.Minute); !done(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(end) {
			d.t.Fatalf("waited a minute for %s", what)
		}
	}
}

// buy asks server i for an order, and again and alternately after an answer that leaves it open, until there is one.
func (d *deployment) buy(i int, user order.UserID, key, body string, units int64) audit.Entry {
	for end := time.Now().Add(time.Minute); ; i++ {
		s := d.at(i)
		e := audit.Entry{User: user, Key: key, Units: units, Sent: time.Now().UnixMicro()}
		a, err := s.with(http.DefaultClient, "POST", s.gateway+"/v1/orders", s.token(user), body, "Idempotency-Key", key)
		e.Answered = time.Now().UnixMicro()
		if err == nil {
			e.Code = a.status
			if id, ok := order.ParseID(a.field("id")); ok && a.status < 300 {
				e.Order = order.ID(id)
			}
		}
		d.mu.Lock()
		d.seen = append(d.seen, e)
		d.mu.Unlock()
		switch {
		case err == nil && (e.Code < 300 || e.Code == 409):
			return e
		case err == nil && e.Code != 503 && e.Code != 504, time.Now().After(end):
			d.t.Errorf("user %d, key %s: %v, %v", user, key, a, err)
			return e
		}
	}
}

// offers creates one offer of each partition, and waits until both servers know them.
func (d *deployment) offers(total, limit int) map[order.Partition]string {
	d.t.Helper()
	s := d.sides[0]
	of := map[order.Partition]string{}
	for shop := 1; len(of) < s.server.config.Engine.Partitions.Count(); shop++ {
		for _, kind := range order.Kinds {
			body := fmt.Sprintf(`{"shop_id":"%d","sku":"s","title":"t","kind":%q,"unit_price":250,"currency":"CNY","total":%d,"per_user_limit":%d}`,
				shop, kind, total, limit)
			id := s.must(201, "POST", s.ops+"/ops/offers", s.secrets.OpsToken, body).field("id")
			n, _ := order.ParseID(id)
			of[s.server.engine.Offer(order.OfferID(n)).Partition] = id
		}
	}
	for _, id := range of {
		d.known(id)
	}
	return of
}

// known waits until the server that has not made an offer can sell it too.
func (d *deployment) known(offer string) {
	d.t.Helper()
	s := d.sides[1]
	d.await("the other server to know offer "+offer, func() bool {
		a, err := s.try("GET", s.gateway+"/v1/offers/"+offer, "", "")
		return err == nil && a.status == 200
	})
}

// epochs are those of the fences.
func (d *deployment) epochs() []string {
	d.t.Helper()
	var all []string
	for p := range d.sides[0].server.config.Engine.Partitions.Count() {
		epoch, err := d.redis.HGet(d.t.Context(), d.key(p, "fence"), "epoch").Result()
		if err != nil {
			d.t.Fatal(err)
		}
		all = append(all, epoch)
	}
	return all
}

func (d *deployment) key(p int, name string) string {
	return fmt.Sprintf("%s:{%d}:%s", d.name, p, name)
}

// lose deletes everything that the deployment has in Redis below the given prefix of keys, at one moment.
func (d *deployment) lose(prefix string) {
	d.t.Helper()
	keys, err := d.redis.Keys(d.t.Context(), d.name+":"+prefix+"*").Result()
	if err == nil {
		err = d.redis.Del(d.t.Context(), keys...).Err()
	}
	if err != nil {
		d.t.Fatal(err)
	}
}

// open waits until both servers sell every partition under the epoch that its fence has, and none of which is among
// the epochs of before.
func (d *deployment) open(before []string) (epochs []string) {
	d.t.Helper()
	d.await("both servers to sell under new epochs", func() bool {
		epochs = nil
		for p := range before {
			fence, err := d.redis.HMGet(d.t.Context(), d.key(p, "fence"), "epoch", "gate").Result()
			if err != nil || fence[1] != "open" || fence[0] == before[p] {
				return false
			}
			epochs = append(epochs, fmt.Sprint(fence[0]))
		}
		for _, s := range d.sides {
			for _, p := range s.server.engine.Ready() {
				if p.State != "open" || fmt.Sprint(p.Epoch) != epochs[p.Partition] {
					return false
				}
			}
		}
		return true
	})
	return epochs
}

// crowd lets buyers order of all offers, at both servers, repeat keys and cancel, until stop, which waits until each has
// an answer to what it asked last. sold counts the orders that were answered as accepted, by offer.
func (d *deployment) crowd(of map[order.Partition]string) (sold func(offer string) int, stop func()) {
	over := make(chan struct{})
	var buyers sync.WaitGroup
	var mu sync.Mutex
	count := map[string]int{}
	for b := range 8 {
		buyers.Go(func() {
			user := order.UserID(1000 + b)
			name := strings.ToLower(rand.Text()[:8]) // keys of this crowd
			tick := time.NewTicker(5 * time.Millisecond)
			defer tick.Stop()
			for n := b; ; n++ {
				offer := of[order.Partition(n%len(of))]
				key := fmt.Sprintf("%s-%d", name, n)
				first := d.buy(n, user, key, line(offer, 1), 1)
				if n%3 == 0 {
					d.buy(n+1, user, key, line(offer, 1), 1) // may have another id after a loss: the auditor knows
				}
				if first.Code < 300 {
					mu.Lock()
					count[offer]++
					mu.Unlock()
				}
				if n%4 == 0 && first.Code < 300 {
					s := d.at(n + 1)
					_, _ = s.try("POST", s.gateway+"/v1/orders/"+first.Order.String()+"/cancel", s.token(user), "") // pending ones are not
				}
				select {
				case <-over:
					return
				case <-tick.C:
				}
			}
		})
	}
	sold = func(offer string) int {
		mu.Lock()
		defer mu.Unlock()
		return count[offer]
	}
	stop = sync.OnceFunc(func() { close(over); buyers.Wait() })
	d.t.Cleanup(stop)
	return sold, stop
}

// sleep lets rebuilders sleep at steps of their rebuilds, and counts what they do.
type sleep struct {
	mu     sync.Mutex
	plan   map[order.Partition]string // the step behind which the first rebuilder of a partition falls asleep
	asleep map[order.Partition]int    // who it is
	waking chan struct{}
	loads  map[order.Partition]int // rebuilds that have opened
}

func (s *sleep) passed(side int, p order.Partition, step string) {
	s.mu.Lock()
	if step == "load" {
		if s.loads == nil {
			s.loads = map[order.Partition]int{}
		}
		s.loads[p]++
	}
	who, sleeps := s.asleep[p]
	if !sleeps && s.plan[p] == step {
		s.asleep[p], who, sleeps = side, side, true
	}
	waking := s.waking
	s.mu.Unlock()
	if sleeps && who == side {
		<-waking
	}
}

// begin lets the next rebuilders sleep as planned until wake is called.
func (s *sleep) begin(plan map[order.Partition]string) (wake func()) {
	s.mu.Lock()
	defer s.mu.Unlock()
	waking := make(chan struct{})
	s.plan, s.asleep, s.waking = plan, map[order.Partition]int{}, waking
	return sync.OnceFunc(func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		s.plan, s.asleep = nil, nil
		close(waking)
	})
}

// sleepers are the servers that sleep, by partition.
func (s *sleep) sleepers() map[order.Partition]int {
	s.mu.Lock()
	defer s.mu.Unlock()
	m := map[order.Partition]int{}
	for p, side := range s.asleep {
		m[p] = side
	}
	return m
}

// opened counts the rebuilds that have opened, of all partitions.
func (s *sleep) opened() (n int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, loads := range s.loads {
		n += loads
	}
	return n
}
