// Package fsync brings what was written by others, or by name, onto the disk: a file that was made, renamed or removed is there
// after a power cut only if its directory is on the disk too.
package fsync

import (
	"errors"
	"os"
)

// File returns when what the file holds is on the disk.
func File(path string) error { return sync(path, os.O_RDWR) }

// Dir returns when the names in the directory are on the disk.
func Dir(path string) error { return sync(path, os.O_RDONLY) }

func sync(path string, flag int) error {
	f, err := os.OpenFile(path, flag, 0)
	if err != nil {
		return err
	}
	return errors.Join(f.Sync(), f.Close())
}
