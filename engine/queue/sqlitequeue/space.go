package sqlitequeue

import (
	"fmt"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"sluice/engine/queue"
)

// spaceEvery is how long an answer of the file system is believed.
const spaceEvery = time.Second

// space watches the free bytes of the disk.
type space struct {
	path string
	min  int64

	mu    sync.Mutex
	asked time.Time
	full  error // nil, or ErrFull with the particulars
}

// check returns an error that is queue.ErrFull while less than min is free. It asks the file system at most once a
// second.
func (s *space) check() error {
	if s.min <= 0 {
		return nil
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.asked.IsZero() && time.Since(s.asked) < spaceEvery {
		return s.full
	}
	var st unix.Statfs_t
	if err := unix.Statfs(s.path, &st); err != nil {
		return fmt.Errorf("free space of %s: %w", s.path, err)
	}
	s.asked, s.full = time.Now(), nil
	if free := int64(st.Bavail) * st.Bsize; free < s.min {
		s.full = fmt.Errorf("%w: %d bytes are free beside %s, %d are to stay free", queue.ErrFull, free, s.path, s.min)
	}
	return s.full
}
