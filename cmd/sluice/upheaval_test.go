package main

import (
	"context"
	cryptorand "crypto/rand"
	"fmt"
	"math/rand/v2"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sync/errgroup"

	"sluice/engine/order"
	"sluice/engine/queue"
	"sluice/internal/mariadbtest"
	"sluice/internal/redistest"
)

// upheaval is a whole deployment of a test's own, in which everything breaks: Redis, three database servers of a shard
// each, and the program with the embedded queue, or several on RocketMQ. A crowd orders all the time.
type upheaval struct {
	*crowd
	set    []string
	rand   *rand.Rand // of the test's goroutine
	shards []*mariadbtest.Server
	redis  *redistest.Server // that sells
	front  *cable            // stands at the first Redis' address once that is gone; nil before
	posts  []*post
	shop   *shop // the first post's
	report []*reckoning
}

// post is the place of one process, which may have several lives: at the same addresses and with the same data.
type post struct {
	*shop
	role string
	life *process // the latest one; nil: none yet, or the server is in this process
}

// faultD is D here: every loss of Redis waits for it.
const faultD = "engine.deadline=2s"

// pace is between two calls of a buyer: machines have other things to do.
const pace = 10 * time.Millisecond

// newUpheaval starts the servers, and makes a post for each role.
func newUpheaval(t *testing.T, roles ...string) *upheaval {
	t.Helper()
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	const keen = 2
	u := &upheaval{crowd: newCrowd(t, seed, keen), rand: rand.New(rand.NewPCG(seed, 0)), shards: mariadbtest.Start(t, 3), redis: redistest.Start(t)}
	var shards []string
	for i, s := range u.shards {
		name := fmt.Sprint("sluice_", i)
		s.Create(name)
		shards = append(shards, s.DSN(name, false))
	}
	u.set = []string{faultD, longLife, "store.dialect=mysql", "store.shards=" + strings.Join(shards, ","), "stock.driver=redisstock",
		"stock.redisstock.addrs=" + u.redis.Addr, "engine.in_flight=2"}
	for name, text := range map[string]string{"store_password": u.shards[0].Password, "redis_password": u.redis.Password,
		"jwt_secret": cryptorand.Text() + cryptorand.Text(), "ops_token": cryptorand.Text()} {
		file := filepath.Join(t.TempDir(), name)
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		u.set = append(u.set, "secrets."+name+"_file="+file)
	}
	for _, role := range roles {
		u.posts = append(u.posts, u.post(role))
	}
	u.shop = u.posts[0].shop
	return u
}

func (u *upheaval) post(role string) *post {
	u.t.Helper()
	s := &shop{t: u.t, dir: filepath.Join(u.t.TempDir(), "data")}
	ops := steadyAddr(u.t)
	s.ops = "http://" + ops
	s.set = append(slices.Clone(u.set), "ops.listen="+ops)
	if role == "all" || role == "gateway" {
		gateway := steadyAddr(u.t)
		s.gateway = "http://" + gateway
		s.set = append(s.set, "gateway.listen="+gateway)
	}
	c, _ := config(u.t, s.dir, s.set...)
	var err error
	if s.secrets, err = c.LoadSecrets(nil, true); err != nil {
		u.t.Fatal(err)
	}
	return &post{shop: s, role: role}
}

// steadyAddr is an address that stays free while nobody listens there: it is below those of outgoing connections.
func steadyAddr(t *testing.T) string {
	t.Helper()
	for range 200 {
		l, err := net.Listen("tcp", fmt.Sprint("127.0.0.1:", 10_000+rand.IntN(20_000)))
		if err == nil {
			defer func() { _ = l.Close() }()
			return l.Addr().String()
		}
	}
	t.Fatal("there is no free port")
	return ""
}

// start starts processes, all at once and each again until it stays, as whatever supervises them does.
func (u *upheaval) start(posts ...*post) {
	u.t.Helper()
	if err := startAll(posts); err != nil {
		u.t.Fatal(err)
	}
}

func startAll(posts []*post) error {
	var starts errgroup.Group
	for _, p := range posts {
		starts.Go(p.start)
	}
	return starts.Wait()
}

func (p *post) start() error {
	args := []string{"--role", p.role}
	for _, s := range p.set {
		args = append(args, "--set", s)
	}
	for end := time.Now().Add(2 * time.Minute); ; time.Sleep(100 * time.Millisecond) {
		life, err := launch(p.t, p.dir, args...)
		if err == nil {
			life.secrets, p.life = p.secrets, life
			return nil
		}
		if time.Now().After(end) {
			return fmt.Errorf("the %s does not start within two minutes: %w", p.role, err)
		}
	}
}

// end ends a process; a signal that lets it end in good order must do so.
func (u *upheaval) end(p *post, signal syscall.Signal) {
	u.t.Helper()
	if code := p.life.end(signal); code != 0 && signal != syscall.SIGKILL {
		u.t.Errorf("exit code %d\n%s", code, p.life.errors.String())
	}
}

// signal lets a process stop, or go on.
func (u *upheaval) signal(p *post, signal syscall.Signal) {
	u.t.Helper()
	if err := p.life.cmd.Process.Signal(signal); err != nil {
		u.t.Fatal(err)
	}
}

// gateways are where buyers go.
func (u *upheaval) gateways() (at []*shop) {
	for _, p := range u.posts {
		if p.gateway != "" {
			at = append(at, p.shop)
		}
	}
	return at
}

// serveHere ends the program and serves in this process instead, with the test's own queue in front of the driver's.
func (u *upheaval) serveHere(front func(queue.Queue) queue.Queue) (stop func()) {
	u.t.Helper()
	p := u.posts[0]
	if p.life != nil {
		u.end(p, syscall.SIGTERM)
		p.life = nil
	}
	_, stop = openThrough(u.t, p.dir, front, p.set...)
	return stop
}

// fill has what is sold all the time: a cart of two offers of one shop, and offers of every flash partition.
func (u *upheaval) fill() {
	const plenty = 10_000_000
	u.goods = [][]string{{u.offer("normal", plenty, 0), u.offer("normal", plenty, 0)}}
	c, _ := config(u.t, u.shop.dir, u.shop.set...)
	of := map[order.Partition]bool{}
	for len(u.goods) < 7 || len(of) < c.Engine.Partitions.Flash {
		offer := u.offer("flash", plenty, 0)
		n, _ := order.ParseID(offer)
		of[c.Engine.Partitions.Of(order.Flash, order.GroupOf(order.Flash, 0, order.OfferID(n)))] = true
		u.goods = append(u.goods, []string{offer})
	}
}

// offer creates an offer, and waits until every gateway sells it.
func (u *upheaval) offer(kind string, total, limit int) string {
	u.t.Helper()
	id := u.shop.offer(kind, total, limit)
	for _, s := range u.gateways() {
		u.await("a gateway to know an offer", func() bool {
			a, err := s.try("GET", s.gateway+"/v1/offers/"+id, "", "")
			return err == nil && a.status == 200
		})
	}
	return id
}

// suffer lets a crowd order while strike breaks something and mends it again, waits until every offer sells again and every
// process is ready, and has all of it judged. strike returns when it was broken.
func (u *upheaval) suffer(name string, strike func() time.Time) {
	u.t.Helper()
	broken, over := u.struck(strike)
	u.awaitReady()
	u.judge(u.shop, name)
	u.tell(name, broken, over)
}

// struck is suffer up to where the crowd has gone.
func (u *upheaval) struck(strike func() time.Time) (broken, over time.Time) {
	u.t.Helper()
	u.scarce = u.offer("flash", 300, 3)
	stop := u.mingle()
	u.awaitSales(time.Now())
	broken = strike()
	u.awaitSales(time.Now())
	over = time.Now()
	stop()
	return broken, over
}

// mingle lets the crowd order until stop, which returns when nobody waits for an answer any more.
func (u *upheaval) mingle() (stop func()) {
	var over atomic.Bool
	var wg sync.WaitGroup
	patience, cancel := context.WithCancel(context.Background())
	at := u.gateways()
	wg.Go(func() {
		u.each(at, func(v *visit) {
			for !over.Load() || v.wish != nil && patience.Err() == nil {
				v.step()
				time.Sleep(pace)
			}
			if v.wish != nil {
				u.t.Errorf("user %d, key %s: no answer for a minute", v.user, v.wish.key)
			}
		})
	})
	var once sync.Once
	stop = func() {
		once.Do(func() {
			over.Store(true)
			defer time.AfterFunc(time.Minute, cancel).Stop()
			wg.Wait()
		})
	}
	u.t.Cleanup(stop)
	return stop
}

// awaitSales waits until every offer was sold to somebody who asked since then, and every gateway has sold something.
func (u *upheaval) awaitSales(since time.Time) {
	u.t.Helper()
	u.await("every offer to sell, at every gateway", func() bool {
		for _, s := range u.gateways() {
			if u.lastSold(s.gateway) < since.UnixMicro() {
				return false
			}
		}
		return !slices.ContainsFunc(u.goods, func(cart []string) bool { return u.lastSold(cart[0]) < since.UnixMicro() })
	})
}

// awaitStored waits until orders of every offer are stored that were asked for since then.
func (u *upheaval) awaitStored(since time.Time) {
	u.t.Helper()
	u.await("orders of every offer to be stored", func() bool {
		return !slices.ContainsFunc(u.goods, func(cart []string) bool { return u.lastStored(cart[0]) < since.UnixMicro() })
	})
}

// awaitReady waits until every process says that it is ready.
func (u *upheaval) awaitReady() {
	u.t.Helper()
	for _, p := range u.posts {
		u.await("the "+p.role+" to be ready", func() bool {
			a, err := p.try("GET", p.ops+"/readyz", "", "")
			return err == nil && a.status == 200
		})
	}
}

// awaitOrders waits until n more orders are accepted.
func (u *upheaval) awaitOrders(n int) {
	u.t.Helper()
	n += u.count((*sight).accepted)
	u.await("more orders", func() bool { return u.count((*sight).accepted) >= n })
}

func (u *upheaval) await(what string, done func() bool) {
	u.t.Helper()
	for end := time.Now().Add(2 * time.Minute); !done(); time.Sleep(50 * time.Millisecond) {
		if time.Now().After(end) {
			u.t.Fatalf("waited two minutes for %s\n%s", what, u.log())
		}
	}
}

func (u *upheaval) log() string {
	var b strings.Builder
	for _, p := range u.posts {
		if p.life != nil {
			said := p.life.errors.String()
			fmt.Fprintf(&b, "%s:\n%s\n", p.role, said[max(0, len(said)-8000):])
		}
	}
	return b.String()
}

// tell writes what the buyers saw from when something was broken until every offer was sold again.
func (u *upheaval) tell(name string, broken, over time.Time) {
	u.t.Helper()
	from, to, reasons := broken.UnixMicro(), over.UnixMicro(), u.reasons()
	r := &reckoning{name: name, times: 1, codes: map[int]int{}}
	sales, stored := map[string][]int64{}, []int64{}
	for i := range u.calls {
		e := &u.calls[i]
		second := reasons[e.Order] == order.ReasonDuplicate || reasons[e.Order] == order.ReasonKeyReused // reads as the first
		if e.accepted() && reasons[e.Order] != "" && !second {
			r.rejected++
		}
		if e.Answered < from {
			continue
		}
		if e.again && e.accepted() {
			r.again++
			if e.replayed || second {
				r.found++
			}
		}
		if e.Sent > to {
			continue
		}
		r.codes[e.Code]++
		if e.accepted() && e.Sent >= from {
			sales[e.offer] = append(sales[e.offer], e.Answered)
		}
		if e.Code == 201 {
			stored = append(stored, e.Answered)
		}
	}
	first, longest := to, int64(0)
	for _, cart := range u.goods {
		if at := sales[cart[0]]; len(at) > 0 {
			first = min(first, slices.Min(at))
		}
		longest = max(longest, gap(sales[cart[0]], from, to))
	}
	r.sold, r.each, r.stored = span{first - from}, span{longest}, span{gap(stored, from, to)}
	u.t.Log(r)
	if n := len(u.report); n > 0 && u.report[n-1].name == name {
		u.report[n-1].add(r)
		return
	}
	u.report = append(u.report, r)
}

// gap is the longest time between two moments, the first and the last included.
func gap(moments []int64, from, to int64) (longest int64) {
	for _, at := range append(slices.Sorted(slices.Values(moments)), to) {
		at = min(at, to)
		longest, from = max(longest, at-from), max(from, at)
	}
	return longest
}

// reasons says of every order that is stored as rejected why it is.
func (u *upheaval) reasons() map[order.ID]order.Reason {
	u.t.Helper()
	reasons := map[order.ID]order.Reason{}
	for i, s := range u.shards {
		db := s.Open(fmt.Sprint("sluice_", i))
		defer func() { _ = db.Close() }()
		rows, err := db.Query("SELECT order_id, reason FROM orders WHERE status = 'rejected'")
		if err != nil {
			u.t.Fatal(err)
		}
		defer func() { _ = rows.Close() }()
		for rows.Next() {
			var id order.ID
			var reason order.Reason
			if err := rows.Scan(&id, &reason); err != nil {
				u.t.Fatal(err)
			}
			reasons[id] = reason
		}
		if err := rows.Err(); err != nil {
			u.t.Fatal(err)
		}
	}
	return reasons
}
