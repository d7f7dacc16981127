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
func Check(_ context.Context, o Options) (string, error) {
	path, err := filepath.Abs(o.Path)
	if err != nil {
		return "", err
	}
	if _, err := os.Stat(path); errors.Is(err, fs.ErrNotExist) {
		return "no file yet: the first start makes it", nil
	}
	inner, err := new(sqlite.Driver).Open((&url.URL{Scheme: "file", Path: path}).String() + "?mode=ro&_pragma=busy_timeout(2000)")
	if err != nil {
		return "", fmt.Errorf("it cannot be opened: %w", err)
	}
	c := &conn{Conn: inner}
	text, err := c.check(o.Partitions)
	return text, errors.Join(err, c.close())
}

func (c *conn) check(ps order.Partitions) (string, error) {
	version, err := c.number("PRAGMA user_version")
	switch {
	case err != nil:
		return "", fmt.Errorf("it cannot be read: %w", err)
	case version == 0:
		return "an empty file: the first start fills it", nil
	case version != schemaVersion:
		return "", foreignVersion(version)
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
