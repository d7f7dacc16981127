package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	gatewayclient "sluice/gateway/client"
)

// badRoad stands between clients and a server: it loses requests, loses answers, and answers by itself as a server that is
// too busy, or as a proxy whose server does not answer in time.
type badRoad struct {
	server string
	calm   atomic.Bool // nothing is lost
	mu     sync.Mutex
	rand   *rand.Rand
	faults [5]int // how often each happened
}

func (b *badRoad) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	b.mu.Lock()
	fault := b.rand.IntN(10)
	if b.calm.Load() {
		fault = 10
	}
	b.faults[min(fault, 4)]++
	b.mu.Unlock()
	switch fault {
	case 0: // lost on the way there
		panic(http.ErrAbortHandler)
	case 1:
		w.WriteHeader(503)
		_, _ = io.WriteString(w, `{"status":503,"code":"overloaded","detail":"planted"}`)
		return
	}
	body, err := io.ReadAll(r.Body)
	if err != nil {
		panic(http.ErrAbortHandler)
	}
	out, err := http.NewRequestWithContext(r.Context(), r.Method, b.server+r.RequestURI, bytes.NewReader(body))
	if err != nil {
		panic(http.ErrAbortHandler)
	}
	out.Header = r.Header.Clone()
	res, err := http.DefaultClient.Do(out)
	if err != nil {
		panic(http.ErrAbortHandler)
	}
	defer func() { _ = res.Body.Close() }()
	answer, err := io.ReadAll(res.Body)
	if err != nil || fault == 2 { // lost on the way back
		panic(http.ErrAbortHandler)
	}
	if fault == 3 {
		w.WriteHeader(504)
		return
	}
	for name, values := range res.Header {
		w.Header()[name] = values
	}
	w.WriteHeader(res.StatusCode)
	_, _ = w.Write(answer)
}

// TestClientOnABadRoad: however requests and answers are lost, the Go client ends with one order per key, alone and in
// batches, and sold out stays sold out.
func TestClientOnABadRoad(t *testing.T) {
	t.Parallel()
	s, _ := open(t, t.TempDir())
	road := &badRoad{server: s.gateway, rand: rand.New(rand.NewPCG(1, 2))}
	proxy := httptest.NewServer(road)
	defer proxy.Close()
	c, err := gatewayclient.New(gatewayclient.Options{Base: proxy.URL, Token: func(context.Context) (string, error) { return s.secrets.ServiceToken, nil }})
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	ctx, cancel := context.WithTimeout(t.Context(), 60*time.Second)
	defer cancel()
	const users, orders, lines = 12, 8, 40
	offer, few := s.offer("normal", 1000, 0), s.offer("flash", users/2, 1)

	orderOf := sync.Map{} // key to id
	var sold, refused atomic.Int64
	var buyers sync.WaitGroup
	for user := range users {
		buyers.Go(func() {
			as := c.As(fmt.Sprint(user + 1))
			for range orders {
				r := &gatewayclient.OrderRequest{Items: []gatewayclient.Line{{OfferID: offer, Quantity: 1}}}
				p, err := as.Place(ctx, r)
				if err != nil {
					t.Errorf("user %d: %v", user, err)
					return
				}
				orderOf.Store(fmt.Sprint(user+1, " ", r.Key), p.ID)
			}
			_, err := as.Place(ctx, &gatewayclient.OrderRequest{Items: []gatewayclient.Line{{OfferID: few, Quantity: 1}}})
			var problem *gatewayclient.Problem
			switch {
			case err == nil:
				sold.Add(1)
			case errors.As(err, &problem) && problem.Code == "sold_out" && !errors.Is(err, gatewayclient.ErrUnknown):
				refused.Add(1)
			default:
				t.Errorf("user %d: %v", user, err)
			}
		})
	}
	buyers.Go(func() { s.batchOnABadRoad(ctx, c, offer, &orderOf, lines) })
	buyers.Wait()
	if sold.Load() != users/2 || refused.Load() != users/2 {
		t.Errorf("%d sold and %d refused of %d units for %d buyers", sold.Load(), refused.Load(), users/2, users)
	}
	for i, n := range road.faults[:4] {
		if n == 0 {
			t.Errorf("fault %d never happened: the test shows nothing", i)
		}
	}
	road.calm.Store(true)
	s.oneOrderPerKey(ctx, c, &orderOf, users*orders+lines)
	s.remaining(offer, fmt.Sprint(1000-users*orders-lines))
	s.remaining(few, "0")
	s.audited(true)
}

// batchOnABadRoad places n orders of as many users in one batch.
func (s *shop) batchOnABadRoad(ctx context.Context, c *gatewayclient.Client, offer string, orderOf *sync.Map, n int) {
	list := make([]gatewayclient.BatchLine, n)
	for i := range list {
		list[i] = gatewayclient.BatchLine{UserID: fmt.Sprint(100 + i),
			OrderRequest: gatewayclient.OrderRequest{Items: []gatewayclient.Line{{OfferID: offer, Quantity: 1}}}}
	}
	results, err := c.PlaceBatch(ctx, list)
	if err != nil {
		s.t.Error(err)
		return
	}
	for i, r := range results {
		if r.Err != nil {
			s.t.Errorf("line %d: %v", i, r.Err)
			continue
		}
		orderOf.Store(list[i].UserID+" "+list[i].Key, r.Placed.ID)
	}
}

// oneOrderPerKey looks for the orders of the keys ("user key" to the id that was answered), of which there are n.
func (s *shop) oneOrderPerKey(ctx context.Context, c *gatewayclient.Client, orderOf *sync.Map, n int) {
	s.t.Helper()
	orderOf.Range(func(key, id any) bool {
		n--
		var user, k string
		_, _ = fmt.Sscan(key.(string), &user, &k)
		if _, err := c.As(user).Order(ctx, id.(string), 10*time.Second); err != nil { // stored from here
			s.t.Errorf("order %s: %v", id, err)
		}
		var found []string
		for o, err := range c.As(user).Orders(ctx, gatewayclient.OrderFilter{Key: k}) {
			if err != nil {
				s.t.Error(err)
				return false
			}
			found = append(found, o.ID)
		}
		if len(found) != 1 || found[0] != id {
			s.t.Errorf("key %s has orders %v, answered was %s", k, found, id)
		}
		return true
	})
	if n != 0 {
		s.t.Errorf("%d keys have no order", n)
	}
}
