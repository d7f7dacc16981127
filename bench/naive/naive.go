package naive

import (
	"context"
	"crypto/tls"
	"database/sql"
	_ "embed"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"time"

	"github.com/go-sql-driver/mysql"
	"github.com/redis/go-redis/v9"

	"sluice/engine"
	"sluice/engine/order"
	"sluice/gateway"
)

// Options say what to serve, and from where.
type Options struct {
	Listen    string      // host:port; port 0 takes a free one
	JWTSecret string      // of buyers' tokens
	Shards    []string    // data source names of databases that are its own
	TLS       *tls.Config // of their servers; nil: in plain
	Redis     redis.Options
	Name      string // the first part of its keys in Redis
	// The one offer: how many units are on sale, and how many of them a user may have; 0: no limit.
	Units int64
	Limit int
	// Connections to each shard, 1 at least: with few of them requests wait for each other, with many the server's threads do.
	Connections int
}

// redisConnections bounds the connections to Redis; more gain nothing.
const redisConnections = 64

// Offer is the id of the one offer that is sold.
const Offer order.OfferID = 1

const table = `CREATE TABLE orders (
    order_id     BIGINT      NOT NULL PRIMARY KEY,
    user_id      BIGINT      NOT NULL,
    offer_id     BIGINT      NOT NULL,
    quantity     INT         NOT NULL,
    unit_price   BIGINT      NOT NULL,
    idem_key     VARCHAR(64) NOT NULL,
    key_hash     BIGINT      NOT NULL,
    status       VARCHAR(20) NOT NULL,
    details      BLOB,
    created_at   BIGINT      NOT NULL,
    unpaid_until BIGINT      NOT NULL,
    UNIQUE KEY orders_by_user_key (user_id, key_hash),
    KEY orders_by_unpaid_until (unpaid_until)
) ENGINE=InnoDB DEFAULT CHARSET=utf8mb4 COLLATE=utf8mb4_bin`

//go:embed reserve.lua
var reserveText string

//go:embed giveback.lua
var giveBackText string

var reserveScript, giveBackScript = redis.NewScript(reserveText), redis.NewScript(giveBackText)

// server is the naive server.
type server struct {
	o      *Options
	redis  *redis.Client
	shards []*sql.DB
	ids    *order.IDs
	offer  *engine.Offer
	keys   []string // KEYS of both scripts
	log    *slog.Logger
}

// Serve creates the tables and the offer, prints `ready gateway=ADDR` to out when it listens, and serves until ctx ends.
func Serve(ctx context.Context, o Options, out io.Writer) (err error) {
	s, err := open(&o)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, s.close()) }()
	if err := s.create(ctx); err != nil {
		return err
	}
	g := gateway.New(gatewayOptions(&o), gateway.Deps{Placer: s, Catalogue: s, Orders: s, Canceller: s, Log: s.log})
	if err := g.Start(ctx); err != nil {
		return err
	}
	_, _ = fmt.Fprintf(out, "ready gateway=%s\n", g.Addr())
	<-ctx.Done()
	closing, cancel := context.WithTimeout(context.WithoutCancel(ctx), 10*time.Second)
	defer cancel()
	return g.Close(closing)
}

func gatewayOptions(o *Options) gateway.Options {
	g := gateway.DefaultOptions()
	g.Listen, g.JWTSecrets, g.Kinds = o.Listen, []string{o.JWTSecret}, []order.Kind{order.Flash}
	return g
}

// open connects to nothing yet.
func open(o *Options) (*server, error) {
	if len(o.JWTSecret) < 32 || len(o.Shards) == 0 || o.Redis.Addr == "" || o.Units < 0 || o.Limit < 0 || o.Connections < 1 {
		return nil, errors.New("naive: it needs a secret of 32 bytes, shards, connections to them, a Redis, and units and a limit that are not negative")
	}
	s := &server{o: o, ids: order.NewIDs(nil), log: slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: slog.LevelWarn}))}
	s.ids.Lease(1, 0, order.MilliOf(time.Now().AddDate(10, 0, 0)))
	s.offer = engine.NewOffer(order.Offer{ID: Offer, Shop: 1, Group: "1", SKU: "BENCH-1", Title: "bench", Kind: order.Flash,
		UnitPrice: 9900, PriceVersion: 1, Currency: "CNY", Total: o.Units, Limit: uint32(o.Limit)}, 0)
	for _, what := range []string{"left", "buyers", "keys"} {
		s.keys = append(s.keys, o.Name+":"+what)
	}
	r := o.Redis
	// A call that timed out may have been executed: it is not repeated behind our back.
	r.MaxRetries, r.PoolSize, r.DisableIdentity = -1, redisConnections, true
	s.redis = redis.NewClient(&r)
	for _, place := range o.Shards {
		db, err := openShard(place, o)
		if err != nil {
			return nil, errors.Join(err, s.close())
		}
		s.shards = append(s.shards, db)
	}
	return s, nil
}

func openShard(place string, o *Options) (*sql.DB, error) {
	cfg, err := mysql.ParseDSN(place)
	if err != nil {
		return nil, errors.New("naive: a data source name does not parse") // it may hold a password
	}
	cfg.InterpolateParams, cfg.Timeout = true, 5*time.Second
	cfg.TLS = o.TLS
	connector, err := mysql.NewConnector(cfg)
	if err != nil {
		return nil, err
	}
	db := sql.OpenDB(connector)
	db.SetMaxOpenConns(o.Connections)
	db.SetMaxIdleConns(o.Connections)
	return db, nil
}

func (s *server) close() error {
	err := s.redis.Close()
	for _, db := range s.shards {
		err = errors.Join(err, db.Close())
	}
	return err
}

// create makes the tables, which must not be there, and puts the units on sale.
func (s *server) create(ctx context.Context) error {
	for i, db := range s.shards {
		if _, err := db.ExecContext(ctx, table); err != nil {
			return fmt.Errorf("naive: create the table of shard %d: %w", i, err)
		}
	}
	fresh, err := s.redis.SetNX(ctx, s.keys[0], s.o.Units, 0).Result()
	if err == nil && !fresh {
		err = errors.New("its keys are there already")
	}
	for _, script := range []*redis.Script{reserveScript, giveBackScript} {
		if err == nil {
			err = script.Load(ctx, s.redis).Err()
		}
	}
	if err != nil {
		return fmt.Errorf("naive: put units on sale: %w", err)
	}
	return nil
}

// Sold is what was sold, counted in both places.
type Sold struct {
	Orders int64 // rows
	Units  int64 // of them
	Taken  int64 // units that are gone from Redis
}

// Count reads what a naive server of these options has sold. It is for a server that has come to rest.
func Count(ctx context.Context, o Options) (sold Sold, err error) {
	s, err := open(&o)
	if err != nil {
		return sold, err
	}
	defer func() { err = errors.Join(err, s.close()) }()
	left, err := s.redis.Get(ctx, s.keys[0]).Int64()
	if err != nil {
		return sold, fmt.Errorf("naive: read the units left: %w", err)
	}
	sold.Taken = o.Units - left
	for i, db := range s.shards {
		var orders, units int64
		err := db.QueryRowContext(ctx, "SELECT count(*), coalesce(sum(quantity), 0) FROM orders").Scan(&orders, &units)
		if err != nil {
			return sold, fmt.Errorf("naive: count the orders of shard %d: %w", i, err)
		}
		sold.Orders, sold.Units = sold.Orders+orders, sold.Units+units
	}
	return sold, nil
}
