package limit

import (
	"hash/maphash"
	"math/bits"
	"sync"
	"sync/atomic"
	"time"
)

// Keyed is a limiter per key, with bounded memory. All methods are safe for concurrent use.
type Keyed struct {
	seed  maphash.Seed // of this limiter: nobody outside can aim at a part or a slot
	slots int          // of a part, at most; a power of two
	table atomic.Pointer[table]
}

// KeysMax bounds the keys of a limiter.
const KeysMax = 10_000_000

const (
	parts    = 1 << partBits
	partBits = 10
	slotsMin = 16 // of a part that has any
	window   = 32 // slots that are looked at for one key
)

type table [parts]part

// part is an open-addressing table of its own. A key lies in one of the window slots that begin at its home, and in front
// of the first slot that was never used. Slots are used again, never emptied.
type part struct {
	mu    sync.Mutex
	slots []slot
	_     [32]byte // no two parts share a cache line
}

// slot holds one key. It has no pointers: the garbage collector does not look at it.
type slot struct {
	hash uint64 // of the key; 0: never used
	tat  int64
}

// NewKeyed returns a limiter that keeps keys, 1 to KeysMax, at most, or a little more. It takes no memory before the
// first Take.
func NewKeyed(keys int) *Keyed {
	if keys < 1 || keys > KeysMax {
		panic("BUG: a limiter keeps 1 to KeysMax keys")
	}
	perPart := uint(keys+keys/3) / parts // a table that is three quarters full finds a place for almost every key
	return &Keyed{seed: maphash.MakeSeed(), slots: max(slotsMin, 1<<bits.Len(perPart))}
}

// Take lets one of key through at now and returns 0, or returns after how long one may come, and takes nothing. l is on.
func (k *Keyed) Take(key uint64, now int64, l *Limit) (wait time.Duration) {
	p, hash := k.find(key)
	p.mu.Lock()
	defer p.mu.Unlock()
	s := p.slot(hash, now, k.slots)
	if s.hash != hash {
		*s = slot{hash, now}
	}
	s.tat, wait = l.next(s.tat, now)
	return wait
}

// GiveBack undoes one Take of key that let through, under the same limit. If the key has been forgotten since, there is
// nothing to undo.
func (k *Keyed) GiveBack(key uint64, l *Limit) {
	p, hash := k.find(key)
	p.mu.Lock()
	defer p.mu.Unlock()
	mask := uint64(len(p.slots) - 1)
	for i := range uint64(min(window, len(p.slots))) {
		if s := &p.slots[(hash+i)&mask]; s.hash == hash {
			s.tat -= l.interval()
			return
		}
	}
}

// Forget forgets all keys and frees their memory.
func (k *Keyed) Forget() { k.table.Store(nil) }

// Bytes is the memory that the keys take.
func (k *Keyed) Bytes() int64 {
	t := k.table.Load()
	if t == nil {
		return 0
	}
	total := int64(parts * 64)
	for i := range t {
		p := &t[i]
		p.mu.Lock()
		total += int64(len(p.slots)) * 16
		p.mu.Unlock()
	}
	return total
}

// find is the part of a key, and its hash, which is never 0. The part is chosen by the upper bits, the home in it by the
// lower ones.
func (k *Keyed) find(key uint64) (*part, uint64) {
	t := k.table.Load()
	for t == nil {
		k.table.CompareAndSwap(nil, new(table))
		t = k.table.Load()
	}
	hash := maphash.Comparable(k.seed, key)
	return &t[hash>>(64-partBits)], max(hash, 1)
}

// slot is where the key of that hash is, or where it is to be put. The part grows, up to most slots, if there is no other
// place than that of a key which is not full again.
func (p *part) slot(hash uint64, now int64, most int) *slot {
	if p.slots == nil {
		p.slots = make([]slot, slotsMin)
	}
	for {
		s, free := p.look(hash, now)
		if free || len(p.slots) >= most {
			return s
		}
		p.grow(now)
	}
}

// look is the slot of the key if it is here. Otherwise it is, of the window, the first whose key is full again, or the
// first that was never used; free is true for all these. Failing that it is the one with the oldest TAT.
func (p *part) look(hash uint64, now int64) (s *slot, free bool) {
	mask := uint64(len(p.slots) - 1)
	for i := range uint64(min(window, len(p.slots))) {
		at := &p.slots[(hash+i)&mask]
		switch {
		case at.hash == hash:
			return at, true
		case at.hash == 0:
			if !free {
				s = at
			}
			return s, true
		case free:
		case at.tat <= now:
			s, free = at, true
		case s == nil || at.tat < s.tat:
			s = at
		}
	}
	return s, free
}

// grow doubles the part, and leaves out the keys that are full again.
func (p *part) grow(now int64) {
	old := p.slots
	p.slots = make([]slot, 2*len(old))
	for _, x := range old {
		if x.tat <= now {
			continue
		}
		if s, free := p.look(x.hash, now); free || s.tat < x.tat { // not free: possible, and as rare as it is harmless
			*s = x
		}
	}
}
