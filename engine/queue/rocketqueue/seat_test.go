package rocketqueue

import "testing"

func TestSeat(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		members []string
		own, n  int
	}{
		{[]string{"b", "a", "c"}, 1, 3},
		{[]string{"b", "a", "b", "a"}, 1, 2}, // each with an old connection beside the new one
		{[]string{"a", "c"}, -1, 2},
	} {
		if own, n := seat(c.members, "b"); own != c.own || n != c.n {
			t.Errorf("of %v b is %d of %d, want %d of %d", c.members, own, n, c.own, c.n)
		}
	}
}
