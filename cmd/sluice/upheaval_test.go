package main

import (
	"context"
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

	"sluice/engine/order"
	"sluice/engine/queue"
	"sluice/internal/mariadbtest"
	"sluice/internal/redistest"
)

// upheaval is a whole deployment of a test's own, in which everything breaks: Redis, three database servers of a shard
// each, and the program with the embedded queue. A crowd orders all the time.
type upheaval struct {
	*crowd
	dir     string
	set     []string
	rand    *rand.Rand // of the test's goroutine
	shards  []*mariadbtest.Server
	redis   *redistest.Server // that sells
	front   *cable            // stands at the first Redis' address once that is gone; nil before
	shop    *shop
	process *process // nil: the server is in this process
	report  []*reckoning
}

// faultD is D here: every loss of Redis waits for it.
const faultD = "engine.deadline=2s"

// pace is between two calls of a buyer: machines have other things to do.
const pace = 10 * time.Millisecond

func newUpheaval(t *testing.T) *upheaval {
	t.Helper()
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	const keen = 2
	u := &upheaval{crowd: newCrowd(t, seed, keen), dir: filepath.Join(t.TempDir(), "data"), rand: rand.New(rand.NewPCG(seed, 0)),
		shards: mariadbtest.Start(t, 3), redis: redistest.Start(t)}
	var shards []string
	for i, s := range u.shards {
		name := fmt.Sprint("sluice_", i)
		s.Create(name)
		shards = append(shards, s.DSN(name, false))
	}
	secret := func(name, text string) string {
		file := filepath.Join(t.TempDir(), name)
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		return "secrets." + name + "_file=" + file
	}
	u.set = []string{faultD, longLife, "store.dialect=mysql", "store.shards=" + strings.Join(shards, ","), "stock.driver=redisstock",
		"stock.redisstock.addrs=" + u.redis.Addr, "engine.in_flight=2", "gateway.listen=" + steadyAddr(t), "ops.listen=" + steadyAddr(t),
		secret("store_password", u.shards[0].Password), secret("redis_password", u.redis.Password)}
	return u
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

// serve starts the program, again and again at the same addresses.
func (u *upheaval) serve() {
	u.t.Helper()
	var args []string
	for _, s := range u.set {
		args = append(args, "--set", s)
	}
	u.process = spawn(u.t, u.dir, args...)
	u.shop = u.process.shop
	u.known()
}

// serveHere ends the program and serves in this process instead, with the test's own queue in front of the driver's.
func (u *upheaval) serveHere(front func(queue.Queue) queue.Queue) (stop func()) {
	u.t.Helper()
	if u.process != nil {
		if code := u.process.end(syscall.SIGTERM); code != 0 {
			u.t.Errorf("exit code %d\n%s", code, u.process.errors.String())
		}
		u.process = nil
	}
	u.shop, stop = openThrough(u.t, u.dir, front, u.set...)
	u.known()
	return stop
}

// known tells the shop what its auditor needs.
func (u *upheaval) known() {
	u.shop.set = u.set
	c, _ := config(u.t, u.dir, u.set...)
	var err error
	if u.shop.secrets, err = c.LoadSecrets(nil, false); err != nil {
		u.t.Fatal(err)
	}
}

// fill has what is sold all the time: offers of several partitions, and a cart of two of one shop.
func (u *upheaval) fill() {
	const plenty = 10_000_000
	u.goods = [][]string{{u.shop.offer("normal", plenty, 0), u.shop.offer("normal", plenty, 0)}}
	for range 6 {
		u.goods = append(u.goods, []string{u.shop.offer("flash", plenty, 0)})
	}
}

// suffer lets a crowd order while strike breaks something and mends it again, waits until every offer sells again, and
// has all of it judged. strike returns when it was broken.
func (u *upheaval) suffer(name string, strike func() time.Time) {
	u.t.Helper()
	u.scarce = u.shop.offer("flash", 300, 3)
	stop := u.mingle()
	u.awaitSales(time.Now())
	broken := strike()
	u.awaitSales(time.Now())
	over := time.Now()
	stop()
	u.judge(u.shop, name)
	u.tell(name, broken, over)
}

// mingle lets the crowd order until stop, which returns when nobody waits for an answer any more.
func (u *upheaval) mingle() (stop func()) {
	var over atomic.Bool
	var wg sync.WaitGroup
	patience, cancel := context.WithCancel(context.Background())
	shop := u.shop
	wg.Go(func() {
		u.each(shop, func(v *visit) {
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

// awaitSales waits until every offer was sold to somebody who asked since then.
func (u *upheaval) awaitSales(since time.Time) {
	u.t.Helper()
	u.await("every offer to sell", func() bool {
		return !slices.ContainsFunc(u.goods, func(cart []string) bool { return u.lastSold(cart[0]) < since.UnixMicro() })
	})
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
	if u.process == nil {
		return ""
	}
	return u.process.errors.String()
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
