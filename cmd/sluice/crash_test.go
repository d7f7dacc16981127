package main

import (
	"bufio"
	"bytes"
	"fmt"
	"math/rand/v2"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"sync"
	"syscall"
	"testing"
	"time"

	"sluice/bench/audit"
	"sluice/configs"
	"sluice/engine/order"
	"sluice/internal/crash"
)

const (
	crashBuyers = 24
	crashKills  = 20 // at random moments; SLUICE_SOAK asks for more
)

// longLife keeps orders from expiring while the soak runs: with some due every second nothing is ever at rest, and the
// auditor could not read one moment.
const longLife = "persist.unpaid=24h"

// TestCrash kills the server under load: at every named point of the protocol at least once, then at random moments,
// also while it starts. After each kill it starts again, the clients try again what was not answered, as clients do,
// and the auditor judges files, fast stock and everything that any client ever saw.
func TestCrash(t *testing.T) {
	t.Parallel()
	kills := crashKills
	if n, err := strconv.Atoi(os.Getenv("SLUICE_SOAK")); err == nil {
		kills = n
	} else if testing.Short() {
		kills = 2
	}
	c := newCrashes(t)
	for i, point := range crash.Points {
		most := 40 // passes of the point
		if i >= slices.Index(crash.Points, "begin") {
			most = 8 // once per partition
		}
		c.run(fmt.Sprintf("%s:%d", point, 1+c.rand.IntN(most)))
	}
	for range kills {
		c.run("")
	}
	t.Logf("%d kills, %d calls, %d answered as accepted, %d unknown", len(crash.Points)+kills, len(c.seen), c.accepted, c.unknown)
	if c.accepted < 20*kills || c.unknown == 0 {
		t.Errorf("the crowd saw too little for the test to show anything")
	}
}

// crashes is a story of kills on one data directory.
type crashes struct {
	t       *testing.T
	dir     string
	rand    *rand.Rand // of the test's goroutine
	history *audit.Writer
	normal  [2]string // offers of one shop: a cart may hold both
	flash   string    // a new one for every life
	buyers  []*crashBuyer

	mu                sync.Mutex
	seen              []audit.Entry
	accepted, unknown int
}

// crashBuyer is a client that does not give up: what was not answered is asked again, with the same key, in the next
// life of the server.
type crashBuyer struct {
	user   order.UserID
	n      int
	again  *purchase
	orders []string
	rand   *rand.Rand
}

// purchase is one wish for an order.
type purchase struct {
	key, body, query string
	units            int64
}

func newCrashes(t *testing.T) *crashes {
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	dir := t.TempDir()
	history, err := audit.Create(filepath.Join(dir, "history"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = history.Close() })
	c := &crashes{t: t, dir: filepath.Join(dir, "data"), rand: rand.New(rand.NewPCG(seed, 0)), history: history}
	for i := range crashBuyers {
		c.buyers = append(c.buyers, &crashBuyer{user: order.UserID(i + 1), rand: rand.New(rand.NewPCG(seed, uint64(i+1)))})
	}
	return c
}

// run is one kill and its aftermath. point is a crash point with its number of passes; empty means a random moment.
func (c *crashes) run(point string) {
	c.t.Helper()
	c.die(point)
	p := spawn(c.t, c.dir, "--set", longLife)
	c.crowd(p.shop, true)
	c.judge(p.shop, point)
	if c.normal[0] == "" {
		c.normal = [2]string{p.offer("normal", 1_000_000, 0), p.offer("normal", 1_000_000, 0)}
	}
	c.flash = p.offer("flash", 300, 3)
	p.end(syscall.SIGKILL) // at rest
}

// die starts the server and lets a crowd at it until it is killed.
func (c *crashes) die(point string) {
	c.t.Helper()
	cmd := program(c.t, "serve", "--set", "data_dir="+c.dir, "--set", "gateway.listen=127.0.0.1:0", "--set", "ops.listen=127.0.0.1:0",
		"--set", longD, "--set", longLife)
	cmd.Env = append(cmd.Env, "SLUICE_CRASH_POINT="+point)
	var log logBuffer
	cmd.Stderr = &log
	out, err := cmd.StdoutPipe()
	if err != nil {
		c.t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		c.t.Fatal(err)
	}
	kill := func() { _ = cmd.Process.Kill() }
	if point == "" && c.rand.IntN(5) == 0 { // while it starts
		defer time.AfterFunc(time.Duration(c.rand.IntN(300))*time.Millisecond, kill).Stop()
	}
	guard := time.AfterFunc(time.Minute, kill) // a point that is never passed
	line, err := bufio.NewReader(out).ReadString('\n')
	if err == nil {
		s := &shop{t: c.t, dir: c.dir}
		if _, err := fmt.Sscanf(line, "ready gateway=%s ops=%s\n", &s.gateway, &s.ops); err != nil {
			c.t.Fatalf("the ready line is %q: %v", line, err)
		}
		s.gateway, s.ops = "http://"+s.gateway, "http://"+s.ops
		s.secrets = c.secrets()
		if point == "" {
			defer time.AfterFunc(time.Duration(5+c.rand.IntN(250))*time.Millisecond, kill).Stop()
		}
		if c.normal[0] == "" { // the first life
			c.normal = [2]string{s.offer("normal", 1_000_000, 0), s.offer("normal", 1_000_000, 0)}
			c.flash = s.offer("flash", 300, 3)
		}
		c.crowd(s, false)
	}
	_ = cmd.Wait()
	if !guard.Stop() {
		c.t.Fatalf("crash point %s was not passed within a minute\n%s", point, log.String())
	}
	if status, ok := cmd.ProcessState.Sys().(syscall.WaitStatus); !ok || status.Signal() != syscall.SIGKILL {
		c.t.Fatalf("the server was to be killed and ended with %v\n%s", cmd.ProcessState, log.String())
	}
}

// crowd lets every buyer buy until the server is gone; or, with last, once more what was not answered.
func (c *crashes) crowd(s *shop, last bool) {
	client := &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: crashBuyers}, Timeout: 30 * time.Second}
	defer client.CloseIdleConnections()
	var wg sync.WaitGroup
	for _, b := range c.buyers {
		wg.Go(func() {
			token := s.token(b.user)
			for b.again != nil || !last {
				if !c.step(s, client, b, token) {
					return
				}
			}
		})
	}
	wg.Wait()
}

// step is one call of a buyer; false when the server is gone.
func (c *crashes) step(s *shop, client *http.Client, b *crashBuyer, token string) bool {
	if b.again == nil && len(b.orders) > 0 && b.rand.IntN(10) == 0 {
		id := b.orders[b.rand.IntN(len(b.orders))]
		_, err := s.with(client, "POST", s.gateway+"/v1/orders/"+id+"/cancel", token, "")
		return err == nil
	}
	if b.again == nil {
		b.again = c.wish(b)
	}
	w := b.again
	entry := audit.Entry{User: b.user, Key: w.key, Units: w.units, Sent: time.Now().UnixMicro()}
	a, err := s.with(client, "POST", s.gateway+"/v1/orders"+w.query, token, w.body, "Idempotency-Key", w.key)
	entry.Answered = time.Now().UnixMicro()
	if err == nil {
		entry.Code = a.status
		if id, ok := order.ParseID(a.field("id")); ok && a.status < 300 {
			entry.Order = order.ID(id)
			b.orders = append(b.orders, a.field("id"))
		}
	}
	c.note(entry)
	switch {
	case err != nil:
		return false
	case entry.Code == 504 || entry.Code == 503: // again, with the same key
	case entry.Code < 300 || entry.Code == 409:
		b.again = nil
	default:
		c.t.Errorf("user %d, key %s: %v", b.user, w.key, a)
		b.again = nil
	}
	return true
}

// wish is the next thing that a buyer wants: often the flash offer, sometimes a cart.
func (c *crashes) wish(b *crashBuyer) *purchase {
	b.n++
	w := &purchase{key: fmt.Sprintf("%d-%d", b.user, b.n), units: 1 + b.rand.Int64N(2)}
	if b.rand.IntN(8) == 0 {
		w.query = "?wait=1"
	}
	if b.rand.IntN(3) > 0 {
		w.body = line(c.flash, int(w.units))
		return w
	}
	w.body = fmt.Sprintf(`{"items":[{"offer_id":%q,"quantity":1},{"offer_id":%q,"quantity":%d}]}`, c.normal[0], c.normal[1], w.units)
	w.units++
	return w
}

func (c *crashes) note(e audit.Entry) {
	if err := c.history.Append(e); err != nil {
		c.t.Error(err)
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.seen = append(c.seen, e)
	switch {
	case e.Code == 0 || e.Code == 504:
		c.unknown++
	case e.Code < 300:
		c.accepted++
	}
}

// judge audits the server at rest against all that was ever seen.
func (c *crashes) judge(s *shop, point string) {
	c.t.Helper()
	cfg, d := config(c.t, c.dir)
	places, err := shardPlaces(cfg, s.secrets)
	if err != nil {
		c.t.Fatal(err)
	}
	report, err := audit.Run(c.t.Context(), audit.Options{Shards: places, QueueFile: d.queueFile(cfg), OpsURL: s.ops,
		OpsToken: s.secrets.OpsToken, History: c.seen, Settle: 20 * time.Second})
	if err != nil {
		c.t.Fatal(err)
	}
	if !report.Passed() {
		var text bytes.Buffer
		_ = report.Text(&text) // to memory
		c.t.Fatalf("after a kill at %q the audit fails:\n%s", point, text.String())
	}
}

// secrets are those that the server made at its first start.
func (c *crashes) secrets() *configs.Secrets {
	cfg, _ := config(c.t, c.dir)
	secrets, err := cfg.LoadSecrets(nil, false)
	if err != nil {
		c.t.Fatal(err)
	}
	return secrets
}
