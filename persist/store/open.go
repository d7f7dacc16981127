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
	"time"

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
		s.shards = append(s.shards, &shard{number: i})
	}
	if err := s.openShards(ctx); err != nil {
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

// openShards looks at every shard before it changes any: nothing is made in a database that was named by mistake.
func (s *Store) openShards(ctx context.Context) error {
	if err := s.refused(s.look(ctx, s.openShard)); err != nil {
		return err
	}
	for _, sh := range s.shards {
		if err := s.prepare(ctx, sh); err != nil {
			return fmt.Errorf("open shard %d (%s): %w", sh.number, s.dialect.place(s.opts.Shards[sh.number]), err)
		}
	}
	return s.settleFacts(ctx)
}

// refused keeps the warnings and returns what is wrong, one line each.
func (s *Store) refused(findings []Finding) error {
	var errs []error
	for i := range findings {
		switch f := &findings[i]; f.Level {
		case Warning:
			s.warnings = append(s.warnings, f.String())
		case Wrong:
			err := errors.New(f.String())
			if f.err != nil {
				err = fmt.Errorf("shard %d (%s): %w", f.Shard, f.Place, f.err)
			}
			errs = append(errs, err)
		}
	}
	return errors.Join(errs...)
}

// openShard opens the databases of a shard; of a SQLite file that is not there yet, none: prepare does.
func (s *Store) openShard(sh *shard) (err error) {
	if s.dialect.name == MySQL {
		sh.write, sh.read, err = openMySQL(s.opts.Shards[sh.number], &s.opts)
		return err
	}
	sh.path = s.opts.Shards[sh.number]
	if _, err := os.Stat(sh.path); errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	return s.openFile(sh)
}

// openFile locks a SQLite file and opens it.
func (s *Store) openFile(sh *shard) (err error) {
	if err := os.MkdirAll(filepath.Dir(sh.path), 0o750); err != nil {
		return err
	}
	if sh.lock, err = lockfile.Take(sh.path + ".lock"); err != nil {
		return err
	}
	sh.write, sh.read, err = openSQLite(sh.path, &s.opts)
	return err
}

// prepare brings the tables of a shard up to date, if they are not newer already.
func (s *Store) prepare(ctx context.Context, sh *shard) error {
	if sh.read == nil {
		if err := s.openFile(sh); err != nil {
			return err
		}
	}
	if err := s.migrate(ctx, sh); err != nil || s.dialect.name == MySQL {
		return s.opts.explain(err, s.opts.Shards[sh.number])
	}
	sh.keys = newKeyIndex()
	return sh.readRuns(ctx)
}

// migrate brings the tables up to date. MySQL commits each statement that changes a table on its own: there a lock of
// the server lets one process at a time do it, over connections that have all the time they need.
func (s *Store) migrate(ctx context.Context, sh *shard) error {
	if s.dialect.name == SQLite {
		return s.migrateWith(ctx, sh, sh.write)
	}
	cfg, err := sessionConfig(s.opts.Shards[sh.number], &s.opts)
	if err != nil {
		return err
	}
	cfg.ReadTimeout, cfg.Params["wait_timeout"] = 0, "28800" // whoever holds the lock says nothing meanwhile
	db, err := openPool(cfg, 2)
	if err != nil {
		return err
	}
	defer db.Close()
	conn, err := db.Conn(ctx)
	if err != nil {
		return err
	}
	defer conn.Close() // the lock goes with it, however this ends
	var got sql.NullInt64
	err = conn.QueryRowContext(ctx, "SELECT GET_LOCK(CONCAT('sluice ', SHA1(DATABASE())), ?)", migrateWait.Seconds()).Scan(&got)
	if err != nil {
		return err
	}
	if got.Int64 != 1 {
		return fmt.Errorf("another process has been changing the tables for %v: wait for it, then start again", migrateWait)
	}
	if err := s.migrateWith(ctx, sh, db); err != nil {
		return err
	}
	_, err = conn.ExecContext(ctx, "DO RELEASE_LOCK(CONCAT('sluice ', SHA1(DATABASE())))")
	return err
}

// migrateWait is how long a process waits for another one that changes the tables.
const migrateWait = time.Minute

func (s *Store) migrateWith(ctx context.Context, sh *shard, db *sql.DB) error {
	if err := s.stillCompatible(ctx, sh); err != nil {
		return err
	}
	provider, err := goose.NewProvider(s.dialect.goose, db, s.migrations(), goose.WithDisableGlobalRegistry(true))
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
