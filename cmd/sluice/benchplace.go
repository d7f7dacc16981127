package main

import (
	"context"
	"crypto/rand"
	"database/sql"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/go-sql-driver/mysql"
	"github.com/redis/go-redis/v9"
	"github.com/spf13/cobra"

	"sluice/bench"
	"sluice/bench/audit"
	"sluice/bench/naive"
	"sluice/configs"
	"sluice/persist/store"
)

// benchDeployment is the MySQL shards, the Redis and the RocketMQ of a configuration, beside whose databases and names every round of a
// bench gets its own: the configured ones are not touched.
type benchDeployment struct {
	config  *configs.Config
	drivers *drivers
	vault   *vault
}

// deployment is what the settings name; nil if everything is files in the data directory.
func (s *settings) deployment() (bench.Deployment, error) {
	c, d, err := s.load()
	if err != nil {
		return nil, err
	}
	b := &benchDeployment{config: c, drivers: d}
	if !b.onMySQL() && !b.onRedis() && !b.onRocketMQ() {
		return nil, nil
	}
	b.vault, err = openVault(c, d, os.Environ(), false)
	return b, err
}

func (b *benchDeployment) onMySQL() bool { return b.config.Store.Dialect == store.MySQL }
func (b *benchDeployment) onRedis() bool { return b.config.Stock.Driver == "redisstock" }

func (b *benchDeployment) onRocketMQ() bool { return b.config.Queue.Driver == "rocketqueue" }

// brokersWait bounds the question where the brokers are.
const brokersWait = 5 * time.Second

// placeWait bounds the making of a place. Nothing ends it earlier: what was made must be known.
const placeWait = time.Minute

// Place makes databases whose names begin like those of the configured shards, and a name in Redis and in RocketMQ.
func (b *benchDeployment) Place(ctx context.Context) (*bench.Place, error) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), placeWait)
	defer cancel()
	var random [5]byte
	_, _ = rand.Read(random[:]) // never fails: the program is ended instead
	tag := "bench_" + hex.EncodeToString(random[:])
	p := &bench.Place{}
	var made []*mysql.Config
	if b.onMySQL() {
		var err error
		if made, err = b.createDatabases(ctx, tag); err != nil {
			return nil, err
		}
		p.Audit = &audit.Options{Dialect: "mysql", VirtualShards: b.config.Store.VirtualShards, TLS: b.vault.store.Load()}
		var public []string
		for _, dsn := range made {
			p.Audit.Shards = append(p.Audit.Shards, dsn.FormatDSN())
			open := dsn.Clone()
			open.Passwd = ""
			public = append(public, open.FormatDSN())
		}
		p.Args = append(p.Args, "--set", "store.shards="+strings.Join(public, ","))
	}
	name := b.drivers.redisstock.Name + "-" + tag
	if b.onRedis() {
		p.Args = append(p.Args, "--set", "stock.redisstock.name="+name)
	}
	topics := b.drivers.rocketqueue.Name + "-" + tag
	if b.onRocketMQ() {
		p.Args = append(p.Args, "--set", "queue.rocketqueue.name="+topics)
	}
	if b.onMySQL() && b.onRedis() && !b.drivers.redisstock.Cluster {
		p.Naive = &naive.Options{Shards: p.Audit.Shards, TLS: p.Audit.TLS, Name: name, Redis: b.redis(b.drivers.redisstock.Addrs[0])}
	}
	p.Remove = func(ctx context.Context) error {
		err := errors.Join(b.dropDatabases(ctx, made), b.forget(ctx, name))
		if b.onRocketMQ() {
			err = errors.Join(err, b.drivers.removeQueue(ctx, b.config, topics))
		}
		return err
	}
	return p, nil
}

// createDatabases makes one beside each shard. They must not be there: what is dropped later was made here.
func (b *benchDeployment) createDatabases(ctx context.Context, tag string) (made []*mysql.Config, err error) {
	places, err := shardPlaces(b.config, b.vault.now())
	if err != nil {
		return nil, err
	}
	for i, place := range places {
		dsn, err := mysql.ParseDSN(place)
		if err == nil {
			dsn.DBName += "_" + tag
			err = b.execute(ctx, dsn, "CREATE DATABASE `"+dsn.DBName+"`")
		}
		if err != nil {
			return nil, errors.Join(fmt.Errorf("bench: make a database beside shard %d: %w", i, err), b.dropDatabases(context.WithoutCancel(ctx), made))
		}
		made = append(made, dsn)
	}
	return made, nil
}

func (b *benchDeployment) dropDatabases(ctx context.Context, made []*mysql.Config) error {
	var errs []error
	for _, dsn := range made {
		if err := b.execute(ctx, dsn, "DROP DATABASE `"+dsn.DBName+"`"); err != nil {
			errs = append(errs, fmt.Errorf("bench: drop %s: %w", dsn.DBName, err))
		}
	}
	return errors.Join(errs...)
}

// server opens the server of a shard, without a database.
func (b *benchDeployment) server(dsn *mysql.Config) (*sql.DB, error) {
	dsn = dsn.Clone()
	dsn.DBName, dsn.TLS = "", b.vault.store.Load()
	connector, err := mysql.NewConnector(dsn)
	if err != nil {
		return nil, err
	}
	return sql.OpenDB(connector), nil
}

func (b *benchDeployment) execute(ctx context.Context, dsn *mysql.Config, statement string) error {
	db, err := b.server(dsn)
	if err != nil {
		return err
	}
	_, err = db.ExecContext(ctx, statement)
	return errors.Join(err, db.Close())
}

func (b *benchDeployment) redisAddrs() []string {
	if !b.onRedis() {
		return nil
	}
	return slices.Concat(b.drivers.redisstock.Addrs, b.drivers.redisstock.FlashAddrs)
}

func (b *benchDeployment) redis(addr string) redis.Options {
	return *b.drivers.redisClient([]string{addr}, b.vault).Simple()
}

// forget removes every key of a name.
func (b *benchDeployment) forget(ctx context.Context, name string) error {
	var errs []error
	for _, addrs := range [][]string{b.drivers.redisstock.Addrs, b.drivers.redisstock.FlashAddrs} {
		if !b.onRedis() || len(addrs) == 0 {
			continue
		}
		client := redis.NewUniversalClient(b.drivers.redisClient(addrs, b.vault))
		each := func(ctx context.Context, node *redis.Client) error { return forgetAt(ctx, node, name) }
		if cluster, ok := client.(*redis.ClusterClient); ok {
			errs = append(errs, cluster.ForEachMaster(ctx, each))
		} else {
			errs = append(errs, each(ctx, client.(*redis.Client)))
		}
		errs = append(errs, client.Close())
	}
	return errors.Join(errs...)
}

func forgetAt(ctx context.Context, node *redis.Client, name string) error {
	keys := node.Scan(ctx, 0, name+":*", 1000).Iterator()
	for keys.Next(ctx) {
		if err := node.Unlink(ctx, keys.Val()).Err(); err != nil {
			return fmt.Errorf("bench: remove %s from Redis: %w", name, err)
		}
	}
	return keys.Err()
}

// Servers are the databases, Redis, and RocketMQ's processes, which are all called java.
func (b *benchDeployment) Servers() (list []bench.Server) {
	if b.onRocketMQ() {
		ctx, cancel := context.WithTimeout(context.Background(), brokersWait)
		defer cancel()
		for _, addr := range b.drivers.brokers(ctx, b.config) {
			list = append(list, bench.Server{Name: "broker", Addr: addr})
		}
		for _, addr := range b.drivers.rocketqueue.NameServers {
			list = append(list, bench.Server{Name: "name server", Addr: addr})
		}
	}
	for _, addr := range b.redisAddrs() {
		list = append(list, bench.Server{Addr: addr})
	}
	if !b.onMySQL() {
		return list
	}
	for _, place := range b.config.Store.Shards {
		if dsn, err := mysql.ParseDSN(place); err == nil && dsn.Net == "tcp" {
			list = append(list, bench.Server{Addr: dsn.Addr})
		}
	}
	return list
}

// Shared names the first thing that several processes cannot share.
func (b *benchDeployment) Shared() error {
	switch {
	case !b.onMySQL():
		return errors.New("the shards are files")
	case !b.onRedis():
		return fmt.Errorf("stock.driver is %s", b.config.Stock.Driver)
	case !b.onRocketMQ():
		return errors.New("the queue is a file")
	}
	return nil
}

// durable are the settings of a MySQL server that say when a commit is on disk, and how much of it is in memory.
var durable = []string{"version", "innodb_flush_log_at_trx_commit", "sync_binlog", "log_bin", "innodb_doublewrite",
	"innodb_buffer_pool_size", "innodb_log_file_size"}

// Durability asks the first shard's server and the first Redis.
func (b *benchDeployment) Durability(ctx context.Context) string {
	said := []string{"queue: " + b.drivers.queueDurability(ctx, b.config)}
	if b.onMySQL() {
		said = append(said, fmt.Sprintf("%d MySQL shards: %s", len(b.config.Store.Shards), b.askMySQL(ctx)))
	}
	for _, addr := range b.redisAddrs()[:min(1, len(b.redisAddrs()))] {
		o := b.redis(addr)
		client := redis.NewClient(&o)
		info, _ := client.InfoMap(ctx, "server").Result() // what it does not say is not there
		settings, _ := client.ConfigGet(ctx, "append*").Result()
		said = append(said, fmt.Sprintf("Redis %s: appendonly %s, appendfsync %s", info["Server"]["redis_version"],
			settings["appendonly"], settings["appendfsync"]))
		_ = client.Close()
	}
	return strings.Join(said, "; ")
}

func (b *benchDeployment) askMySQL(ctx context.Context) string {
	places, err := shardPlaces(b.config, b.vault.now())
	if err != nil {
		return "unknown"
	}
	dsn, err := mysql.ParseDSN(places[0])
	if err != nil {
		return "unknown"
	}
	db, err := b.server(dsn)
	if err != nil {
		return "unknown"
	}
	defer db.Close()
	var said []string
	for _, name := range durable {
		var is, value string
		if db.QueryRowContext(ctx, "SHOW GLOBAL VARIABLES LIKE '"+name+"'").Scan(&is, &value) == nil {
			said = append(said, name+" "+value)
		}
	}
	return strings.Join(said, ", ")
}

// serveNaive is the naive server, as a child of bench.
func serveNaive(cmd *cobra.Command, s *settings, f *benchFlags, o *bench.Options) error {
	c, d, err := s.load()
	if err != nil {
		return err
	}
	v, err := openVault(c, d, os.Environ(), false)
	if err != nil {
		return err
	}
	b := &benchDeployment{config: c, drivers: d, vault: v}
	if !b.onMySQL() || !b.onRedis() || d.redisstock.Cluster {
		return errors.New("the naive server runs on MySQL shards and a single Redis only")
	}
	limit := 0
	if len(o.Limits) > 0 {
		limit = o.Limits[0]
	}
	places, err := shardPlaces(c, v.now())
	if err != nil {
		return err
	}
	tuneRuntime(&c.Runtime)
	return naive.Serve(cmd.Context(), naive.Options{Listen: f.listen, JWTSecret: v.now().JWT, Shards: places, TLS: v.store.Load(), Name: d.redisstock.Name,
		Redis: b.redis(d.redisstock.Addrs[0]), Units: o.Units, Limit: limit, Connections: o.NaiveConnections[0]}, cmd.OutOrStdout())
}
