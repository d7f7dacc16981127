package gateway

import (
	"fmt"
	"runtime"
	"strings"
	"testing"
)

// Thousands of bad requests, each another one, leave nothing behind in memory.
func TestHostileInputLeavesNoMemory(t *testing.T) {
	w := newWorld(t)
	id := w.offer()
	good := item(id, 1)
	storm := func(from, to int) {
		for n := from; n < to; n++ {
			text := []string{
				fmt.Sprintf("GET /v1/%d%s HTTP/1.1\r\nHost: x\r\n\r\n", n, strings.Repeat("x", n%5000)),
				fmt.Sprintf("GET / HTTP/1.1\r\nX-%d: %s\r\n\r\n", n, strings.Repeat("y", 2*HeaderMax)),
				post(1<<30, "x"),
				post(BodyMax, fmt.Sprintf("%-*s", BodyMax, fmt.Sprintf(`{"items":[{"offer_id":"%d"`, n))),
				strings.Replace(post(len(good), good), "Bearer ", fmt.Sprintf("Bearer %d.", n), 1),
				strings.Replace(post(len(good), good), "Host: x", fmt.Sprintf("Host: x\r\nIdempotency-Key: %s", strings.Repeat("k", 65+n%1000)), 1),
				fmt.Sprintf("\x16\x03\x01%d\r\n\r\n", n),
			}[n%7]
			if a := w.raw(text); a.status < 400 || a.status >= 500 {
				t.Fatalf("%q: %d %s", text[:min(len(text), 100)], a.status, a.raw)
			}
		}
	}
	heap := func() int64 {
		runtime.GC()
		runtime.GC() // pools are emptied by the second
		var m runtime.MemStats
		runtime.ReadMemStats(&m)
		return int64(m.HeapAlloc)
	}
	storm(0, 700)
	before := heap()
	storm(700, 5600)
	if grown := heap() - before; grown > 2<<20 {
		t.Errorf("%d bytes more after 4,900 bad requests", grown)
	}
	if left := w.engine.Offer(id).Left(); left != 100 {
		t.Errorf("%d units left, want 100: a bad request had an effect", left)
	}
}
