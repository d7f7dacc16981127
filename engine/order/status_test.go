package order_test

import (
	"slices"
	"testing"

	"sluice/engine/order"
)

// all is every status, the one that is not stored included.
func all() []order.Status { return append(order.Statuses(), order.Pending) }

// TestTransitions writes the table of docs/design.md, section 10, a second time and compares every pair.
func TestTransitions(t *testing.T) {
	t.Parallel()
	want := map[order.Status][]order.Status{
		order.Pending:         {order.AwaitingPayment, order.Rejected},
		order.AwaitingPayment: {order.Paid, order.Cancelled, order.Expired},
		order.Paid:            {order.Shipped, order.Refunding},
		order.Shipped:         {order.Delivered, order.Refunding},
		order.Delivered:       {order.Completed, order.Refunding},
		order.Completed:       {order.Refunding},
		order.Refunding:       {order.Refunded, order.Paid, order.Shipped, order.Delivered, order.Completed},
	}
	for _, from := range all() {
		for _, to := range append(all(), "", "lost") {
			if got := from.CanBecome(to); got != slices.Contains(want[from], to) {
				t.Errorf("%s -> %q is allowed: %v", from, to, got)
			}
		}
	}
}

func TestFinalStatusesHaveNoWayOut(t *testing.T) {
	t.Parallel()
	final := []order.Status{order.Rejected, order.Cancelled, order.Expired, order.Refunded}
	for _, from := range all() {
		ways := 0
		for _, to := range all() {
			if from.CanBecome(to) {
				ways++
			}
		}
		if slices.Contains(final, from) != (ways == 0) {
			t.Errorf("%s has %d ways out", from, ways)
		}
	}
}

// TestEveryStatusIsReachable: from pending, along the table.
func TestEveryStatusIsReachable(t *testing.T) {
	t.Parallel()
	reached := []order.Status{order.Pending}
	for i := 0; i < len(reached); i++ {
		for _, to := range all() {
			if reached[i].CanBecome(to) && !slices.Contains(reached, to) {
				reached = append(reached, to)
			}
		}
	}
	for _, s := range all() {
		if !slices.Contains(reached, s) || !s.Known() {
			t.Errorf("%s: reachable %v, known %v", s, slices.Contains(reached, s), s.Known())
		}
	}
	if order.Status("lost").Known() || order.Status("").Known() {
		t.Error("an unknown status is known")
	}
}

func TestLive(t *testing.T) {
	t.Parallel()
	dead := []order.Status{order.Rejected, order.Cancelled, order.Expired}
	for _, s := range all() {
		if s.Live() == slices.Contains(dead, s) {
			t.Errorf("%s is live: %v", s, s.Live())
		}
	}
}

func TestCodes(t *testing.T) {
	t.Parallel()
	want := map[order.Code]string{
		0: "none", order.Accepted: "accepted", order.Repeated: "repeated", order.KeyReused: "key_reused", order.NotOpen: "not_open",
		order.Closed: "closed", order.OverLimit: "over_limit", order.SoldOut: "sold_out", 8: "unknown", 255: "unknown",
	}
	for c, name := range want {
		if c.String() != name {
			t.Errorf("code %d is %q, want %q", c, c, name)
		}
	}
	for i, c := range order.Codes() {
		if int(c) != i+1 {
			t.Errorf("code %s is %d, want %d: the numbers are stored in scripts", c, c, i+1)
		}
		if c.Refused() != (c != order.Accepted && c != order.Repeated) {
			t.Errorf("%s refused: %v", c, c.Refused())
		}
	}
}

func TestKinds(t *testing.T) {
	t.Parallel()
	for _, k := range order.Kinds {
		if got, ok := order.ParseKind(k.String()); !ok || got != k {
			t.Errorf("%s reads as %s, %v", k, got, ok)
		}
	}
	for _, s := range []string{"", "none", "Flash", "normal "} {
		if k, ok := order.ParseKind(s); ok {
			t.Errorf("ParseKind(%q) = %s", s, k)
		}
	}
}

func TestPartitions(t *testing.T) {
	t.Parallel()
	ps := order.Partitions{Normal: 3, Flash: 2}
	if got := ps.Each(order.Normal); !slices.Equal(got, []order.Partition{0, 1, 2}) {
		t.Errorf("normal partitions %v", got)
	}
	if got := ps.Each(order.Flash); !slices.Equal(got, []order.Partition{3, 4}) {
		t.Errorf("flash partitions %v", got)
	}
	used := map[order.Partition]int{}
	for _, kind := range order.Kinds {
		for id := range order.OfferID(300) {
			p := ps.Of(kind, order.GroupOf(kind, order.ShopID(id), id))
			used[p]++
			if ps.Kind(p) != kind {
				t.Fatalf("a %s group lies in partition %d, which is %s", kind, p, ps.Kind(p))
			}
		}
	}
	for p := range ps.Count() {
		if used[order.Partition(p)] < 50 {
			t.Errorf("partition %d got %d of 300 groups of its kind", p, used[order.Partition(p)])
		}
	}
}
