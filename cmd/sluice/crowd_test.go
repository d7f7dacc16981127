package main

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"net/http"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"sluice/bench/audit"
	"sluice/engine/order"
)

const crowdBuyers = 24

// crowd is buyers who do not give up, and everything that any of them ever saw, for the auditor.
type crowd struct {
	t       *testing.T
	history *audit.Writer
	buyers  []*buyer
	goods   [][]string // what a cart may hold: offers of one group
	scarce  string     // a flash offer that sells out
	keen    int        // so many wishes of ten are for the scarce one

	lost []order.ID // orders that a fault has taken: the auditor must not find them

	mu     sync.Mutex
	calls  []sight
	sold   map[string]int64 // when the latest call was sent that had an offer, or that a gateway accepted
	stored map[string]int64 // the same of those whose order was stored when they were answered
}

// buyer is a client that does not give up: what was not answered is asked again, with the same key.
type buyer struct {
	user   order.UserID
	n      int
	wish   *purchase // not answered yet
	orders []string
	rand   *rand.Rand
}

// purchase is one wish for an order.
type purchase struct {
	key, body, query string
	offer            string // the first one of the cart
	units            int64
	unknown          bool // an earlier call came to nothing that the buyer knows
}

// sight is one call as its buyer saw it.
type sight struct {
	audit.Entry
	at       string // the gateway
	offer    string
	again    bool // after a call whose outcome is unknown
	replayed bool
}

func newCrowd(t *testing.T, seed uint64, keen int) *crowd {
	t.Helper()
	history, err := audit.Create(filepath.Join(t.TempDir(), "history"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = history.Close() })
	c := &crowd{t: t, history: history, keen: keen, sold: map[string]int64{}, stored: map[string]int64{}}
	for i := range crowdBuyers {
		c.buyers = append(c.buyers, &buyer{user: order.UserID(i + 1), rand: rand.New(rand.NewPCG(seed, uint64(i+1)))})
	}
	return c
}

// each lets every buyer do something at the servers at once, and waits for all of them.
func (c *crowd) each(at []*shop, do func(*visit)) {
	client := &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: crowdBuyers}, Timeout: 30 * time.Second}
	defer client.CloseIdleConnections()
	var wg sync.WaitGroup
	for _, b := range c.buyers {
		wg.Go(func() { do(&visit{c, at, at[0], client, b, at[0].token(b.user)}) })
	}
	wg.Wait()
}

// visit is a buyer at servers that share their secrets, now at this one, now at that.
type visit struct {
	*crowd
	shops  []*shop
	shop   *shop
	client *http.Client
	*buyer
	token string
}

// step is one call of the buyer; false when it was not answered.
func (v *visit) step() bool {
	v.shop = v.shops[v.rand.IntN(len(v.shops))]
	if v.wish == nil && len(v.orders) > 0 {
		switch v.rand.IntN(20) {
		case 0, 1:
			return v.look("POST", "/cancel")
		case 2:
			return v.look("GET", "")
		}
	}
	if v.wish == nil {
		v.wish = v.wants()
	}
	w := v.wish
	e := sight{Entry: audit.Entry{User: v.user, Key: w.key, Units: w.units, Sent: time.Now().UnixMicro()}, at: v.shop.gateway, offer: w.offer, again: w.unknown}
	a, err := v.shop.with(v.client, "POST", v.shop.gateway+"/v1/orders"+w.query, v.token, w.body, "Idempotency-Key", w.key)
	e.Answered = time.Now().UnixMicro()
	if err == nil {
		e.Code, e.replayed = a.status, a.header.Get("Idempotent-Replayed") != ""
		if id, ok := order.ParseID(a.field("id")); ok && a.status < 300 {
			e.Order = order.ID(id)
			v.orders = append(v.orders, a.field("id"))
		}
	}
	v.note(e)
	w.unknown = w.unknown || e.unknown()
	switch {
	case err != nil:
		return false
	case e.Code == 504 || e.Code == 503: // again, with the same key
	case e.Code < 300 || e.Code == 409:
		v.wish = nil
	default:
		v.t.Errorf("user %d, key %s: %v", v.user, w.key, a)
		v.wish = nil
	}
	return true
}

// look calls for one of the buyer's own orders: there must be one, though it may not be readable now.
func (v *visit) look(method, path string) bool {
	id := v.orders[v.rand.IntN(len(v.orders))]
	a, err := v.shop.with(v.client, method, v.shop.gateway+"/v1/orders/"+id+path, v.token, "")
	if err != nil {
		return false
	}
	switch a.status {
	case 200, 409, 503, 504:
	default:
		v.t.Errorf("user %d, %s of order %s%s: %v", v.user, method, id, path, a)
	}
	return true
}

// wants is the next thing that the buyer wants: often the scarce offer, sometimes a cart.
func (v *visit) wants() *purchase {
	v.n++
	w := &purchase{key: fmt.Sprintf("%d-%d", v.user, v.n), units: 1 + v.rand.Int64N(2)}
	if v.rand.IntN(8) == 0 {
		w.query = "?wait=1"
	}
	w.offer = v.scarce
	goods := v.goods[v.rand.IntN(len(v.goods))]
	if v.rand.IntN(10) >= v.keen {
		w.offer = goods[0]
	}
	w.body = line(w.offer, int(w.units))
	if w.offer != v.scarce && len(goods) == 2 {
		w.body = fmt.Sprintf(`{"items":[{"offer_id":%q,"quantity":1},{"offer_id":%q,"quantity":%d}]}`, goods[0], goods[1], w.units)
		w.units++
	}
	return w
}

func (c *crowd) note(e sight) {
	if err := c.history.Append(e.Entry); err != nil {
		c.t.Error(err)
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.calls = append(c.calls, e)
	if e.accepted() {
		c.sold[e.offer], c.sold[e.at] = max(c.sold[e.offer], e.Sent), max(c.sold[e.at], e.Sent)
	}
	if e.Code == 201 {
		c.stored[e.offer] = max(c.stored[e.offer], e.Sent)
	}
}

// lastSold is when the latest call was sent that had an offer, or that a gateway accepted, in microseconds; 0 if there is none.
func (c *crowd) lastSold(what string) int64 {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.sold[what]
}

// lastStored is the same of calls that were answered when the order was stored.
func (c *crowd) lastStored(offer string) int64 {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.stored[offer]
}

// accepted tells whether the buyer was promised an order, unknown whether he was told nothing.
func (e *sight) accepted() bool { return e.Code >= 200 && e.Code < 300 }
func (e *sight) unknown() bool  { return e.Code == 0 || e.Code == 504 }

// count is the number of calls for which is says yes.
func (c *crowd) count(is func(*sight) bool) (n int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for i := range c.calls {
		if is(&c.calls[i]) {
			n++
		}
	}
	return n
}

// judge audits the server at rest against all that was ever seen. after says what happened.
func (c *crowd) judge(s *shop, after string) {
	c.t.Helper()
	cfg, d := config(c.t, s.dir, s.set...)
	places, err := shardPlaces(cfg, s.secrets)
	if err != nil {
		c.t.Fatal(err)
	}
	entries := make([]audit.Entry, len(c.calls))
	for i := range c.calls {
		entries[i] = c.calls[i].Entry
	}
	report, err := audit.Run(c.t.Context(), audit.Options{Dialect: string(cfg.Store.Dialect), Shards: places,
		QueueFile: d.queueFile(cfg), OpsURL: s.ops, OpsToken: s.secrets.OpsToken, History: entries, Lost: c.lost, Settle: 20 * time.Second})
	if err != nil {
		c.t.Fatal(err)
	}
	if !report.Passed() {
		var text bytes.Buffer
		_ = report.Text(&text) // to memory
		c.t.Fatalf("after %s the audit fails:\n%s", after, text.String())
	}
}
