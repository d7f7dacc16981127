// Package configs composes the options of every stage into one configuration, loads it and checks it. It has no
// defaults of its own but embedded.yaml, which is also the reference of all settings.
//
// The keys are the names of the options' fields in snake_case. What a stage holds in its Tuning, and the log
// level, may change while the program runs (Field.Hot); everything else is fixed from start to stop.
package configs

import (
	_ "embed"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"strings"

	"github.com/knadh/koanf/parsers/yaml"

	"sluice/engine"
	"sluice/gateway"
	"sluice/gateway/ops"
	"sluice/internal/tracing"
	"sluice/lifecycle"
	"sluice/persist"
	"sluice/persist/store"
)

//go:embed embedded.yaml
var embedded []byte

//go:embed distributed.yaml
var distributed []byte

// Embedded is the default configuration as a commented YAML file.
func Embedded() []byte { return slices.Clone(embedded) }

// Distributed is a commented configuration for Redis and MySQL shards, as a YAML file to be changed.
func Distributed() []byte { return slices.Clone(distributed) }

// Config is a whole configuration. It is read-only once loaded.
type Config struct {
	DataDir   string
	Role      string // what this process runs
	Log       Log
	Runtime   Runtime
	Disk      Disk
	Trace     tracing.Options
	Gateway   gateway.Options
	Ops       ops.Options
	Engine    engine.Options
	Persist   persist.Options
	Lifecycle lifecycle.Options
	Store     store.Options
	Stock     Driver
	Queue     Driver
	Secrets   SecretFiles

	fields []*Field
}

// The roles.
const (
	RoleAll       = "all"
	RoleGateway   = "gateway"   // the public listener and the engine
	RolePersist   = "persist"   // stores orders
	RoleLifecycle = "lifecycle" // what happens to stored orders by itself, and the feed of events
)

// Log says how the program logs, on standard error.
type Log struct {
	Level  slog.Level
	Format string // text or json
}

// Runtime tunes the Go runtime. The variables GOGC and GOMAXPROCS, when set, win.
type Runtime struct {
	GCPercent int // how much the heap may grow between two collections, in percent of what lives
	ProcsMin  int // GOMAXPROCS is at least this
}

// Disk says when the disk under the data directory counts as full.
type Disk struct {
	FreeBytesMin uint64 // below it new orders are turned away with 503; 0: never
}

// Driver names the driver of a seam. The driver's own settings are a section of its name beside it; the program mounts
// them (Source.Mounts).
type Driver struct {
	Driver string
}

// Validate reports everything that is wrong with the values, one line each; nil if nothing is.
func (c *Config) Validate() error {
	var errs []error
	check := func(ok bool, format string, args ...any) {
		if !ok {
			errs = append(errs, fmt.Errorf(format, args...))
		}
	}
	check(c.DataDir != "", "data_dir must name a directory")
	check(slices.Contains([]string{RoleAll, RoleGateway, RolePersist, RoleLifecycle}, c.Role),
		"role must be all, gateway, persist or lifecycle, not %q", c.Role)
	check(c.Log.Format == "text" || c.Log.Format == "json", "log.format must be text or json, not %q", c.Log.Format)
	check(c.Runtime.GCPercent >= 10 && c.Runtime.GCPercent <= 10_000, "runtime.gc_percent must be 10 to 10000")
	check(c.Runtime.ProcsMin >= 1 && c.Runtime.ProcsMin <= 256, "runtime.procs_min must be 1 to 256")
	check(len(c.Engine.Kinds) > 0, "engine.kinds must name normal, flash or both")
	check(c.Gateway.Listen != c.Ops.Listen || strings.HasSuffix(c.Ops.Listen, ":0"),
		"gateway.listen and ops.listen must differ: the ops routes are never on the public port")
	public := c.GatewayOptions(&Secrets{JWT: strings.Repeat("-", 32), ServiceToken: strings.Repeat("-", 16)})
	errs = append(errs, c.Trace.Validate(), public.Validate(), c.Ops.Validate(), c.Engine.Validate(), c.Persist.Validate(), c.Lifecycle.Validate())
	return errors.Join(errs...)
}

// GatewayOptions are the public listener's options, with the secrets and with what other sections say.
func (c *Config) GatewayOptions(s *Secrets) gateway.Options {
	o := c.Gateway
	o.JWTSecrets = append([]string{s.JWT}, s.JWTOthers...)
	o.ServiceTokens = append([]string{s.ServiceToken}, s.ServiceOthers...)
	o.MaxQueueAge, o.Kinds = c.Engine.MaxQueueAge, c.Engine.Kinds
	o.Traced = c.Trace.Endpoint != ""
	return o
}

// PersistOptions are persist's options: it stores the kinds that the engine sells.
func (c *Config) PersistOptions() persist.Options {
	o := c.Persist
	o.Kinds = c.Engine.Kinds
	return o
}

// Fields lists every setting with its value and where it comes from, in the order of the type.
func (c *Config) Fields() []*Field { return slices.Clone(c.fields) }

// Tree is the settings as nested maps, as YAML shows them. Secrets are not part of a configuration.
func (c *Config) Tree() map[string]any {
	tree := map[string]any{}
	for _, f := range c.fields {
		section := tree
		keys := strings.Split(f.Path, ".")
		for _, key := range keys[:len(keys)-1] {
			if section[key] == nil {
				section[key] = map[string]any{}
			}
			section = section[key].(map[string]any)
		}
		section[keys[len(keys)-1]] = f.Value()
	}
	return tree
}

// YAML is the effective configuration as a file that Load would read to the same values.
func (c *Config) YAML() []byte {
	b, err := yaml.Parser().Marshal(c.Tree())
	if err != nil {
		panic("BUG: the configuration does not encode: " + err.Error())
	}
	return b
}

// Overridden names the sources, other than the default, that some setting comes from, sorted.
func (c *Config) Overridden() []string {
	sources := map[string]bool{}
	for _, f := range c.fields {
		if f.Source != "default" {
			sources[f.Source] = true
		}
	}
	return slices.Sorted(maps.Keys(sources))
}
