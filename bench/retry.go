package bench

import (
	"context"
	"fmt"

	"sluice/bench/load"
	"sluice/engine/order"
)

// storm is how many copies of a request follow each other at once; the others come in later passes over all keys.
const storm = 5

// retry sends every request several times, some copies at once and some later: one order per key.
func (r *runner) retry(ctx context.Context) error {
	r.cases(fmt.Sprintf("each key %d times", r.o.Copies))
	return r.rounds(func(_, _ int, c *Case) (*Round, error) { return r.storms(ctx, c.Connections) })
}

// pickCopies says which request a send is: the sends go over all keys in passes, up to storm copies of each in a pass.
func pickCopies(keys, copies int) func(int) int {
	whole := keys * storm
	return func(send int) int {
		pass, at := send/whole, send%whole
		if left := copies - pass*storm; left < storm {
			return at / max(1, left)
		}
		return at / storm
	}
}

func (r *runner) storms(ctx context.Context, connections int) (*Round, error) {
	s, err := startServer(ctx, r.o)
	if err != nil {
		return nil, err
	}
	defer func() { _, _ = s.stop() }()
	keys := max(1, r.o.Orders/r.o.Copies)
	offer, err := s.createOffer(ctx, int64(keys), r.o.Limits[0])
	if err != nil {
		return nil, err
	}
	spec := r.spec(s, offer)
	spec.Count, spec.Users, spec.Keyless = keys, 0, false
	reqs, err := load.Build(spec)
	if err != nil {
		return nil, err
	}
	round := &Round{Quiet: true}
	base, err := s.stored(ctx)
	if err != nil {
		return nil, err
	}
	r.quietBefore(ctx, round)
	w := startWatch(ctx, s, 0)
	pick := pickCopies(keys, r.o.Copies)
	res, err := r.shown(ctx, load.Options{Addrs: s.gateways, TLS: s.tls, Connections: connections, Rate: r.o.Rate,
		Sends: keys * r.o.Copies, Pick: pick}, reqs)
	if err != nil {
		w.stop()
		return nil, err
	}
	last, err := w.settle(ctx, base+int64(keys), true)
	if err != nil {
		return nil, err
	}
	w.note(round)
	r.quietAfter(round)
	out := outcomeOf(res, reqs, pick)
	round.fill(out, last.stored-base, last.at)
	round.Rate = out.rate
	round.server(s)
	if err := r.judge(ctx, s, round, out.history); err != nil {
		return nil, err
	}
	if wrong := wrongKeys(res, keys, pick); wrong != "" {
		round.Notes, round.Verdict = append(round.Notes, wrong), failed
	}
	_, err = s.stop()
	return round, err
}

// wrongKeys says what is wrong with the answers to repeated keys, or "": every key has one order, which every answer names,
// and units were enough for all. Unknown outcomes (504, no answer) are no violation as long as another copy was answered.
func wrongKeys(res *load.Results, keys int, pick func(int) int) string {
	orders := make([]order.ID, keys)
	several, refused := 0, 0
	for i := range res.List {
		x := &res.List[i]
		switch key := pick(i); {
		case !x.Done() || x.Unknown():
		case !x.Accepted():
			refused++
		case orders[key] == 0:
			orders[key] = x.Order
		case orders[key] != x.Order:
			several++
		}
	}
	none := 0
	for _, id := range orders {
		if id == 0 {
			none++
		}
	}
	if several+none+refused == 0 {
		return ""
	}
	return fmt.Sprintf("%d answers named another order than the first, %d keys got no order, %d answers were refusals", several, none, refused)
}
