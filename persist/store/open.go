package store

import (
	"context"
	"crypto/rand"
	"database/sql"
	"embed"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/pressly/goose/v3"

	"sluice/engine/order"
	"sluice/internal/lockfile"
)

//go:embed migrations
var migrations embed.FS

// Open opens every shard, brings its tables up to date, stores the facts of the deployment at the first start and
// refuses to go on when they are others later. Several processes may open the same MySQL shards at once; a SQLite file
// belongs to one Store, and is locked. The caller closes the Store.
func Open(ctx context.Context, o Options) (*Store, error) {
	o.Writers, o.Readers = defaultTo(o.Writers, 8), defaultTo(o.Readers, 8)
	o.CheckpointPages = defaultTo(o.CheckpointPages, 16000)
	s := &Store{opts: o, dialect: dialects[o.Dialect]}
	if err := s.check(); err != nil {
		return nil, err
	}
	running, stop := context.WithCancel(context.WithoutCancel(ctx))
	s.stop = stop
	for i := range o.Shards {
		sh, err := s.openShard(ctx, i)
		s.shards = append(s.shards, sh)
		if err != nil {
			return nil, errors.Join(fmt.Errorf("open shard %d: %w", i, err), s.Close())
		}
	}
	if err := s.settleFacts(ctx); err != nil {
		return nil, errors.Join(err, s.Close())
	}
	if o.Dialect == SQLite {
		for _, sh := range s.shards {
			s.running.Go(func() { s.keepWALShort(running, sh) })
			s.running.Go(func() { s.keepKeysMerged(running, sh) })
		}
	}
	return s, nil
}

// check validates the options and fills the map of virtual shards.
func (s *Store) check() error {
	o := &s.opts
	n := len(o.Shards)
	switch {
	case s.dialect == nil:
		return fmt.Errorf("unknown dialect %q: it is %q or %q", o.Dialect, SQLite, MySQL)
	case n == 0:
		return errors.New("at least one shard is needed")
	case o.Partitions.Normal < 1 || o.Partitions.Normal > order.PartitionsMax || o.Partitions.Flash < 1 || o.Partitions.Flash > order.PartitionsMax:
		return fmt.Errorf("each kind has 1 to %d partitions", order.PartitionsMax)
	case o.Deadline <= 0:
		return errors.New("the acknowledgement deadline must be positive")
	case o.VirtualShards != nil && len(o.VirtualShards) != order.VirtualShards:
		return fmt.Errorf("the virtual shard map has %d entries, not %d", len(o.VirtualShards), order.VirtualShards)
	}
	for v := range s.virtual {
		s.virtual[v] = v * n / order.VirtualShards
		if o.VirtualShards != nil {
			s.virtual[v] = o.VirtualShards[v]
		}
		if s.virtual[v] < 0 || s.virtual[v] >= n {
			return fmt.Errorf("virtual shard %d is mapped to shard %d of %d", v, s.virtual[v], n)
		}
	}
	return nil
}

// openShard always returns a shard that can be closed, also with an error.
func (s *Store) openShard(ctx context.Context, number int) (*shard, error) {
	sh := &shard{number: number}
	var err error
	if s.dialect.name == MySQL {
		sh.write, sh.read, err = openMySQL(s.opts.Shards[number], &s.opts)
	} else {
		sh.path = s.opts.Shards[number]
		if err := os.MkdirAll(filepath.Dir(sh.path), 0o750); err != nil {
			return sh, err
		}
		if sh.lock, err = lockfile.Take(sh.path + ".lock"); err != nil {
			return sh, err
		}
		sh.write, sh.read, err = openSQLite(sh.path, &s.opts)
	}
	if err != nil {
		return sh, err
	}
	if err := s.migrate(ctx, sh); err != nil || s.dialect.name == MySQL {
		return sh, err
	}
	sh.keys = newKeyIndex()
	return sh, sh.readRuns(ctx)
}

// migrate brings the tables up to date. On MySQL a lock of the server lets one process at a time do it: MySQL commits
// each statement that changes a table on its own.
func (s *Store) migrate(ctx context.Context, sh *shard) error {
	if s.dialect.name == MySQL {
		conn, err := sh.read.Conn(ctx)
		if err != nil {
			return err
		}
		defer conn.Close()
		const name = "CONCAT('sluice ', SHA1(DATABASE()))"
		var got sql.NullInt64
		if err := conn.QueryRowContext(ctx, "SELECT GET_LOCK("+name+", 60)").Scan(&got); err != nil {
			return err
		}
		if got.Int64 != 1 {
			return errors.New("another process has been changing the tables for a minute")
		}
		defer func() { _, _ = conn.ExecContext(context.WithoutCancel(ctx), "DO RELEASE_LOCK("+name+")") }()
	}
	files, err := fs.Sub(migrations, "migrations/"+string(s.dialect.name))
	if err != nil {
		panic("BUG: migrations are not embedded: " + err.Error())
	}
	provider, err := goose.NewProvider(s.dialect.goose, sh.write, files, goose.WithDisableGlobalRegistry(true))
	if err != nil {
		return err
	}
	if _, err := provider.Up(ctx); err != nil {
		return fmt.Errorf("bring the tables up to date: %w", err)
	}
	return nil
}

// newDeployment is a name by which the shards of one deployment know each other.
func newDeployment() string { return rand.Text() }
