package memstock

import (
	"testing"

	"sluice/engine/order"
)

// Every record is found through all the growing, and nothing else is.
func TestKeyTableGrows(t *testing.T) {
	t.Parallel()
	k := newKeys(0)
	const n = 200_000
	name := func(i int) (order.UserID, uint64) { return order.UserID(i/3 + 1), uint64(i % 3) }
	for i := range n {
		user, hash := name(i)
		k.add(k.spread(user, hash), key{user: user, hash: hash, order: order.ID(i + 1)})
	}
	for i := range n {
		user, hash := name(i)
		if r := k.find(k.spread(user, hash), user, hash); r == nil || r.order != order.ID(i+1) {
			t.Fatalf("key %d is %+v", i, r)
		}
		if r := k.find(k.spread(user, hash+3), user, hash+3); r != nil {
			t.Fatalf("an unknown key is %+v", r)
		}
	}
}

// Names that differ in any part differ, although all lie in one slot of one segment.
func TestKeysThatCollide(t *testing.T) {
	t.Parallel()
	k := newKeys(0)
	const h = 0x0123456789abcdef
	for i := range 1000 {
		k.current = tableOf(k.current)
		s := k.current.segment(h)
		if 6*(s.used+1) > 5*len(s.tags) {
			// A segment that grows spreads its records anew; here they must stay together.
			old := s.slots
			*s = keySegment{tags: make([]uint8, 2*len(old)+16), slots: make([]key, 2*len(old)+16)}
			for _, r := range old {
				if r.order != 0 {
					s.put(h, r)
				}
			}
		}
		s.put(h, key{user: order.UserID(i % 10), hash: uint64(i / 10), order: order.ID(i + 1)})
	}
	for i := range 1000 {
		if r := k.find(h, order.UserID(i%10), uint64(i/10)); r == nil || r.order != order.ID(i+1) {
			t.Fatalf("key %d is %+v", i, r)
		}
	}
	if r := k.find(h, 10, 1); r != nil {
		t.Fatalf("an unknown key is %+v", r)
	}
}

func tableOf(t *keyTable) *keyTable {
	if t == nil {
		return new(keyTable)
	}
	return t
}

// Periods go as a whole; a clock that goes back changes nothing.
func TestKeysByPeriod(t *testing.T) {
	t.Parallel()
	const day = order.Milli(periodMillis)
	k := newKeys(10*day + 5)
	k.add(k.spread(1, 1), key{user: 1, hash: 1, order: 1})
	for _, c := range []struct {
		now   order.Milli
		known bool
	}{{9 * day, true}, {10 * day, true}, {11*day - 1, true}, {11 * day, true}, {12*day - 1, true}, {12 * day, false}, {500 * day, false}} {
		at := k.at(c.now)
		if known := at.find(at.spread(1, 1), 1, 1) != nil; known != c.known {
			t.Errorf("at %d: known %v, want %v", c.now, known, c.known)
		}
	}
	k = k.at(11 * day)
	k = k.at(10 * day)
	k.add(k.spread(2, 2), key{user: 2, hash: 2, order: 2})
	if at := k.at(12 * day); at.find(at.spread(1, 1), 1, 1) != nil || at.find(at.spread(2, 2), 2, 2) == nil {
		t.Error("after the clock went back a record is in the wrong period")
	}
}

// A record takes at most 120 bytes of live heap, at every size on the way to 300,000.
func TestKeyMemory(t *testing.T) {
	const most = 120
	s, bs, before := selling(t, 0), newBuyers(1000), heapInUse()
	for bs.n < 300_000 {
		bs.reserve(t, s)
		if bs.n%20_000 == 0 {
			if perKey := float64(heapInUse()-before) / float64(bs.n); perKey > most {
				t.Fatalf("%.0f bytes a key at %d keys, want at most %d", perKey, bs.n, most)
			}
		}
	}
	if err := s.Close(); err != nil { // keeps s alive until here
		t.Fatal(err)
	}
}
