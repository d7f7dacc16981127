package bench

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"github.com/HdrHistogram/hdrhistogram-go"

	"sluice/bench/audit"
	"sluice/bench/load"
	"sluice/engine/order"
	"sluice/gateway/client"
)

// Step is one kind of call of a visit, made with the Go client as a shop's server makes it.
type Step struct {
	Name    string         `json:"name"`
	Answer  Latency        `json:"answer_ms"` // repeats and their pauses included
	Errors  int            `json:"errors"`    // calls that failed at the last: what a person sees
	Codes   map[string]int `json:"codes,omitempty"`
	Repeats int            `json:"repeats"` // attempts beyond the first of a call
	Causes  map[string]int `json:"causes,omitempty"`
}

// The steps of a visit, in their order. The first one of a visit counts from its intended moment, the others from their
// sending.
const (
	stepOffer = iota
	stepPlace
	stepPoll // the buyer asks until the order is stored
	stepWait // the server answers when it is
	stepRead
	stepList
	stepCancel
	stepOffers
	steps
)

var stepNames = [steps]string{"offer page", "order", "poll until stored", "wait until stored", "read", "list", "cancel", "offers"}

const (
	pollPause  = 50 * time.Millisecond // between two polls of a buyer
	waitMax    = 5 * time.Second       // that the server is asked to wait
	visitsMax  = 4096                  // at once
	offersPage = 20                    // offers that somebody looks at
)

// visitors is people who come at a rate. Each makes a visit; each call of it goes to the next gateway.
type visitors struct {
	visit   func(i int, intended time.Time) // visit i, which was meant for that moment
	steps   [steps]step
	turn    atomic.Uint64 // of the gateways
	made    atomic.Int64  // calls that have ended
	reqs    *load.Requests
	began   time.Time
	history []audit.Entry
}

// step is what came of one kind of call. Its clients, one for each gateway, count repeats here; all steps share the
// connections.
type step struct {
	clients []*client.Client
	mu      sync.Mutex
	times   *hdrhistogram.Histogram
	failed  tally
	again   tally
}

// tally counts errors by what they say: the code of a problem, its status if it has none, or that nobody answered.
type tally struct {
	count int
	by    map[string]int
}

func (t *tally) add(err error) {
	what := "no answer"
	var p *client.Problem
	if errors.As(err, &p) {
		if what = p.Code; what == "" {
			what = strconv.Itoa(p.Status)
		}
	}
	t.count++
	t.by[what]++
}

func newVisitors(s *server, connections int, reqs *load.Requests) (*visitors, error) {
	v := &visitors{reqs: reqs, history: make([]audit.Entry, reqs.Len())}
	for i := range v.steps {
		v.steps[i].times, v.steps[i].failed.by, v.steps[i].again.by = load.NewHistogram(), map[string]int{}, map[string]int{}
	}
	for _, addr := range s.gateways {
		shop, err := client.New(client.Options{Base: scheme(s.tls) + addr, TLS: s.tls, ConnectionsMax: (connections + len(s.gateways) - 1) / len(s.gateways),
			Token: func(context.Context) (string, error) { return s.service, nil }})
		if err != nil {
			return nil, err
		}
		for i := range v.steps {
			st := &v.steps[i]
			st.clients = append(st.clients, shop.OnRepeat(func(cause error) {
				st.mu.Lock()
				defer st.mu.Unlock()
				st.again.add(cause)
			}))
		}
	}
	return v, nil
}

// run starts every visit at its moment and waits for all of them.
func (v *visitors) run(ctx context.Context, rate float64) {
	for _, c := range v.steps[0].clients {
		defer c.Close()
	}
	v.began = time.Now()
	slots := make(chan struct{}, visitsMax)
	var visits sync.WaitGroup
	for i := range v.reqs.Len() {
		intended := v.began.Add(time.Duration(float64(i) / rate * float64(time.Second)))
		select {
		case <-ctx.Done():
			visits.Wait()
			v.history = v.history[:i]
			return
		case <-time.After(time.Until(intended)):
		}
		slots <- struct{}{}
		visits.Go(func() {
			v.visit(i, intended)
			<-slots
		})
	}
	visits.Wait()
}

// user is the buyer of order i.
func (v *visitors) user(i int) string { return strconv.FormatUint(uint64(v.reqs.User(i)), 10) }

// browse is the visit of one person, who ends what they began: its context is never cancelled.
func (v *visitors) browse(i int, intended time.Time) {
	ctx, user := context.Background(), v.user(i)
	v.do(stepOffer, user, intended, func(c *client.Client) error {
		_, err := c.Offer(ctx, strconv.FormatUint(uint64(v.reqs.Cart(i)[0]), 10))
		return err
	})
	id := v.place(ctx, i, time.Now())
	if id == "" {
		return
	}
	v.untilStored(ctx, id, user, i%2 == 0)
	v.list(ctx, user)
	if i%2 == 0 {
		v.cancel(ctx, id, user)
		return
	}
	v.do(stepOffers, user, time.Now(), func(c *client.Client) error {
		seen := 0
		for _, err := range c.Offers(ctx, client.OfferFilter{Kind: "normal"}) {
			if seen++; err != nil || seen == offersPage {
				return err
			}
		}
		return nil
	})
}

// list looks at the user's orders; the latest is enough.
func (v *visitors) list(ctx context.Context, user string) {
	v.do(stepList, user, time.Now(), func(c *client.Client) error {
		for _, err := range c.Orders(ctx, client.OrderFilter{}) {
			return err
		}
		return nil
	})
}

func (v *visitors) cancel(ctx context.Context, id, user string) {
	v.do(stepCancel, user, time.Now(), func(c *client.Client) error {
		_, err := c.Cancel(ctx, id)
		return err
	})
}

// place places order i and returns its id; empty if there is none.
func (v *visitors) place(ctx context.Context, i int, intended time.Time) (id string) {
	r := &client.OrderRequest{Key: v.reqs.Key(i)}
	if err := json.Unmarshal(v.reqs.Body(i), r); err != nil {
		panic("BUG: an order of the bench is no order of the client: " + err.Error())
	}
	e := &v.history[i]
	*e = audit.Entry{User: v.reqs.User(i), Key: r.Key, Units: int64(v.reqs.Units(i)), Sent: time.Now().UnixMicro()}
	v.do(stepPlace, v.user(i), intended, func(c *client.Client) error {
		p, err := c.Place(ctx, r)
		e.Answered, e.Code = time.Now().UnixMicro(), placedCode(p, err)
		if err != nil {
			return err
		}
		n, ok := order.ParseID(p.ID)
		if !ok {
			return fmt.Errorf("an order has the id %q", p.ID)
		}
		id, e.Order = p.ID, order.ID(n)
		return nil
	})
	return id
}

// placedCode is the status that says what a call of Place came to; 0 if it is open whether there is an order.
func placedCode(p *client.Placed, err error) int {
	var refused *client.Problem
	switch {
	case err == nil && p.Replayed:
		return 200
	case err == nil && p.Status == "pending":
		return 202
	case err == nil:
		return 201
	case !errors.Is(err, client.ErrUnknown) && errors.As(err, &refused):
		return refused.Status
	}
	return 0
}

// untilStored looks after an order until it is no longer pending.
func (v *visitors) untilStored(ctx context.Context, id, user string, poll bool) {
	what, wait := stepWait, waitMax
	if poll {
		what, wait = stepPoll, 0
	}
	for begun, pending := time.Now(), true; pending && time.Since(begun) < settleWait; {
		v.do(what, user, time.Now(), func(c *client.Client) error {
			o, err := c.Order(ctx, id, wait)
			pending = err == nil && o.Status == "pending"
			return err
		})
		if poll && pending {
			time.Sleep(pollPause)
		}
	}
}

// do makes a call of a user and notes how long it took since the moment it was meant for, and whether it failed.
func (v *visitors) do(what int, user string, intended time.Time, call func(*client.Client) error) {
	st := &v.steps[what]
	err := call(st.clients[v.turn.Add(1)%uint64(len(st.clients))].As(user))
	took := time.Since(intended)
	v.made.Add(1)
	st.mu.Lock()
	defer st.mu.Unlock()
	_ = st.times.RecordValue(took.Microseconds())
	if err != nil {
		st.failed.add(err)
	}
}

// accepted is how many orders were placed.
func (v *visitors) accepted() (n int64) {
	for i := range v.history {
		if v.history[i].Order != 0 {
			n++
		}
	}
	return n
}

// counts are the orders by what became of them at the last; a code that says so is in the steps.
func (v *visitors) counts() load.Counts {
	c := load.Counts{Sent: len(v.history), Accepted: int(v.accepted())}
	for i := range v.history {
		switch code := v.history[i].Code; {
		case code == 0 || code == 504:
			c.Unknown++
		case v.history[i].Order == 0:
			if c.Refused == nil {
				c.Refused = map[string]int{}
			}
			c.Refused[strconv.Itoa(code)]++
		}
	}
	c.Answered = c.Sent - c.Unknown
	return c
}

// report gives the steps that were made, and the number of all requests.
func (v *visitors) report() (list []Step, requests int) {
	for i := range v.steps {
		st := &v.steps[i]
		l := latency(st.times)
		if l.Count == 0 {
			continue
		}
		requests += int(l.Count) + st.again.count
		list = append(list, Step{Name: stepNames[i], Answer: l, Errors: st.failed.count, Codes: st.failed.by,
			Repeats: st.again.count, Causes: st.again.by})
	}
	return list, requests
}
