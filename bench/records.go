package bench

import (
	"context"
	"fmt"
	"sync"

	"sluice/bench/audit"
	"sluice/bench/load"
)

// Orders that ask to wait for their record, so that the latency to it is what a client sees: a few beside the load, in
// an open loop of their own.
const (
	recordWait        = 10 // seconds of ?wait=
	recordsPerSecond  = 10
	recordConnections = 32
	recordOrders      = 1000
)

// records is the load of those orders.
type records struct {
	requests *load.Requests
	results  *load.Results
	err      error
	cancel   context.CancelFunc
	running  sync.WaitGroup
}

func startRecords(ctx context.Context, to load.Options, spec load.Spec) (*records, error) {
	spec.Count, spec.Users, spec.Wait, spec.Lines = recordOrders, 0, recordWait, 0
	spec.Seed++
	reqs, err := load.Build(spec)
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithCancel(ctx)
	w := &records{requests: reqs, cancel: cancel}
	w.running.Go(func() {
		to.Connections, to.Rate = recordConnections, recordsPerSecond
		w.results, w.err = load.Run(ctx, to, reqs)
	})
	return w, nil
}

// stop sends no more, and waits for the answers to what was sent.
func (w *records) stop() error {
	w.cancel()
	w.running.Wait()
	return w.err
}

// accepted is how many orders there were.
func (w *records) accepted() int64 {
	return int64(w.results.Count().Accepted)
}

func (w *records) history() []audit.Entry {
	return historyOf(w.results, w.requests, nil)
}

// fill sets the latency to the record, and notes what it leaves out.
func (w *records) fill(round *Round) {
	l := latency(w.results.Latency(func(x *load.Result) bool { return x.Code == 201 }))
	if l.Count > 0 {
		round.Record = &l
	}
	if late := w.accepted() - l.Count; late > 0 {
		round.Notes = append(round.Notes, fmt.Sprintf("%d of %d orders that waited were not recorded within %d s",
			late, w.accepted(), recordWait))
	}
}
