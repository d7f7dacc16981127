package main

import (
	"fmt"
	"testing"

	"sluice/engine/order"
)

// TestTotalsOfARunningSale: units are added and taken away while an offer sells, never below what is sold; everybody is
// told the new total at once.
func TestTotalsOfARunningSale(t *testing.T) {
	t.Parallel()
	s, _ := open(t, t.TempDir())
	offer := s.offer("flash", 20, 0)
	buyer := order.UserID(0)
	buys := func(status, quantity int) {
		t.Helper()
		buyer++
		s.must(status, "POST", s.gateway+"/v1/orders?wait=5", s.token(buyer), line(offer, quantity))
	}
	total := func(wanted, want, left int) {
		t.Helper()
		a := s.must(200, "PATCH", s.ops+"/ops/offers/"+offer, s.secrets.OpsToken, fmt.Sprintf(`{"total":%d}`, wanted))
		if a.field("total") != fmt.Sprint(want) || a.field("remaining") != fmt.Sprint(left) {
			t.Errorf("a total of %d, %d left: %v", want, left, a)
		}
		public := ""
		if !await(func() bool {
			a := s.must(200, "GET", s.gateway+"/v1/offers/"+offer, "", "")
			public = a.field("total") + " " + a.field("remaining")
			return public == fmt.Sprint(want, " ", left)
		}) {
			t.Errorf("buyers read %s, want %d %d", public, want, left)
		}
	}
	buys(201, 20)
	buys(409, 1)
	total(50, 50, 30)
	buys(201, 10)
	total(35, 35, 5)
	buys(409, 6)
	buys(201, 1)
	total(10, 31, 0) // 31 are sold
	buys(409, 1)
	total(33, 33, 2)
	buys(201, 2)
	if out, errs, err := cli(t, s, "audit"); err != nil {
		t.Errorf("audit: %v\n%s%s", err, out, errs)
	}
}
