package stocktest

import (
	"context"
	"slices"

	"sluice/engine/order"
	"sluice/engine/stock"
)

var _ stock.Stock = (*Flaky)(nil)

// Reserve is stock.Stock's, disturbed by the plan.
func (f *Flaky) Reserve(ctx context.Context, call *stock.ReserveCall) (*stock.Reserved, error) {
	call = cloneCall(call)
	return disturbed(ctx, f, planned{OnReserve, call.Partition}, func(ctx context.Context) (*stock.Reserved, error) {
		return f.stock.Reserve(ctx, call)
	})
}

// Lookup is stock.Stock's, disturbed by the plan.
func (f *Flaky) Lookup(ctx context.Context, p order.Partition, e order.Epoch, keys []stock.KeyQuery) ([]stock.Outcome, error) {
	keys = slices.Clone(keys)
	return disturbed(ctx, f, planned{OnLookup, p}, func(ctx context.Context) ([]stock.Outcome, error) {
		return f.stock.Lookup(ctx, p, e, keys)
	})
}

// Left is stock.Stock's, disturbed by the plan.
func (f *Flaky) Left(ctx context.Context, p order.Partition, e order.Epoch, offers []order.OfferID) ([]int64, error) {
	offers = slices.Clone(offers)
	return disturbed(ctx, f, planned{OnLeft, p}, func(ctx context.Context) ([]int64, error) {
		return f.stock.Left(ctx, p, e, offers)
	})
}

// Holdings is stock.Stock's, disturbed by the plan.
func (f *Flaky) Holdings(ctx context.Context, p order.Partition, e order.Epoch, buyers []stock.Buyer) ([]int64, error) {
	buyers = slices.Clone(buyers)
	return disturbed(ctx, f, planned{OnHoldings, p}, func(ctx context.Context) ([]int64, error) {
		return f.stock.Holdings(ctx, p, e, buyers)
	})
}

// Apply is stock.Stock's, disturbed by the plan.
func (f *Flaky) Apply(ctx context.Context, p order.Partition, e order.Epoch, rows []order.LogRow) (uint64, error) {
	rows = slices.Clone(rows)
	for i := range rows {
		rows[i].Items = slices.Clone(rows[i].Items)
	}
	return disturbed(ctx, f, planned{OnApply, p}, func(ctx context.Context) (uint64, error) {
		return f.stock.Apply(ctx, p, e, rows)
	})
}

// Confirm is stock.Stock's, disturbed by the plan.
func (f *Flaky) Confirm(ctx context.Context, p order.Partition, e order.Epoch, batches []order.BatchID) error {
	batches = slices.Clone(batches)
	_, err := disturbed(ctx, f, planned{OnConfirm, p}, func(ctx context.Context) (struct{}, error) {
		return struct{}{}, f.stock.Confirm(ctx, p, e, batches)
	})
	return err
}

// BatchIDs is stock.Stock's, disturbed by the plan.
func (f *Flaky) BatchIDs(ctx context.Context, p order.Partition, e order.Epoch, gate stock.Gate) ([]order.BatchID, error) {
	return disturbed(ctx, f, planned{OnBatchIDs, p}, func(ctx context.Context) ([]order.BatchID, error) {
		return f.stock.BatchIDs(ctx, p, e, gate)
	})
}

// Entries is stock.Stock's, disturbed by the plan.
func (f *Flaky) Entries(ctx context.Context, p order.Partition, e order.Epoch, gate stock.Gate, batches []order.BatchID) ([]stock.Entry, error) {
	batches = slices.Clone(batches)
	return disturbed(ctx, f, planned{OnEntries, p}, func(ctx context.Context) ([]stock.Entry, error) {
		return f.stock.Entries(ctx, p, e, gate, batches)
	})
}

// State is stock.Stock's, disturbed by the plan.
func (f *Flaky) State(ctx context.Context, p order.Partition) (stock.State, error) {
	return disturbed(ctx, f, planned{OnState, p}, func(ctx context.Context) (stock.State, error) {
		return f.stock.State(ctx, p)
	})
}

// Snapshot is stock.Stock's, disturbed by the plan.
func (f *Flaky) Snapshot(ctx context.Context, p order.Partition, e order.Epoch) (*stock.Snapshot, error) {
	return disturbed(ctx, f, planned{OnSnapshot, p}, func(ctx context.Context) (*stock.Snapshot, error) {
		return f.stock.Snapshot(ctx, p, e)
	})
}

// Shut is stock.Stock's, disturbed by the plan.
func (f *Flaky) Shut(ctx context.Context, p order.Partition, e order.Epoch) (intact, ok bool, err error) {
	type answer struct{ intact, ok bool }
	a, err := disturbed(ctx, f, planned{OnShut, p}, func(ctx context.Context) (a answer, err error) {
		a.intact, a.ok, err = f.stock.Shut(ctx, p, e)
		return a, err
	})
	return a.intact, a.ok, err
}

// Load is stock.Stock's, disturbed by the plan.
func (f *Flaky) Load(ctx context.Context, p order.Partition, e order.Epoch, page *stock.LoadPage) error {
	page = clonePage(page)
	_, err := disturbed(ctx, f, planned{OnLoad, p}, func(ctx context.Context) (struct{}, error) {
		return struct{}{}, f.stock.Load(ctx, p, e, page)
	})
	return err
}
