package sqlitequeue

import (
	"crypto/rand"
	"database/sql/driver"
	"errors"
	"fmt"
	"io"
	"time"

	"sluice/engine/order"
	"sluice/engine/queue"
)

// schemaVersion is kept in the file's user_version.
const schemaVersion = 1

var schema = []string{
	"CREATE TABLE message (id INTEGER PRIMARY KEY, at INTEGER NOT NULL, body BLOB NOT NULL)",
	"CREATE TABLE part (p INTEGER PRIMARY KEY, acked INTEGER NOT NULL)",
	"CREATE TABLE dead (p INTEGER NOT NULL, position INTEGER NOT NULL, at INTEGER NOT NULL, reason TEXT NOT NULL," +
		" body BLOB NOT NULL, PRIMARY KEY (p, position))",
	"CREATE TABLE fact (name TEXT PRIMARY KEY, value INTEGER NOT NULL)",
	fmt.Sprintf("PRAGMA user_version = %d", schemaVersion),
}

const positionBits = 40

// rowID is the key of a message: partition and position, so that a partition's rows lie together and in order.
func rowID(p order.Partition, position uint64) int64 {
	return int64(p)<<positionBits | int64(position)
}

func positionOf(id int64) uint64 { return uint64(id) & (1<<positionBits - 1) }

// file is the writing connection with its statements. It is used under Queue.write.
type file struct {
	*conn
	identity                                       string
	begin, insert, remove, acked, commit, rollback *statement
}

func openFile(path string, partitions order.Partitions) (*file, error) {
	// Page size and auto_vacuum take effect only before the first write.
	c, err := openConn(path, fmt.Sprintf("page_size=%d", pageSize), "auto_vacuum=INCREMENTAL", "journal_mode=WAL")
	if err != nil {
		return nil, err
	}
	f := &file{conn: c}
	if err := errors.Join(f.migrate(), f.checkFacts(partitions), f.identify(), f.prepareAll()); err != nil {
		return nil, errors.Join(err, c.close())
	}
	return f, nil
}

func (f *file) migrate() error {
	version, err := f.number("PRAGMA user_version")
	if err != nil || version == schemaVersion {
		return err
	}
	if version != 0 {
		return foreignVersion(version)
	}
	if err := f.exec("BEGIN IMMEDIATE"); err != nil {
		return err
	}
	for _, sql := range schema {
		if err := f.exec(sql); err != nil {
			return errors.Join(fmt.Errorf("%s: %w", sql, err), f.exec("ROLLBACK"))
		}
	}
	return f.exec("COMMIT")
}

func foreignVersion(version int64) error {
	return fmt.Errorf("its tables are of version %d, made by another program; this one knows version %d: run the program that made it, or a newer one",
		version, schemaVersion)
}

// fact is a number that the file was made with: with another count of partitions, stored messages would be others'.
type fact struct {
	name  string
	value int64
}

func facts(ps order.Partitions) []fact {
	return []fact{{"partitions.normal", int64(ps.Normal)}, {"partitions.flash", int64(ps.Flash)}}
}

func (f *fact) differs(have int64) error {
	return fmt.Errorf("engine.%s: the queue was made with %d, which never changes; the configuration says %d: put it back", f.name, have, f.value)
}

// checkFacts stores the facts in a new file and holds the file to them later.
func (f *file) checkFacts(ps order.Partitions) error {
	for _, fact := range facts(ps) {
		if err := f.exec("INSERT INTO fact(name, value) VALUES(?, ?) ON CONFLICT DO NOTHING", fact.name, fact.value); err != nil {
			return err
		}
		have, err := f.number("SELECT value FROM fact WHERE name = ?", fact.name)
		if err != nil {
			return err
		}
		if have != fact.value {
			return fact.differs(have)
		}
	}
	return nil
}

// identify reads the identity, which the first program that knows of it gives the file.
func (f *file) identify() error {
	err := f.exec("INSERT INTO fact(name, value) VALUES('identity', ?) ON CONFLICT DO NOTHING", "sqlitequeue:"+rand.Text())
	if err == nil {
		f.identity, err = f.readIdentity()
	}
	return err
}

// readIdentity is empty for a file that has none yet.
func (c *conn) readIdentity() (string, error) {
	row, err := c.row("SELECT value FROM fact WHERE name = 'identity'")
	if err != nil || len(row) == 0 {
		return "", err
	}
	return row[0].(string), nil
}

func (f *file) prepareAll() error {
	var errs []error
	prepare := func(sql string) *statement {
		s, err := f.prepare(sql)
		errs = append(errs, err)
		return s
	}
	f.begin = prepare("BEGIN IMMEDIATE")
	f.insert = prepare("INSERT INTO message(id, at, body) VALUES(?, ?, ?)")
	f.remove = prepare("DELETE FROM message WHERE id BETWEEN ? AND ?")
	f.acked = prepare("INSERT INTO part(p, acked) VALUES(?, ?) ON CONFLICT(p) DO UPDATE SET acked = excluded.acked")
	f.commit = prepare("COMMIT")
	f.rollback = prepare("ROLLBACK")
	return errors.Join(errs...)
}

// load reads where a partition stands: the last position given and the last one acknowledged.
func (f *file) load(p order.Partition) (last, acked uint64, err error) {
	a, err := f.number("SELECT acked FROM part WHERE p = ?", int64(p))
	if err != nil {
		return 0, 0, err
	}
	id, err := f.number("SELECT max(id) FROM message WHERE id BETWEEN ? AND ?", rowID(p, 0), rowID(p+1, 0)-1)
	if err != nil {
		return 0, 0, err
	}
	acked = uint64(a)
	return max(acked, positionOf(id)), acked, nil
}

// retirement is a range of acknowledged messages whose rows are to be deleted: those with from < position <= to.
type retirement struct {
	part     *part
	from, to uint64
}

// transact inserts messages and deletes retired ones in one transaction. notStored says that an error came before the
// commit was tried and that everything was undone; otherwise an error means unknown. undone false with an error leaves
// the connection in a transaction: it cannot be used any more.
func (f *file) transact(entries []*entry, retired []retirement) (notStored, undone bool, err error) {
	if err := f.begin.exec(); err != nil {
		return true, true, err
	}
	if err := f.apply(entries, retired); err != nil {
		undone := f.undo()
		return undone, undone, err
	}
	err = f.commit.exec()
	return false, err == nil || f.undo(), err
}

// undo tells whether the connection is out of its transaction. SQLite undoes some failures by itself, so that the
// answer of ROLLBACK says nothing: a transaction can begin, or not.
func (f *file) undo() bool {
	_ = f.rollback.exec()
	return f.begin.exec() == nil && f.rollback.exec() == nil
}

func (f *file) apply(entries []*entry, retired []retirement) error {
	now := time.Now().UnixMilli()
	for _, e := range entries {
		if err := f.insert.exec(rowID(e.part.number, e.position), now, e.body); err != nil {
			return err
		}
	}
	for _, r := range retired {
		p := r.part.number
		if err := f.remove.exec(rowID(p, r.from+1), rowID(p, r.to)); err != nil {
			return err
		}
		if err := f.acked.exec(int64(p), int64(r.to)); err != nil {
			return err
		}
	}
	return nil
}

// reader is a reading connection. It sees what was committed before each call.
type reader struct {
	*conn
	rows, at *statement
}

func openReader(path string) (*reader, error) {
	c, err := openConn(path, "query_only=1")
	if err != nil {
		return nil, err
	}
	r := &reader{conn: c}
	var errs [2]error
	r.rows, errs[0] = c.prepare("SELECT id, body FROM message WHERE id BETWEEN ? AND ? ORDER BY id")
	r.at, errs[1] = c.prepare("SELECT at FROM message WHERE id BETWEEN ? AND ? ORDER BY id LIMIT 1")
	if err := errors.Join(errs[:]...); err != nil {
		return nil, errors.Join(err, c.close())
	}
	return r, nil
}

// read appends the messages of a partition with after < position <= upTo, as many as b allows.
func (r *reader) read(dst []queue.Delivery, s segment, b *budget) ([]queue.Delivery, error) {
	rows, err := r.rows.query(rowID(s.p, s.after+1), rowID(s.p, s.upTo))
	if err != nil {
		return dst, err
	}
	values := make([]driver.Value, 2)
	for next := s.after + 1; next <= s.upTo && b.room(); next++ {
		err = rows.Next(values)
		if err == io.EOF || err == nil && positionOf(values[0].(int64)) != next {
			err = fmt.Errorf("message %d is missing from the file", next)
		}
		if err != nil {
			break
		}
		body := values[1].([]byte)
		b.spend(body)
		dst = append(dst, queue.Delivery{Partition: s.p, Position: next, Body: body})
	}
	return dst, errors.Join(err, rows.Close())
}

// oldest is when the first message of a partition behind position after was published; the zero time if there is none.
func (r *reader) oldest(p order.Partition, after uint64) (time.Time, error) {
	rows, err := r.at.query(rowID(p, after+1), rowID(p+1, 0)-1)
	if err != nil {
		return time.Time{}, err
	}
	row, err := firstRow(rows)
	if err != nil || row == nil {
		return time.Time{}, err
	}
	return time.UnixMilli(row[0].(int64)), nil
}
