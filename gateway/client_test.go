package gateway

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"sluice/engine/order"
	"sluice/gateway/client"
)

// through returns a client whose requests, and the answers to them, are held to openapi.yaml on their way.
func (w *world) through(token string) *client.Client {
	w.t.Helper()
	proxy := httptest.NewServer(http.HandlerFunc(func(out http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		must(w.t, err)
		header := map[string]string{}
		for name := range r.Header {
			header[name] = r.Header.Get(name)
		}
		a := w.do(request{method: r.Method, path: r.RequestURI, body: string(body), header: header})
		for name := range a.header {
			out.Header().Set(name, a.header.Get(name))
		}
		out.WriteHeader(a.status)
		_, _ = io.WriteString(out, a.raw)
	}))
	w.t.Cleanup(proxy.Close)
	c, err := client.New(client.Options{Base: proxy.URL, Token: func(context.Context) (string, error) { return token, nil }})
	must(w.t, err)
	w.t.Cleanup(c.Close)
	return c
}

// The client's calls are those of the file, and it reads every answer.
func TestClientOnTheGateway(t *testing.T) {
	t.Parallel()
	w, ctx := newWorld(t), context.Background()
	now := order.MilliOf(time.Now())
	offer := fmt.Sprint(w.offer(func(o *order.Offer) { o.Limit, o.Opens, o.Closes = 1000, 1, now+3_600_000 }))
	future := fmt.Sprint(w.offer(func(o *order.Offer) { o.Opens = now + 3_600_000 }))
	buyer, servers := w.through(tokenOf(42)), w.through(testService)
	details := &client.Details{Address: &client.Address{Name: "李雷", Phone: "1", Region: "r", Line: "l", Postcode: "p"}, DeliveryMethod: "d",
		Invoice: &client.Invoice{Title: "t", TaxID: "x"}, Note: "n"}
	r := &client.OrderRequest{Items: []client.Line{{OfferID: offer, Quantity: 2}}, Details: details, Wait: 10 * time.Second}
	first, err := buyer.Place(ctx, r)
	must(t, err)
	if first.Status != "awaiting_payment" || first.Amount != 3998 || first.Replayed || first.ExpiresAt.IsZero() || !cmp.Equal(first.Details, details) {
		t.Errorf("%+v", first)
	}
	again, err := servers.As("42").Place(ctx, r)
	must(t, err)
	if !again.Replayed || !cmp.Equal(again.Order, first.Order) {
		t.Errorf("%+v, want %+v", again, first)
	}
	_, err = buyer.Place(ctx, &client.OrderRequest{Items: []client.Line{{OfferID: future, Quantity: 1}}})
	if p := problemIn(err); p.Code != "not_open" || order.MilliOf(p.OpensAt) != now+3_600_000 || p.ServerTime.IsZero() || len(p.Errors) != 1 {
		t.Errorf("%+v", p)
	}
	read, err := buyer.Order(ctx, first.ID, time.Second)
	must(t, err)
	if !cmp.Equal(*read, first.Order) {
		t.Errorf("%+v, want %+v", read, first)
	}
	_, err = servers.As("43").Order(ctx, first.ID, 0)
	if p := problemIn(err); p.Code != "order_not_found" {
		t.Errorf("%+v", p)
	}
	cancelled, err := buyer.Cancel(ctx, first.ID)
	must(t, err)
	if cancelled.Status != "cancelled" || !cancelled.ExpiresAt.IsZero() {
		t.Errorf("%+v", cancelled)
	}
	w.clientBatch(servers, offer)

	shown, err := buyer.Offer(ctx, future)
	must(t, err)
	if shown.State != "upcoming" || order.MilliOf(shown.OpensAt) != now+3_600_000 || shown.ServerTime.IsZero() || shown.UnitPrice != 1999 {
		t.Errorf("%+v", shown)
	}
	w.limit(Limits{User: once(1)})
	_, _ = buyer.Order(ctx, first.ID, 0)
	limited, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	_, err = buyer.Order(limited, first.ID, 0)
	if p := problemIn(err); p.Code != "rate_limited" || p.Limit != "user" || p.RetryAfter < 900*time.Second || !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("%+v", err)
	}
}

func (w *world) clientBatch(servers *client.Client, offer string) {
	w.t.Helper()
	one := client.OrderRequest{Items: []client.Line{{OfferID: offer, Quantity: 1}}}
	lines := []client.BatchLine{{UserID: "50", OrderRequest: one}, {UserID: "51", OrderRequest: one}, {UserID: "50"}}
	got, err := servers.PlaceBatch(context.Background(), lines)
	must(w.t, err)
	if got[0].Err != nil || got[1].Err != nil || problemIn(got[2].Err).Code != "invalid_request" || got[0].Placed.ID == got[1].Placed.ID {
		w.t.Errorf("%+v", got)
	}
	again, err := servers.PlaceBatch(context.Background(), lines[:2])
	must(w.t, err)
	if !again[0].Placed.Replayed || again[0].Placed.ID != got[0].Placed.ID || again[1].Placed.ID != got[1].Placed.ID {
		w.t.Errorf("%+v, want %+v", again, got)
	}
}

// problemIn is the problem in an error, or one without a code.
func problemIn(err error) client.Problem {
	var p *client.Problem
	if errors.As(err, &p) {
		return *p
	}
	return client.Problem{Detail: fmt.Sprint(err)}
}

// Lists are read to their end, page by page.
func TestClientLists(t *testing.T) {
	t.Parallel()
	w, ctx := newWorld(t), context.Background()
	offer := w.offer(func(o *order.Offer) { o.Total = 1000 })
	var offers []order.Offer
	for range 120 {
		offers = append(offers, order.Offer{Shop: 6, SKU: "s", Title: "t", Kind: order.Flash, Currency: "CNY", Total: 1, Wanted: 1})
	}
	_, err := w.store.CreateOffers(ctx, offers)
	must(t, err)
	await(t, "the offers", func() bool { return len(w.engine.Offers()) == 121 })
	c, servers := w.through(tokenOf(42)), w.through(testService)
	lines := make([]client.BatchLine, 230)
	for i := range lines {
		lines[i] = client.BatchLine{UserID: "42", OrderRequest: client.OrderRequest{Items: []client.Line{{OfferID: fmt.Sprint(offer), Quantity: 1}}}}
	}
	placed, err := servers.PlaceBatch(ctx, lines)
	must(t, err)
	var want []string
	for _, r := range placed {
		must(t, r.Err)
		want = append(want, r.Placed.ID)
	}
	slices.Sort(want)
	slices.Reverse(want)
	var got []string
	await(t, "the records", func() bool {
		got = nil
		for o, err := range c.Orders(ctx, client.OrderFilter{Status: "awaiting_payment", From: time.Now().Add(-time.Hour), To: time.Now().Add(time.Hour)}) {
			must(t, err)
			got = append(got, o.ID)
		}
		return len(got) == len(want)
	})
	if !slices.Equal(got, want) {
		t.Errorf("got %v, want %v", got, want)
	}
	for o, err := range c.Orders(ctx, client.OrderFilter{Key: lines[7].Key}) {
		must(t, err)
		if o.ID != placed[7].Placed.ID {
			t.Errorf("the order of a key is %s, want %s", o.ID, placed[7].Placed.ID)
		}
	}
	list := c.Offers(ctx, client.OfferFilter{Kind: "flash", ShopID: "6"})
	for range 2 { // a list may be read again
		await(t, "the list of offers", func() bool {
			n := 0
			for o, err := range list {
				must(t, err)
				if n++; o.ShopID != "6" {
					t.Errorf("%+v", o)
				}
			}
			return n == 120
		})
	}
	for _, err := range c.Orders(ctx, client.OrderFilter{Status: "lost"}) {
		if problemIn(err).Code != "invalid_request" {
			t.Error(err)
		}
	}
}

// The client's types have the fields of the file's schemas.
func TestClientHasTheFieldsOfTheFile(t *testing.T) {
	t.Parallel()
	for name, v := range map[string]any{"OrderRequest": client.OrderRequest{}, "Line": client.Line{}, "Order": client.Order{}, "Item": client.Item{},
		"Details": client.Details{}, "Address": client.Address{}, "Invoice": client.Invoice{}, "Offer": client.Offer{}, "OfferNow": client.OfferNow{},
		"Problem": client.Problem{}} {
		var have, want []string
		for field := range described().Components.Schemas[name].Value.Properties {
			if field != "retry_after_ms" { // a duration in Go
				want = append(want, field)
			}
		}
		for _, f := range reflect.VisibleFields(reflect.TypeOf(v)) {
			if tag, _, _ := strings.Cut(f.Tag.Get("json"), ","); tag != "" && tag != "-" {
				have = append(have, tag)
			}
		}
		slices.Sort(have)
		slices.Sort(want)
		if diff := cmp.Diff(want, have); diff != "" {
			t.Errorf("%s: openapi.yaml (-), client (+):\n%s", name, diff)
		}
	}
}
