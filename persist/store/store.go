package store

import (
	"context"
	"crypto/tls"
	"database/sql"
	"errors"
	"fmt"
	"io/fs"
	"sync"
	"time"

	"sluice/engine/order"
	"sluice/internal/lockfile"
	"sluice/internal/tlsfile"
)

// Options say where the shards are. Partitions, Deadline, VirtualShards and the number and order of Shards are facts of
// the deployment: Open stores them at the first start and refuses others later.
type Options struct {
	Dialect Dialect
	// Shards are paths of files (SQLite) or data source names with a database (MySQL).
	Shards []string
	// VirtualShards gives the shard of each of the order.VirtualShards slices of users; nil spreads them evenly.
	VirtualShards []int
	Partitions    order.Partitions
	// Deadline is the acknowledgement deadline D.
	Deadline time.Duration
	// Queue is the identity of the queue that this process finds, empty if it is yet to be made. One that is not the
	// deployment's (KeepQueue) is refused; nil: nobody looked.
	Queue *string
	// Writers bounds the writing connections per MySQL shard, Readers the reading ones of either dialect. Zero means 8.
	Writers int
	Readers int
	// TLS says whether and how MySQL servers are spoken to in TLS. Its files are read by whoever gives Secure.
	TLS tlsfile.Client
	// Secure gives what TLS has come to, for a new connection; with TLS.Enabled it is needed.
	Secure func() *tls.Config `koanf:"-"`
	// Password gives the password for a new connection, in the place of the data source name's; nil: that.
	Password func() string `koanf:"-"`
	// CheckpointPages is SQLite's wal_autocheckpoint. Zero means 16000: random keys dirty a page each, and a page that
	// is dirtied often between two checkpoints is written to the file once.
	CheckpointPages int

	migrations fs.FS // of another release, for tests; nil: this program's
}

// Store is all shards of a deployment.
type Store struct {
	opts    Options
	dialect *dialect
	shards  []*shard
	virtual [order.VirtualShards]int

	offers sync.Map // order.OfferID -> offerFacts: what never changes about an offer

	warnings []string

	stop    context.CancelFunc
	running sync.WaitGroup
}

// shard is one database.
type shard struct {
	number int
	path   string // of a SQLite file
	lock   *lockfile.Lock
	write  *sql.DB
	read   *sql.DB
	turn   turn       // who writes next (SQLite)
	stmts  statements // prepared on the one writing connection (SQLite)
	keys   *keyIndex  // SQLite only
	reads  sync.Map   // query -> *sql.Stmt of read (SQLite)
}

// ErrNotMine says that the epoch of the call is not the one that may do this now; nothing was written.
var ErrNotMine = errors.New("the partition has another epoch")

// Stats is what a person wants to know of the SQLite files; zero on MySQL.
type Stats struct {
	KeysWaiting   int64 // entries of the index by user and key that are not merged, in memory and in runs
	MergeFailures int64 // of merges, which are tried again every second
}

// Stats reads the present numbers.
func (s *Store) Stats() (all Stats) {
	for _, sh := range s.shards {
		if sh.keys != nil {
			all.KeysWaiting += int64(sh.keys.waiting())
			all.MergeFailures += sh.keys.failures.Load()
		}
	}
	return all
}

// Warnings says what Open found that weakens a promise and that it did not refuse, a line each.
func (s *Store) Warnings() []string { return s.warnings }

// Shards is the number of shards.
func (s *Store) Shards() int { return len(s.shards) }

// Partitions says how many partitions of each kind the deployment has.
func (s *Store) Partitions() order.Partitions { return s.opts.Partitions }

// Home is the shard that holds the stock of partition p. The partitions of each kind are dealt out one by one.
func (s *Store) Home(p order.Partition) int {
	return homeOf(s.opts.Partitions, len(s.shards), p)
}

func homeOf(ps order.Partitions, shards int, p order.Partition) int {
	if int(p) >= ps.Count() {
		panic(fmt.Sprintf("BUG: partition %d of %d", p, ps.Count()))
	}
	if ps.Kind(p) == order.Flash {
		return (int(p) - ps.Normal) % shards
	}
	return int(p) % shards
}

// UserShard is the shard that holds the orders of user u.
func (s *Store) UserShard(u order.UserID) int { return s.virtual[order.VirtualShard(u)] }

// OrderShard is the shard that holds order id: its user's.
func (s *Store) OrderShard(id order.ID) int { return s.virtual[id.VirtualShard()] }

// Now is the clock of a shard's database.
func (s *Store) Now(ctx context.Context, shard int) (now order.Milli, err error) {
	err = s.shards[shard].read.QueryRowContext(ctx, "SELECT "+s.dialect.now).Scan(&now)
	if err != nil {
		return 0, fmt.Errorf("read the clock of shard %d: %w", shard, err)
	}
	return now, nil
}

// Close stops the goroutines and closes the databases. Calls after it fail; calls under way may.
func (s *Store) Close() error {
	s.stop()
	s.running.Wait()
	var errs []error
	for _, sh := range s.shards {
		errs = append(errs, sh.close())
	}
	return errors.Join(errs...)
}

func (sh *shard) close() error {
	var errs []error
	if sh.read != nil {
		errs = append(errs, sh.read.Close())
	}
	if sh.write != nil {
		_ = sh.turn.take(context.Background(), 0) // the writer that is at it finishes first
		defer sh.turn.give()
		if sh.path != "" { // a server need not answer any more
			sh.closeStatements()
		}
		errs = append(errs, sh.write.Close())
	}
	if sh.lock != nil {
		errs = append(errs, sh.lock.Release())
	}
	return errors.Join(errs...)
}

// closeStatements closes what is prepared on the one writing connection (SQLite).
func (sh *shard) closeStatements() {
	conn, err := sh.write.Conn(context.Background())
	if err != nil {
		return
	}
	_ = conn.Raw(func(dc any) error { sh.stmts.close(dc); return nil })
	_ = conn.Close()
}
