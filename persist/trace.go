package persist

import (
	"time"

	"sluice/engine/order"
	"sluice/internal/tracing"
)

// trace writes a flush into the traces of those of its batches that the ratio picks: it has one claim and one record for
// all of them. A flush that failed is written too, and again when it is tried again.
func (c *consumer) trace(messages []*order.Message, began, claimed time.Time, err error) {
	if c.opts.Tracer == nil {
		return
	}
	steps := []tracing.Step{{Name: "claim", Began: began, Ended: claimed}, {Name: "record", Began: claimed, Ended: time.Now()}}
	for _, m := range messages {
		if m.Kind == order.BatchMessage && c.opts.Tracer.Picks(uint64(m.Batch)) {
			c.opts.Tracer.Write(&tracing.Batch{Name: "store a batch", ID: uint64(m.Batch), Partition: int(m.Partition),
				Epoch: uint64(m.Epoch), Orders: len(m.Records), Steps: steps, Err: err})
		}
	}
}
