package stocktest

import (
	"context"
	"errors"
	"slices"
	"sync"

	"sluice/engine/order"
	"sluice/engine/stock"
)

// Method names a method of stock.Stock.
type Method string

// The methods that a Flaky can disturb.
const (
	OnReserve  Method = "Reserve"
	OnLookup   Method = "Lookup"
	OnLeft     Method = "Left"
	OnHoldings Method = "Holdings"
	OnApply    Method = "Apply"
	OnConfirm  Method = "Confirm"
	OnBatchIDs Method = "BatchIDs"
	OnEntries  Method = "Entries"
	OnState    Method = "State"
	OnSnapshot Method = "Snapshot"
	OnShut     Method = "Shut"
	OnLoad     Method = "Load"
)

// Flaky is a stock.Stock that passes calls on to another and disturbs those that a plan names: one queue of faults per
// method and partition, one fault per call, in order of arrival. A call that finds its queue empty passes. It is safe
// for concurrent use. It copies what it is given, so a call may take effect after its caller has gone.
type Flaky struct {
	stock stock.Stock
	mu    sync.Mutex
	plans map[planned][]Fault
	done  chan struct{} // closed by Close: ends every wait
	late  sync.WaitGroup
}

type planned struct {
	method    Method
	partition order.Partition
}

// Fault is what happens to one call.
type Fault struct {
	kind faultKind
	hold *Hold
}

type faultKind uint8

const (
	pass faultKind = iota
	refuse
	forget
	holdBefore
	holdAfter
	executeLate
)

// Pass disturbs nothing: it makes a plan skip a call.
func Pass() Fault { return Fault{kind: pass} }

// Refuse fails the call before it executes; stock.NotExecuted is true for its error.
func Refuse() Fault { return Fault{kind: refuse} }

// Forget executes the call and loses the answer: the error is ErrAnswerLost, which means unknown.
func Forget() Fault { return Fault{kind: forget} }

// HoldBefore is a process that pauses before the call is sent: it executes when h is released, under its own context.
func HoldBefore(h *Hold) Fault { return Fault{kind: holdBefore, hold: h} }

// HoldAfter is a process that pauses when the call has executed: the answer arrives when h is released.
func HoldAfter(h *Hold) Fault { return Fault{kind: holdAfter, hold: h} }

// Late loses the call on its way: the caller gets ErrAnswerLost at once, and the call executes when h is released,
// whatever has become of its context.
func Late(h *Hold) Fault { return Fault{kind: executeLate, hold: h} }

// ErrAnswerLost is the unknown outcome of Forget and Late.
var ErrAnswerLost = errors.New("the answer was lost")

var (
	errPlanned = errors.New("refused by plan")
	errOver    = errors.New("the flaky stock was closed")
)

// Hold is where calls wait. It may hold several.
type Hold struct {
	arrive, release sync.Once
	arrived, open   chan struct{}
}

// NewHold returns a hold that nothing has reached yet.
func NewHold() *Hold { return &Hold{arrived: make(chan struct{}), open: make(chan struct{})} }

// Arrived is closed when the first call waits.
func (h *Hold) Arrived() <-chan struct{} { return h.arrived }

// Release lets every call go, those that come later too.
func (h *Hold) Release() { h.release.Do(func() { close(h.open) }) }

func (h *Hold) wait(done <-chan struct{}) error {
	h.arrive.Do(func() { close(h.arrived) })
	select {
	case <-h.open:
		return nil
	case <-done:
		return errOver
	}
}

// NewFlaky returns a Flaky in front of st, with empty plans.
func NewFlaky(st stock.Stock) *Flaky {
	return &Flaky{stock: st, plans: map[planned][]Fault{}, done: make(chan struct{})}
}

// Plan appends faults for the coming calls of m on partition p.
func (f *Flaky) Plan(m Method, p order.Partition, faults ...Fault) {
	f.mu.Lock()
	defer f.mu.Unlock()
	at := planned{m, p}
	f.plans[at] = append(f.plans[at], faults...)
}

// Planned is the number of faults that no call has met yet.
func (f *Flaky) Planned() int {
	f.mu.Lock()
	defer f.mu.Unlock()
	n := 0
	for _, faults := range f.plans {
		n += len(faults)
	}
	return n
}

func (f *Flaky) next(at planned) Fault {
	f.mu.Lock()
	defer f.mu.Unlock()
	faults := f.plans[at]
	if len(faults) == 0 {
		return Pass()
	}
	f.plans[at] = faults[1:]
	return faults[0]
}

// Close ends every wait, waits for late calls (those that were not released never execute), and closes the stock
// behind.
func (f *Flaky) Close() error {
	close(f.done)
	f.late.Wait()
	return f.stock.Close()
}

// disturbed runs one call under the next fault planned for it.
func disturbed[T any](ctx context.Context, f *Flaky, at planned, run func(context.Context) (T, error)) (T, error) {
	var none T
	switch fault := f.next(at); fault.kind {
	case refuse:
		return none, &stock.NotExecutedError{Err: errPlanned}
	case forget:
		_, _ = run(ctx)
		return none, ErrAnswerLost
	case holdBefore:
		if err := fault.hold.wait(f.done); err != nil {
			return none, &stock.NotExecutedError{Err: err}
		}
		return run(ctx)
	case holdAfter:
		answer, err := run(ctx)
		_ = fault.hold.wait(f.done)
		return answer, err
	case executeLate:
		f.late.Go(func() {
			if fault.hold.wait(f.done) == nil {
				_, _ = run(context.WithoutCancel(ctx))
			}
		})
		return none, ErrAnswerLost
	default:
		return run(ctx)
	}
}

func cloneCall(call *stock.ReserveCall) *stock.ReserveCall {
	c := *call
	c.Confirmed, c.Requests = slices.Clone(call.Confirmed), slices.Clone(call.Requests)
	for i := range c.Requests {
		r := &c.Requests[i]
		r.Lines, r.Record = slices.Clone(r.Lines), slices.Clone(r.Record)
	}
	return &c
}

func clonePage(page *stock.LoadPage) *stock.LoadPage {
	c := *page
	c.Offers, c.Buyers = slices.Clone(page.Offers), slices.Clone(page.Buyers)
	return &c
}
