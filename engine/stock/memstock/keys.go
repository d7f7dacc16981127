package memstock

import (
	"math/bits"
	"math/rand/v2"

	"sluice/engine/order"
)

// key is one idempotency record: 40 bytes without a pointer. An order of 0 is a free slot.
type key struct {
	user        order.UserID
	hash        uint64
	order       order.ID
	fingerprint uint64
	batch       order.BatchID
}

// periodMillis is the length of a period of idempotency records: 24 hours. A record is kept for one to two of them.
const periodMillis = 24 * 60 * 60 * 1000

// keys are the idempotency records of one partition: those of the period in which the last one was written, and those of
// the period before. A period goes as a whole.
type keys struct {
	seed     uint64 // so that nobody outside can choose keys that collide in the tables
	period   int64
	current  *keyTable // nil: empty
	previous *keyTable
}

// newKeys returns no records, in the period of now.
func newKeys(now order.Milli) keys {
	return keys{seed: rand.Uint64(), period: int64(now) / periodMillis}
}

// at is the keys as they are at now: periods that are over are left out. A clock that went back changes nothing.
func (k keys) at(now order.Milli) keys {
	switch passed := int64(now)/periodMillis - k.period; {
	case passed <= 0:
		return k
	case passed == 1:
		return keys{seed: k.seed, period: k.period + 1, previous: k.current}
	default:
		return keys{seed: k.seed, period: k.period + passed}
	}
}

// find is the record of a key, or nil. h is spread of the key. The record is valid until the next add.
func (k *keys) find(h uint64, user order.UserID, hash uint64) *key {
	if found := k.current.find(h, user, hash); found != nil {
		return found
	}
	return k.previous.find(h, user, hash)
}

// add writes a record whose key is not known. h is spread of the key.
func (k *keys) add(h uint64, r key) {
	if k.current == nil {
		k.current = new(keyTable)
	}
	k.current.add(k, h, r)
}

// touch reads where the record of h would be. A call that touches all its keys first waits for main memory once in a
// while, not at every key: the reads do not depend on each other.
func (k *keys) touch(h uint64) uint8 { return k.current.touch(h) + k.previous.touch(h) }

// spread is the place of a key in the tables.
func (k *keys) spread(user order.UserID, hash uint64) uint64 {
	return order.SplitMix64(hash ^ order.SplitMix64(uint64(user)^k.seed))
}

// keyTable is a hash table of the records of one period. A Go map of them takes 50 to 100 bytes a record, depending on how
// long ago its tables doubled; this takes 50 to 75, because it grows by half, and segment by segment, each at another
// time: no call waits for a large copy, and no moment holds everything twice. Records are only ever added.
type keyTable struct {
	segments [keySegments]keySegment
}

const keySegments = 256

// keySegment is open addressing with linear probing over tags: a tag is 0 for a free slot, else 7 bits of the hash and
// the top bit. Probing reads tags only, which lie 64 to a cache line.
type keySegment struct {
	tags  []uint8
	slots []key
	used  int
}

// A hash is split into the segment (top 8 bits), the first slot of n (the bits below) and the tag (low 7 bits).
func (t *keyTable) segment(h uint64) *keySegment { return &t.segments[h>>56] }

func firstSlot(h uint64, n int) int {
	at, _ := bits.Mul64(h<<8, uint64(n))
	return int(at)
}

func tagOf(h uint64) uint8 { return uint8(h) | 0x80 }

func (t *keyTable) find(h uint64, user order.UserID, hash uint64) *key {
	if t == nil {
		return nil
	}
	s := t.segment(h)
	if s.used == 0 {
		return nil
	}
	tag := tagOf(h)
	for i := firstSlot(h, len(s.tags)); s.tags[i] != 0; {
		if s.tags[i] == tag {
			if r := &s.slots[i]; r.hash == hash && r.user == user {
				return r
			}
		}
		if i++; i == len(s.tags) {
			i = 0
		}
	}
	return nil
}

func (t *keyTable) touch(h uint64) uint8 {
	if t == nil {
		return 0
	}
	s := t.segment(h)
	if s.used == 0 {
		return 0
	}
	i := firstSlot(h, len(s.tags))
	return s.tags[i] + uint8(s.slots[i].order)
}

func (t *keyTable) add(k *keys, h uint64, r key) {
	s := t.segment(h)
	if 6*(s.used+1) > 5*len(s.tags) {
		s.grow(k, int(h>>56))
	}
	s.put(h, r)
}

func (s *keySegment) put(h uint64, r key) {
	i := firstSlot(h, len(s.tags))
	for s.tags[i] != 0 {
		if i++; i == len(s.tags) {
			i = 0
		}
	}
	s.tags[i], s.slots[i] = tagOf(h), r
	s.used++
}

// grow makes room for half as much again. The number of the segment sets the first size, so that segments, which fill
// evenly, do not grow all at once.
func (s *keySegment) grow(k *keys, number int) {
	n := len(s.tags) + len(s.tags)/2
	if n == 0 {
		n = 16 + number%16
	}
	old := s.slots
	*s = keySegment{tags: make([]uint8, n), slots: make([]key, n)}
	for _, r := range old {
		if r.order != 0 {
			s.put(k.spread(r.user, r.hash), r)
		}
	}
}
