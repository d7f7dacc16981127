package persist

import (
	"errors"
	"slices"
	"time"

	"sluice/engine/order"
)

// errLeft says that messages were left to the queue, which delivers them again to who joins it.
var errLeft = errors.New("the home shard answers again, and what was left to the queue is taken again")

// held is what was received of one home shard and is not acknowledged yet, in order: first what is in the flush under
// way, then what waits for the next.
type held struct {
	items   []item
	bytes   int
	under   int        // of items, in the flush under way; 0: there is none
	done    chan error // how that flush ended
	left    bool       // to the queue: everything behind items
	most    int        // messages of the next flush, since one failed; 0: as many as onceBytesMax allows
	retryAt time.Time  // not before, after a failure
	pause   time.Duration
}

type item struct {
	message   *order.Message // nil: damaged, and buried
	position  uint64
	partition order.Partition
	bytes     int
}

// anew is what is held after joining the queue: nothing. What shards can do at once is still known.
func anew(homes []held, shards int) []held {
	fresh := make([]held, shards)
	for i := range homes {
		fresh[i].most = homes[i].most
	}
	return fresh
}

// drop forgets what is held of a partition: it is not acknowledged and comes back.
func (h *held) drop(p order.Partition) {
	h.items = slices.DeleteFunc(h.items, func(it item) bool { return it.partition == p })
	h.count()
}

// again says that what was left to the queue is to be taken again, now that the shard answers.
func (h *held) again() error {
	if h.left {
		return errLeft
	}
	return nil
}

// next is how many messages the next flush takes.
func (h *held) next() (n int) {
	size := 0
	for n < len(h.items) && size < onceBytesMax && (h.most == 0 || n < h.most) {
		size += h.items[n].bytes
		n++
	}
	return n
}

// shift forgets the first n messages: they are stored.
func (h *held) shift(n int) {
	h.items = slices.Delete(h.items, 0, n)
	h.count()
	h.retryAt, h.pause, h.most = time.Time{}, 0, min(2*h.most, mostMax)
	if len(h.items) > 0 {
		h.retryAt = time.Now()
	} else {
		h.most = 0
	}
}

// mostMax is more messages than onceBytesMax ever allows.
const mostMax = onceBytesMax

func (h *held) count() {
	h.bytes = 0
	for i := range h.items {
		h.bytes += h.items[i].bytes
	}
}

// fail keeps what is held for later: next time half as much of it, because a shard that is too slow for so many messages
// at once would never store any.
func (h *held) fail(messages int) {
	h.most = max(1, messages/2)
	h.pause = min(max(2*h.pause, retryFirst), retryLast)
	h.retryAt = time.Now().Add(h.pause)
}
