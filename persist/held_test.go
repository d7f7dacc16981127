package persist

import "testing"

func heldOf(n, bytes int) *held {
	h := &held{items: make([]item, n)}
	for i := range h.items {
		h.items[i].bytes = bytes
	}
	h.count()
	return h
}

// A shard that is too slow for all that has gathered is given fewer messages at once, and more again when it stores them.
func TestSlowShardIsGivenFewer(t *testing.T) {
	t.Parallel()
	const inTime = 100 // messages that the shard stores before the time is over
	h := heldOf(10_000, 1_000)
	h.fail(h.next())
	most := h.most
	if joined := anew([]held{*h}, 2); joined[0].most != most || joined[0].items != nil || joined[1].most != 0 {
		t.Errorf("after joining the queue anew: %+v", joined)
	}
	flushes, failures := 0, 0
	for ; len(h.items) > 0; flushes++ {
		n := h.next()
		if n == 0 || flushes == 1_000 {
			t.Fatalf("%d messages are held, and the next flush, after %d, takes %d", len(h.items), flushes, n)
		}
		if n > inTime {
			failures++
			h.fail(n)
		} else {
			h.shift(n)
		}
	}
	if flushes > 400 || failures < 6 {
		t.Errorf("%d flushes, %d failed", flushes, failures)
	}
	if h.most != 0 {
		t.Errorf("with nothing held a flush takes %d messages at most", h.most)
	}
}

// What is kept of many dead shards may be more than is to be held: then it becomes less with what they are tried with.
func TestLeaveAgain(t *testing.T) {
	t.Parallel()
	c := &consumer{homes: []held{*heldOf(8, 100), *heldOf(5, 100)}}
	dead := &c.homes[0]
	dead.under = 8
	if c.leave() {
		t.Error("something was left of shards that do not fail")
	}
	dead.fail(8)
	if c.leave() || dead.left {
		t.Error("something was left of the flush under way")
	}
	for _, want := range []int{4, 2, 1} {
		dead.under = dead.next()
		if !c.leave() || !dead.left || len(dead.items) != want || dead.bytes != 100*want || c.bytes() != 500+100*want {
			t.Errorf("%d messages, %d bytes are kept, want %d", len(dead.items), dead.bytes, want)
		}
		dead.fail(dead.under)
	}
	if dead.under = 0; c.leave() {
		t.Error("the last message was left")
	}
}
