package main

import (
	"bufio"
	"context"
	crypto "crypto/rand"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"sluice/engine/order"
)

// TestUpgrade upgrades a deployment under load, one process after the other, and takes it back: gateways, persists and a
// lifecycle of two releases on one RocketMQ, one Redis and the same MySQL shards. The old release is this program, or the
// commit SLUICE_OLD; the new one has tables with more in them and one more version of the wire format. After it the
// auditor judges the stores, fast stock and everything that any buyer ever saw. SLUICE_SOAK says how often, with an audit
// after every step.
func TestUpgrade(t *testing.T) {
	if testing.Short() {
		t.Skip("takes the better part of a minute")
	}
	t.Parallel()
	f := newFleet(t)
	old, next := "", nextRelease(t)
	if commit := os.Getenv("SLUICE_OLD"); commit != "" {
		old = releaseAt(t, commit)
	}
	f.programs = map[string]string{"old": old, "new": next, "newest": next, "dying": next}
	f.run("old persist", "old lifecycle", "old gateway")
	f.fill()
	f.mingle()
	for range f.rounds {
		f.upgrade()
		f.takeBack()
		f.upgrade()
		f.write2()
		f.comeTooEarly()
		f.takeBackWriters()
	}
	f.stop()
	f.judge(f.at(), "the upgrades")
	t.Logf("%d orders accepted, %d calls of unknown outcome", f.count((*sight).accepted), f.count((*sight).unknown))
}

// upgrade: the new release comes beside the old one, readers first, and the old one goes.
func (f *fleet) upgrade() {
	f.step("the new release comes", []string{"new persist", "new lifecycle", "new gateway"}, nil)
	f.step("the old persist goes", nil, []string{"old persist", "old lifecycle"})
	f.step("the old gateway goes", nil, []string{"old gateway"})
}

// takeBack: the old release comes beside the new one, on tables that are newer than it knows, and the new one goes.
func (f *fleet) takeBack() {
	f.step("the old release comes back", []string{"old gateway", "old persist", "old lifecycle"}, nil)
	f.step("the new release goes", nil, []string{"new gateway", "new persist", "new lifecycle"})
}

// write2: all read version 2 by now, and the next release writes it.
func (f *fleet) write2() {
	f.step("version 2 is written beside version 1", []string{"newest gateway"}, nil)
	f.step("version 2 alone is written", nil, []string{"new gateway"})
}

// comeTooEarly: a persist of the old release comes while version 2 is written. It stops with an alarm what it gets of it,
// throws nothing away, and what it held up goes on once one that reads it has its place.
func (f *fleet) comeTooEarly() {
	f.run("old persist")
	f.await("the old persist to stop a partition", func() bool { return f.stat("old persist", "persist", "stopped") > 0 })
	f.end("new persist", syscall.SIGTERM)
	f.awaitOrders(100) // which nobody stores
	f.await("the old persist to stop every partition", func() bool { return f.stat("old persist", "persist", "stopped") == f.partitions.Count() })
	stored := f.stat("old persist", "persist", "stored")
	f.awaitOrders(100)
	if n := f.stat("old persist", "persist", "stored"); n != stored {
		f.t.Errorf("the old persist has stored %d orders of messages that it cannot read", n-stored)
	}
	if n := f.stat("old persist", "persist", "buried"); n != 0 {
		f.t.Errorf("the old persist has buried %d messages of a newer version", n)
	}
	f.step("one that reads version 2 comes again", []string{"new persist"}, []string{"old persist"})
}

// takeBackWriters: gateways of the old release come again, and publish from the outbox what one that wrote version 2 has
// left that was killed. Only then do persists of the old release come.
func (f *fleet) takeBackWriters() {
	f.run("old gateway")
	f.end("newest gateway", syscall.SIGTERM)
	f.run("dying gateway")
	left := f.dieWithBatch("dying gateway")
	f.await("the old gateway to publish it", func() bool { return f.stat("old gateway", "engine", "relayed") > 0 })
	if !left.step() || left.wish != nil { // the same key again
		f.t.Error("the buyer's repeat has found no order")
	}
	f.step("version 1 alone is written again", nil, nil)
	f.step("the old release is back", []string{"old persist", "old lifecycle"}, []string{"new persist", "new lifecycle"})
}

// dieWithBatch lets somebody order at a gateway that dies between a reserve and its publish, and returns that buyer at
// another gateway.
func (f *fleet) dieWithBatch(name string) *visit {
	f.t.Helper()
	s := f.members[name].shop
	b := &buyer{user: crowdBuyers + 1, rand: rand.New(rand.NewPCG(0, 0))}
	v := &visit{f.crowd, []*shop{s}, s, http.DefaultClient, b, s.token(b.user)}
	for range 100 {
		f.lone++
		b.wish = &purchase{key: fmt.Sprint("lone-", f.lone), body: line(f.goods[1][0], 1), offer: f.goods[1][0], units: 1}
		if !v.step() {
			_ = f.gone(name).cmd.Wait()
			v.shops = []*shop{f.at()}
			return v
		}
	}
	f.t.Fatalf("the %s does not die", name)
	return nil
}

// fleet is a deployment of several processes of several releases, and its buyers.
type fleet struct {
	*crowd
	dir        string
	set, env   []string
	programs   map[string]string // by release
	rounds     int
	careful    bool // an audit after every step
	partitions order.Partitions
	began      time.Time
	stop       func() // of the crowd
	lone       int    // orders of the buyer at gateways that die

	turn atomic.Uint64 // of the gateways

	mu      sync.Mutex
	members map[string]*process // by release and role
}

func newFleet(t *testing.T) *fleet {
	t.Helper()
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	const keen = 0
	f := &fleet{crowd: newCrowd(t, seed, keen), dir: t.TempDir(), rounds: 1, members: map[string]*process{}, began: time.Now(),
		partitions: order.Partitions{Normal: 1, Flash: 3}}
	if n, err := strconv.Atoi(os.Getenv("SLUICE_SOAK")); err == nil {
		f.rounds, f.careful = n, true
	}
	_, shards := onMySQL(t)
	_, name, stock := onRedis(t)
	f.set = append(append(onRocketMQ(t, name), append(stock, shards...)...), "engine.deadline=5s", longLife,
		fmt.Sprint("engine.partitions.normal=", f.partitions.Normal), fmt.Sprint("engine.partitions.flash=", f.partitions.Flash))
	for _, secret := range []string{"SLUICE_JWT_SECRET", "SLUICE_OPS_TOKEN", "SLUICE_SERVICE_TOKEN"} {
		f.env = append(f.env, secret+"="+crypto.Text()+crypto.Text())
	}
	return f
}

// onRocketMQ is the settings of a server with its queue in RocketMQ under a name of its own.
func onRocketMQ(t *testing.T, name string) (set []string) {
	t.Helper()
	server := os.Getenv("SLUICE_TEST_ROCKETMQ")
	if server == "" {
		if os.Getenv("SLUICE_CI") == "1" {
			t.Fatal("SLUICE_TEST_ROCKETMQ is not set, and in CI nothing is skipped")
		}
		t.Skip("SLUICE_TEST_ROCKETMQ is not set")
	}
	return []string{"queue.driver=rocketqueue", "queue.rocketqueue.name_servers=" + server, "queue.rocketqueue.name=" + name}
}

// run starts members, each in a process of its own.
func (f *fleet) run(names ...string) {
	f.t.Helper()
	for _, name := range names {
		release, role, _ := strings.Cut(name, " ")
		args := []string{"serve", "--role", role, "--set", "data_dir=" + filepath.Join(f.dir, strings.ReplaceAll(name, " ", "-")),
			"--set", "gateway.listen=127.0.0.1:0", "--set", "ops.listen=127.0.0.1:0"}
		for _, s := range f.set {
			args = append(args, "--set", s)
		}
		p := &process{cmd: programAt(f.t, f.programs[release], args...)}
		p.cmd.Env = append(p.cmd.Env, f.env...)
		switch release {
		case "dying":
			p.cmd.Env = append(p.cmd.Env, "SLUICE_CRASH_POINT=reserve:5")
			fallthrough
		case "newest":
			p.cmd.Env = append(p.cmd.Env, "SLUICE_TEST_WRITES=2")
		}
		f.start(name, p)
	}
}

func (f *fleet) start(name string, p *process) {
	f.t.Helper()
	out, err := p.cmd.StdoutPipe()
	if err != nil {
		f.t.Fatal(err)
	}
	p.cmd.Stderr, p.out = &p.errors, bufio.NewReader(out)
	if err := p.cmd.Start(); err != nil {
		f.t.Fatal(err)
	}
	f.t.Cleanup(func() { _ = p.cmd.Process.Kill(); _ = p.cmd.Wait() })
	line, err := p.out.ReadString('\n')
	if err != nil {
		_ = p.cmd.Wait()
		f.t.Fatalf("the %s ended before it was ready: %v\n%s", name, err, p.errors.String())
	}
	p.shop = &shop{t: f.t, dir: f.dir, set: f.set}
	for word := range strings.FieldsSeq(line) {
		if addr, ok := strings.CutPrefix(word, "gateway="); ok {
			p.gateway = "http://" + addr
		}
		if addr, ok := strings.CutPrefix(word, "ops="); ok {
			p.ops = "http://" + addr
		}
	}
	c, _ := config(f.t, f.dir, f.set...)
	if p.secrets, err = c.LoadSecrets(f.env, false); err != nil {
		f.t.Fatal(err)
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	f.members[name] = p
}

// end ends a member by a signal.
func (f *fleet) end(name string, signal os.Signal) {
	f.t.Helper()
	p := f.gone(name)
	if code := p.end(signal); code != 0 && signal == syscall.SIGTERM {
		f.t.Errorf("the %s ends with code %d\n%s", name, code, p.errors.String())
	}
}

// gone takes a member out.
func (f *fleet) gone(name string) *process {
	f.mu.Lock()
	defer f.mu.Unlock()
	p := f.members[name]
	delete(f.members, name)
	return p
}

// step has members come and go, under load, and waits until every offer is sold and stored again.
func (f *fleet) step(what string, come, leave []string) {
	f.t.Helper()
	began := time.Now()
	f.run(come...)
	for _, name := range leave {
		signal := syscall.SIGTERM
		if f.careful && f.turn.Load()%2 == 0 { // some of them without an end
			signal = syscall.SIGKILL
		}
		f.end(name, signal)
	}
	since := time.Now()
	f.await("every offer to be stored again after "+what, func() bool {
		return !slices.ContainsFunc(f.goods, func(cart []string) bool { return f.lastStored(cart[0]) < since.UnixMicro() })
	})
	f.t.Logf("%s: %v, %v since the start", what, time.Since(began).Round(time.Millisecond), time.Since(f.began).Round(time.Second))
	if f.careful {
		f.stop()
		f.judge(f.at(), what)
		f.mingle()
	}
}

// at is a gateway that runs, and is not to die.
func (f *fleet) at() *shop {
	f.mu.Lock()
	defer f.mu.Unlock()
	var gateways []*shop
	for name, p := range f.members {
		if strings.HasSuffix(name, " gateway") && name != "dying gateway" {
			gateways = append(gateways, p.shop)
		}
	}
	return gateways[f.turn.Add(1)%uint64(len(gateways))]
}

// fill has what is sold all the time: offers of every partition, and a cart of two of one shop.
func (f *fleet) fill() {
	const plenty = 10_000_000
	s := f.at()
	f.goods = [][]string{{s.offer("normal", plenty, 0), s.offer("normal", plenty, 0)}}
	for served := map[order.Partition]bool{}; len(served) < f.partitions.Flash; {
		id := s.offer("flash", plenty, 0)
		group := s.must(200, "GET", s.gateway+"/v1/offers/"+id, "", "").field("group")
		if p := f.partitions.Of(order.Flash, group); !served[p] {
			served[p] = true
			f.goods = append(f.goods, []string{id})
		}
	}
}

// mingle lets the crowd order, each call at any gateway that runs, until f.stop.
func (f *fleet) mingle() {
	var over atomic.Bool
	var wg sync.WaitGroup
	patience, cancel := context.WithCancel(context.Background())
	wg.Go(func() {
		f.each([]*shop{f.at()}, func(v *visit) {
			for !over.Load() || v.wish != nil && patience.Err() == nil {
				v.shops = []*shop{f.at()}
				v.step()
				time.Sleep(pace)
			}
			if v.wish != nil {
				f.t.Errorf("user %d, key %s: no answer for a minute", v.user, v.wish.key)
			}
		})
	})
	f.stop = sync.OnceFunc(func() {
		over.Store(true)
		defer time.AfterFunc(time.Minute, cancel).Stop()
		if f.t.Failed() {
			cancel()
		}
		wg.Wait()
	})
	f.t.Cleanup(f.stop)
}

func (f *fleet) awaitOrders(n int) {
	f.t.Helper()
	n += f.count((*sight).accepted)
	f.await("more orders", func() bool { return f.count((*sight).accepted) >= n })
}

func (f *fleet) await(what string, done func() bool) {
	f.t.Helper()
	for end := time.Now().Add(2 * time.Minute); !done(); time.Sleep(50 * time.Millisecond) {
		if time.Now().After(end) {
			f.mu.Lock()
			defer f.mu.Unlock()
			for name, p := range f.members {
				f.t.Logf("the %s:\n%s", name, p.errors.String())
			}
			f.t.Fatalf("waited two minutes for %s", what)
		}
	}
}

// stat is a number of a member's snapshot.
func (f *fleet) stat(name, stage, field string) int {
	f.t.Helper()
	f.mu.Lock()
	p := f.members[name]
	f.mu.Unlock()
	var stats map[string]json.RawMessage
	var numbers map[string]any
	a := p.must(200, "GET", p.ops+"/ops/stats", p.secrets.OpsToken, "")
	if err := json.Unmarshal(a.body, &stats); err != nil {
		f.t.Fatal(err)
	}
	if err := json.Unmarshal(stats[stage], &numbers); err != nil {
		f.t.Fatalf("%s of %s: %v", stage, a, err)
	}
	n, ok := numbers[field].(float64)
	if !ok {
		f.t.Fatalf("there is no %s in %s", field, stats[stage])
	}
	return int(n)
}
