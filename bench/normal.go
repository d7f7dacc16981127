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
	r.cases(fmt.Sprintf("carts over %d offers, open loop at %.0f/s", shops*shopOffers, r.o.Rate))
	return r.rounds(func(n, i int, c *Case) (*Round, error) {
		so := saleOptions{connections: c.Connections, rate: r.o.Rate, carts: true}
		if n+i == 0 { // the first round is profiled
			so.profile = r.o.Profile
		}
		return r.sale(ctx, so)
	})
}

// carts describes ordinary orders on a server.
func (r *runner) carts(ctx context.Context, s *server) (load.Spec, error) {
	spec := r.spec(s, 0)
	spec.Lines, spec.CartMax = 0, cartMax
	var err error
	spec.Shops, err = s.createShops(ctx)
	return spec, err
}
