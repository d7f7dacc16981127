package sqlitecopy

import (
	"context"
	"database/sql/driver"
	"errors"
	"fmt"
	"net/url"
	"path/filepath"
	"time"

	"modernc.org/sqlite"
	sqlite3 "modernc.org/sqlite/lib"
)

const (
	holdMax  = 250 * time.Millisecond // writers never wait longer than this for one try
	tryEvery = 300 * time.Microsecond
	restFor  = 100 * time.Millisecond // between two tries: those who waited catch up
)

// Moment is one moment of several files, kept for as long as it is open. It is used by one goroutine.
type Moment struct {
	At    time.Time     // between the moment when the last lock was there and the first was given back
	Still time.Duration // how long somebody may have waited for a lock
	files []*file
}

// file is one of the files, with the connection that holds the write lock and the one that reads.
type file struct {
	path       string
	lock, read driver.Conn
	bytes      int64 // of the snapshot
}

// Take takes a moment of the files, which are locked in the order given: the one whose writers should wait least comes last.
// Every file must be there, in WAL mode. It tries until ctx ends. The caller closes it.
func Take(ctx context.Context, paths []string) (*Moment, error) {
	m := &Moment{}
	for _, path := range paths {
		f, err := open(path)
		if err != nil {
			return nil, errors.Join(err, m.Close())
		}
		m.files = append(m.files, f)
	}
	for {
		ok, err := m.try(ctx)
		if err != nil {
			return nil, errors.Join(err, m.Close())
		}
		if ok {
			return m, nil
		}
		if err := sleep(ctx, restFor); err != nil {
			return nil, errors.Join(fmt.Errorf("some file is written without a pause: %w", err), m.Close())
		}
	}
}

// open opens a file that must be there twice, for its lock and for reading.
func open(path string) (*file, error) {
	abs, err := filepath.Abs(path)
	if err != nil {
		return nil, err
	}
	f := &file{path: path}
	place := (&url.URL{Scheme: "file", Path: abs}).String() + "?mode=rw"
	if f.lock, err = new(sqlite.Driver).Open(place + "&_pragma=busy_timeout(0)"); err != nil {
		return nil, f.failed("open", err)
	}
	if f.read, err = new(sqlite.Driver).Open(place + "&_pragma=busy_timeout(1000)&_pragma=query_only(1)"); err != nil {
		return nil, errors.Join(f.failed("open", err), f.close())
	}
	mode, err := ask[string](f.read, "PRAGMA journal_mode")
	if err == nil && mode != "wal" {
		err = fmt.Errorf("its journal mode is %q, not wal", mode)
	}
	if err != nil {
		return nil, errors.Join(f.failed("look at", err), f.close())
	}
	return f, nil
}

// try takes all locks and begins to read. false: some lock did not come in time; nothing is held.
func (m *Moment) try(ctx context.Context) (ok bool, err error) {
	var began time.Time
	held := 0
	defer func() {
		for _, f := range m.files[:held] {
			err = errors.Join(err, f.failed("unlock", exec(f.lock, "ROLLBACK")))
		}
		m.Still = time.Since(began)
	}()
	for _, f := range m.files {
		for !f.tryLock(&err) {
			if err != nil {
				return false, err
			}
			if held > 0 && time.Since(began) > holdMax {
				return false, nil
			}
			if err := sleep(ctx, tryEvery); err != nil {
				return false, f.failed("lock", err)
			}
		}
		if held++; held == 1 {
			began = time.Now()
		}
	}
	for _, f := range m.files {
		if err := f.begin(); err != nil {
			return false, f.failed("begin to read", err)
		}
		begun()
	}
	m.At = time.Now()
	return true, nil
}

// begun is called when a file has begun to be read: tests let time pass there.
var begun = func() {}

// tryLock takes the write lock if it is free. An error other than that it is not goes to err.
func (f *file) tryLock(err *error) bool {
	e := exec(f.lock, "BEGIN IMMEDIATE")
	if e != nil && !busy(e) {
		*err = f.failed("lock", e)
	}
	return e == nil
}

// begin begins the read transaction: the first statement in it fixes what it sees.
func (f *file) begin() error {
	if err := exec(f.read, "BEGIN"); err != nil {
		return err
	}
	pages, err := ask[int64](f.read, "PRAGMA page_count")
	if err != nil {
		return err
	}
	size, err := ask[int64](f.read, "PRAGMA page_size")
	f.bytes = pages * size
	return err
}

// copyPages is how much is copied between two looks: 1 MiB.
const copyPages = 256

// Copy writes file i to a path where no file is, as one file that needs no others beside it, on disk when it returns. What
// it began is left behind when it fails. After each MiB it calls look with the bytes so far; an error of look ends it.
// When it returns, the file is no longer held: its write-ahead log is free.
func (m *Moment) Copy(i int, to string, look func(done int64) error) error {
	f := m.files[i]
	err := f.copy(to, look)
	return errors.Join(f.failed("copy", err), f.close())
}

func (f *file) copy(to string, look func(int64) error) error {
	to, err := filepath.Abs(to)
	if err != nil {
		return err
	}
	place := (&url.URL{Scheme: "file", Path: to}).String() + "?_pragma=synchronous(FULL)"
	b, err := f.read.(interface {
		NewBackup(string) (*sqlite.Backup, error)
	}).NewBackup(place)
	if err != nil {
		return err
	}
	for more := true; more && err == nil; {
		more, err = b.Step(copyPages)
		if err == nil {
			err = look(int64(b.PageCount()-b.Remaining()) * f.bytes / int64(max(b.PageCount(), 1)))
		}
	}
	if err != nil {
		return errors.Join(err, b.Finish())
	}
	copied, err := b.Commit()
	if err != nil {
		return err
	}
	pages, err := ask[int64](copied, "PRAGMA page_count")
	size, sizeErr := ask[int64](copied, "PRAGMA page_size")
	if err = errors.Join(err, sizeErr); err == nil && pages*size != f.bytes {
		err = fmt.Errorf("the copy has %d bytes, not %d", pages*size, f.bytes)
	}
	// The copy says that it has a write-ahead log, as its original has: with one it could not be read where nothing may be
	// written.
	_, modeErr := ask[string](copied, "PRAGMA journal_mode = DELETE")
	return errors.Join(err, modeErr, copied.Close())
}

// Close lets go of everything. Files that were copied are closed already.
func (m *Moment) Close() error {
	var errs []error
	for _, f := range m.files {
		errs = append(errs, f.close())
	}
	return errors.Join(errs...)
}

func (f *file) close() error {
	var errs []error
	for _, conn := range []*driver.Conn{&f.read, &f.lock} {
		if *conn != nil {
			errs = append(errs, (*conn).Close())
			*conn = nil
		}
	}
	return errors.Join(errs...)
}

// failed adds what was done to which file; nil stays nil.
func (f *file) failed(what string, err error) error {
	if err == nil {
		return nil
	}
	return fmt.Errorf("%s %s: %w", what, f.path, err)
}

func exec(c driver.Conn, statement string) error {
	_, err := c.(driver.ExecerContext).ExecContext(context.Background(), statement, nil)
	return err
}

// ask runs a query that gives one value.
func ask[T any](c driver.Conn, query string) (value T, err error) {
	rows, err := c.(driver.QueryerContext).QueryContext(context.Background(), query, nil)
	if err != nil {
		return value, err
	}
	dest := make([]driver.Value, len(rows.Columns()))
	if err = rows.Next(dest); err == nil {
		value = dest[0].(T)
	}
	return value, errors.Join(err, rows.Close())
}

// busy tells that another connection has the lock.
func busy(err error) bool {
	e, ok := errors.AsType[*sqlite.Error](err)
	return ok && e.Code()&0xff == sqlite3.SQLITE_BUSY
}

func sleep(ctx context.Context, d time.Duration) error {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}
