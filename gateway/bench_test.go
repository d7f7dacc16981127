package gateway

import (
	"fmt"
	"testing"

	"github.com/valyala/fasthttp"

	"sluice/engine"
	"sluice/engine/order"
)

// benchHandler runs a handler on one request over and over, without sockets.
func benchHandler(b *testing.B, handler fasthttp.RequestHandler, key string, body string, want int) {
	var ctx fasthttp.RequestCtx
	ctx.Init2(nil, nil, false)
	token := tokenOf(42)
	b.ReportAllocs()
	for b.Loop() {
		r := &ctx.Request
		r.Reset()
		ctx.Response.Reset()
		r.Header.SetMethod("POST")
		r.SetRequestURI("/v1/orders")
		r.Header.Set("Authorization", "Bearer "+token)
		r.Header.SetContentType("application/json")
		if key != "" {
			r.Header.Set("Idempotency-Key", key)
		}
		r.SetBodyString(body)
		handler(&ctx)
		if ctx.Response.StatusCode() != want {
			b.Fatalf("%d %s", ctx.Response.StatusCode(), ctx.Response.Body())
		}
	}
}

// BenchmarkHandler is the gateway's own work per request; "bare" is what the making of the request costs.
func BenchmarkHandler(b *testing.B) {
	w := newWorld(b)
	w.client.CloseIdleConnections()
	out, open := w.offer(func(o *order.Offer) { o.Total = 1 }), w.offer()
	w.place(1, item(out, 1)).is(202, "")
	await(b, "sold out", func() bool { return w.engine.Offer(out).SoldOut() })
	details := func(id order.OfferID) string {
		return fmt.Sprintf(`{"items":[{"offer_id":"%d","quantity":1}],"details":%s}`, id, fullDetails)
	}
	b.Run("bare", func(b *testing.B) {
		benchHandler(b, func(ctx *fasthttp.RequestCtx) { ctx.SetStatusCode(409); ctx.SetBodyString(soldOut) }, "", details(out), 409)
	})
	b.Run("sold out", func(b *testing.B) { benchHandler(b, w.gateway.serve, "", details(out), 409) })
	b.Run("sold out, key", func(b *testing.B) { benchHandler(b, w.gateway.serve, "a-key-of-a-client", details(out), 409) })
	f := func(t *engine.Ticket) {
		r := &t.Record
		r.ID, r.User, r.Shop, r.Currency, r.Details = 1<<60, t.User, 5, "CNY", t.Details
		r.Items = append(r.Items[:0], order.Item{Line: t.Lines[0], UnitPrice: 1999, SKU: "sku-1"})
		t.Answer = engine.Answer{Verdict: engine.Placed, Order: r.ID, Queue: 1000, Reserve: 1000, Publish: 1000}
	}
	w.placer.instead.Store(&f)
	b.Run("placed", func(b *testing.B) { benchHandler(b, w.gateway.serve, "a-key-of-a-client", details(open), 202) })
}
