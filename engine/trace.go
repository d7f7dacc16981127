package engine

import (
	"time"

	"sluice/engine/order"
	"sluice/internal/tracing"
)

// linksMax bounds the requests that a batch's span points to.
const linksMax = 128

// noteParents keeps the traces of the requests of the batch: once they are answered, the tickets belong to others.
func (f *flight) noteParents() {
	f.parents = f.parents[:0]
	if f.p.e.opts.Tracer == nil {
		return
	}
	for _, t := range f.tickets {
		if t.Parent.Sampled() && len(f.parents) < linksMax {
			f.parents = append(f.parents, t.Parent)
		}
	}
}

// placedBatch is what is known of a batch that was placed.
type placedBatch struct {
	id               order.BatchID // 0: nothing was accepted
	epoch            order.Epoch
	began, started   time.Time // of its reserve, of its publish
	reserve, publish time.Duration
	err              error // of the publish
}

// trace writes the batch's trace, if one of its requests asked for it or the ratio picks it. All is answered by now.
func (f *flight) trace(b *placedBatch) {
	tracer := f.p.e.opts.Tracer
	if tracer == nil || b.id == 0 || len(f.parents) == 0 && !tracer.Picks(uint64(b.id)) {
		return
	}
	tracer.Write(&tracing.Batch{Name: "place a batch", First: true, ID: uint64(b.id), Partition: int(f.p.number),
		Epoch: uint64(b.epoch), Orders: f.accepted, Err: b.err, Links: f.parents, Steps: []tracing.Step{
			{Name: "reserve", Began: b.began, Ended: b.began.Add(b.reserve)},
			{Name: "publish", Began: b.started, Ended: b.started.Add(b.publish)}}})
}
