package main

import (
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"sluice/engine/order"
)

// reloading is a server with a configuration file.
type reloading struct {
	*process
	file string
}

func newReloading(t *testing.T, text string) *reloading {
	t.Helper()
	file := filepath.Join(t.TempDir(), "sluice.yaml")
	r := &reloading{file: file}
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	r.process = spawn(t, t.TempDir(), "-c", file)
	return r
}

func (r *reloading) write(text string) {
	r.t.Helper()
	if err := os.WriteFile(r.file, []byte(text), 0o600); err != nil {
		r.t.Fatal(err)
	}
}

// reloaded is the reload of a file with this text, by the ops listener.
func (r *reloading) reloaded(status int, text string) *answer {
	r.t.Helper()
	r.write(text)
	return r.must(status, "POST", r.ops+"/ops/reload", r.secrets.OpsToken, "")
}

// state is what /ops/stats says of reloads.
func (r *reloading) state() (s struct {
	Generation, Failures int
	Hash                 string
	LastError            string `json:"last_error"`
}) {
	r.t.Helper()
	var all struct {
		Config json.RawMessage
	}
	a := r.must(200, "GET", r.ops+"/ops/stats", r.secrets.OpsToken, "")
	if err := json.Unmarshal(a.body, &all); err != nil {
		r.t.Fatal(err)
	}
	if err := json.Unmarshal(all.Config, &s); err != nil {
		r.t.Fatal(err)
	}
	return s
}

func (r *reloading) awaitGeneration(want int) {
	r.t.Helper()
	if !await(func() bool { return r.state().Generation == want }) {
		r.t.Fatalf("generation %+v, want %d\n%s", r.state(), want, r.errors.String())
	}
}

// A changed file comes into force by itself, at a signal and by the ops listener; a dry run changes nothing; a file that
// is wrong changes nothing and says what is wrong and where.
func TestReload(t *testing.T) {
	t.Parallel()
	r := newReloading(t, "log:\n  level: info\n")
	first := r.state()
	if first.Generation != 1 || first.Hash == "" {
		t.Fatalf("at the start: %+v", first)
	}
	r.write("gateway:\n  wait_max: 1s\n")
	r.awaitGeneration(2)
	r.says("gateway.wait_max: 10s -> 1s")
	if r.state().Hash == first.Hash {
		t.Error("another configuration has the same hash")
	}
	a := r.must(200, "POST", r.ops+"/ops/reload?dry_run=1", r.secrets.OpsToken, "")
	if a.field("dry_run") != "true" || a.field("generation") != "2" {
		t.Errorf("a dry run of what is in force: %v", a)
	}
	if err := os.Rename(r.file, r.file+".old"); err != nil { // as an editor does
		t.Fatal(err)
	}
	r.write("gateway:\n  wait_max: 2s\n")
	r.awaitGeneration(3)
	r.write("# the same values\ngateway: {wait_max: 2s}\n")
	if err := r.cmd.Process.Signal(syscall.SIGHUP); err != nil {
		t.Fatal(err)
	}
	a = r.reloaded(422, "gateway:\n  wait_max: 1 hour\n  wait_min: 2s\n")
	for _, want := range []string{r.file, "gateway.wait_max", "gateway.wait_min", "1 hour"} {
		if !strings.Contains(a.field("detail"), want) {
			t.Errorf("the refusal does not name %s: %v", want, a)
		}
	}
	a = r.reloaded(409, "gateway:\n  wait_max: 5s\n  read_timeout: 1s\nengine:\n  max_queue_age: 1h\n")
	if a.field("code") != "fixed_setting" || !strings.Contains(a.String(), "gateway.read_timeout") || !strings.Contains(a.String(), "engine.max_queue_age") {
		t.Errorf("fixed settings: %v", a)
	}
	s := r.state()
	if s.Generation != 3 || s.Failures < 2 || s.LastError == "" {
		t.Errorf("after what was refused: %+v", s)
	}
	r.reloaded(200, "gateway: {wait_max: 3s}\n")
	if s = r.state(); s.Generation != 4 || s.LastError != "" {
		t.Errorf("after what was right again: %+v", s)
	}
	r.metrics(map[string]string{"sluice_config_generation": "4"})
	var config struct{ Settings []setting }
	a = r.must(200, "GET", r.ops+"/ops/config", r.secrets.OpsToken, "")
	if err := json.Unmarshal(a.body, &config); err != nil || a.field("generation") != "4" || !strings.Contains(a.String(), `"3s"`) {
		t.Errorf("%v: %v", err, a)
	}
	if code := r.end(syscall.SIGTERM); code != 0 {
		t.Errorf("exit code %d\n%s", code, r.errors.String())
	}
}

// A Kubernetes volume replaces what a link to a link leads to.
func TestReloadFollowsLinks(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	put := func(version, text string) {
		t.Helper()
		if err := os.MkdirAll(filepath.Join(dir, version), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(dir, version, "sluice.yaml"), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		if err := os.Symlink(version, filepath.Join(dir, "..next")); err != nil {
			t.Fatal(err)
		}
		if err := os.Rename(filepath.Join(dir, "..next"), filepath.Join(dir, "..data")); err != nil {
			t.Fatal(err)
		}
	}
	put("..one", "gateway: {wait_max: 1s}\n")
	file := filepath.Join(dir, "sluice.yaml")
	if err := os.Symlink(filepath.Join("..data", "sluice.yaml"), file); err != nil {
		t.Fatal(err)
	}
	r := &reloading{process: spawn(t, t.TempDir(), "-c", file), file: file}
	for i, version := range []string{"..two", "..three"} {
		put(version, fmt.Sprintf("gateway: {wait_max: %ds}\n", i+2))
		r.awaitGeneration(i + 2)
	}
	if err := os.RemoveAll(filepath.Join(dir, "..one")); err != nil {
		t.Fatal(err)
	}
	put("..four", "gateway: {wait_max: 9s}\n")
	r.awaitGeneration(4)
}

// 500 reloads, right and wrong ones, by file and by call, lose no request.
func TestReloadsUnderLoad(t *testing.T) {
	t.Parallel()
	if testing.Short() {
		t.Skip("-short: seconds of load")
	}
	r := newReloading(t, "")
	offer := r.offer("normal", 1_000_000, 0)
	var placed atomic.Int64
	stop := make(chan struct{})
	var load sync.WaitGroup
	for u := range 4 {
		load.Go(func() {
			token := r.token(order.UserID(u + 1))
			for n := 0; ; n++ {
				select {
				case <-stop:
					return
				default:
				}
				a, err := r.try("POST", r.gateway+"/v1/orders", token, line(offer, 1), "Idempotency-Key", fmt.Sprint(n))
				if err != nil || a.status != 202 {
					t.Errorf("order %d of user %d: %v %v", n, u, a, err)
					return
				}
				placed.Add(1)
			}
		})
	}
	changed := 0
	for i := range 500 {
		switch i % 3 {
		case 0:
			r.reloaded(422, "engine: {waiting_max: 0}\n")
		case 1:
			r.reloaded(409, "engine: {max_queue_age: 1h}\n")
		default:
			changed++
			r.reloaded(200, fmt.Sprintf("engine: {waiting_max: %d}\npersist: {linger: %dms}\n", 1000+i, i%50))
		}
	}
	close(stop)
	load.Wait()
	if s := r.state(); s.Generation < changed || placed.Load() < 100 {
		t.Errorf("%+v after %d changes, %d orders", s, changed, placed.Load())
	}
	r.set = []string{"engine.deadline=10s"}
	r.audited(true)
}

// hotEffects says of every hot setting how its effect is seen without a restart: by a call here, or by a test of its
// stage.
var hotEffects = map[string]any{
	"log.level":                   effect{"log: {level: info}", (*reloading).logsInfo},
	"gateway.wait_max":            effect{"gateway: {wait_max: 0s}", (*reloading).doesNotWait},
	"gateway.read_deadline":       "gateway/orders_test.go TestReadDeadline",
	"gateway.reads_max":           "gateway/tune_test.go readsMaxFollows",
	"gateway.batches_max":         "gateway/tune_test.go batchesMaxFollows",
	"gateway.waiters_max":         "gateway/tune_test.go waitersMaxFollows",
	"gateway.limits.global.rate":  effect{"gateway: {limits: {global: {rate: 0.001, burst: 1}}}", limitedBy("global")},
	"gateway.limits.global.burst": effect{"gateway: {limits: {global: {rate: 0.001, burst: 3}}}", limitedBy("global")},
	"gateway.limits.ip.rate":      effect{"gateway: {limits: {ip: {rate: 0.001, burst: 1}}}", limitedBy("ip")},
	"gateway.limits.ip.burst":     effect{"gateway: {limits: {ip: {rate: 0.001, burst: 3}}}", limitedBy("ip")},
	"gateway.limits.user.rate":    effect{"gateway: {limits: {user: {rate: 0.001, burst: 1}}}", limitedBy("user")},
	"gateway.limits.user.burst":   effect{"gateway: {limits: {user: {rate: 0.001, burst: 3}}}", limitedBy("user")},
	"gateway.limits.offer.rate":   effect{"gateway: {limits: {offer: {rate: 0.001, burst: 1}}}", limitedBy("offer")},
	"gateway.limits.offer.burst":  effect{"gateway: {limits: {offer: {rate: 0.001, burst: 3}}}", limitedBy("offer")},
	"engine.selling":              effect{"engine: {selling: [flash]}", (*reloading).sellsNot},
	"engine.in_flight":            "engine/tune_test.go TestInFlightFollowsTheTuning",
	"engine.waiting_max":          "engine/place_test.go TestPlaceAllBeyondTheIntake",
	"engine.batch_orders_max":     "engine/tune_test.go TestBatchesFollowTheTuning",
	"engine.request_deadline":     "engine/engine_test.go TestDeadlineWhileNotReady",
	"engine.drift_every":          "engine/engine_test.go TestDriftHeals",
	"engine.rebuild_every":        "engine/tune_test.go TestRebuildFollowsTheTuning",
	"engine.relay_after":          "engine/tune_test.go TestRelayFollowsTheTuning",
	"persist.writers":             "persist/tune_test.go TestWritersFollowTheTuning",
	"persist.flush_orders_max":    "persist/tuneflush_test.go TestFlushesFollowTheTuning",
	"persist.linger":              "persist/tuneflush_test.go TestFlushesFollowTheTuning",
	"persist.unpaid":              effect{"persist: {unpaid: 1s}", (*reloading).expiresSoon},
	"persist.record_timeout":      "cmd/sluice/mysql_test.go TestRecordTimeoutOnMySQL",
	"lifecycle.expire_every":      effect{"persist: {unpaid: 1s}\nlifecycle: {expire_every: 1m}", (*reloading).expiresLate},
	"lifecycle.give_back_every":   "lifecycle/tune_test.go giveBackEveryFollows",
	"lifecycle.events_every":      "lifecycle/tune_test.go eventsEveryFollows",
	"lifecycle.call_timeout":      "lifecycle/tune_test.go callTimeoutFollows",
}

// effect is a setting, which stands in a file instead of hotBase or behind it, and what is seen once it is in force.
type effect struct {
	text string
	seen func(*reloading) bool
}

const hotBase = "log: {level: error}\n"

func TestHotSettingsTakeEffect(t *testing.T) {
	t.Parallel()
	c, _ := config(t, t.TempDir())
	for _, f := range c.Fields() {
		if _, listed := hotEffects[f.Path]; f.Hot != listed {
			t.Errorf("%s: hot is %v, and it is in the table of effects: %v", f.Path, f.Hot, listed)
		}
	}
	r := newReloading(t, hotBase)
	for path, how := range hotEffects {
		if where, ok := how.(string); ok {
			file, test, _ := strings.Cut(where, " ")
			text, err := os.ReadFile(filepath.Join("..", "..", file))
			if err != nil || !strings.Contains(string(text), "func "+test+"(") {
				t.Errorf("%s: there is no test %s: %v", path, where, err)
			}
			continue
		}
		e := how.(effect)
		if e.seen(r) {
			t.Errorf("%s: its effect is seen before it is set", path)
		}
		text := hotBase + e.text + "\n"
		if strings.HasPrefix(e.text, "log:") {
			text = e.text
		}
		r.reloaded(200, text)
		if !await(func() bool { return e.seen(r) }) {
			t.Errorf("%s: no effect is seen of %s", path, e.text)
		}
		r.reloaded(200, hotBase)
	}
}

func (r *reloading) logsInfo() bool {
	const said = "path=/ops/rebuild status=202"
	before := strings.Count(r.errors.String(), said)
	r.must(202, "POST", r.ops+"/ops/rebuild", r.secrets.OpsToken, `{"partitions":[0]}`)
	<-time.After(20 * time.Millisecond)
	return strings.Count(r.errors.String(), said) > before
}

// buy places an order of a new user for a new offer of a kind.
func (r *reloading) buy(kind, query string) *answer {
	r.t.Helper()
	offer := r.offer(kind, 10, 0)
	a, err := r.try("POST", r.gateway+"/v1/orders"+query, r.token(order.UserID(time.Now().UnixNano())), line(offer, 1))
	if err != nil {
		r.t.Fatal(err)
	}
	return a
}

func (r *reloading) doesNotWait() bool { return r.buy("normal", "?wait=10").status == 202 }
func (r *reloading) sellsNot() bool    { return r.buy("normal", "").field("code") == "not_ready" }

func (r *reloading) expiresSoon() bool {
	a := r.buy("normal", "?wait=10")
	at, err := time.Parse(time.RFC3339, a.field("expires_at"))
	return err == nil && time.Until(at) < time.Minute
}

// expiresLate tells whether an order is still there after its time to pay.
func (r *reloading) expiresLate() bool {
	a := r.buy("normal", "?wait=10")
	at, err := time.Parse(time.RFC3339, a.field("expires_at"))
	if err != nil || time.Until(at) > time.Minute {
		return false
	}
	<-time.After(time.Until(at) + 3*time.Second)
	stored := r.must(200, "GET", r.ops+"/ops/orders/"+a.field("id"), r.secrets.OpsToken, "")
	return stored.field("status") == "awaiting_payment"
}

// limitedBy tells whether one of a few orders of one user for one offer is refused by that limit.
func limitedBy(name string) func(*reloading) bool {
	return func(r *reloading) bool {
		offer := r.offer("normal", 100, 0)
		for range 5 {
			a, err := r.try("POST", r.gateway+"/v1/orders", r.token(77), line(offer, 1))
			if err != nil {
				r.t.Fatal(err)
			}
			if a.status == http.StatusTooManyRequests {
				return a.field("limit") == name
			}
		}
		return false
	}
}
