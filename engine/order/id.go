package order

import (
	"errors"
	"strconv"
	"sync/atomic"
	"time"
)

// ID is an order id, 63 bits, shown as a decimal string:
//
//	 62      23 22    16 15         8 7        0
//	+----------+--------+------------+----------+
//	| ms since |  node  |   shard    | sequence |
//	| 2025 (40)|   (7)  |  bits (8)  |   (8)    |
//	+----------+--------+------------+----------+
//
// Ids grow with time, so rows are inserted at the end of their table; the shard bits are those of the user, so an order
// id and a user id lead to the same shard.
type ID uint64

// NodesMax is the number of node numbers.
const NodesMax = 128

// idEpoch is 2025-01-01 UTC, in Unix milliseconds.
const idEpoch Milli = 1735689600000

// MakeID composes an id. node is below NodesMax; ms lies between 2025 and 2059.
func MakeID(ms Milli, node uint8, shard, sequence uint8) ID {
	return ID(uint64(ms-idEpoch)<<23 | uint64(node)<<16 | uint64(shard)<<8 | uint64(sequence))
}

// Time is the millisecond in which the id was given.
func (id ID) Time() Milli { return Milli(id>>23) + idEpoch }

// Node is the number of the process that gave the id.
func (id ID) Node() uint8 { return uint8(id>>16) & (NodesMax - 1) }

// VirtualShard is the slice of users that the order's user belongs to.
func (id ID) VirtualShard() uint8 { return uint8(id >> 8) }

// String is the id in decimal.
func (id ID) String() string { return strconv.FormatUint(uint64(id), 10) }

// ParseID reads a decimal id of 1 to 2^63-1, without sign, space or leading zero.
func ParseID(s string) (uint64, bool) {
	if s == "" || len(s) > 19 || s[0] == '0' {
		return 0, false
	}
	var n uint64
	for i := range len(s) {
		c := s[i] - '0'
		if c > 9 {
			return 0, false
		}
		n = n*10 + uint64(c)
	}
	return n, n <= MaxID
}

// ErrNoLease says that this process may give no id now: its lease of a node number does not cover the present
// millisecond.
var ErrNoLease = errors.New("no lease of a node number covers this moment")

// IDs gives order ids. It uses only milliseconds inside the leased interval of its node number and never goes back, so
// no two processes ever give the same id. It is safe for concurrent use and Next takes no lock.
type IDs struct {
	last  [VirtualShards]atomic.Uint64 // per shard bits: ms since idEpoch << 8 | sequence of the last id given
	lease atomic.Pointer[nodeLease]
	now   func() time.Time
}

type nodeLease struct {
	node         uint8
	since, until Milli
}

// NewIDs returns a generator without a lease. now is the clock; nil means time.Now.
func NewIDs(now func() time.Time) *IDs {
	if now == nil {
		now = time.Now
	}
	g := &IDs{now: now}
	g.lease.Store(&nodeLease{})
	return g
}

// Lease sets the node number and the interval [since, until) in which ids may lie. A renewal moves until forward;
// until 0 takes the lease away.
func (g *IDs) Lease(node uint8, since, until Milli) {
	g.lease.Store(&nodeLease{node: node, since: since, until: until})
}

// Until is where the lease ends; 0 without one.
func (g *IDs) Until() Milli { return g.lease.Load().until }

// Ready tells whether the lease covers this moment.
func (g *IDs) Ready() bool {
	now, l := MilliOf(g.now()), g.lease.Load()
	return now >= l.since && now < l.until
}

// Next gives an id for an order of user u, or ErrNoLease. When the 256 ids of this millisecond and shard are spent, it
// takes the next millisecond, at most a second ahead of the clock.
func (g *IDs) Next(u UserID) (ID, error) {
	shard := VirtualShard(u)
	slot := &g.last[shard]
	l := g.lease.Load()
	for {
		last := slot.Load()
		now := MilliOf(g.now())
		next := max(uint64(now-idEpoch)<<8, last+1)
		ms := Milli(next>>8) + idEpoch
		if ms < l.since || ms >= l.until || ms > now+1000 {
			return 0, ErrNoLease
		}
		if slot.CompareAndSwap(last, next) {
			return MakeID(ms, l.node, shard, uint8(next)), nil
		}
	}
}
