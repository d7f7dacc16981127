package main

import (
	"context"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"sluice/engine/order"
	"sluice/engine/queue"
)

// Present is what the store, the queue and the disk hold now that a person should know of. -1 stands for a number that
// could not be read.
type Present struct {
	Parked, Poison int64                     // accepted orders that are not recorded; at most 100,000 per home shard are counted
	DeadLetters    int64                     // at most lettersMax
	DiskFree       int64                     // bytes
	DiskFreeMin    int64                     // bytes; below it new orders are turned away
	Lease          time.Duration             // how long the node number's lease still lasts
	Backlog        map[order.Partition]int64 // messages that are not stored; partitions that cannot be read are missing
}

const (
	presentFor  = time.Second      // how long a look is believed
	presentWait = time.Second      // how long one may take
	lettersFor  = 10 * time.Second // the same for dead letters, which come with their bodies
	lettersMax  = 100
)

// presence looks on demand and remembers it for a moment, however many ask.
type presence struct {
	mu        sync.Mutex
	looked    time.Time
	last      Present
	lettersAt time.Time
}

// present is the last look, or a new one. It takes presentWait at most.
func (s *Server) present() *Present {
	l := &s.presence
	l.mu.Lock()
	defer l.mu.Unlock()
	if time.Since(l.looked) > presentFor {
		ctx, cancel := context.WithTimeout(context.Background(), presentWait)
		defer cancel()
		s.look(ctx, l)
		l.looked = time.Now()
	}
	now := l.last
	return &now
}

func (s *Server) look(ctx context.Context, l *presence) {
	now := Present{Parked: -1, Poison: -1, DeadLetters: -1, DiskFree: -1, DiskFreeMin: int64(s.config.Disk.FreeBytesMin),
		Backlog: map[order.Partition]int64{}, Lease: max(0, time.Until(s.ids.Until().Time()))}
	if parked, poison, err := s.store.CountParked(ctx); err == nil {
		now.Parked, now.Poison = parked, poison
	}
	now.DeadLetters = l.last.DeadLetters
	if time.Since(l.lettersAt) > lettersFor {
		now.DeadLetters, l.lettersAt = -1, time.Now()
		if letters, err := s.queue.Letters(ctx, queue.LetterID{}, lettersMax); err == nil {
			now.DeadLetters = int64(len(letters))
		}
	}
	if s.role().sells() || s.role().stores() {
		for _, kind := range s.config.Engine.Kinds {
			for _, p := range s.config.Engine.Partitions.Each(kind) {
				if b, err := s.queue.Backlog(ctx, p); err == nil {
					now.Backlog[p] = b.Messages
				}
			}
		}
	}
	var fs unix.Statfs_t
	if unix.Statfs(s.config.DataDir, &fs) == nil {
		now.DiskFree = int64(fs.Bavail) * fs.Bsize
	}
	l.last = now
}
