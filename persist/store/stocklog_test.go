package store

import (
	"context"
	"fmt"
	"testing"

	"github.com/google/go-cmp/cmp"

	"sluice/engine/order"
)

// Numbers have no gaps and a reader never sees a number before the ones below it, with 8 writers at once.
func TestStockLogHasNoGaps(t *testing.T) {
	onDialects(t, func(t *testing.T, d Dialect) {
		const writers, each = 8, 25
		x, _ := newSale(t, d, [2]int64{1, 0})
		ctx, stop := context.WithCancel(context.Background())
		done := make(chan error)
		go func() {
			defer close(done)
			for ctx.Err() == nil {
				rows, err := x.StockLog(context.Background(), x.p, 0, 10_000)
				for i, r := range rows {
					if r.N != uint64(i+1) {
						err = fmt.Errorf("row %d has number %d", i, r.N)
					}
				}
				if err != nil {
					done <- err
					return
				}
			}
		}()
		race(writers, func(w int) {
			for i := range each {
				if err := x.log(fmt.Sprintf("%d.%d", w, i), fmt.Sprintf("%d.%d b", w, i)); err != nil {
					t.Error(err)
				}
			}
		})
		stop()
		if err := <-done; err != nil {
			t.Error(err)
		}
		const want = 1 + 2*writers*each // the first is the offer's creation
		if p := x.part(); p.Logged != want {
			t.Errorf("logged %d, want %d", p.Logged, want)
		}
		if n := x.tally("stock_log"); n != want {
			t.Errorf("%d rows, want %d", n, want)
		}
	})
}

// log writes rows with these causes in one transaction.
func (x *sale) log(causes ...string) error {
	return x.update(context.Background(), x.Home(x.p), order.Flash, func(t *tx) error {
		if _, err := t.lockParts(x.p); err != nil {
			return err
		}
		var entries []logEntry
		for _, c := range causes {
			entries = append(entries, logEntry{cause: c, items: []order.LogItem{{Op: order.OpGive, Offer: 1, User: 2, Units: 3}}})
		}
		_, err := t.appendLog(x.p, entries)
		return err
	})
}

func TestStockLogPages(t *testing.T) {
	onDialects(t, func(t *testing.T, d Dialect) {
		x, ids := newSale(t, d, [2]int64{10, 3})
		noError(t, x.log("a", "b"))
		noError(t, x.log("c"))
		give := []order.LogItem{{Op: order.OpGive, Offer: 1, User: 2, Units: 3}}
		create := []order.LogItem{{Op: order.OpCreate, Offer: ids[0], Units: 10, Limit: 3}}
		for _, tt := range []struct {
			after uint64
			limit int
			want  []order.LogRow
		}{
			{0, 2, []order.LogRow{{N: 1, Items: create}, {N: 2, Items: give}}},
			{2, 9, []order.LogRow{{N: 3, Items: give}, {N: 4, Items: give}}},
			{4, 9, nil},
		} {
			got, err := x.StockLog(context.Background(), x.p, tt.after, tt.limit)
			noError(t, err)
			if diff := cmp.Diff(tt.want, got); diff != "" {
				t.Errorf("after %d: %s", tt.after, diff)
			}
		}
	})
}

func TestCausesAreUnique(t *testing.T) {
	onDialects(t, func(t *testing.T, d Dialect) {
		x, _ := newSale(t, d, [2]int64{1, 0})
		noError(t, x.log("7.1"))
		if err := x.log("8.1", "7.1"); !duplicateKey(err) {
			t.Errorf("the same cause twice: %v", err)
		}
		if p := x.part(); p.Logged != 2 {
			t.Errorf("logged %d, want 2: a failed transaction leaves no number", p.Logged)
		}
		noError(t, x.update(context.Background(), x.Home(x.p), 0, func(tx *tx) error {
			logged, err := tx.causesLogged([]string{"7.1", "8.1"})
			if diff := cmp.Diff(map[string]bool{"7.1": true}, logged); diff != "" {
				t.Error(diff)
			}
			return err
		}))
	})
}
