package memstock_test

import (
	"sync/atomic"
	"testing"
	"time"

	"sluice/engine/order"
	"sluice/engine/stock"
	"sluice/engine/stock/memstock"
	"sluice/engine/stock/stocktest"
)

// clock stands still until it is moved.
type clock struct{ ms atomic.Int64 }

func (c *clock) now() time.Time          { return time.UnixMilli(c.ms.Load()) }
func (c *clock) advance(d time.Duration) { c.ms.Add(d.Milliseconds()) }

func TestStock(t *testing.T) {
	stocktest.Run(t, stocktest.Harness{Open: open})
}

func open(testing.TB) *stocktest.Data {
	c := &clock{}
	c.ms.Store(time.Date(2026, 11, 22, 9, 30, 0, 0, time.UTC).UnixMilli())
	partitions := order.Partitions{Normal: 1, Flash: 2}
	st := memstock.New(memstock.Options{Partitions: partitions, Now: c.now})
	return &stocktest.Data{
		Partitions: partitions,
		Client:     func() stock.Stock { return st },
		Now:        c.now,
		Advance:    c.advance,
		Lose:       func(p order.Partition, what stocktest.Loss) { st.Lose(p, memstock.Loss(what)) },
	}
}
