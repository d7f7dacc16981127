package main

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/go-sql-driver/mysql"
	"github.com/redis/go-redis/v9"
	"github.com/redis/go-redis/v9/maintnotifications"

	"sluice/configs"
	"sluice/engine/order"
	"sluice/engine/queue"
	"sluice/engine/queue/rocketqueue"
	"sluice/engine/queue/sqlitequeue"
	"sluice/engine/stock"
	"sluice/engine/stock/memstock"
	"sluice/engine/stock/redisstock"
	"sluice/internal/leader"
	"sluice/internal/leader/redisleader"
	"sluice/internal/tlsfile"
	"sluice/lifecycle/feed"
	"sluice/persist/store"
)

// drivers holds the settings of every driver and opens the chosen ones. This file is the only one outside of tests that
// knows them. There is never a fallback: a driver that cannot be opened ends the program.
type drivers struct {
	sqlitequeue sqlitequeue.Options
	rocketqueue rocketqueue.Options
	redisstock  redisstock.Options

	// shared is the queue of several servers in one process, which is closed by who made it: tests only.
	shared queue.Queue
}

func newDrivers() *drivers { return &drivers{} }

// mounts puts the drivers' settings into the configuration, each beside the name of its driver.
func (d *drivers) mounts() map[string]any {
	return map[string]any{"queue.sqlitequeue": &d.sqlitequeue, "queue.rocketqueue": &d.rocketqueue, "stock.redisstock": &d.redisstock}
}

// validate checks what only the drivers know.
func (d *drivers) validate(c *configs.Config) error {
	var errs []error
	check := func(ok bool, format string, args ...any) {
		if !ok {
			errs = append(errs, fmt.Errorf(format, args...))
		}
	}
	switch c.Stock.Driver {
	case "memstock":
	case "redisstock":
		errs = append(errs, d.redisstock.Validate())
	default:
		check(false, "stock.driver must be memstock or redisstock, not %q", c.Stock.Driver)
	}
	switch c.Queue.Driver {
	case "sqlitequeue":
	case "rocketqueue":
		errs = append(errs, d.rocketqueue.Validate())
	default:
		check(false, "queue.driver must be sqlitequeue or rocketqueue, not %q", c.Queue.Driver)
	}
	check(c.Stock.Driver != "memstock" || c.Engine.Tuning.InFlight == 1,
		"engine.in_flight must be 1 with memstock, not %d", c.Engine.Tuning.InFlight)
	return errors.Join(append(errs, validateStore(c), d.validateRole(c))...)
}

func validateStore(c *configs.Config) error {
	switch shards := c.Store.Shards; {
	case c.Store.Dialect != store.SQLite && c.Store.Dialect != store.MySQL:
		return fmt.Errorf("store.dialect must be sqlite or mysql, not %q", c.Store.Dialect)
	case len(shards) == 0:
		return errors.New("store.shards must name at least one shard")
	case len(slices.Compact(slices.Sorted(slices.Values(shards)))) < len(shards):
		return errors.New("store.shards names one shard twice")
	}
	if n := len(c.Store.VirtualShards); n != 0 && n != 256 {
		return fmt.Errorf("store.virtual_shards must be empty or have 256 entries, not %d", n)
	}
	if c.Store.Dialect == store.SQLite {
		return nil
	}
	for i, text := range c.Store.Shards {
		dsn, err := mysql.ParseDSN(text)
		switch {
		case err != nil:
			return fmt.Errorf("store.shards: entry %d is not a MySQL data source name such as "+
				"sluice@tcp(127.0.0.1:3306)/sluice_0", i) // the text may hold a password: it is not repeated
		case dsn.Passwd != "":
			return fmt.Errorf("store.shards: entry %d holds a password: leave it out and set SLUICE_STORE_PASSWORD "+
				"or secrets.store_password_file", i)
		case dsn.DBName == "":
			return fmt.Errorf("store.shards: entry %d names no database", i)
		case dsn.TLSConfig != "" || dsn.AllowFallbackToPlaintext:
			return fmt.Errorf("store.shards: entry %d speaks of TLS: leave that out and set store.tls, which never goes on in plain", i)
		}
	}
	return c.Store.TLS.Validate("store.tls")
}

// openStore opens the shards.
func (d *drivers) openStore(ctx context.Context, c *configs.Config, v *vault) (*store.Store, error) {
	o, err := storeOptions(c, v)
	if err != nil {
		return nil, err
	}
	identity, err := d.queueIdentity(c)
	if err != nil {
		return nil, err
	}
	o.Queue = &identity
	return store.Open(ctx, o)
}

func storeOptions(c *configs.Config, v *vault) (o store.Options, err error) {
	o = c.Store
	o.Partitions, o.Deadline = c.Engine.Partitions, c.Engine.Deadline
	o.Password, o.Secure = v.storePassword, v.store.Load
	o.Shards, err = shardPlaces(c, v.now())
	return o, err
}

// shardPlaces says where the shards are: files, relative ones in the data directory, or data source names with the
// password.
func shardPlaces(c *configs.Config, secrets *configs.Secrets) ([]string, error) {
	places := slices.Clone(c.Store.Shards)
	for i, place := range places {
		if c.Store.Dialect == store.SQLite {
			places[i] = within(c.DataDir, place)
			continue
		}
		dsn, err := mysql.ParseDSN(place)
		if err != nil {
			return nil, fmt.Errorf("store.shards: entry %d: %w", i, err)
		}
		dsn.Passwd = secrets.StorePassword
		places[i] = dsn.FormatDSN()
	}
	return places, nil
}

// queueFile is the file of the embedded queue; empty for another one.
func (d *drivers) queueFile(c *configs.Config) string {
	if c.Queue.Driver != "sqlitequeue" {
		return ""
	}
	return within(c.DataDir, d.sqlitequeue.Path)
}

// queueIdentity is the identity of the queue that is configured, without making one: empty if it is yet to be made.
func (d *drivers) queueIdentity(c *configs.Config) (string, error) {
	if d.shared != nil {
		return d.shared.Identity(), nil
	}
	if c.Queue.Driver == "rocketqueue" {
		o := d.rocket(c)
		return o.Identity(), nil
	}
	file := d.queueFile(c)
	identity, err := sqlitequeue.Identity(file)
	if err != nil {
		return "", fmt.Errorf("queue: file %s: %w", file, err)
	}
	return identity, nil
}

// openQueue opens the queue in the data directory, or joins that in RocketMQ, whose dead letters the store keeps.
func (d *drivers) openQueue(ctx context.Context, c *configs.Config, s *store.Store) (queue.Queue, error) {
	if d.shared != nil {
		return d.shared, nil
	}
	if c.Queue.Driver == "rocketqueue" {
		hearRocketMQ()
		o := d.rocket(c)
		o.Letters = s.Letters()
		q, err := rocketqueue.Open(ctx, o)
		if err != nil {
			return nil, err // not a queue that holds nothing
		}
		return q, nil
	}
	o := d.sqlitequeue
	o.Path = d.queueFile(c)
	o.Partitions = c.Engine.Partitions
	o.FreeMin = int64(c.Disk.FreeBytesMin / 2) // the engine turns away earlier; this is for what is under way
	q, err := sqlitequeue.Open(ctx, o)
	if err != nil {
		return nil, err // nor here
	}
	return q, nil
}

// rocket is how the queue in RocketMQ is opened.
func (d *drivers) rocket(c *configs.Config) rocketqueue.Options {
	o := d.rocketqueue
	o.Partitions, o.MaxQueueAge = c.Engine.Partitions, c.Engine.MaxQueueAge
	return o
}

// openStock makes an empty fast stock, or connects to that in Redis. exclusive says that nobody else can use it and that
// it dies with the process.
func (d *drivers) openStock(ctx context.Context, c *configs.Config, v *vault) (st stock.Stock, exclusive bool, err error) {
	if c.Stock.Driver == "memstock" {
		return memstock.New(memstock.Options{Partitions: c.Engine.Partitions, Now: time.Now}), true, nil
	}
	redis, err := redisstock.Open(d.redis(c, v))
	if err != nil {
		return nil, false, err
	}
	if err := redis.Check(ctx); err != nil {
		return nil, false, errors.Join(err, redis.Close())
	}
	return redis, false, nil
}

// redis is how fast stock in Redis is opened.
func (d *drivers) redis(c *configs.Config, v *vault) redisstock.Options {
	o := d.redisstock
	o.Partitions, o.Deadline = c.Engine.Partitions, c.Engine.Deadline
	o.Credentials, o.Secure = v.redisCredentials(o.Username), v.redis.Load
	return o
}

// redisClient are the options of go-redis for whoever else speaks to these servers.
func (d *drivers) redisClient(addrs []string, v *vault) *redis.UniversalOptions {
	o := &redis.UniversalOptions{Addrs: addrs, IsClusterMode: d.redisstock.Cluster, DisableIdentity: true,
		CredentialsProvider: v.redisCredentials(d.redisstock.Username)}
	if d.redisstock.TLS.Enabled {
		o.Dialer = tlsfile.Dialer(d.redisstock.DialTimeout, v.redis.Load)
	}
	return o
}

// checkStock looks at the fast stock that is configured, without changing anything.
func (d *drivers) checkStock(ctx context.Context, c *configs.Config, v *vault) (list []finding) {
	note := func(level store.Level, text string) { list = append(list, finding{level, "fast stock", text}) }
	if c.Stock.Driver == "memstock" {
		note(store.OK, "in memory of the one process that runs, counted anew from the shards at every start")
		return list
	}
	redis, err := redisstock.Open(d.redis(c, v))
	if err != nil {
		note(store.Wrong, err.Error())
		return list
	}
	defer redis.Close() // nothing is under way
	servers, warnings := describeStock(ctx, redis)
	for _, text := range servers {
		note(store.OK, text)
	}
	for _, text := range warnings {
		note(store.Warning, text)
	}
	if err := redis.Check(ctx); err != nil {
		for text := range strings.Lines(err.Error()) {
			note(store.Wrong, strings.TrimSpace(text))
		}
	}
	return list
}

// describeStock says what servers a fast stock lies on, and what a person should know of them.
func describeStock(ctx context.Context, st stock.Stock) (servers, warnings []string) {
	redis, ok := st.(*redisstock.Stock)
	if !ok {
		return nil, nil
	}
	servers, warnings = redis.Describe(ctx)
	return servers, append(warnings, redis.Warnings(ctx)...)
}

// checkQueue looks at the queue that is configured, without changing anything.
func (d *drivers) checkQueue(ctx context.Context, c *configs.Config) (list []finding) {
	note := func(level store.Level, texts ...string) {
		for _, text := range texts {
			list = append(list, finding{level, "queue", text})
		}
	}
	if c.Queue.Driver == "rocketqueue" {
		report := rocketqueue.Check(ctx, d.rocket(c))
		note(store.OK, report.Notes...)
		note(store.Warning, report.Warnings...)
		note(store.Wrong, report.Faults...)
		return list
	}
	o := d.sqlitequeue
	o.Path, o.Partitions = d.queueFile(c), c.Engine.Partitions
	text, err := sqlitequeue.Check(ctx, o)
	if err != nil {
		note(store.Wrong, fmt.Sprintf("file %s: %v", o.Path, err))
	} else {
		note(store.OK, fmt.Sprintf("file %s: %s", o.Path, text))
	}
	return list
}

// brokers are the addresses of RocketMQ's brokers that answer.
func (d *drivers) brokers(ctx context.Context, c *configs.Config) map[string]string {
	brokers, _ := rocketqueue.Brokers(ctx, d.rocket(c)) // an error means that there is none to be seen
	return brokers
}

// queueDurability says when what the queue has accepted is on disk.
func (d *drivers) queueDurability(ctx context.Context, c *configs.Config) string {
	if c.Queue.Driver == "rocketqueue" {
		return "RocketMQ, " + rocketqueue.Durability(ctx, d.rocket(c))
	}
	return "a SQLite file, WAL, synchronous=FULL"
}

// removeQueue removes the queue of a name from RocketMQ, when nobody uses it any more.
func (d *drivers) removeQueue(ctx context.Context, c *configs.Config, name string) error {
	o := d.rocket(c)
	o.Name = name
	return rocketqueue.Remove(ctx, o)
}

// openLeader gives the locks that save double work: kept where the fast stock of several processes is.
func (d *drivers) openLeader(c *configs.Config, v *vault) leader.Leader {
	if c.Stock.Driver == "memstock" {
		return leader.Alone{}
	}
	o := d.redisClient(d.redisstock.Addrs, v)
	o.MaxRetries, o.DialerRetries, o.DialTimeout, o.ContextTimeoutEnabled = -1, 1, d.redisstock.DialTimeout, true
	o.MaintNotificationsConfig = &maintnotifications.Config{Mode: maintnotifications.ModeDisabled}
	return redisleader.New(redis.NewUniversalClient(o), d.redisstock.Name)
}

// publisher gives what carries the feed of events to its readers; nil where the event table is the feed.
func publisher(q queue.Queue) feed.Publisher {
	if q, ok := q.(*rocketqueue.Queue); ok {
		return eventTopic{q.Events()}
	}
	return nil
}

// eventTopic packs events into messages of RocketMQ.
type eventTopic struct{ *rocketqueue.Events }

func (t eventTopic) Publish(ctx context.Context, shard int, events []order.Event) error {
	return t.Events.Publish(ctx, shard, feed.Bodies(events, rocketqueue.EventBytesMax))
}

func within(dir, path string) string {
	if filepath.IsAbs(path) {
		return path
	}
	return filepath.Join(dir, path)
}
