package redisstock

import (
	"cmp"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"sluice/engine/order"
	"sluice/engine/stock"
)

// Fields of the hashes that are no offer, buyer or batch (lua/fence.lua).
const (
	sentinel = "#"
	applied  = "a"
	reserves = "n"
)

// answered says what was wrong with an answer.
func answered(sc *script, p order.Partition, err error) error {
	if err == nil {
		return nil
	}
	return fmt.Errorf("%s on partition %d: %w", sc.what, p, err)
}

// Lookup finds the orders of keys (stock.Stock).
func (s *Stock) Lookup(ctx context.Context, p order.Partition, e order.Epoch, queries []stock.KeyQuery) ([]stock.Outcome, error) {
	sc := s.scripts.lookup
	var keys, fingerprints []byte
	for _, q := range queries {
		keys = appendKey(keys, q.User, q.Key)
		fingerprints = binary.BigEndian.AppendUint64(fingerprints, q.Fingerprint)
	}
	values, err := s.run(ctx, sc, p, epochText(e), keys, fingerprints)
	if err != nil {
		return nil, err
	}
	r := reader{values: values}
	codes := r.text()
	extra := reader{values: r.list()}
	if r.err == nil && len(codes) != len(queries) {
		r.fail(errors.New("the answer has another shape than the call"))
	}
	if r.err != nil {
		return nil, answered(sc, p, r.err)
	}
	outcomes := make([]stock.Outcome, len(queries))
	for i := range outcomes {
		if outcomes[i].Code = order.Code(codes[i]); outcomes[i].Code == order.Repeated {
			extra.repeated(&outcomes[i])
		}
	}
	return outcomes, answered(sc, p, extra.err)
}

// Left is the units left of offers (stock.Stock).
func (s *Stock) Left(ctx context.Context, p order.Partition, e order.Epoch, offers []order.OfferID) ([]int64, error) {
	args := []any{epochText(e), "left"}
	for _, id := range offers {
		args = append(args, offerText(id))
	}
	return s.numbers(ctx, p, args, -1)
}

// Holdings is the units that users hold (stock.Stock).
func (s *Stock) Holdings(ctx context.Context, p order.Partition, e order.Epoch, buyers []stock.Buyer) ([]int64, error) {
	args := []any{epochText(e), "buyers"}
	for _, b := range buyers {
		args = append(args, buyerField(b.Offer, b.User))
	}
	return s.numbers(ctx, p, args, 0)
}

// numbers reads fields of a hash; one that is not there gives none. args are those of read.lua.
func (s *Stock) numbers(ctx context.Context, p order.Partition, args []any, none int64) ([]int64, error) {
	sc := s.scripts.read
	values, err := s.run(ctx, sc, p, args...)
	if err != nil {
		return nil, err
	}
	r := reader{values: values}
	list := r.list()
	if r.err == nil && len(list) != len(args)-2 {
		r.fail(errors.New("the answer has another shape than the call"))
	}
	numbers := make([]int64, len(list))
	for i, v := range list {
		if numbers[i] = none; v != nil {
			numbers[i] = r.units(v)
		}
	}
	return numbers, answered(sc, p, r.err)
}

// units is a number of units in decimal text.
func (r *reader) units(v any) int64 {
	s, _ := v.(string)
	n, err := strconv.ParseInt(s, 10, 64)
	if err != nil {
		r.fail(err)
	}
	return n
}

// BatchIDs lists the outbox (stock.Stock).
func (s *Stock) BatchIDs(ctx context.Context, p order.Partition, e order.Epoch, gate stock.Gate) ([]order.BatchID, error) {
	sc := s.scripts.outbox
	values, err := s.run(ctx, sc, p, epochText(e), gateText(gate))
	if err != nil {
		return nil, err
	}
	r := reader{values: values}
	var ids []order.BatchID
	for _, v := range r.list() {
		id, _ := v.(string)
		switch {
		case id == sentinel:
		case len(id) != 8:
			r.fail(fmt.Errorf("a batch id of %d bytes", len(id)))
		default:
			ids = append(ids, order.BatchID(binary.BigEndian.Uint64([]byte(id))))
		}
	}
	return ids, answered(sc, p, r.err)
}

func gateText(g stock.Gate) string {
	if g == stock.Open {
		return "open"
	}
	return "closed"
}

// entriesOfOneCall bounds what one call of Entries reads: 512 KiB an entry.
const entriesOfOneCall = 64

// Entries reads outbox entries (stock.Stock), in several calls if they are many.
func (s *Stock) Entries(ctx context.Context, p order.Partition, e order.Epoch, gate stock.Gate, batches []order.BatchID) ([]stock.Entry, error) {
	var entries []stock.Entry
	for {
		n := min(len(batches), entriesOfOneCall)
		page, err := s.entries(ctx, p, []any{epochText(e), gateText(gate)}, batches[:n])
		if err != nil {
			return nil, err
		}
		entries = append(entries, page...)
		if batches = batches[n:]; len(batches) == 0 {
			return entries, nil
		}
	}
}

func (s *Stock) entries(ctx context.Context, p order.Partition, args []any, batches []order.BatchID) ([]stock.Entry, error) {
	sc := s.scripts.outbox
	for _, id := range batches {
		args = append(args, binary.BigEndian.AppendUint64(nil, uint64(id)))
	}
	values, err := s.run(ctx, sc, p, args...)
	if err != nil || len(batches) == 0 {
		return nil, err
	}
	r := reader{values: values}
	list := r.list()
	if r.err == nil && len(list) != len(batches) {
		r.fail(errors.New("the answer has another shape than the call"))
	}
	if r.err != nil {
		return nil, answered(sc, p, r.err)
	}
	var entries []stock.Entry
	for i, v := range list {
		if v == nil {
			continue
		}
		text, _ := v.(string)
		head, records, ok := strings.Cut(text, ":")
		epoch, err := strconv.ParseUint(head, 10, 64)
		if !ok || err != nil {
			return nil, answered(sc, p, fmt.Errorf("the entry of batch %d has no epoch", batches[i]))
		}
		entries = append(entries, stock.Entry{Batch: batches[i], Epoch: order.Epoch(epoch), Records: []byte(records)})
	}
	return entries, nil
}

// State reads the fence and, if it is ready, the counters (stock.Stock).
func (s *Stock) State(ctx context.Context, p order.Partition) (stock.State, error) {
	sc := s.scripts.state
	values, err := s.run(ctx, sc, p)
	if err != nil {
		return stock.State{}, err
	}
	r := reader{values: values}
	st := stock.State{Fence: stock.Fence{Epoch: order.Epoch(r.number()), Open: r.text() == "open", Mine: r.integer() == 1}}
	st.Fence.KeysSince = stock.KeysSince{Epoch: order.Epoch(r.number()), At: order.Milli(r.number()), Logged: r.number()}
	st.Ready, st.Applied, st.Reserves, st.Batches = r.integer() == 1, r.number(), r.number(), int(r.integer())
	return st, answered(sc, p, r.err)
}

// snapshotPage is about how many buyers one call of a snapshot reads: a millisecond of the server.
const snapshotPage = 1000

// Snapshot reads all of the partition's stock (stock.Stock), in pages. If it changes meanwhile it is read anew, at once:
// everything on the server waits for that, some 50 ms for 100,000 buyers.
func (s *Stock) Snapshot(ctx context.Context, p order.Partition, e order.Epoch) (*stock.Snapshot, error) {
	var snap stock.Snapshot
	for cursor := "0"; ; {
		page, next, err := s.snapshot(ctx, p, epochText(e), cursor, snapshotPage)
		switch {
		case err != nil:
			return nil, err
		case cursor == "0":
			snap = *page
		case page.Applied != snap.Applied || page.Reserves != snap.Reserves:
			whole, _, err := s.snapshot(ctx, p, epochText(e))
			return whole, err
		default:
			snap.Batches, snap.Buyers = page.Batches, append(snap.Buyers, page.Buyers...)
		}
		if cursor = next; cursor == "0" {
			break
		}
	}
	slices.SortFunc(snap.Buyers, func(a, b stock.Buyer) int {
		return cmp.Or(cmp.Compare(a.Offer, b.Offer), cmp.Compare(a.User, b.User))
	})
	snap.Buyers = slices.Compact(snap.Buyers)
	return &snap, nil
}

// snapshot reads all, or a page and where the next one begins. args are those of snapshot.lua.
func (s *Stock) snapshot(ctx context.Context, p order.Partition, args ...any) (snap *stock.Snapshot, next string, err error) {
	sc := s.scripts.snapshot
	values, err := s.run(ctx, sc, p, args...)
	if err != nil {
		return nil, "", err
	}
	r := reader{values: values}
	snap = &stock.Snapshot{Batches: int(r.integer())}
	left, buyers := reader{values: r.list()}, reader{values: r.list()}
	next = r.text()
	for len(left.values) > 0 && left.err == nil {
		switch field := left.text(); field {
		case applied:
			snap.Applied = left.number()
		case reserves:
			snap.Reserves = left.number()
		default:
			id := r.units(field)
			snap.Left = append(snap.Left, stock.Left{Offer: order.OfferID(id), Units: left.units(left.next())})
		}
	}
	for len(buyers.values) > 0 && buyers.err == nil {
		field, units := buyers.text(), buyers.units(buyers.next())
		if field == sentinel {
			continue
		}
		offer, user, ok := strings.Cut(field, ":")
		if !ok || len(user) != 8 {
			return nil, "", answered(sc, p, fmt.Errorf("a buyer is called %q", field))
		}
		snap.Buyers = append(snap.Buyers, stock.Buyer{Offer: order.OfferID(r.units(offer)),
			User: order.UserID(binary.BigEndian.Uint64([]byte(user))), Units: units})
	}
	return snap, next, answered(sc, p, errors.Join(r.err, left.err, buyers.err))
}
