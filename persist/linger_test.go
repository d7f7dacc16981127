package persist

import (
	"testing"
	"time"
)

// A flush waits for nothing at rest, for all of its linger under load, for a part of it in between, and forgets a load
// that is over.
func TestLingerGrowsWithTheLoad(t *testing.T) {
	c := &consumer{}
	now := time.Now()
	at := func(perSecond int, seconds float64) time.Duration {
		const gatherings = 100 // a second
		for range int(seconds * gatherings) {
			now = now.Add(time.Second / gatherings)
			c.arrived(perSecond/gatherings, now)
		}
		return c.linger(50 * time.Millisecond)
	}
	c.arrived(1, now)
	if d := c.linger(50 * time.Millisecond); d != 0 {
		t.Errorf("the first order ever waits %v", d)
	}
	if d := at(20_000, 2); d != 50*time.Millisecond {
		t.Errorf("at 20,000/s a flush waits %v", d)
	}
	for _, c := range []struct{ perSecond, least, most int }{{1_400, 33, 37}, {600, 24, 26}, {200, 9, 11}} {
		if d := at(c.perSecond, 10).Milliseconds(); d < int64(c.least) || d > int64(c.most) {
			t.Errorf("at %d/s a flush waits %d ms, want %d to %d", c.perSecond, d, c.least, c.most)
		}
	}
	now = now.Add(5 * time.Second)
	c.arrived(1, now)
	if d := c.linger(50 * time.Millisecond); d != 0 {
		t.Errorf("after a rest the first order waits %v", d)
	}
}
