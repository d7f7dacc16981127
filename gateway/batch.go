package gateway

import (
	"bytes"
	"context"
	"mime"
	"slices"
	"strconv"
	"sync"
	"time"

	"github.com/valyala/fasthttp"

	"sluice/engine"
	"sluice/engine/order"
)

// Bounds of one batch.
const (
	BatchBodyMax  = 1 << 20 // bytes of a body
	BatchLinesMax = 1000
)

// batch is one POST /v1/orders/batch: orders of many users, a line each, placed together and answered each for itself.
// Batches are reused; nothing of one outlives its handler.
type batch struct {
	c       *call
	body    orderBody
	lines   []batchLine
	tickets []*engine.Ticket // those that are placed
	stored  map[order.ID]*order.Order
	out     []byte
}

// batchLine is one line that is not blank, and what became of it.
type batchLine struct {
	number  int
	ticket  *engine.Ticket // nil if the line did not get as far
	problem problem        // if there is no order to show
}

var batchPool = sync.Pool{New: func() any { return &batch{body: orderBody{batch: true}} }}

// placeBatch is POST /v1/orders/batch.
func (c *call) placeBatch([]byte) {
	if !c.batchAllowed() {
		return
	}
	if !c.g.batches.take(c.g.tuned.Load().BatchesMax) {
		c.refuse(&problem{code: codeOverloaded, detail: "Too many batches are under way. Nothing was ordered; try again."})
		return
	}
	defer c.g.batches.give()
	b := batchPool.Get().(*batch)
	b.c = c
	if !b.read(c.ctx.PostBody()) {
		c.refuse(&problem{code: codeBodyTooLarge, detail: "A batch may have at most " + strconv.Itoa(BatchLinesMax) + " orders."})
	} else {
		b.place()
		b.answer()
	}
	b.free() // not deferred: after a panic the engine may still have the tickets
}

// batchAllowed checks what has to be right of the request as a whole.
func (c *call) batchAllowed() bool {
	h := &c.ctx.Request.Header
	switch {
	case !c.isFromService():
	case !isNDJSON(h.ContentType()):
		c.refuse(&problem{code: codeUnsupportedMediaType, detail: "Send one JSON object per line, with Content-Type: application/x-ndjson."})
	case len(h.PeekCanonical(headKey)) > 0:
		c.invalid("Idempotency-Key", "belongs to one order: give every line an idempotency_key of its own")
	case len(h.PeekCanonical(headUser)) > 0:
		c.invalid("Sluice-User", "is one user: give every line a user_id of its own")
	case c.ctx.QueryArgs().Has("wait"):
		c.invalid("?wait", "is not for batches: read the orders afterwards")
	default:
		return true
	}
	return false
}

// isFromService tells whether the request has a service token; if not, it is refused.
func (c *call) isFromService() bool {
	token, bearer := bearerToken(c.ctx.Request.Header.PeekCanonical(headAuth))
	if bearer && c.g.isService(token) {
		return true
	}
	if _, ok := c.g.tokens.verify(token, c.now); bearer && ok {
		c.refuse(&problem{code: codeForbidden, detail: "Batches are for the shop's own servers: a service token is needed."})
	} else {
		c.refuse(&problem{code: codeUnauthenticated, detail: "Send a service token: Authorization: Bearer TOKEN."})
	}
	return false
}

func isNDJSON(given []byte) bool {
	if string(given) == typeNDJSON {
		return true
	}
	media, _, err := mime.ParseMediaType(string(given))
	return err == nil && (media == typeNDJSON || media == "application/ndjson" || media == "application/jsonl")
}

// read makes a ticket of every line that is an order. Blank lines are counted and not answered. It returns false if
// there are too many.
func (b *batch) read(body []byte) bool {
	for number := 1; len(body) > 0; number++ {
		var line []byte
		line, body, _ = bytes.Cut(body, newLine)
		if len(bytes.TrimSpace(line)) == 0 {
			continue
		}
		if len(b.lines) == BatchLinesMax {
			return false
		}
		b.lines = append(b.lines, b.readLine(line, number))
	}
	return true
}

var newLine = []byte("\n")

func (b *batch) readLine(line []byte, number int) batchLine {
	o := &b.body
	if len(line) > BodyMax {
		return batchLine{number: number, problem: problem{code: codeBodyTooLarge,
			detail: "An order may have at most " + strconv.Itoa(BodyMax) + " bytes."}}
	}
	if !o.parse(line) {
		return batchLine{number: number, problem: problem{code: o.code, detail: bodyDetails[o.code], errors: slices.Clone(o.faults)}}
	}
	if d := b.c.g.admitLine(b.c.now, o.user, o.lines); d.by != limitNone {
		return batchLine{number: number, problem: *d.problem()}
	}
	t := engine.NewTicket()
	t.User, t.Key, t.Fingerprint, t.Parent = o.user, string(o.key), o.fingerprint(), b.c.parent()
	t.Lines = append(t.Lines[:0], o.lines...)
	if len(o.details) > 0 {
		t.Details = bytes.Clone(o.details)
	}
	b.tickets = append(b.tickets, t)
	return batchLine{number: number, ticket: t}
}

// place places the orders, and reads those that repeated an earlier one.
func (b *batch) place() {
	if len(b.tickets) == 0 {
		return
	}
	b.c.placing = true
	b.c.g.deps.Placer.PlaceAll(context.Background(), b.tickets)
	b.c.g.stats.placing.AddDuration(time.Since(b.c.now), int64(len(b.tickets)))
	var repeated []order.ID
	for _, t := range b.tickets {
		if t.Answer.Verdict == engine.Replayed {
			repeated = append(repeated, t.Answer.Order)
		}
	}
	if len(repeated) > 0 {
		b.readStored(repeated)
	}
	for i := range b.lines {
		l := &b.lines[i]
		if l.ticket == nil {
			continue
		}
		switch l.ticket.Answer.Verdict {
		case engine.Placed:
		case engine.Replayed:
			if _, readable := b.stored[l.ticket.Answer.Order]; !readable {
				l.problem = problem{code: codeOutcomeUnknown, detail: unreadableRepeat}
			}
		default:
			l.problem = b.c.g.problemOf(l.ticket)
		}
	}
}

// readStored fills b.stored: nil for an order that is not stored yet, nothing for one that could not be read.
func (b *batch) readStored(ids []order.ID) {
	g := b.c.g
	b.stored = make(map[order.ID]*order.Order, len(ids))
	byShard := make(map[int][]order.ID)
	for _, id := range ids {
		shard := g.deps.Orders.OrderShard(id)
		byShard[shard] = append(byShard[shard], id)
	}
	for shard, ids := range byShard {
		for part := range slices.Chunk(ids, lookOrders) {
			b.readPart(shard, part)
		}
	}
}

func (b *batch) readPart(shard int, ids []order.ID) {
	g := b.c.g
	var list []*order.Order
	err := g.read(shard, func(ctx context.Context) (err error) {
		list, err = g.deps.Orders.OrdersByID(ctx, shard, ids)
		return err
	})
	if err != nil {
		g.warn("read the orders of repeated keys", err)
		return
	}
	for _, id := range ids {
		b.stored[id] = nil
	}
	for _, o := range list {
		if o == nil {
			continue
		}
		id := o.ID
		if o.Reason == order.ReasonDuplicate {
			if o, err = g.storedOrder(id); err != nil {
				delete(b.stored, id)
				continue
			}
		}
		b.stored[id] = o
	}
}

// answer answers every line.
func (b *batch) answer() {
	c := b.c
	b.out = b.out[:0]
	for i := range b.lines {
		b.appendLine(&b.lines[i])
		c.g.stats.in.Add(1) // a line counts as a request
		c.g.stats.answered(b.lines[i].problem.code)
	}
	r := &c.ctx.Response
	r.SetStatusCode(fasthttp.StatusOK)
	r.Header.SetContentType(typeNDJSON)
	r.Header.SetCanonical(headCache, valueStore)
	r.SetBody(b.out)
}

func (b *batch) appendLine(l *batchLine) {
	out := strconv.AppendInt(append(b.out, `{"line":`...), int64(l.number), 10)
	switch t := l.ticket; {
	case l.problem.code != codeNone:
		out = strconv.AppendInt(append(out, `,"status":`...), int64(problems[l.problem.code].status), 10)
		out = appendProblem(append(out, `,"problem":`...), &l.problem, b.c.id[:])
	case t.Answer.Verdict == engine.Placed:
		out = b.c.g.appendPlaced(append(out, `,"status":202,"order":`...), &t.Record)
	case b.stored[t.Answer.Order] == nil:
		out = appendPending(append(out, `,"status":202,"replayed":true,"order":`...), t.Answer.Order)
	default:
		out = appendOrder(append(out, `,"status":200,"replayed":true,"order":`...), b.stored[t.Answer.Order])
	}
	b.out = append(out, '}', '\n')
}

func (b *batch) free() {
	for _, t := range b.tickets {
		t.Free()
	}
	clear(b.tickets)
	clear(b.lines)
	b.c, b.stored, b.lines, b.tickets = nil, nil, b.lines[:0], b.tickets[:0]
	batchPool.Put(b)
}
