package sqlitequeue

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net/url"
	"os"
	"path/filepath"

	"modernc.org/sqlite"

	"sluice/engine/order"
)

// Check says what the file of a queue is, or why Open would refuse it, without changing anything: beside a process
// that has it open, too.
func Check(_ context.Context, o Options) (text string, err error) {
	there, err := look(o.Path, func(c *conn) (err error) {
		text, err = c.check(o.Partitions)
		return err
	})
	if err == nil && !there {
		text = "no file yet: the first start makes it"
	}
	return text, err
}

// Identity is the identity of the queue in a file, read as Check reads; empty if there is no queue yet, or one that no
// program has given an identity.
func Identity(path string) (identity string, err error) {
	_, err = look(path, func(c *conn) error {
		version, err := c.version()
		if err == nil && version != 0 {
			identity, err = c.readIdentity()
		}
		return err
	})
	return identity, err
}

// look calls f with a connection that only reads, if there is a file.
func look(path string, f func(*conn) error) (there bool, err error) {
	if path, err = filepath.Abs(path); err != nil {
		return false, err
	}
	if _, err := os.Stat(path); errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	inner, err := new(sqlite.Driver).Open((&url.URL{Scheme: "file", Path: path}).String() + "?mode=ro&_pragma=busy_timeout(2000)")
	if err != nil {
		return true, fmt.Errorf("it cannot be opened: %w", err)
	}
	c := &conn{Conn: inner}
	return true, errors.Join(f(c), c.close())
}

// version is that of the tables; 0: there are none. One that this program does not know is an error.
func (c *conn) version() (int64, error) {
	version, err := c.number("PRAGMA user_version")
	switch {
	case err != nil:
		return 0, fmt.Errorf("it cannot be read: %w", err)
	case version != 0 && version != schemaVersion:
		return 0, foreignVersion(version)
	}
	return version, nil
}

func (c *conn) check(ps order.Partitions) (string, error) {
	version, err := c.version()
	switch {
	case err != nil:
		return "", err
	case version == 0:
		return "an empty file: the first start fills it", nil
	}
	for _, f := range facts(ps) {
		have, err := c.number("SELECT value FROM fact WHERE name = ?", f.name)
		if err != nil {
			return "", fmt.Errorf("it cannot be read: %w", err)
		}
		if have != f.value && have != 0 {
			return "", f.differs(have)
		}
	}
	waiting, err := c.number("SELECT count(*) FROM message")
	if err != nil {
		return "", fmt.Errorf("it cannot be read: %w", err)
	}
	dead, err := c.number("SELECT count(*) FROM dead")
	if err != nil {
		return "", fmt.Errorf("it cannot be read: %w", err)
	}
	return fmt.Sprintf("%d messages wait in it, %d dead letters", waiting, dead), nil
}
