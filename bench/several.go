package bench

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"time"

	"sluice/engine/order"
)

// What a deployment of several processes is asked: what any of them knows, the first gateway, and what each counts for
// itself, all of them.

// stored is the number of orders that the processes that run now have committed since they started.
func (s *server) stored(ctx context.Context) (sum int64, err error) {
	if !s.ours() {
		return s.ops.stored(ctx)
	}
	for _, m := range s.members {
		if m.child == nil || m.role != roleAll && m.role != rolePersist {
			continue
		}
		n, err := m.ops.stored(ctx)
		if err != nil {
			return 0, fmt.Errorf("%s: %w", m.name, err)
		}
		sum += n
	}
	return sum, nil
}

// createOffer creates a flash offer that is open and waits until every gateway sells it.
func (s *server) createOffer(ctx context.Context, units int64, limit int) (order.OfferID, error) {
	id, err := s.ops.createOffer(ctx, units, limit)
	if err != nil {
		return 0, err
	}
	return id, s.everywhere(ctx, id)
}

// createShops creates ordinary offers and waits until every gateway sells them.
func (s *server) createShops(ctx context.Context) ([][]order.OfferID, error) {
	list, err := s.ops.createShops(ctx)
	for _, offers := range list {
		if err == nil { // a shop's offers are known in the order in which they were created
			err = s.everywhere(ctx, offers[len(offers)-1])
		}
	}
	return list, err
}

// everywhereWait bounds the time until every gateway sells what one of them has created: 2 s, says the contract.
const everywhereWait = 20 * time.Second

// everywhere waits until every gateway sells an offer.
func (s *server) everywhere(ctx context.Context, id order.OfferID) error {
	for _, m := range s.members {
		if m.role == rolePersist || m.role == roleLifecycle {
			continue
		}
		for begun, sells := time.Now(), false; !sells; {
			var err error
			if sells, err = m.ops.sells(ctx, id); err != nil {
				return fmt.Errorf("%s: %w", m.name, err)
			}
			if !sells && time.Since(begun) > everywhereWait {
				_, missing := m.ops.do(ctx, "GET", "/readyz", nil)
				return fmt.Errorf("%s does not sell what was created within %s: %w", m.name, everywhereWait, cmp.Or(missing, errors.New("it says that it is ready")))
			}
		}
	}
	return nil
}
