package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"github.com/spf13/cobra"

	"sluice/configs"
	"sluice/internal/crash"
	"sluice/internal/fsync"
	"sluice/internal/lockfile"
)

func newRestore(s *settings) *cobra.Command {
	var only bool
	cmd := &cobra.Command{
		Use:   "restore DIR",
		Short: "Put a backup into the data directory that the configuration names, where nothing is yet",
		Long: "Verify a backup of `sluice backup` against its manifest and the configuration, and put its files where the configuration\n" +
			"says that shards, queue and secrets are. Nothing may be there: move what is left of the old data aside first, whole.\n" +
			"Then start the server, and run `sluice audit`. What was accepted after the backup is not in it.",
		Args: takes(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			c, d, err := s.load()
			if err != nil {
				return err
			}
			return restore(cmd.Context(), c, d, &restoration{args[0], only, cmd.OutOrStdout()})
		},
	}
	cmd.Flags().BoolVar(&only, "verify", false, "only say whether the backup is whole and fits the configuration")
	return cmd
}

// restoration is one run of `sluice restore`.
type restoration struct {
	dir  string
	only bool // verify
	out  io.Writer
}

func restore(ctx context.Context, c *configs.Config, d *drivers, r *restoration) (err error) {
	files, err := backupFiles(c, d)
	if err != nil {
		return err
	}
	m, err := readManifest(r.dir)
	if err == nil {
		err = m.verify(ctx, c, d, r.dir)
	}
	if err != nil {
		return err
	}
	if r.only {
		_, err := fmt.Fprintf(r.out, "%s is whole: %d files, as of %s\n", r.dir, len(m.Files), m.At.Format(time.RFC3339))
		return err
	}
	if err := nothingThere(files); err != nil {
		return err
	}
	lock, err := lockEmpty(c.DataDir, files)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, lock.Release()) }()
	mark := filepath.Join(c.DataDir, restoring)
	if err := os.WriteFile(mark, nil, 0o600); err != nil {
		return err
	}
	if err := errors.Join(fsync.File(mark), fsync.Dir(c.DataDir)); err != nil {
		return err
	}
	if err := r.put(ctx, m, files); err != nil {
		return errors.Join(err, undo(files, mark))
	}
	crash.At("restored")
	if err := errors.Join(os.Remove(mark), fsync.Dir(c.DataDir)); err != nil {
		return err
	}
	_, err = fmt.Fprintf(r.out, "restored as of %s: start the server, then run `sluice audit`\n", m.At.Format(time.RFC3339))
	if err == nil && c.Stock.Driver != "memstock" {
		_, err = fmt.Fprintf(r.out, "before that remove the keys of %s from Redis: they are of a later time (docs/operations.md)\n", d.redisstock.Name)
	}
	return err
}

// restoring is a file in the data directory that says that a restore has begun and not ended: lockDir refuses it.
const restoring = "restore.unfinished"

// nothingThere refuses to restore over anything, a write-ahead log without its file included.
func nothingThere(files []backupFile) error {
	for _, f := range files {
		for _, end := range []string{"", "-wal", "-shm", "-journal"} {
			if _, err := os.Lstat(f.path + end); !errors.Is(err, fs.ErrNotExist) {
				return errors.Join(err, fmt.Errorf("%s is there: restore puts files only where none are; move the old data aside, all of it, "+
					"or name another data_dir", f.path+end))
			}
		}
	}
	return nil
}

// lockEmpty locks the data directory and looks once more: a server may have begun there and ended since the first look.
func lockEmpty(dir string, files []backupFile) (*lockfile.Lock, error) {
	lock, err := lockDir(dir)
	if err != nil {
		return nil, err
	}
	if err := nothingThere(files); err != nil {
		return nil, errors.Join(err, lock.Release())
	}
	return lock, nil
}

func (r *restoration) put(ctx context.Context, m *manifest, files []backupFile) error {
	for i := range m.Files {
		f := &m.Files[i]
		for _, to := range files {
			if to.Role != f.Role {
				continue
			}
			if err := f.place(ctx, filepath.Join(r.dir, f.Name), to.path); err != nil {
				return err
			}
			crash.At("placed")
		}
	}
	return nil
}

// place copies a file of the backup to a path, on disk, and compares once more what it reads.
func (f *backupFile) place(ctx context.Context, from, to string) error {
	if err := os.MkdirAll(filepath.Dir(to), 0o750); err != nil {
		return err
	}
	out, err := os.OpenFile(to, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	err = f.copy(ctx, from, out)
	return errors.Join(err, out.Sync(), out.Close(), fsync.Dir(filepath.Dir(to)))
}

// undo removes what was made, and the mark last: it stays as long as a part of a backup is there.
func undo(files []backupFile, mark string) error {
	if err := remove(files); err != nil {
		return err
	}
	return os.Remove(mark)
}

func remove(files []backupFile) error {
	var errs []error
	for _, f := range files {
		if err := os.Remove(f.path); !errors.Is(err, fs.ErrNotExist) {
			errs = append(errs, err)
		}
	}
	return errors.Join(errs...)
}
