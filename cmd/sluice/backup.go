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
	"golang.org/x/sys/unix"

	"sluice/configs"
	"sluice/internal/crash"
	"sluice/internal/fsync"
	"sluice/internal/sqlitecopy"
	"sluice/persist/store"
)

func newBackup(s *settings) *cobra.Command {
	b := &backup{}
	cmd := &cobra.Command{
		Use:   "backup DIR",
		Short: "Copy shards and queue of the embedded default as of one moment, while it sells",
		Long: "Copy every shard, the queue and secrets.yaml into DIR, which must not exist, as of one moment: what a power cut at that\n" +
			"moment would have left. The server goes on selling; for some milliseconds, which are printed, its writers stand still.\n" +
			"It runs beside the server, on the same machine, or without one. DIR holds secrets and what buyers entered: only its\n" +
			"owner may read it. `sluice restore DIR` puts it back. Shards on MySQL are backed up by the tools of MySQL: see\n" +
			"docs/operations.md.",
		Args: takes(1),
		RunE: func(cmd *cobra.Command, args []string) (err error) {
			if b.config, b.drivers, err = s.load(); err != nil {
				return err
			}
			b.dir, b.out = filepath.Clean(args[0]), cmd.OutOrStdout()
			return b.run(cmd.Context())
		},
	}
	cmd.Flags().IntVar(&b.rate, "mib-per-second", 100, "how fast to copy at most; 0: as fast as the disk lets")
	return cmd
}

// backup is one run of `sluice backup`.
type backup struct {
	config  *configs.Config
	drivers *drivers
	dir     string
	out     io.Writer
	rate    int // MiB per second

	began  time.Time
	copied int64
}

// unfinished is what a backup is called until it is whole.
const unfinished = ".unfinished"

// momentWait is how long a backup tries to get all files at one moment.
const momentWait = time.Minute

func (b *backup) run(ctx context.Context) (err error) {
	files, err := backupFiles(b.config, b.drivers)
	if err != nil {
		return err
	}
	if err := b.check(files); err != nil {
		return err
	}
	work := b.dir + unfinished
	if err := os.Mkdir(work, 0o700); errors.Is(err, fs.ErrExist) {
		return fmt.Errorf("%s is there: it is of a backup that runs, or of one that did not end; if none runs, remove it", work)
	} else if err != nil {
		return err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, os.RemoveAll(work))
		}
	}()
	m, err := b.copy(ctx, files, work)
	if err != nil {
		return err
	}
	if err := m.write(work); err != nil {
		return err
	}
	crash.At("manifest")
	if err := os.Rename(work, b.dir); err != nil {
		return err
	}
	if err := fsync.Dir(filepath.Dir(b.dir)); err != nil {
		return err
	}
	_, err = fmt.Fprintf(b.out, "backup of %s, %d files, %d MiB in %v: %s\n", m.At.Format(time.RFC3339), len(m.Files), b.copied>>20,
		time.Since(b.began).Round(10*time.Millisecond), b.dir)
	return err
}

// check refuses before anything is touched: a place that is taken, files that are not there, too little room.
func (b *backup) check(files []backupFile) error {
	if _, err := os.Lstat(b.dir); err == nil {
		return fmt.Errorf("%s is there already: a backup makes its directory, and never writes into another", b.dir)
	} else if !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	var need uint64
	for _, f := range files {
		for _, path := range []string{f.path, f.path + "-wal"} {
			info, err := os.Stat(path)
			switch {
			case err == nil:
				need += uint64(info.Size())
			case path == f.path && f.secrets && errors.Is(err, fs.ErrNotExist):
			case path == f.path && errors.Is(err, fs.ErrNotExist):
				return notThere(fmt.Sprintf("%s (%s)", f.path, f.Role), b.config.DataDir)
			case path == f.path:
				return err
			}
		}
	}
	parent := filepath.Dir(b.dir)
	free, err := freeBytes(parent)
	if err != nil {
		return err
	}
	shared, err := sameDisk(parent, b.config.DataDir)
	if err != nil {
		return err
	}
	if shared { // the server turns orders away below its floor
		need += 2 * b.config.Disk.FreeBytesMin
	}
	if free < need {
		return fmt.Errorf("%s has %d MiB free, and a backup needs up to %d MiB there: choose another disk", parent, free>>20, need>>20)
	}
	return nil
}

// copy takes a moment of all files and copies it. The queue comes first: it is small, and its publishers should have their write-ahead
// log back soon.
func (b *backup) copy(ctx context.Context, files []backupFile, work string) (*manifest, error) {
	var held []backupFile
	var paths []string
	m := &manifest{Format: manifestFormat, Program: version + " " + commit()}
	for _, f := range files {
		if f.secrets {
			if err := copySecrets(f.path, filepath.Join(work, f.Name)); errors.Is(err, fs.ErrNotExist) {
				continue // they come from the environment or from files of the operator's
			} else if err != nil {
				return nil, err
			}
			m.Files = append(m.Files, f)
			continue
		}
		held, paths = append(held, f), append(paths, f.path)
	}
	wait, cancel := context.WithTimeout(ctx, momentWait)
	defer cancel()
	c, err := sqlitecopy.Take(wait, paths)
	if err != nil {
		return nil, err
	}
	defer func() { _ = c.Close() }() // what was not copied is not part of a backup
	crash.At("begun")
	fmt.Fprintf(b.out, "as of %s: writers stood still for %v at most\n", c.At.UTC().Format(time.RFC3339Nano), c.Still.Round(10*time.Microsecond))
	m.At, b.began = c.At.UTC(), time.Now()
	for i := len(held) - 1; i >= 0; i-- {
		before := b.copied
		err := c.Copy(i, filepath.Join(work, held[i].Name), func(done int64) error {
			b.copied = before + done
			return b.look(ctx)
		})
		if err != nil {
			return nil, err
		}
		crash.At("copied")
		m.Files = append(m.Files, held[i])
	}
	return m, m.describe(ctx, b.config, b.drivers, work)
}

// look is called now and then: it keeps to the rate, and gives up before the server has too little room for its
// write-ahead logs, which cannot begin anew until they are copied.
func (b *backup) look(ctx context.Context) error {
	if free, err := freeBytes(b.config.DataDir); err != nil || free < b.config.Disk.FreeBytesMin*3/2 {
		return errors.Join(err, fmt.Errorf("%s has %d MiB free: the backup gives up before the server turns orders away", b.config.DataDir, free>>20))
	}
	if b.rate > 0 {
		return wait(ctx, due(b.copied, b.rate)-time.Since(b.began))
	}
	return ctx.Err()
}

// due is how long so many bytes take at so many MiB per second.
func due(bytes int64, rate int) time.Duration {
	return time.Duration(float64(bytes) / float64(rate<<20) * float64(time.Second))
}

func wait(ctx context.Context, d time.Duration) error {
	if d <= 0 {
		return ctx.Err()
	}
	select {
	case <-time.After(d):
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// backupFiles lists what a backup holds: shards, the queue last, secrets.yaml.
func backupFiles(c *configs.Config, d *drivers) ([]backupFile, error) {
	if c.Store.Dialect != store.SQLite {
		return nil, errors.New("the shards are on MySQL: back them up with its tools, all of them at one moment; " +
			"docs/operations.md, \"Backup and restore\", says how")
	}
	if c.Queue.Driver != "sqlitequeue" {
		return nil, fmt.Errorf("the queue is %s, not a file that could be copied with the shards: docs/operations.md, \"Backup and restore\", says how", c.Queue.Driver)
	}
	var files []backupFile
	places, err := shardPlaces(c, nil)
	for i, place := range places {
		files = append(files, backupFile{Role: shardRole(i), Name: shardName(i), path: place})
	}
	return append(files, backupFile{Role: "queue", Name: queueName, path: d.queueFile(c)},
		backupFile{Role: "secrets", Name: configs.SecretsFile, path: filepath.Join(c.DataDir, configs.SecretsFile), secrets: true}), err
}

// queueName is the queue's file in a backup.
const queueName = "queue.db"

func shardName(i int) string { return fmt.Sprintf("shard-%d.db", i) }
func shardRole(i int) string { return fmt.Sprintf("shard %d", i) }

// sameDisk tells whether two directories share their free space.
func sameDisk(a, b string) (bool, error) {
	var x, y unix.Stat_t
	err := errors.Join(unix.Stat(a, &x), unix.Stat(b, &y))
	return x.Dev == y.Dev, err
}

func copySecrets(from, to string) error {
	b, err := os.ReadFile(from)
	if err != nil {
		return err
	}
	return os.WriteFile(to, b, 0o600)
}
