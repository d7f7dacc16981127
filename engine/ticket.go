package engine

import (
	"sync"
	"time"

	"sluice/engine/order"
	"sluice/engine/stock"
	"sluice/internal/tracing"
)

// Ticket is one placing of an order, from the request to its answer. The caller fills the first part and reads the
// second after Place has returned. Tickets are reused: nothing of one may be kept after Free.
type Ticket struct {
	User        order.UserID
	Key         string // the client's idempotency key; empty if none
	Fingerprint uint64 // of the request's content
	Lines       []order.Line
	Details     []byte         // canonical JSON; nil if none
	Deadline    time.Time      // the reserve is not sent after it; zero: the engine's RequestDeadline from now
	Parent      tracing.Parent // the request's place in its client's trace; the zero value if it is not traced

	Record order.Record // the order as Placed
	Answer Answer

	partition *partition
	encoded   []byte
	entered   time.Time
	waiting   *sync.WaitGroup // of whoever placed it: its own, or that of all that were placed together
	own       *sync.WaitGroup
}

// Answer is what became of a ticket.
type Answer struct {
	Verdict Verdict
	Code    order.Code // of Refused: why
	Line    int        // the line that a refusal is about
	Order   order.ID   // of Placed and Replayed
	// How long the ticket waited for its batch, and how long that batch took to reserve and to publish.
	Queue, Reserve, Publish time.Duration
}

// Verdict sorts answers by what the caller may tell the client.
type Verdict uint8

// The verdicts. Only Unknown leaves open whether there is an order; all others but Placed and Replayed had no effect.
const (
	Placed        Verdict = iota + 1 // Record is the order; it is in the queue
	Replayed                         // the key belongs to Order, which is in the queue or stored
	Refused                          // Code says why
	OfferNotFound                    // of Line
	MixedGroups                      // of Line: another group, or currency, than the first line's
	Overloaded                       // too much waits, or there is no room; retry later
	NotReady                         // the partition, or the offer, cannot be sold yet; retry later
	NotSold                          // the kind is switched off (Tuning.Selling); retry when it is on again
	Unknown                          // there may be an order: retry with the same key
)

var verdictNames = [...]string{"none", "placed", "replayed", "refused", "offer_not_found", "mixed_groups", "overloaded",
	"not_ready", "not_sold", "outcome_unknown"}

// String is the verdict's name in metrics.
func (v Verdict) String() string { return verdictNames[v] }

var tickets = sync.Pool{New: func() any { return &Ticket{own: &sync.WaitGroup{}} }}

// NewTicket returns an empty ticket.
func NewTicket() *Ticket { return tickets.Get().(*Ticket) }

// Free gives the ticket back. The caller may not use it, nor what its slices hold, afterwards.
func (t *Ticket) Free() {
	items, lines, encoded, own := t.Record.Items, t.Lines, t.encoded, t.own
	*t = Ticket{Lines: lines[:0], encoded: encoded[:0], own: own}
	t.Record.Items = items[:0]
	tickets.Put(t)
}

// answer ends the ticket's way through the engine. It is the engine's last touch.
func (t *Ticket) answer(v Verdict) {
	t.Answer.Verdict = v
	t.waiting.Done()
}

func (t *Ticket) refuse(o *stock.Outcome) {
	t.Answer.Code, t.Answer.Line = o.Code, o.Line
	t.answer(Refused)
}

// request is the ticket as fast stock sees it.
func (t *Ticket) request() stock.Request {
	return stock.Request{Order: t.Record.ID, User: t.User, Key: t.Record.KeyHash(), Fingerprint: t.Fingerprint,
		Lines: t.Lines, Record: t.encoded}
}
