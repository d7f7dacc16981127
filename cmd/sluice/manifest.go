package main

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"sluice/configs"
	"sluice/internal/fsync"
	"sluice/persist/store"
)

const (
	manifestFile   = "manifest.json"
	manifestFormat = 1
)

// manifest says what a backup is. It is written last: a directory without one is no backup.
type manifest struct {
	Format     int               `json:"format"`
	Program    string            `json:"program"`    // version and commit
	At         time.Time         `json:"at"`         // the moment that it holds
	Tables     int64             `json:"tables"`     // version of the shards' tables
	Queue      string            `json:"queue"`      // its identity
	Deployment map[string]string `json:"deployment"` // the facts of shard 0
	Files      []backupFile      `json:"files"`
}

// backupFile is one file of a backup.
type backupFile struct {
	Role   string `json:"role"` // "shard 0", "queue", "secrets"
	Name   string `json:"name"` // in the backup's directory
	Bytes  int64  `json:"bytes"`
	SHA256 string `json:"sha256"`

	path    string // of the original
	secrets bool
}

// describe fills the manifest from the files of a backup, after a look at them such as a start would have.
func (m *manifest) describe(ctx context.Context, c *configs.Config, d *drivers, dir string) (err error) {
	if err := lookAtBackup(ctx, c, d, dir); err != nil {
		return err
	}
	here, drivers := inBackup(c, d, dir)
	if m.Queue, err = drivers.queueIdentity(here); err != nil {
		return err
	}
	o, err := storeOptions(here, noSecrets)
	if err == nil {
		m.Deployment, m.Tables, err = store.Facts(ctx, o)
	}
	if err != nil {
		return err
	}
	for i := range m.Files {
		f := &m.Files[i]
		path := filepath.Join(dir, f.Name)
		if f.Bytes, f.SHA256, err = digest(ctx, path, io.Discard); err != nil {
			return err
		}
		if err := errors.Join(os.Chmod(path, 0o600), fsync.File(path)); err != nil {
			return err
		}
	}
	return nil
}

// write puts the manifest beside its files, on disk.
func (m *manifest) write(dir string) error {
	b, err := json.MarshalIndent(m, "", "  ")
	if err != nil {
		return err
	}
	path := filepath.Join(dir, manifestFile)
	if err := os.WriteFile(path, append(b, '\n'), 0o600); err != nil {
		return err
	}
	return errors.Join(fsync.File(path), fsync.Dir(dir))
}

// readManifest reads what a directory says that it is.
func readManifest(dir string) (*manifest, error) {
	b, err := os.ReadFile(filepath.Join(dir, manifestFile))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("%s is no backup, or one that did not end: it has no %s", dir, manifestFile)
	} else if err != nil {
		return nil, err
	}
	m := &manifest{}
	if err := json.Unmarshal(b, m); err != nil {
		return nil, fmt.Errorf("%s of %s: %w", manifestFile, dir, err)
	}
	if m.Format != manifestFormat {
		return nil, fmt.Errorf("%s is of format %d, and this program knows format %d: run the program that made it (%s), or a newer one",
			dir, m.Format, manifestFormat, m.Program)
	}
	return m, nil
}

// verify holds the files to the manifest, and looks at them as a start would.
func (m *manifest) verify(ctx context.Context, c *configs.Config, d *drivers, dir string) error {
	for i := range m.Files {
		f := &m.Files[i]
		if f.Name != filepath.Base(f.Name) || strings.HasPrefix(f.Name, ".") {
			return fmt.Errorf("%s: the manifest names the file %q, which cannot be", dir, f.Name)
		}
		if err := f.copy(ctx, filepath.Join(dir, f.Name), io.Discard); err != nil {
			return err
		}
	}
	for _, role := range backupRoles(c) {
		if !slices.ContainsFunc(m.Files, func(f backupFile) bool { return f.Role == role }) {
			return fmt.Errorf("%s holds no %s: it is of a deployment with other store.shards", dir, role)
		}
	}
	return lookAtBackup(ctx, c, d, dir)
}

// copy writes the file to w, and fails unless it is the one of the manifest.
func (f *backupFile) copy(ctx context.Context, from string, w io.Writer) error {
	n, sum, err := digest(ctx, from, w)
	if err == nil && (n != f.Bytes || sum != f.SHA256) {
		err = fmt.Errorf("%s is damaged: it has %d bytes with SHA-256 %s, and the manifest says %d bytes, %s", from, n, sum, f.Bytes, f.SHA256)
	}
	return err
}

// digest copies a file to w and tells its size and sum.
func digest(ctx context.Context, path string, w io.Writer) (n int64, sum string, err error) {
	f, err := os.Open(path)
	if err != nil {
		return 0, "", err
	}
	h := sha256.New()
	n, err = io.Copy(io.MultiWriter(w, h), readerFunc(func(b []byte) (int, error) {
		if ctx.Err() != nil {
			return 0, ctx.Err()
		}
		return f.Read(b)
	}))
	return n, hex.EncodeToString(h.Sum(nil)), errors.Join(err, f.Close())
}

type readerFunc func([]byte) (int, error)

func (f readerFunc) Read(b []byte) (int, error) { return f(b) }

// backupRoles are what every backup of a configuration holds; secrets may come from elsewhere.
func backupRoles(c *configs.Config) []string {
	roles := []string{"queue"}
	for i := range c.Store.Shards {
		roles = append(roles, shardRole(i))
	}
	return roles
}

// noSecrets is for shards that are files.
var noSecrets = new(vault)

// inBackup is the configuration as if the backup were the data directory.
func inBackup(c *configs.Config, d *drivers, dir string) (*configs.Config, *drivers) {
	here, drivers := *c, *d
	here.DataDir, here.Store.Shards = dir, nil
	for i := range c.Store.Shards {
		here.Store.Shards = append(here.Store.Shards, shardName(i))
	}
	drivers.sqlitequeue.Path = queueName
	return &here, &drivers
}

// lookAtBackup finds what a start would refuse.
func lookAtBackup(ctx context.Context, c *configs.Config, d *drivers, dir string) error {
	here, drivers := inBackup(c, d, dir)
	var errs []error
	for _, f := range append(checkStore(ctx, here, drivers, noSecrets), drivers.checkQueue(ctx, here)...) {
		if f.Level == store.Wrong {
			errs = append(errs, fmt.Errorf("%s: %s", f.Subject, f.Text))
		}
	}
	return errors.Join(errs...)
}
