package gateway

import (
	"bytes"
	"context"
	"errors"
	"mime"
	"strconv"
	"time"

	"sluice/engine"
	"sluice/engine/order"
	"sluice/internal/tracing"
)

const outcomeUnknown = "There may be an order. Send the same request with the same Idempotency-Key again to find out."

// placeOrder is POST /v1/orders.
func (c *call) placeOrder([]byte) {
	user, ok := c.user()
	if !ok || !c.isJSON() {
		return
	}
	wait, ok := c.wait()
	if !ok {
		return
	}
	key, ok := c.key()
	if !ok {
		return
	}
	body := c.ctx.PostBody()
	if key == "" && c.knownSoldOut(body) {
		c.g.stats.shortCuts.Add(1)
		c.refuse(&problem{code: codeSoldOut, detail: soldOut, errors: []fieldError{{itemPointers[0], "is sold out"}}})
		return
	}
	if o := &c.body; !o.parse(body) {
		c.refuse(&problem{code: o.code, detail: bodyDetails[o.code], errors: o.faults})
		return
	}
	if !c.pass(c.admission.takeOffers(c.body.lines, c.g.deps.Catalogue)) {
		return
	}
	t := engine.NewTicket()
	t.User, t.Key, t.Fingerprint = user, key, c.body.fingerprint()
	t.Lines = append(t.Lines[:0], c.body.lines...)
	if len(c.body.details) > 0 {
		t.Details = c.body.details
	}
	t.Parent = c.parent()
	c.placing = true
	c.g.deps.Placer.Place(context.Background(), t)
	c.answerTicket(t, wait)
	t.Free() // not deferred: after a panic the engine may still have it
	c.g.stats.placing.AddDuration(time.Since(c.now), 1)
}

// key is the client's idempotency key, "" if it gave none. One that is there and empty is a fault of the client, which
// believes that it may repeat itself. ok is false if the request was refused.
func (c *call) key() (key string, ok bool) {
	given := c.ctx.Request.Header.PeekAll("Idempotency-Key")
	if len(given) == 0 {
		return "", true
	}
	if key = string(given[0]); len(given) > 1 || !order.ValidKey(key) {
		c.invalid("Idempotency-Key", keyRule)
		return "", false
	}
	return key, true
}

// parent is the request's place in its client's trace.
func (c *call) parent() tracing.Parent {
	if !c.g.opts.Traced {
		return tracing.Parent{}
	}
	return tracing.ParseParent(c.ctx.Request.Header.PeekCanonical(headTraceparent))
}

var keyRule = "must be 1 to " + strconv.Itoa(order.KeyMax) + " visible ASCII characters"

var bodyDetails = [codesEnd]string{
	codeInvalidRequest:  "The order is not valid; errors says where.",
	codeDuplicateItem:   "Name every offer once; errors says which is named twice.",
	codeQuantityInvalid: "A quantity is a whole number from 1 to 10000; errors says where it is not.",
}

// isJSON checks the content type.
func (c *call) isJSON() bool {
	given := c.ctx.Request.Header.ContentType()
	if string(given) == "application/json" {
		return true
	}
	if media, _, err := mime.ParseMediaType(string(given)); err == nil && media == "application/json" {
		return true
	}
	c.refuse(&problem{code: codeUnsupportedMediaType, detail: "Send JSON, with Content-Type: application/json."})
	return false
}

// wait is how long the client asks to wait for the record.
func (c *call) wait() (d time.Duration, ok bool) {
	if len(c.ctx.URI().QueryString()) == 0 || !c.ctx.QueryArgs().Has("wait") {
		return 0, true
	}
	given := c.ctx.QueryArgs().Peek("wait")
	n, err := strconv.ParseUint(string(given), 10, 16)
	if err != nil {
		c.invalid("?wait", "must be a whole number of seconds")
		return 0, false
	}
	return min(time.Duration(n)*time.Second, c.g.tuned.Load().WaitMax), true
}

// shortCutHead is how almost every client begins its body.
const shortCutHead = `{"items":[{"offer_id":"`

// knownSoldOut tells whether body asks for one item of which this process knows that nothing is left. It looks at the
// item only, and is sure of it, or says no.
func (c *call) knownSoldOut(body []byte) bool {
	if !bytes.HasPrefix(body, []byte(shortCutHead)) {
		return false
	}
	rest := body[len(shortCutHead):]
	end := digitsEnd(rest, 0)
	id, ok := parseID(rest[:end])
	if !ok {
		return false
	}
	rest, ok = bytes.CutPrefix(rest[end:], []byte(`","quantity":`))
	if !ok || len(rest) == 0 || rest[0] == '0' {
		return false
	}
	end = digitsEnd(rest, 0)
	if end == 0 || end > 4 || len(rest) < end+3 || string(rest[end:end+2]) != "}]" {
		return false
	}
	if next := rest[end+2]; next != '}' && next != ',' {
		return false
	}
	o := c.g.deps.Catalogue.Offer(order.OfferID(id))
	return o != nil && o.SoldOut() && inWindow(&o.Offer, order.MilliOf(c.now))
}

func inWindow(o *order.Offer, now order.Milli) bool {
	return now >= o.Opens && (o.Closes == 0 || now < o.Closes)
}

// answerTicket says what became of a placing.
func (c *call) answerTicket(t *engine.Ticket, wait time.Duration) {
	c.timing(&t.Answer)
	switch t.Answer.Verdict {
	case engine.Placed:
		c.answerPlaced(t, wait)
	case engine.Replayed:
		c.answerReplayed(t, wait)
	default:
		p := c.g.problemOf(t)
		c.refuse(&p)
	}
}

// problemOf says why there is no order of a ticket, or that nobody knows whether there is one.
func (g *Gateway) problemOf(t *engine.Ticket) problem {
	at := itemPointers[t.Answer.Line] + "/offer_id"
	switch t.Answer.Verdict {
	case engine.Refused:
		return g.refusalOf(t)
	case engine.OfferNotFound:
		return problem{code: codeOfferNotFound, detail: "There is no such offer" + g.noOffer + "; errors says which.",
			errors: []fieldError{{at, "is no offer"}}}
	case engine.MixedGroups:
		return problem{code: codeMixedGroups, detail: "Order these offers one by one: they do not share a group.",
			errors: []fieldError{{at, "is of another group than the first item"}}}
	case engine.Overloaded:
		return problem{code: codeOverloaded, detail: "Too many orders are waiting. Nothing was ordered; try again."}
	case engine.NotReady:
		return problem{code: codeNotReady, detail: "This cannot be sold at the moment. Nothing was ordered; try again."}
	case engine.NotSold:
		return problem{code: codeNotReady, detail: g.notSold(t)}
	case engine.Unknown:
		return problem{code: codeOutcomeUnknown, detail: outcomeUnknown}
	}
	panic("BUG: the engine gave no verdict")
}

// notSold says that the kind of a ticket is switched off.
func (g *Gateway) notSold(t *engine.Ticket) string {
	kind := "this kind"
	if o := g.deps.Catalogue.Offer(t.Lines[0].Offer); o != nil {
		kind = "the kind " + o.Kind.String()
	}
	return "Offers of " + kind + " are not sold at the moment: the shop has switched them off. Nothing was ordered; try again later."
}

// answerPlaced answers with the order: stored, if the client waits and that comes in time, else pending.
func (c *call) answerPlaced(t *engine.Ticket, wait time.Duration) {
	r := &t.Record
	c.location(r.ID)
	if o := c.awaitRecord(r.ID, wait); o != nil {
		c.buf = appendOrder(c.buf[:0], o)
		if o.Status == order.Rejected {
			c.send(200)
		} else {
			c.send(201)
		}
		return
	}
	c.buf = c.g.appendPlaced(c.buf[:0], r)
	c.sendPending(202)
}

// appendPlaced appends an order that was accepted and is not stored yet.
func (g *Gateway) appendPlaced(dst []byte, r *order.Record) []byte {
	return appendOrder(dst, &order.Order{ID: r.ID, User: r.User, Shop: r.Shop, Kind: g.kindOf(r), Status: order.Pending,
		Items: r.Items, Goods: r.Goods(), Discount: r.Discount, Freight: r.Freight, Amount: r.Amount(), Currency: r.Currency,
		Details: r.Details, Created: r.ID.Time(), Updated: r.ID.Time()})
}

func (g *Gateway) kindOf(r *order.Record) order.Kind {
	if o := g.deps.Catalogue.Offer(r.Items[0].Offer); o != nil {
		return o.Kind
	}
	panic("BUG: an order of an unknown offer was placed")
}

func (c *call) sendPending(status int) {
	c.send(status)
	c.ctx.Response.Header.SetCanonical(headRetryAfter, c.spread())
}

const unreadableRepeat = "There is an order of this key, but it cannot be read at the moment. Send the same request with " +
	"the same key again."

// answerReplayed answers with the earlier order of the key as it is now.
func (c *call) answerReplayed(t *engine.Ticket, wait time.Duration) {
	id := t.Answer.Order
	o, err := c.g.storedOrder(id)
	if errors.Is(err, errBusy) { // a storm of repeats: read it with all who wait for a record, in one query
		wait, err = max(wait, c.g.tuned.Load().ReadDeadline), nil
	}
	if err != nil {
		c.g.warn("read the order of a repeated key", err)
		c.refuse(&problem{code: codeOutcomeUnknown, detail: unreadableRepeat})
		return
	}
	if o == nil {
		o = c.awaitRecord(id, wait)
	}
	c.location(id)
	c.ctx.Response.Header.SetCanonical(headReplayed, valueTrue)
	if o == nil {
		c.buf = appendPending(c.buf[:0], id)
		c.sendPending(202)
		return
	}
	c.buf = appendOrder(c.buf[:0], o)
	c.send(200)
}

const soldOut = "No unit is left. Units of orders that are not paid come back when those expire."

// itemPointers point at the items of an order.
var itemPointers = func() (pointers [order.LinesMax]string) {
	for i := range pointers {
		pointers[i] = "/items/" + strconv.Itoa(i)
	}
	return pointers
}()

// refusalOf says why fast stock said no.
func (g *Gateway) refusalOf(t *engine.Ticket) problem {
	at := itemPointers[t.Answer.Line]
	switch t.Answer.Code {
	case order.KeyReused:
		return problem{code: codeIdempotencyKeyReused, detail: "This Idempotency-Key was used for an order with other contents. " +
			"Use a new key for a new order."}
	case order.SoldOut:
		return problem{code: codeSoldOut, detail: soldOut, errors: []fieldError{{at, "is sold out, or not enough is left"}}}
	case order.OverLimit:
		return problem{code: codeOverLimit, detail: "This order and your earlier ones together are above the offer's limit per user.",
			errors: []fieldError{{at + "/quantity", "is above what you may still buy"}}}
	case order.Closed:
		return problem{code: codeClosed, detail: "The sale of this offer is over.", errors: []fieldError{{at, "is no longer on sale"}}}
	case order.NotOpen:
		p := problem{code: codeNotOpen, detail: "The sale of this offer has not begun; opens_at says when it does.",
			errors: []fieldError{{at, "is not on sale yet"}}}
		if o := g.deps.Catalogue.Offer(t.Lines[t.Answer.Line].Offer); o != nil {
			p.opens, p.at = o.Opens, order.MilliOf(time.Now())
		}
		return p
	}
	panic("BUG: unknown refusal " + t.Answer.Code.String())
}

// timing sets Server-Timing, in milliseconds, for what went through a batch.
func (c *call) timing(a *engine.Answer) {
	if a.Reserve == 0 && a.Queue == 0 {
		return
	}
	b := appendMillis(append(c.head[:0], "queue;dur="...), a.Queue)
	b = appendMillis(append(b, ", reserve;dur="...), a.Reserve)
	c.head = appendMillis(append(b, ", publish;dur="...), a.Publish)
	c.ctx.Response.Header.SetCanonical(headTiming, c.head)
}

// appendMillis appends d in milliseconds with two decimals.
func appendMillis(dst []byte, d time.Duration) []byte {
	hundredths := int64(max(0, d) / (10 * time.Microsecond))
	return append2(append(strconv.AppendInt(dst, hundredths/100, 10), '.'), hundredths%100)
}
