package sqlitequeue

import (
	"database/sql/driver"
	"errors"
	"fmt"
	"os"
	"time"
)

const (
	keeperEvery = 500 * time.Millisecond
	keeperRows  = 256 // deleted in one transaction of the keeper's

	frameSize       = pageSize + 24
	checkpointShare = 8        // a checkpoint is due when the WAL has reached WALMax / checkpointShare
	vacuumFreeMin   = 16 << 20 // bytes; below, free pages wait for the next burst
	vacuumPages     = 256      // given back in one step
	vacuumStepsMax  = 64       // in one round
)

// keep is the keeper's loop. What fails is tried again at the next round: a checkpoint or a deletion that did not
// happen costs space, and a disk that cannot be written shows in Publish.
func (q *Queue) keep() {
	tick := time.NewTicker(keeperEvery)
	defer tick.Stop()
	for {
		select {
		case <-q.stop:
			return
		case <-q.kick:
			_ = q.checkpointNow()
		case <-tick.C:
			_ = q.retireOld()
			_ = q.vacuum()
		}
	}
}

// retireOld deletes what no commit has deleted, in small transactions between which publishers get their turn.
func (q *Queue) retireOld() error {
	for _, p := range q.parts {
		for more := true; more; {
			q.write.Lock()
			var err error
			more, err = q.retireStep(p, keeperRows)
			q.write.Unlock()
			if err != nil {
				return err
			}
		}
	}
	return nil
}

// countWAL adds what a transaction wrote, roughly, and asks for a checkpoint. write is held.
func (q *Queue) countWAL(batch []*entry, retired []retirement) {
	pages := 3 + 3*len(retired)
	for _, e := range batch {
		pages += 1 + len(e.body)/pageSize
	}
	wal := q.wal.Add(int64(pages) * frameSize)
	if wal > q.options.WALMax/checkpointShare {
		select {
		case q.kick <- struct{}{}:
		default:
		}
	}
	if wal > q.options.WALMax {
		_ = q.finishCheckpoint() // the keeper cannot keep up: whoever publishes waits
	}
}

// checkpointNow copies the WAL into the database while publishers go on, then the little that came meanwhile while they
// wait: only then can the WAL begin at its start again.
func (q *Queue) checkpointNow() error {
	q.checkpoint.Lock()
	_, err := q.copier.row("PRAGMA wal_checkpoint(PASSIVE)")
	q.checkpoint.Unlock()
	if err != nil {
		return err
	}
	q.write.Lock()
	defer q.write.Unlock()
	return q.finishCheckpoint()
}

var errCheckpoint = errors.New("checkpoint is held up by a reader")

// finishCheckpoint copies everything and cuts a WAL file that has grown beyond WALMax. write is held.
func (q *Queue) finishCheckpoint() error {
	q.checkpoint.Lock()
	defer q.checkpoint.Unlock()
	checkpoint := q.file.emptyWAL
	if info, err := os.Stat(q.options.Path + "-wal"); err != nil || info.Size() <= q.options.WALMax {
		checkpoint = func() ([]driver.Value, error) { return q.file.row("PRAGMA wal_checkpoint(PASSIVE)") }
	}
	row, err := checkpoint()
	if err == nil && (row[0].(int64) != 0 || row[1].(int64) != row[2].(int64)) {
		err = errCheckpoint
	}
	if err != nil {
		q.wal.Add(-q.options.WALMax / checkpointShare) // try again after as much as this
		return err
	}
	q.wal.Store(0)
	return nil
}

// emptyWAL copies everything and cuts the WAL file, unless somebody reads: a backup may read for minutes, and publishers
// would wait for it.
func (f *file) emptyWAL() ([]driver.Value, error) {
	if err := f.exec("PRAGMA busy_timeout=0"); err != nil {
		return nil, err
	}
	row, err := f.row("PRAGMA wal_checkpoint(TRUNCATE)")
	return row, errors.Join(err, f.exec("PRAGMA "+busyTimeout))
}

// vacuum gives pages back to the file system when more is free than used. The file is cut by the checkpoint.
func (q *Queue) vacuum() error {
	steps := 0
	for more := true; more && steps < vacuumStepsMax; {
		var err error
		q.write.Lock()
		more, err = q.vacuumStep()
		q.write.Unlock()
		if err != nil {
			return err
		}
		if more {
			steps++
		}
	}
	if steps == 0 {
		return nil
	}
	return q.checkpointNow()
}

// vacuumStep gives back some pages; write is held. more false: there was not enough to give.
func (q *Queue) vacuumStep() (more bool, err error) {
	free, err := q.file.number("PRAGMA freelist_count")
	if err != nil || free*pageSize < vacuumFreeMin {
		return false, err
	}
	pages, err := q.file.number("PRAGMA page_count")
	if err != nil || free < pages/2 {
		return false, err
	}
	q.wal.Add(vacuumPages * frameSize)
	return true, q.file.exec(fmt.Sprintf("PRAGMA incremental_vacuum(%d)", vacuumPages))
}
