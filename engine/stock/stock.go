// Package stock is the seam to fast stock: the place that says no at once and yes for now (docs/design.md, section 5).
// It holds the interface and its contract; it does no I/O. Drivers are memstock (in process) and redisstock (Lua on
// Redis); package stocktest holds the suite that every driver must pass.
//
// # State
//
// Per partition: a fence; units left and the per-user holdings of limited offers; the offers' limit and window; one
// record per idempotency key; the outbox of batches that the queue has not confirmed; `applied`, the number of the
// last stock-log row applied; a counter of reserves. Stock belongs to an epoch: state of one epoch is never mixed with
// another's. A driver may lose everything at any moment; it must then say NotReady, never "sold out" or "no such
// offer".
//
// # Fence
//
// The fence is missing, or (epoch, open or closed, identity). Identity names one incarnation of the data set that may
// serve; it changes whenever the data may have been lost or replaced. Every call that has an effect checks the fence in
// the same atomic step as the effect. Calls that sell (Reserve, Lookup, Left, Holdings, Apply, Confirm, and reads with Open) need
// it to be exactly (their epoch, open, this identity) with no sentinel missing; calls of a rebuild need exactly (their
// epoch, closed, this identity).
//
// # Errors
//
// A nil error means executed, with the result given. *NotReady means not executed: nothing was written. An error for
// which NotExecuted is true means the same, for a reason that may pass. Every other error means unknown: the call may
// or may not have taken effect. Drivers never retry, sleep or log.
//
// # Concurrency
//
// All methods are safe for concurrent use. Reserve of one partition is atomic as a whole call.
package stock

import (
	"context"
	"errors"
	"fmt"

	"sluice/engine/order"
)

// Stock is the fast stock of all partitions of a deployment.
type Stock interface {
	// Reserve decides a whole batch of requests of one partition. Outcomes are index-aligned with call.Requests. In
	// this order, per request: same key, window, per-user limit, stock of every line; all lines or none. A later request
	// of the same call sees what an earlier one took and which keys it recorded. What is accepted becomes one outbox
	// entry under the id of its first order, written in the same step.
	Reserve(ctx context.Context, call *ReserveCall) (*Reserved, error)

	// Lookup finds the orders of keys without writing anything. Answers are index-aligned: Repeated or KeyReused, or a
	// zero Outcome for a key that is not known.
	Lookup(ctx context.Context, p order.Partition, e order.Epoch, keys []KeyQuery) ([]Outcome, error)

	// Left is the units left of offers, index-aligned. An offer that fast stock does not have gives -1.
	Left(ctx context.Context, p order.Partition, e order.Epoch, offers []order.OfferID) ([]int64, error)

	// Holdings is the units that users hold of limited offers (Buyer.Units is ignored), index-aligned; 0 for an offer
	// without a limit.
	Holdings(ctx context.Context, p order.Partition, e order.Epoch, buyers []Buyer) ([]int64, error)

	// Apply applies those rows whose number is above `applied`, in order, and only if applied >= rows[0].N-1 (otherwise
	// it does nothing). It returns `applied` as it then is. Rows are consecutive.
	Apply(ctx context.Context, p order.Partition, e order.Epoch, rows []order.LogRow) (applied uint64, err error)

	// Confirm deletes outbox entries that the queue has confirmed. Unknown ids are ignored.
	Confirm(ctx context.Context, p order.Partition, e order.Epoch, batches []order.BatchID) error

	// BatchIDs lists the batches in the outbox, in any order. Entries reads some of them; what is gone is left out.
	// Both need the fence to be exactly (e, gate, this identity).
	BatchIDs(ctx context.Context, p order.Partition, e order.Epoch, gate Gate) ([]order.BatchID, error)
	Entries(ctx context.Context, p order.Partition, e order.Epoch, gate Gate, batches []order.BatchID) ([]Entry, error)

	// State reads the fence and, if it is open under this identity with every sentinel present, what Reserve would
	// return beside its outcomes. It never gives NotReady.
	State(ctx context.Context, p order.Partition) (State, error)

	// Snapshot reads all units left and what users hold, in one consistent view. For the drift checker and the auditor;
	// its cost grows with the partition.
	Snapshot(ctx context.Context, p order.Partition, e order.Epoch) (*Snapshot, error)

	// Shut sets the fence to (e, closed, this identity) and tells whether fast stock was intact: the fence was open
	// under its own identity and no sentinel was missing. ok is false, and nothing changes, if the fence's epoch is
	// already e or above.
	Shut(ctx context.Context, p order.Partition, e order.Epoch) (intact, ok bool, err error)

	// Load writes one page of the stock of epoch e, and opens the fence with the last one. The fence must be exactly
	// (e, closed, this identity), otherwise it gives NotReady. If page.Lost, the last page creates idempotency records
	// and outbox anew, empty, and sets KeysSince; otherwise both are kept. A page repeated has no further effect.
	// Everything of earlier epochs is dropped after opening.
	Load(ctx context.Context, p order.Partition, e order.Epoch, page *LoadPage) error

	// Close frees what the driver holds. Calls after it give an error for which NotExecuted is true.
	Close() error
}

// ReserveCall is one atomic reserve. Bounds: order.BatchOrdersMax requests, order.BatchLinesMax lines,
// order.BatchBytesMax bytes of records. The driver does not keep any of its slices.
type ReserveCall struct {
	Partition order.Partition
	Epoch     order.Epoch
	Requests  []Request
	// Confirmed are batches that the queue has confirmed since the last call; their outbox entries are deleted.
	Confirmed []order.BatchID
}

// Request asks for one order.
type Request struct {
	Order       order.ID
	User        order.UserID
	Key         uint64 // hash of group and key; with User it names the idempotency record
	Fingerprint uint64 // of the request's content
	Lines       []order.Line
	Record      []byte // wire form of the order (order.AppendRecord), kept in the outbox
}

// Outcome is the answer to one request or lookup.
type Outcome struct {
	Code order.Code
	// Order is the order that the caller gets, if Accepted or Repeated; Batch is the batch it is in.
	Order order.ID
	Batch order.BatchID
	// Outboxed says of a Repeated order that its batch is still in the outbox: it must be published before the order
	// is answered as accepted.
	Outboxed bool
	// Line is the index of the line that NotOpen, Closed, OverLimit or SoldOut is about.
	Line int
}

// Reserved is the answer to a ReserveCall. It belongs to the caller.
type Reserved struct {
	Outcomes []Outcome
	Batch    order.BatchID // of what was accepted; 0 if nothing was
	Left     []Left        // of every offer that the call named
	Applied  uint64
}

// Left is the units left of an offer.
type Left struct {
	Offer order.OfferID
	Units int64
}

// KeyQuery asks for the order of one key.
type KeyQuery struct {
	User        order.UserID
	Key         uint64
	Fingerprint uint64
}

// Gate says which fence a call needs.
type Gate uint8

// The gates.
const (
	Open   Gate = iota // an engine that sells
	Closed             // a rebuild that has shut the fence
)

// Entry is an outbox entry: the records of a batch as they were given to Reserve, in batch order, and the epoch in
// which it was reserved. An intact load keeps entries, so that epoch may be older than the fence's. Another release may
// have made the records: they are carried and never read.
type Entry struct {
	Batch   order.BatchID
	Epoch   order.Epoch
	Records []byte
}

// Message is the queue message of the entry. Whoever publishes it, the bytes are the same.
func (e *Entry) Message(p order.Partition) []byte {
	return order.AppendBatch(nil, p, e.Epoch, e.Batch, e.Records)
}

// State is what State reads.
type State struct {
	Fence    Fence
	Ready    bool // open under this identity, every sentinel present
	Applied  uint64
	Reserves uint64 // counts the reserve calls of this epoch
	Batches  int    // in the outbox
}

// Fence says who may sell. The zero Fence is a missing one.
type Fence struct {
	Epoch     order.Epoch
	Open      bool
	Mine      bool // the identity is this data set's own
	KeysSince KeysSince
}

// KeysSince describes the last load that dropped the idempotency records; every intact load carries it over.
type KeysSince struct {
	Epoch  order.Epoch
	At     order.Milli // by the clock of fast stock
	Logged uint64      // Logged of that load
}

// Snapshot is all of a partition's stock at one moment.
type Snapshot struct {
	Applied  uint64
	Reserves uint64
	Batches  int
	Left     []Left
	Buyers   []Buyer
}

// Buyer is the units that a user holds of a limited offer.
type Buyer struct {
	Offer order.OfferID
	User  order.UserID
	Units int64
}

// LoadPage is one page of a load.
type LoadPage struct {
	Offers []LoadOffer
	Buyers []Buyer
	Last   bool
	// For the last page:
	Logged uint64 // becomes `applied`
	Lost   bool   // fast stock was not intact when it was shut
}

// LoadOffer is the stock of one offer.
type LoadOffer struct {
	Offer  order.OfferID
	Left   int64
	Limit  uint32
	Opens  order.Milli
	Closes order.Milli
}

// NotReady says that fast stock may not serve this epoch; nothing was written.
type NotReady struct {
	Partition order.Partition
	Fence     Fence
	Why       Why
}

// Why names the reason of a NotReady.
type Why string

// The reasons.
const (
	FenceMissing    Why = "the fence is missing"
	FenceShut       Why = "the fence is closed"
	FenceNotShut    Why = "the fence is open"
	OtherEpoch      Why = "the fence has another epoch"
	OtherIdentity   Why = "the fence belongs to another data set"
	SentinelMissing Why = "a part of the data is missing"
	OfferMissing    Why = "an offer is missing"
)

func (e *NotReady) Error() string {
	return fmt.Sprintf("partition %d is not ready: %s (epoch %d)", e.Partition, e.Why, e.Fence.Epoch)
}

// NotExecutedError wraps an error of which the driver knows that the call had no effect.
type NotExecutedError struct{ Err error }

func (e *NotExecutedError) Error() string { return "not executed: " + e.Err.Error() }
func (e *NotExecutedError) Unwrap() error { return e.Err }

// NotExecuted tells whether err proves that the call had no effect.
func NotExecuted(err error) bool {
	var ready *NotReady
	var not *NotExecutedError
	return errors.As(err, &ready) || errors.As(err, &not)
}
