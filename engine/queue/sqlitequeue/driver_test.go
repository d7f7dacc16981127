package sqlitequeue

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"sluice/engine/order"
	"sluice/engine/queue"
)

func openAt(t *testing.T, o Options) *Queue {
	t.Helper()
	if o.Path == "" {
		o.Path = filepath.Join(t.TempDir(), "queue.db")
	}
	if o.Partitions.Count() == 0 {
		o.Partitions = order.Partitions{Normal: 2, Flash: 2}
	}
	q, err := Open(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = q.Close() })
	return q
}

func publish(t *testing.T, q *Queue, p order.Partition, n, size int) {
	t.Helper()
	for range n {
		if err := q.Publish(t.Context(), p, make([]byte, size)); err != nil {
			t.Fatal(err)
		}
	}
}

func drain(t *testing.T, c queue.Consumer, n int) (last queue.Delivery) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	for n > 0 {
		got, err := c.Receive(ctx, n, 8<<20)
		if err != nil {
			t.Fatalf("%d messages are missing: %v", n, err)
		}
		n -= len(got)
		last = got[len(got)-1]
	}
	return last
}

func consume(t *testing.T, q *Queue, kind order.Kind) queue.Consumer {
	t.Helper()
	c, err := q.Consumer(t.Context(), kind)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() })
	return c
}

// eventually waits for what the keeper does.
func eventually(t *testing.T, what string, done func() bool) {
	t.Helper()
	deadline := time.Now().Add(time.Minute)
	for !done() {
		if time.Now().After(deadline) {
			t.Fatalf("%s: it did not happen", what)
		}
		time.Sleep(5 * time.Millisecond)
	}
}

func (q *Queue) rows(t *testing.T) int64 {
	t.Helper()
	q.write.Lock()
	defer q.write.Unlock()
	n, err := q.file.number("SELECT count(*) FROM message")
	if err != nil {
		t.Fatal(err)
	}
	return n
}

func TestFull(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "queue.db")
	var st unix.Statfs_t
	if err := unix.Statfs(filepath.Dir(path), &st); err != nil {
		t.Fatal(err)
	}
	q := openAt(t, Options{Path: path, FreeMin: int64(st.Blocks) * st.Bsize}) // more than can be free
	err := q.Publish(t.Context(), 0, []byte("x"))
	if !errors.Is(err, queue.ErrFull) {
		t.Errorf("publish below the floor: %v, want ErrFull", err)
	}
	if err := q.Close(); err != nil {
		t.Fatal(err)
	}
	q = openAt(t, Options{Path: path, FreeMin: 1})
	if b, err := q.Backlog(t.Context(), 0); err != nil || b.Messages != 0 {
		t.Errorf("what was refused is stored: %v, %v", b, err)
	}
	publish(t, q, 0, 1, 1)
}

// SQLite's own "full" in the middle of a transaction undoes it whole: certainly not stored, and the queue goes on.
func TestFileIsFull(t *testing.T) {
	t.Parallel()
	q := openAt(t, Options{})
	publish(t, q, 0, 3, 100)
	q.write.Lock()
	pages, err := q.file.number("PRAGMA page_count")
	if err == nil {
		err = q.file.exec(fmt.Sprintf("PRAGMA max_page_count = %d", pages+2))
	}
	q.write.Unlock()
	if err != nil {
		t.Fatal(err)
	}
	if err := q.Publish(t.Context(), 0, make([]byte, 100_000)); !errors.Is(err, queue.ErrFull) {
		t.Errorf("publish into a full file: %v, want ErrFull", err)
	}
	publish(t, q, 0, 1, 10)
	c := consume(t, q, order.Normal)
	if last := drain(t, c, 4); last.Position != 4 || len(last.Body) != 10 {
		t.Errorf("the last message is %d with %d bytes", last.Position, len(last.Body))
	}
}

// A transaction that can be neither committed nor undone closes the queue to publishers instead of guessing.
func TestBroken(t *testing.T) {
	t.Parallel()
	q := openAt(t, Options{})
	publish(t, q, 0, 1, 10)
	q.write.Lock()
	insert, rollback := q.file.insert, q.file.rollback
	var errs [2]error
	q.file.insert, errs[0] = q.file.prepare("INSERT INTO part(p, acked) SELECT NULL, NULL WHERE ?1 + ?2 + length(?3) > 0") // violates NOT NULL
	q.file.rollback, errs[1] = q.file.prepare("SELECT 1")
	if err := errors.Join(errs[:]...); err != nil {
		t.Fatal(err)
	}
	q.write.Unlock()
	for range 2 {
		if err := q.Publish(t.Context(), 0, []byte("x")); err == nil || errors.Is(err, queue.ErrFull) {
			t.Errorf("publish on a broken connection: %v", err)
		}
	}
	q.write.Lock()
	q.file.insert, q.file.rollback = insert, rollback
	if err := q.file.rollback.exec(); err != nil {
		t.Error(err)
	}
	q.write.Unlock()
	if err := q.Publish(t.Context(), 0, []byte("x")); err == nil {
		t.Error("a broken queue accepts again")
	}
	drain(t, consume(t, q, order.Normal), 1) // consumers go on
}

// In the steady state nothing is read back from the file, also not while a commit deletes what was acknowledged.
func TestMemory(t *testing.T) {
	t.Parallel()
	q := openAt(t, Options{})
	c := consume(t, q, order.Flash)
	if err := c.(*consumer).reader.exec("PRAGMA query_only = 0"); err != nil {
		t.Fatal(err)
	}
	rows := c.(*consumer).reader.rows
	c.(*consumer).reader.rows = nil // a read would panic
	for range 20 {
		publish(t, q, 2, 40, 3000)
		last := drain(t, c, 40)
		if err := c.Ack(t.Context(), last.Partition, last.Position); err != nil {
			t.Fatal(err)
		}
	}
	c.(*consumer).reader.rows = rows
	eventually(t, "every row is deleted", func() bool { return q.rows(t) == 0 })
}

// Bodies in memory stay within the partition's share; what is beyond comes from the file, in order, and then memory
// serves again.
func TestMemoryMax(t *testing.T) {
	t.Parallel()
	const size, memoryMax = 1000, 40_000 // 10,000 for each of 4 partitions
	q := openAt(t, Options{MemoryMax: memoryMax})
	c := consume(t, q, order.Normal)
	for round := range 3 {
		for range 95 {
			publish(t, q, 1, 1, size)
			q.mu.Lock()
			if q.parts[1].memory > memoryMax/4 {
				t.Fatalf("%d bytes are in memory", q.parts[1].memory)
			}
			q.mu.Unlock()
		}
		if last := drain(t, c, 95); last.Position != uint64(round+1)*95 {
			t.Fatalf("round %d ends at %d", round, last.Position)
		}
		q.mu.Lock()
		if p := q.parts[1]; p.delivered != p.last || p.memory != 0 || p.delivered < p.spill {
			t.Errorf("after round %d: %+v", round, p)
		}
		q.mu.Unlock()
	}
}

// Acks cost no commit: nothing is written by the call, and within a second everything is.
func TestAcksAreLazy(t *testing.T) {
	t.Parallel()
	q := openAt(t, Options{})
	c := consume(t, q, order.Normal)
	publish(t, q, 0, 300, 100)
	last := drain(t, c, 300)
	q.write.Lock() // an ack that wrote would wait for ever
	err := c.Ack(t.Context(), 0, last.Position)
	q.write.Unlock()
	if err != nil {
		t.Fatal(err)
	}
	publish(t, q, 0, 1, 100)
	if n := q.rows(t); n > 301-retireMin {
		t.Errorf("%d rows are left behind a commit after an ack of 300", n)
	}
	eventually(t, "rows are deleted", func() bool { return q.rows(t) == 1 })
}

// A killed process may repeat what it acknowledged at last, never more than the rows that it left, and in order.
func TestLostAcks(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "queue.db")
	q := openAt(t, Options{Path: path})
	c := consume(t, q, order.Normal)
	publish(t, q, 0, 100, 100)
	last := drain(t, c, 100)
	if err := c.Ack(t.Context(), 0, last.Position); err != nil {
		t.Fatal(err)
	}
	publish(t, q, 0, 1, 100) // carries a deletion
	q.write.Lock()           // the keeper can write no more
	copied := filepath.Join(t.TempDir(), "queue.db")
	for _, suffix := range []string{"", "-wal"} { // what a killed process leaves
		data, err := os.ReadFile(path + suffix)
		if err == nil {
			err = os.WriteFile(copied+suffix, data, 0o600)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	left, err := q.file.number("SELECT count(*) FROM message")
	q.write.Unlock()
	if err != nil || left > 101-retireMin {
		t.Fatalf("%d rows are left: %v", left, err)
	}
	after := openAt(t, Options{Path: copied})
	got := drain(t, consume(t, after, order.Normal), int(left))
	if got.Position != 101 {
		t.Errorf("the last message is %d, want 101", got.Position)
	}
}

// The file and the WAL shrink again.
func TestShrinks(t *testing.T) {
	t.Parallel()
	const walMax = 4 << 20
	q := openAt(t, Options{WALMax: walMax})
	size := func(suffix string) int64 {
		info, err := os.Stat(q.options.Path + suffix)
		if err != nil {
			t.Fatal(err)
		}
		return info.Size()
	}
	var work sync.WaitGroup
	for p := range order.Partition(4) {
		work.Go(func() { publish(t, q, p, 15, 400_000) })
	}
	work.Wait()
	// One transaction of the leader's may lie above the mark.
	if wal := size("-wal"); wal > walMax+2*commitBytesMax {
		t.Errorf("the WAL has %d bytes, %d are allowed", wal, int64(walMax))
	}
	eventually(t, "the file grows", func() bool { return size("") > 20<<20 })
	for _, kind := range order.Kinds {
		c := consume(t, q, kind)
		for range 30 {
			last := drain(t, c, 1)
			if err := c.Ack(t.Context(), last.Partition, last.Position); err != nil {
				t.Fatal(err)
			}
		}
	}
	eventually(t, "the file shrinks", func() bool { return size("") < vacuumFreeMin+2<<20 })
	eventually(t, "the WAL shrinks", func() bool { return size("-wal") <= walMax+2*commitBytesMax })
}

// The keeper copies the WAL long before WALMax, without anybody who publishes.
func TestCheckpoints(t *testing.T) {
	t.Parallel()
	const walMax = 8 << 20
	q := openAt(t, Options{WALMax: walMax})
	publish(t, q, 0, 20, walMax/checkpointShare/10)
	eventually(t, "the WAL is copied", func() bool { return q.wal.Load() < walMax/checkpointShare })
	info, err := os.Stat(q.options.Path)
	if err != nil || info.Size() < walMax/checkpointShare/2 {
		t.Errorf("the file has %d bytes after a checkpoint: %v", info.Size(), err)
	}
}

// A WAL that had to grow beyond WALMax is cut.
func TestWALIsCut(t *testing.T) {
	t.Parallel()
	const walMax = 256 << 10
	q := openAt(t, Options{WALMax: walMax})
	publish(t, q, 0, 3, queue.MessageMax)
	eventually(t, "the WAL is cut", func() bool {
		info, err := os.Stat(q.options.Path + "-wal")
		return err == nil && info.Size() <= walMax
	})
}

// Somebody reads for a long time, as a backup does: the WAL grows, and no publisher waits for it. Two seconds each, as
// long as the busy timeout, would be minutes.
func TestReaderHoldsUpNobody(t *testing.T) {
	t.Parallel()
	const walMax = 256 << 10
	q := openAt(t, Options{WALMax: walMax})
	publish(t, q, 0, 1, 100)
	r, err := openReader(q.options.Path)
	if err == nil {
		err = r.exec("BEGIN")
	}
	if err == nil {
		_, err = r.number("SELECT count(*) FROM message")
	}
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	for i := range 100 {
		if err := q.Publish(ctx, 0, make([]byte, walMax/4)); err != nil {
			t.Fatalf("message %d: %v", i, err)
		}
	}
	if err := r.close(); err != nil {
		t.Fatal(err)
	}
	publish(t, q, 0, 2, walMax)
	eventually(t, "the WAL is cut", func() bool {
		info, err := os.Stat(q.options.Path + "-wal")
		return err == nil && info.Size() <= walMax
	})
}

func TestFactsAreKept(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "queue.db")
	if err := openAt(t, Options{Path: path}).Close(); err != nil {
		t.Fatal(err)
	}
	_, err := Open(t.Context(), Options{Path: path, Partitions: order.Partitions{Normal: 3, Flash: 2}})
	if err == nil || !strings.Contains(err.Error(), "engine.partitions.normal: the queue was made with 2") {
		t.Errorf("open with other partition counts: %v", err)
	}
}

// Check says what Open would, and makes and changes nothing, beside an open queue too.
func TestCheck(t *testing.T) {
	t.Parallel()
	o := Options{Path: filepath.Join(t.TempDir(), "queue.db"), Partitions: order.Partitions{Normal: 2, Flash: 2}}
	want := func(what, text, refusal string) {
		t.Helper()
		got, err := Check(t.Context(), o)
		if got != text || (err == nil) != (refusal == "") || err != nil && !strings.Contains(err.Error(), refusal) {
			t.Errorf("%s: %q, %v", what, got, err)
		}
	}
	want("before the first start", "no file yet: the first start makes it", "")
	if _, err := os.Stat(o.Path); !os.IsNotExist(err) {
		t.Errorf("the check made the file: %v", err)
	}
	q := openAt(t, o)
	publish(t, q, 0, 3, 100)
	want("beside an open queue", "3 messages wait in it, 0 dead letters", "")
	o.Partitions.Flash = 4
	want("other partitions", "", "engine.partitions.flash: the queue was made with 2, which never changes; the configuration says 4")
	o.Partitions.Flash = 2
	if err := q.file.exec("PRAGMA user_version = 7"); err != nil {
		t.Fatal(err)
	}
	want("a newer file", "", "its tables are of version 7, made by another program; this one knows version 1")
}

func TestDurabilitySettings(t *testing.T) {
	t.Parallel()
	q := openAt(t, Options{})
	q.write.Lock()
	defer q.write.Unlock()
	for pragma, want := range map[string]any{"journal_mode": "wal", "synchronous": int64(2), "auto_vacuum": int64(2), "page_size": int64(pageSize)} {
		for name, c := range map[string]*conn{"writer": q.file.conn, "copier": q.copier} {
			row, err := c.row("PRAGMA " + pragma)
			if err != nil || row[0] != want {
				t.Errorf("%s of the %s is %v, want %v (%v)", pragma, name, row, want, err)
			}
		}
	}
}

// Publishers whose time is up while others commit neither lose the lead nor hold anybody up.
func TestFollowersLeave(t *testing.T) {
	t.Parallel()
	q := openAt(t, Options{})
	for round := range 100 {
		q.write.Lock() // the first of these leads and waits here, the others follow
		ctx, cancel := context.WithCancel(t.Context())
		var work sync.WaitGroup
		for p := range order.Partition(4) {
			work.Go(func() {
				if err := q.Publish(ctx, p, []byte("x")); err != nil && !errors.Is(err, context.Canceled) {
					t.Error(err)
				}
			})
		}
		if round%2 == 0 {
			cancel()
			q.write.Unlock()
		} else {
			q.write.Unlock()
			cancel()
		}
		work.Wait()
		publish(t, q, 0, 1, 1) // would wait for ever behind a lost lead
	}
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.leading || len(q.waiting) > 0 {
		t.Errorf("nobody publishes, leading %v, %d wait", q.leading, len(q.waiting))
	}
}

// A follower whose time is up at the moment at which it is handed the lead takes it.
func TestLeadIsNotRefused(t *testing.T) {
	t.Parallel()
	q := openAt(t, Options{})
	ended, end := context.WithCancel(t.Context())
	end()
	for range 30 { // the select in follow takes one of two ready cases
		e := &entry{part: q.parts[0], body: []byte("x"), leads: true, turn: make(chan bool, 1)}
		q.mu.Lock()
		q.leading, q.waiting = true, append(q.waiting, e)
		q.mu.Unlock()
		e.turn <- true
		if !q.follow(ended, e, false) || e.err != nil {
			t.Fatalf("the leader left: %v", e.err)
		}
		publish(t, q, 0, 1, 1)
	}
	if b, err := q.Backlog(t.Context(), 0); err != nil || b.Messages != 60 {
		t.Errorf("%d messages are stored, want 60: %v", b.Messages, err)
	}
}

// riding makes a queue in which a sale's small messages wait for ordinary ones, for so long.
func riding(t *testing.T, path string, most time.Duration) *Queue {
	q := openAt(t, Options{Path: path})
	q.rideMax, q.ordinaryAt = most, time.Now().Add(time.Hour)
	return q
}

// ride publishes a sale's message that waits.
func (q *Queue) ride(t *testing.T, ctx context.Context) (result chan error) {
	t.Helper()
	result = make(chan error, 1)
	go func() { result <- q.Publish(ctx, 2, make([]byte, rideBytes)) }()
	eventually(t, "a rider", func() bool {
		q.mu.Lock()
		defer q.mu.Unlock()
		return len(q.riders) == 1
	})
	return result
}

// TestSalesRideAlong: a sale's small message waits for the commit of an ordinary one, and no longer than it is to.
func TestSalesRideAlong(t *testing.T) {
	t.Parallel()
	q := riding(t, "", time.Hour)
	waits := q.ride(t, t.Context())
	q.write.Lock()
	ordinary := make(chan error, 1)
	go func() { ordinary <- q.Publish(t.Context(), 0, []byte("ordinary")) }()
	eventually(t, "one commit of both", func() bool {
		q.mu.Lock()
		defer q.mu.Unlock()
		return q.leading && len(q.waiting) == 0 && len(q.riders) == 0
	})
	q.write.Unlock()
	if err := errors.Join(<-ordinary, <-waits); err != nil {
		t.Error(err)
	}
	publish(t, q, 2, 1, rideBytes+1)
	ctx, cancel := context.WithCancel(t.Context())
	waits = q.ride(t, ctx)
	cancel()
	if err := <-waits; !errors.Is(err, context.Canceled) {
		t.Errorf("a rider that left: %v", err)
	}
	waits = q.ride(t, t.Context())
	publish(t, q, 2, 1, rideBytes+1) // takes it along
	if err := <-waits; err != nil {
		t.Error(err)
	}
	q.mu.Lock()
	q.ordinaryAt = time.Now().Add(-2 * ordinaryFor)
	q.mu.Unlock()
	publish(t, q, 2, 1, 100)
	if n := q.rows(t); n != 6 {
		t.Errorf("%d messages are stored, want 6", n)
	}

	alone := riding(t, "", time.Millisecond)
	publish(t, alone, 2, 3, 100)

	path := filepath.Join(t.TempDir(), "closed.db")
	closed := riding(t, path, time.Hour)
	waits = closed.ride(t, t.Context())
	if err := errors.Join(closed.Close(), <-waits); err != nil {
		t.Error(err)
	}
	if n := openAt(t, Options{Path: path}).rows(t); n != 1 {
		t.Errorf("%d messages are stored, want that of the rider", n)
	}
}
