package rocketqueue

import (
	"context"
	"fmt"
	"sync"
	"time"

	"sluice/engine/order"
	"sluice/engine/queue"
)

// A position is an era and the offset behind the message in its queue; see the package's doc.
const (
	eraShift  = 40
	offsetMax = 1<<eraShift - 1
)

func position(era uint64, offset int64) uint64 { return era<<eraShift | uint64(offset+1)&offsetMax }

// A note is the era of a queue and the broker's start, in Unix milliseconds, for which it was settled, kept as an offset.
const (
	startShift = 42 // milliseconds until the year 2109
	startMax   = 1<<startShift - 1
)

func note(era uint64, started int64) int64 { return int64(era<<startShift) | started&startMax }

func readNote(n int64) (era uint64, started int64) { return uint64(n) >> startShift, n & startMax }

// source is a queue as one consumer reads it. The goroutine that keeps the membership begins and ends its polls.
type source struct {
	partition order.Partition
	place     place
	starts    place // where the broker's starts are noted
	share     int   // of memory
	room      chan struct{}

	stop    context.CancelFunc
	polling sync.WaitGroup

	// Under the consumer's mu.
	serving   bool  // it is ours
	settled   *link // the connection on which it was settled last
	started   int64 // the broker's start for which next is right; 0: not settled since it is ours
	next      int64 // the offset of the next poll
	era       uint64
	cut       int64 // where the era began, 0 for the first
	waiting   []queue.Delivery
	bytes     int
	highest   uint64 // position delivered
	acked     int64  // everything before this offset is acknowledged
	committed int64
}

// take hands out what waits.
func (s *source) take(max, maxBytes int) (got []queue.Delivery, bytes int) {
	for len(got) < min(max, len(s.waiting)) && bytes < maxBytes {
		bytes += len(s.waiting[len(got)].Body)
		got = s.waiting[:len(got)+1]
	}
	if len(got) == 0 {
		return nil, 0
	}
	s.highest = got[len(got)-1].Position
	got = append([]queue.Delivery(nil), got...)
	clear(s.waiting[:len(got)])
	if s.waiting = s.waiting[len(got):]; len(s.waiting) == 0 {
		s.waiting = nil
	}
	s.bytes -= bytes
	s.wake()
	return got, bytes
}

func (s *source) wake() {
	select {
	case s.room <- struct{}{}:
	default:
	}
}

// ack notes a position. One of the era before covers what lay in front of the cut, older ones nothing.
func (s *source) ack(position uint64) {
	era, behind := position>>eraShift, int64(position&offsetMax)
	switch {
	case era+1 == s.era:
		behind = min(behind, s.cut)
	case era != s.era:
		return
	}
	if s.serving {
		s.acked = max(s.acked, behind)
	}
}

// end stops the polls and waits for the last one.
func (s *source) end() {
	if s.stop != nil {
		s.stop()
		s.polling.Wait()
		s.stop = nil
	}
}

// leave forgets everything about a queue that is another's now, except what was delivered.
func (s *source) leave() {
	s.serving, s.settled, s.started, s.waiting, s.bytes = false, nil, 0, nil, 0
}

// poll settles the queue and polls it until ctx ends or the connection is lost.
func (v *visit) poll(ctx context.Context, s *source) {
	err := v.settle(ctx, s)
	for ctx.Err() == nil {
		if err == nil {
			err = v.pollOnce(ctx, s)
		}
		if err == nil {
			continue
		}
		select {
		case <-v.l.lost:
			return
		default:
		}
		v.fail(err)
		_ = pause(ctx, failedPause)
		err = v.settle(ctx, s)
	}
}

// fail keeps the reason why a queue is not read, for Receive.
func (v *visit) fail(err error) {
	v.mu.Lock()
	defer v.mu.Unlock()
	if v.away == nil {
		v.since = time.Now()
	}
	v.away = err
}

func (v *visit) pollOnce(ctx context.Context, s *source) error {
	for {
		v.mu.Lock()
		full := s.bytes >= s.share
		v.mu.Unlock()
		if !full {
			break
		}
		select {
		case <-s.room:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	from := s.next
	got, err := v.l.poll(ctx, s.place, from)
	if err != nil {
		return err
	}
	switch {
	case got.moved && got.next < from:
		return v.cutAt(ctx, s, got.next, s.era+1)
	case got.moved && got.next > from:
		v.lost(s, got.next)
	case got.again && got.next == from:
		return pause(ctx, awayPause)
	}
	v.mu.Lock()
	defer v.mu.Unlock()
	for _, m := range got.messages {
		if m.offset < s.next {
			continue
		}
		s.waiting = append(s.waiting, queue.Delivery{Partition: s.partition, Position: position(s.era, m.offset), Body: m.body})
		s.bytes += len(m.body)
		s.next = m.offset + 1
	}
	s.next = max(s.next, got.next)
	v.away = nil
	if len(got.messages) > 0 {
		v.signal()
	}
	return nil
}

// lost tells that the broker has deleted messages that nobody had acknowledged: it deletes by age.
func (v *visit) lost(s *source, next int64) {
	v.mu.Lock()
	defer v.mu.Unlock()
	v.loss = fmt.Errorf("the broker has deleted messages %d to %d of partition %d before they were delivered: orders are lost; "+
		"it must keep messages for longer (fileReservedTime)", s.next, next-1, s.partition)
	s.next = next
	v.signal()
}

// settle finds where to go on on this connection.
func (v *visit) settle(ctx context.Context, s *source) error {
	committed, known, err := v.l.committed(ctx, s.place)
	if err == nil && !known {
		committed, err = v.l.min(ctx, s.place)
	}
	if err != nil {
		return err
	}
	noted, marked, err := v.l.committed(ctx, s.starts)
	if err != nil {
		return err
	}
	era, started := readNote(noted)
	if !marked {
		started = v.started // nothing is known of another start
	}
	v.mu.Lock()
	if s.started == 0 { // it has just become ours
		s.next, s.acked, s.cut = committed, committed, 0
		s.started, s.era = started, era
	} else if committed > s.acked { // another member was ahead while we slept
		s.skip(committed)
	}
	s.committed = committed
	changed, next := s.started != v.started || started != v.started, s.next
	v.mu.Unlock()
	if changed {
		cut, err := v.cut(ctx, s, next)
		if err != nil {
			return err
		}
		if cut < next {
			if started != v.started || era <= s.era {
				era = max(era, s.era) + 1 // else another member has cut it, and counted
			}
			return v.cutAt(ctx, s, cut, era)
		}
	}
	return v.settledNow(ctx, s, !marked || started != v.started)
}

// skip leaves out what another member has acknowledged.
func (s *source) skip(committed int64) {
	s.acked, s.next = committed, max(s.next, committed)
	for len(s.waiting) > 0 && s.waiting[0].Position <= position(s.era, committed-1) {
		s.bytes -= len(s.waiting[0].Body)
		s.waiting = s.waiting[1:]
	}
	s.wake()
}

// cut is the offset of the first message that the broker has stored since its start, or of the end of its log if there is
// none yet; next if that lies behind it. The look-up may be a little early, and messages come to a queue a little after they
// were stored.
func (v *visit) cut(ctx context.Context, s *source, next int64) (int64, error) {
	at, err := v.l.since(ctx, s.place, v.started)
	for err == nil && at < next {
		var got *pulled
		if got, err = v.l.peek(ctx, s.place, at, 1); err != nil {
			break
		}
		if len(got.messages) == 0 || got.messages[0].at >= v.started {
			return at, nil
		}
		at = got.messages[0].offset + 1
	}
	return next, err
}

// cutAt begins an era: what lies from the offset on took the place of messages that the broker has lost. What was delivered
// before is acknowledged as ever.
func (v *visit) cutAt(ctx context.Context, s *source, at int64, era uint64) error {
	to := min(s.acked, at)
	if err := v.l.commit(ctx, s.place, to); err != nil {
		return err
	}
	v.mu.Lock()
	s.era, s.cut, s.next, s.acked, s.committed = era, at, at, to, to
	v.mu.Unlock()
	return v.settledNow(ctx, s, true)
}

// settledNow notes for which start of the broker the queue is right.
func (v *visit) settledNow(ctx context.Context, s *source, write bool) error {
	v.mu.Lock()
	n := note(s.era, v.started)
	v.mu.Unlock()
	if write {
		if err := v.l.commit(ctx, s.starts, n); err != nil {
			return err
		}
	}
	v.mu.Lock()
	defer v.mu.Unlock()
	s.settled, s.started = v.l, v.started
	return nil
}
