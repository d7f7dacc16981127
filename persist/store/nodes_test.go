package store

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"testing"
	"time"

	"sluice/engine/order"
)

func TestNodeLeases(t *testing.T) {
	onDialects(t, func(t *testing.T, d Dialect) {
		ctx := context.Background()
		s := newStore(t, d, 2)
		a, err := s.LeaseNode(ctx, "a", time.Minute)
		noError(t, err)
		b, err := s.LeaseNode(ctx, "b", time.Minute)
		noError(t, err)
		if a.Node == b.Node || a.Until-a.Since != 60_000 {
			t.Errorf("leases %+v and %+v", a, b)
		}
		renewed, err := s.RenewNode(ctx, a, 2*time.Minute)
		noError(t, err)
		if renewed.Since != a.Since || renewed.Until < a.Until+60_000 {
			t.Errorf("%+v renewed is %+v", a, renewed)
		}
		if back, err := s.RenewNode(ctx, a, time.Second); err != nil || back.Until != renewed.Until {
			t.Errorf("a lease went back: %+v %v", back, err)
		}
		a.Owner = "b"
		if _, err := s.RenewNode(ctx, a, time.Minute); !errors.Is(err, ErrLeaseLost) {
			t.Errorf("renewed somebody else's lease: %v", err)
		}
	})
}

// Processes that lease, renew, and come back at once never share a millisecond of a number.
func TestNodeLeasesNeverOverlap(t *testing.T) {
	onDialects(t, func(t *testing.T, d Dialect) {
		ctx := context.Background()
		s := newStore(t, d, 1)
		var mu sync.Mutex
		var leases []Lease
		race(8, func(w int) {
			for i := range 25 {
				l, err := s.LeaseNode(ctx, fmt.Sprintf("%d/%d", w, i), time.Millisecond)
				if errors.Is(err, ErrNoNode) {
					continue
				}
				if err == nil && i%2 == 0 {
					var next Lease
					next, err = s.RenewNode(ctx, l, 5*time.Millisecond)
					if err == nil {
						l = next
					} else if errors.Is(err, ErrLeaseLost) {
						err = nil
					}
				}
				if err != nil {
					t.Error(err)
					return
				}
				mu.Lock()
				leases = append(leases, l)
				mu.Unlock()
			}
		})
		if len(leases) < order.NodesMax {
			t.Errorf("only %d leases", len(leases))
		}
		for i, a := range leases {
			for _, b := range leases[:i] {
				if a.Node == b.Node && a.Since < b.Until && b.Since < a.Until {
					t.Fatalf("%+v and %+v overlap", a, b)
				}
			}
		}
	})
}

func TestNodeLeasesRunOut(t *testing.T) {
	onDialects(t, func(t *testing.T, d Dialect) {
		s := newStore(t, d, 1)
		for i := range order.NodesMax {
			if _, err := s.LeaseNode(context.Background(), fmt.Sprint(i), time.Hour); err != nil {
				t.Fatal(err)
			}
		}
		if l, err := s.LeaseNode(context.Background(), "one too many", time.Hour); !errors.Is(err, ErrNoNode) {
			t.Errorf("got %+v %v", l, err)
		}
	})
}
