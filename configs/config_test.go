package configs_test

import (
	"bytes"
	"os"
	"path/filepath"
	"reflect"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"sluice/configs"
	"sluice/engine"
	"sluice/engine/order"
	"sluice/engine/queue/rocketqueue"
	"sluice/engine/queue/sqlitequeue"
	"sluice/engine/stock/redisstock"
	"sluice/gateway"
	"sluice/lifecycle"
	"sluice/persist"
)

func load(s configs.Source) (*configs.Config, error) {
	s.Mounts = map[string]any{"queue.sqlitequeue": &sqlitequeue.Options{}, "queue.rocketqueue": &rocketqueue.Options{},
		"stock.redisstock": &redisstock.Options{}}
	return configs.Load(s)
}

func write(t *testing.T, name, text string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), name)
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

func TestDefaultsAreTheStages(t *testing.T) {
	t.Parallel()
	c, err := load(configs.Source{})
	if err != nil {
		t.Fatal(err)
	}
	wantEngine, wantPersist := engine.DefaultOptions(), persist.DefaultOptions()
	wantEngine.Kinds = order.Kinds[:]
	for _, pair := range [][2]any{{wantEngine, c.Engine}, {wantPersist, c.Persist}} {
		if d := cmp.Diff(pair[0], pair[1]); d != "" {
			t.Errorf("embedded.yaml is not the stage's default (-stage +file):\n%s", d)
		}
	}
	wantGateway := gateway.DefaultOptions()
	wantGateway.MaxQueueAge = 0 // filled from the engine's
	if d := cmp.Diff(wantGateway, c.Gateway); d != "" {
		t.Errorf("embedded.yaml is not the gateway's default (-stage +file):\n%s", d)
	}
	wantLifecycle := lifecycle.Options{Tuning: lifecycle.Tuning{ExpireEvery: time.Second, GiveBackEvery: 200 * time.Millisecond,
		EventsEvery: 500 * time.Millisecond, CallTimeout: 5 * time.Second}}
	if d := cmp.Diff(wantLifecycle, c.Lifecycle); d != "" {
		t.Errorf("embedded.yaml is not lifecycle's default (-stage +file):\n%s", d)
	}
	if c.DataDir != "data" || c.Gateway.Listen != "127.0.0.1:8080" || c.Ops.Listen != "127.0.0.1:8081" || len(c.Store.Shards) != 2 {
		t.Errorf("a fixed name or value has changed: %+v", c)
	}
}

// TestEveryFieldIsExplained holds embedded.yaml complete: each setting stands there under a comment that names its
// default, and is marked hot if it is.
func TestEveryFieldIsExplained(t *testing.T) {
	t.Parallel()
	c, err := load(configs.Source{})
	if err != nil {
		t.Fatal(err)
	}
	comments := map[string]string{}
	var path []string
	comment := ""
	key := regexp.MustCompile(`^( *)([a-z_]+):(.*)$`)
	for _, line := range strings.Split(string(configs.Embedded()), "\n") {
		trimmed := strings.TrimSpace(line)
		m := key.FindStringSubmatch(line)
		switch {
		case strings.HasPrefix(trimmed, "#"):
			comment += trimmed + "\n"
		case m != nil:
			path = append(path[:len(m[1])/2], m[2])
			comments[strings.Join(path, ".")] = comment
			if strings.TrimSpace(m[3]) != "" || !strings.Contains(comment, "Default:") {
				comment = ""
			}
		default:
			comment = ""
		}
	}
	for _, f := range c.Fields() {
		text, ok := comments[f.Path]
		if !ok && f.Source == "default" {
			text, ok = comments[f.Path[:strings.LastIndexByte(f.Path, '.')]]
		}
		if parent := strings.TrimSuffix(strings.TrimSuffix(f.Path, ".normal"), ".flash"); parent != f.Path {
			text = comments[parent]
		}
		if !ok || !strings.Contains(text, "Default:") {
			t.Errorf("%s has no comment with its default in embedded.yaml", f.Path)
		}
		if hot := strings.Contains(text, "[hot]"); hot != f.Hot {
			t.Errorf("%s: marked hot %v, is hot %v", f.Path, hot, f.Hot)
		}
	}
}

func TestPrecedence(t *testing.T) {
	t.Parallel()
	file := write(t, "a.yaml", "gateway:\n  listen: 127.0.0.1:1\n  read_timeout: 7s\nops:\n  listen: 127.0.0.1:2\nengine:\n  kinds: flash\npersist:\n")
	env := []string{"SLUICE_OPS__LISTEN=127.0.0.1:3", "SLUICE_GATEWAY__LISTEN=127.0.0.1:4", "SLUICE_DATA_DIR=d", "PATH=x",
		"SLUICE_SERVICE_HOST=10.0.0.1", "SLUICE_STORE__SHARDS=a.db, b.db,c.db"}
	c, err := load(configs.Source{File: file, Env: env, Set: []string{"gateway.listen=127.0.0.1:5"}})
	if err != nil {
		t.Fatal(err)
	}
	got := []any{c.Gateway.Listen, c.Gateway.ReadTimeout, c.Ops.Listen, c.DataDir, c.Engine.Kinds, c.Store.Shards, c.Gateway.WriteTimeout}
	want := []any{"127.0.0.1:5", 7 * time.Second, "127.0.0.1:3", "d", []order.Kind{order.Flash}, []string{"a.db", "b.db", "c.db"}, 5 * time.Second}
	if d := cmp.Diff(want, got); d != "" {
		t.Error(d)
	}
	sources := map[string]string{}
	for _, f := range c.Fields() {
		sources[f.Path] = f.Source
	}
	for path, want := range map[string]string{"gateway.listen": "--set", "gateway.read_timeout": file,
		"ops.listen": "SLUICE_OPS__LISTEN", "gateway.write_timeout": "default"} {
		if sources[path] != want {
			t.Errorf("source of %s: %s, want %s", path, sources[path], want)
		}
	}
}

// TestMistakes is what people get wrong, and the words that must help them.
func TestMistakes(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		yaml, env, set string
		want           string
	}{
		{set: "gateway.lisen=x", want: "unknown setting gateway.lisen: did you mean gateway.listen?"},
		{env: "SLUICE_GATEWAY__LISEN=x", want: "SLUICE_GATEWAY__LISEN: unknown setting gateway.lisen: did you mean gateway.listen?"},
		{yaml: "gatway:\n  listen: x\n", want: "unknown setting gatway.listen: did you mean gateway.listen?"},
		{yaml: "nothing: 1\n", want: "unknown setting nothing"},
		{yaml: "engine: 5\n", want: "engine is a section: give one of its settings, such as engine."},
		{yaml: "data_dir:\n  x: 1\n", want: "data_dir is a single value: data_dir.x does not exist"},
		{yaml: "engine:\n  deadline: 5\n", want: `engine.deadline must be a duration such as 250ms, 2s or 15m, not "5"`},
		{yaml: "engine:\n  deadline: [1s]\n", want: "engine.deadline must be a duration such as 250ms, 2s or 15m, not a list or a section"},
		{yaml: "engine:\n  deadline:\n", want: "engine.deadline has no value; leave the line out to get the default"},
		{yaml: "engine:\n  kinds: [flash, sale]\n", want: `engine.kinds entry 1 must be normal or flash, not "sale"`},
		{yaml: "engine:\n  partitions:\n    normal: many\n", want: `engine.partitions.normal must be a whole number, not "many"`},
		{set: "engine.kinds=", want: "engine.kinds must name normal, flash or both"},
		{set: "engine.partitions.flash=0", want: "partitions must be 1 to 1024"},
		{set: "log.level=loud", want: `log.level must be debug, info, warn or error, not "loud"`},
		{set: "log.format=xml", want: `log.format must be text or json, not "xml"`},
		{set: "runtime.gc_percent=1", want: "runtime.gc_percent must be 10 to 10000"},
		{set: "disk.free_bytes_min=-1", want: `disk.free_bytes_min must be a whole number, not negative, not "-1"`},
		{set: "gateway.listen=8080", want: `listen must be host:port, not "8080"`},
		{set: "ops.listen=127.0.0.1:8080", want: "gateway.listen and ops.listen must differ"},
		{set: "data_dir=", want: "data_dir must name a directory"},
		{set: "gateway.listen", want: "must be path=value"},
		{yaml: "a: 1\na: 2\n", want: "c.yaml: line 2: mapping key \"a\" already defined at line 1"},
		{yaml: "engine:\n\tdeadline: 1s\n", want: "line 2: found character that cannot start any token (is it a tab? YAML is indented with spaces)"},
		{yaml: "hello\n", want: "it must hold settings, such as a line `gateway:`"},
	} {
		s := configs.Source{}
		if c.yaml != "" {
			s.File = write(t, "c.yaml", c.yaml)
		}
		if c.env != "" {
			s.Env = []string{c.env}
		}
		if c.set != "" {
			s.Set = []string{c.set}
		}
		_, err := load(s)
		if err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%q %q %q:\n got %v\nwant %s", c.yaml, c.env, c.set, err, c.want)
		}
	}
	if _, err := load(configs.Source{File: "nowhere.yaml"}); err == nil || !strings.Contains(err.Error(), "nowhere.yaml does not exist") {
		t.Errorf("missing file: %v", err)
	}
	_, err := load(configs.Source{Set: []string{"a.b=1", "engine.deadline=x"}, Env: []string{"SLUICE_OPS__X=1"}})
	if err == nil || strings.Count(err.Error(), "\n") != 2 {
		t.Errorf("three mistakes should give three lines: %v", err)
	}
}

func TestEffectiveConfigurationLoadsAgain(t *testing.T) {
	t.Parallel()
	c, err := load(configs.Source{Set: []string{"engine.deadline=1500ms", "log.level=warn", "store.shards=x.db"}})
	if err != nil {
		t.Fatal(err)
	}
	again, err := load(configs.Source{File: write(t, "e.yaml", string(c.YAML()))})
	if err != nil {
		t.Fatal(err)
	}
	if !reflect.DeepEqual(c.Tree(), again.Tree()) {
		t.Error(cmp.Diff(c.Tree(), again.Tree()))
	}
	if !bytes.Contains(c.YAML(), []byte("deadline: 1.5s")) {
		t.Errorf("durations must be text:\n%s", c.YAML())
	}
}

func TestSnake(t *testing.T) {
	t.Parallel()
	for name, want := range map[string]string{"DataDir": "data_dir", "JWTSecretFile": "jwt_secret_file", "GCPercent": "gc_percent",
		"WAL": "wal", "WALMax": "wal_max", "ReadsMax": "reads_max", "P99": "p99"} {
		if got := configs.Snake(name); got != want {
			t.Errorf("Snake(%s) = %s, want %s", name, got, want)
		}
	}
}
