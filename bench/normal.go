package bench

import (
	"context"
	"fmt"

	"sluice/bench/load"
)

// Ordinary orders: carts of up to so many offers of one shop, from so many connections.
const (
	cartMax             = 5
	ordinaryConnections = 64
)

// normal is an ordinary day: carts over many offers, at a set rate.
func (r *runner) normal(ctx context.Context) error {
	cases := r.cases(fmt.Sprintf("carts over %d offers, open loop at %.0f/s", shops*shopOffers, r.o.Rate))
	file := r.o.Profile
	for n := range r.o.Rounds {
		for _, c := range cases {
			round, err := r.sale(ctx, saleOptions{connections: c.Connections, rate: r.o.Rate, profile: file, carts: true})
			if err != nil {
				return err
			}
			c.Rounds, file = append(c.Rounds, *round), "" // the first round is profiled
			r.say("round %d of %d, %s: %s", n+1, r.o.Rounds, c.Name, round.line())
		}
	}
	return nil
}

// carts describes ordinary orders on a server.
func (r *runner) carts(ctx context.Context, s *server) (load.Spec, error) {
	spec := r.spec(s, 0)
	spec.Lines, spec.CartMax = 0, cartMax
	var err error
	spec.Shops, err = s.createShops(ctx)
	return spec, err
}
