package redisstock

import (
	"context"
	"encoding/binary"
	"strconv"

	"sluice/engine/order"
	"sluice/engine/stock"
)

// Apply applies rows of the stock log (stock.Stock).
func (s *Stock) Apply(ctx context.Context, p order.Partition, e order.Epoch, rows []order.LogRow) (uint64, error) {
	sc := s.scripts.apply
	first := uint64(0)
	if len(rows) > 0 {
		first = rows[0].N
	}
	args := []any{epochText(e), first}
	for i := range rows {
		at := len(args)
		args = append(args, 0)
		changes := 0
		for _, it := range rows[i].Items {
			if it.Op == order.OpNote {
				continue
			}
			changes++
			args = append(args, string(it.Op), offerText(it.Offer), binary.BigEndian.AppendUint64(nil, uint64(it.User)),
				it.Units, it.Limit, int64(it.Opens), int64(it.Closes))
		}
		args[at] = changes
	}
	values, err := s.run(ctx, sc, p, args...)
	if err != nil {
		return 0, err
	}
	r := reader{values: values}
	n := r.number()
	return n, answered(sc, p, r.err)
}

// Confirm deletes outbox entries (stock.Stock).
func (s *Stock) Confirm(ctx context.Context, p order.Partition, e order.Epoch, batches []order.BatchID) error {
	_, err := s.run(ctx, s.scripts.confirm, p, epochText(e), appendBatches(nil, batches))
	return err
}

// Shut sets the fence to (e, closed, this identity) (stock.Stock).
func (s *Stock) Shut(ctx context.Context, p order.Partition, e order.Epoch) (intact, ok bool, err error) {
	sc := s.scripts.shut
	values, err := s.run(ctx, sc, p, epochText(e))
	if err != nil {
		return false, false, err
	}
	r := reader{values: values}
	intact, ok = r.integer() == 1, r.integer() == 1
	return intact, ok, answered(sc, p, r.err)
}

// Load writes one page of the stock of epoch e and opens the fence with the last (stock.Stock).
func (s *Stock) Load(ctx context.Context, p order.Partition, e order.Epoch, page *stock.LoadPage) error {
	args := make([]any, 0, 5+3*len(page.Offers)+2*len(page.Buyers))
	args = append(args, epochText(e), flag(page.Last), flag(page.Lost), page.Logged, len(page.Offers))
	for i := range page.Offers {
		o := &page.Offers[i]
		args = append(args, offerText(o.Offer), o.Left, about(o))
	}
	for _, b := range page.Buyers {
		args = append(args, buyerField(b.Offer, b.User), b.Units)
	}
	_, err := s.run(ctx, s.scripts.load, p, args...)
	return err
}

func flag(b bool) string {
	if b {
		return "1"
	}
	return "0"
}

// about is what the hash of offers holds of one: limit, opens, closes.
func about(o *stock.LoadOffer) string {
	b := strconv.AppendUint(nil, uint64(o.Limit), 10)
	b = strconv.AppendInt(append(b, ' '), int64(o.Opens), 10)
	return string(strconv.AppendInt(append(b, ' '), int64(o.Closes), 10))
}
