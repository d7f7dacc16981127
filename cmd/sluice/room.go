package main

import (
	"fmt"

	"golang.org/x/sys/unix"
)

// room returns a function that fails while the disk under dir has less than least bytes for us. It asks the kernel each
// time and is safe for concurrent use.
func room(dir string, least uint64) func() error {
	return func() error {
		free, err := freeBytes(dir)
		if err != nil {
			return err
		}
		if free < least {
			return fmt.Errorf("%s has %d MiB free, less than disk.free_bytes_min (%d MiB)", dir, free>>20, least>>20)
		}
		return nil
	}
}

// freeBytes is what the disk under dir has left for us.
func freeBytes(dir string) (uint64, error) {
	var fs unix.Statfs_t
	if err := unix.Statfs(dir, &fs); err != nil {
		return 0, fmt.Errorf("free space of %s: %w", dir, err)
	}
	return fs.Bavail * uint64(fs.Bsize), nil
}
