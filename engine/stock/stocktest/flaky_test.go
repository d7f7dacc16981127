package stocktest_test

import (
	"context"
	"errors"
	"testing"

	"sluice/engine/order"
	"sluice/engine/stock"
	"sluice/engine/stock/memstock"
	"sluice/engine/stock/stocktest"
)

// flaky is a Flaky over one partition in epoch 1 with ten units of offer 1.
func flaky(t *testing.T) *stocktest.Flaky {
	t.Helper()
	f := stocktest.NewFlaky(memstock.New(memstock.Options{Partitions: order.Partitions{Normal: 1, Flash: 1}}))
	if _, ok, err := f.Shut(t.Context(), 0, 1); err != nil || !ok {
		t.Fatal(ok, err)
	}
	page := &stock.LoadPage{Offers: []stock.LoadOffer{{Offer: 1, Left: 10}}, Last: true, Lost: true}
	if err := f.Load(t.Context(), 0, 1, page); err != nil {
		t.Fatal(err)
	}
	return f
}

func buy(ctx context.Context, f *stocktest.Flaky, id order.ID) error {
	_, err := f.Reserve(ctx, &stock.ReserveCall{Epoch: 1, Requests: []stock.Request{
		{Order: id, User: 1, Key: uint64(id), Lines: []order.Line{{Offer: 1, Quantity: 1}}}}})
	return err
}

func left(t *testing.T, f *stocktest.Flaky, want int64) {
	t.Helper()
	units, err := f.Left(t.Context(), 0, 1, []order.OfferID{1})
	if err != nil || units[0] != want {
		t.Fatalf("left %v, %v; want %d", units, err, want)
	}
}

func TestFlakyRefusesAndForgets(t *testing.T) {
	t.Parallel()
	f := flaky(t)
	f.Plan(stocktest.OnReserve, 0, stocktest.Refuse(), stocktest.Pass(), stocktest.Forget())
	f.Plan(stocktest.OnReserve, 1, stocktest.Refuse())
	if err := buy(t.Context(), f, 1); !stock.NotExecuted(err) {
		t.Fatalf("refused: %v", err)
	}
	left(t, f, 10)
	if err := buy(t.Context(), f, 2); err != nil {
		t.Fatalf("passed: %v", err)
	}
	left(t, f, 9)
	if err := buy(t.Context(), f, 3); !errors.Is(err, stocktest.ErrAnswerLost) || stock.NotExecuted(err) {
		t.Fatalf("forgotten: %v", err)
	}
	left(t, f, 8)
	if err := buy(t.Context(), f, 4); err != nil || f.Planned() != 1 {
		t.Fatalf("after the plan: %v, %d faults left", err, f.Planned())
	}
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
}

func TestFlakyHolds(t *testing.T) {
	t.Parallel()
	f := flaky(t)
	before, after := stocktest.NewHold(), stocktest.NewHold()
	f.Plan(stocktest.OnReserve, 0, stocktest.HoldBefore(before), stocktest.HoldAfter(after))
	answer := make(chan error)
	go func() { answer <- buy(context.Background(), f, 1) }()
	<-before.Arrived()
	left(t, f, 10)
	before.Release()
	if err := <-answer; err != nil {
		t.Fatal(err)
	}
	left(t, f, 9)
	go func() { answer <- buy(context.Background(), f, 2) }()
	<-after.Arrived()
	left(t, f, 8)
	select {
	case err := <-answer:
		t.Fatalf("answered while held: %v", err)
	default:
	}
	after.Release()
	if err := <-answer; err != nil {
		t.Fatal(err)
	}
}

func TestFlakyExecutesLate(t *testing.T) {
	t.Parallel()
	f := flaky(t)
	h := stocktest.NewHold()
	f.Plan(stocktest.OnShut, 0, stocktest.Late(h))
	ctx, cancel := context.WithCancel(t.Context())
	if _, _, err := f.Shut(ctx, 0, 2); !errors.Is(err, stocktest.ErrAnswerLost) {
		t.Fatal(err)
	}
	cancel()
	<-h.Arrived()
	left(t, f, 10)
	h.Release()
	for {
		st, err := f.State(t.Context(), 0)
		if err != nil {
			t.Fatal(err)
		}
		if st.Fence.Epoch == 2 {
			return
		}
	}
}

// Close ends what still waits: a late call that was not released never executes.
func TestFlakyCloses(t *testing.T) {
	t.Parallel()
	f := flaky(t)
	f.Plan(stocktest.OnReserve, 0, stocktest.HoldBefore(stocktest.NewHold()), stocktest.Late(stocktest.NewHold()))
	answer := make(chan error)
	held := stocktest.NewHold()
	f.Plan(stocktest.OnConfirm, 0, stocktest.HoldAfter(held))
	go func() { answer <- f.Confirm(context.Background(), 0, 1, nil) }()
	<-held.Arrived()
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
	if err := <-answer; err != nil {
		t.Fatalf("a held answer: %v", err)
	}
	if err := buy(context.Background(), f, 1); !stock.NotExecuted(err) {
		t.Fatalf("held after Close: %v", err)
	}
}
