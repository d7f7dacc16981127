package sqlitequeue

import (
	"sluice/engine/order"
	"sluice/engine/queue"
)

// part is what is known of a partition. Queue.mu guards it, except given.
//
//	retired <= acked <= delivered <= last <= given
//
// Messages up to retired have no row any more. Those up to delivered were handed to the live consumer. Of the rest,
// those up to spill are read from the file, those behind it are in ready.
type part struct {
	number    order.Partition
	memoryMax int64

	given     uint64 // last position used by a transaction that runs or ran; guarded by Queue.write
	last      uint64 // last position committed
	delivered uint64
	acked     uint64
	retired   uint64
	spill     uint64

	live   bool // a consumer is there
	heavy  bool // in Queue.heavy
	ready  [][]byte
	memory int64 // bytes in ready
}

// arrive takes over a committed message: into memory if a consumer is there and the share is not spent. The body is
// kept.
func (p *part) arrive(position uint64, body []byte) {
	if position != p.last+1 {
		panic("BUG: positions have a gap")
	}
	p.last = position
	if !p.live || p.memory+int64(len(body)) > p.memoryMax {
		p.drop()
		return
	}
	p.ready = append(p.ready, body)
	p.memory += int64(len(body))
}

// drop forgets what is in memory: everything not delivered is read from the file.
func (p *part) drop() {
	p.ready, p.memory, p.spill = nil, 0, p.last
}

// attach begins anew for a consumer that comes, at what is not acknowledged.
func (p *part) attach() {
	p.live, p.delivered = true, p.acked
	p.drop()
}

func (p *part) detach() {
	p.live = false
	p.drop()
}

// segment is a stretch of a partition that is read from the file: after < position <= upTo.
type segment struct {
	p           order.Partition
	after, upTo uint64
}

// behind tells what must be read from the file before anything in memory may be delivered.
func (p *part) behind() (segment, bool) {
	return segment{p.number, p.delivered, p.spill}, p.delivered < p.spill
}

// take moves messages from memory to dst, as many as b allows.
func (p *part) take(dst []queue.Delivery, b *budget) []queue.Delivery {
	n := 0
	for n < len(p.ready) && b.room() {
		body := p.ready[n]
		b.spend(body)
		p.memory -= int64(len(body))
		p.delivered++
		dst = append(dst, queue.Delivery{Partition: p.number, Position: p.delivered, Body: body})
		p.ready[n] = nil
		n++
	}
	if p.ready = p.ready[n:]; len(p.ready) == 0 {
		p.ready = nil
	}
	return dst
}

// budget is what one Receive may still return.
type budget struct {
	messages, bytes int
}

func (b *budget) room() bool { return b.messages > 0 && b.bytes > 0 }

func (b *budget) spend(body []byte) {
	b.messages--
	b.bytes -= len(body)
}
