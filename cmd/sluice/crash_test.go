package main

import (
	"bufio"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"syscall"
	"testing"
	"time"

	"sluice/configs"
	"sluice/internal/crash"
)

const crashKills = 20 // at random moments; SLUICE_SOAK asks for more

// longLife keeps orders from expiring while the soak runs: with some due every second nothing is ever at rest, and the
// auditor could not read one moment.
const longLife = "persist.unpaid=24h"

// TestCrash kills the server under load: at every named point of the protocol at least once, then at random moments,
// also while it starts. After each kill it starts again, the clients try again what was not answered, as clients do,
// and the auditor judges files, fast stock and everything that any client ever saw.
func TestCrash(t *testing.T) {
	t.Parallel()
	kills := crashKills
	if n, err := strconv.Atoi(os.Getenv("SLUICE_SOAK")); err == nil {
		kills = n
	} else if testing.Short() {
		kills = 2
	}
	c := newCrashes(t)
	for i, point := range crash.Points {
		most := 40 // passes of the point
		if i >= slices.Index(crash.Points, "begin") {
			most = 8 // once per partition
		}
		c.run(fmt.Sprintf("%s:%d", point, 1+c.rand.IntN(most)))
	}
	for range kills {
		c.run("")
	}
	accepted, unknown := c.count((*sight).accepted), c.count((*sight).unknown)
	t.Logf("%d kills, %d calls, %d answered as accepted, %d unknown", len(crash.Points)+kills, len(c.calls), accepted, unknown)
	if accepted < 20*kills || unknown == 0 {
		t.Errorf("the crowd saw too little for the test to show anything")
	}
}

// crashes is a story of kills on one data directory.
type crashes struct {
	*crowd
	dir     string
	rand    *rand.Rand // of the test's goroutine
	program string     // that dies, if it is not this one (release_test.go)
}

func newCrashes(t *testing.T) *crashes {
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	const keen = 7
	return &crashes{crowd: newCrowd(t, seed, keen), dir: filepath.Join(t.TempDir(), "data"), rand: rand.New(rand.NewPCG(seed, 0))}
}

const (
	// crowdWait is how long a server that stays may leave open what became of an order.
	crowdWait = time.Minute
	// repeatPause is between two calls of a buyer for one order, as clients make it: what most calls come to are answers.
	repeatPause = 5 * time.Millisecond
)

// run is one kill and its aftermath. point is a crash point with its number of passes; empty means a random moment.
func (c *crashes) run(point string) {
	c.t.Helper()
	c.die(point)
	c.heal(fmt.Sprintf("a kill at %q", point))
}

// heal starts the server again, has everybody ask once more what was not answered, and all of it judged. after says what
// happened.
func (c *crashes) heal(after string) {
	c.t.Helper()
	p := spawn(c.t, c.dir, "--set", longLife)
	began := time.Now()
	c.each([]*shop{p.shop}, func(v *visit) { // once more what was not answered
		for v.wish != nil && v.step() {
			if v.wish != nil && time.Since(began) > crowdWait {
				c.t.Errorf("user %d, key %s: no final answer after %v", v.user, v.wish.key, crowdWait)
				return
			}
			v.rest()
		}
	})
	if c.t.Failed() {
		ready, err := p.try("GET", p.ops+"/readyz", "", "")
		c.t.Fatalf("%s was not healed: %v, %v\n%s", after, ready, err, p.errors.String())
	}
	c.judge(p.shop, after)
	c.stock(p.shop)
	p.end(syscall.SIGKILL) // at rest
}

// rest is the pause of a buyer before the next call for the same order.
func (v *visit) rest() {
	if v.wish != nil {
		<-time.After(repeatPause)
	}
}

// stock has what the next life sells: two offers of one shop for all lives, and a new scarce one for each.
func (c *crashes) stock(s *shop) {
	if c.goods == nil {
		c.goods = [][]string{{s.offer("normal", 1_000_000, 0), s.offer("normal", 1_000_000, 0)}}
	}
	c.scarce = s.offer("flash", 300, 3)
}

// die starts the server and lets a crowd at it until it is killed.
func (c *crashes) die(point string) {
	c.t.Helper()
	cmd := programAt(c.t, c.program, "serve", "--set", "data_dir="+c.dir, "--set", "gateway.listen=127.0.0.1:0", "--set", "ops.listen=127.0.0.1:0",
		"--set", longD, "--set", longLife)
	cmd.Env = append(cmd.Env, "SLUICE_CRASH_POINT="+point)
	var log logBuffer
	cmd.Stderr = &log
	out, err := cmd.StdoutPipe()
	if err != nil {
		c.t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		c.t.Fatal(err)
	}
	kill := func() { _ = cmd.Process.Kill() }
	if point == "" && c.rand.IntN(5) == 0 { // while it starts
		defer time.AfterFunc(time.Duration(c.rand.IntN(300))*time.Millisecond, kill).Stop()
	}
	guard := time.AfterFunc(time.Minute, kill) // a point that is never passed
	line, err := bufio.NewReader(out).ReadString('\n')
	if err == nil {
		s := &shop{t: c.t, dir: c.dir}
		if _, err := fmt.Sscanf(line, "ready gateway=%s ops=%s\n", &s.gateway, &s.ops); err != nil {
			c.t.Fatalf("the ready line is %q: %v", line, err)
		}
		s.gateway, s.ops = "http://"+s.gateway, "http://"+s.ops
		s.secrets = c.secrets()
		if point == "" {
			defer time.AfterFunc(time.Duration(5+c.rand.IntN(250))*time.Millisecond, kill).Stop()
		}
		if c.goods == nil { // the first life
			c.stock(s)
		}
		c.each([]*shop{s}, func(v *visit) {
			for v.step() {
				v.rest()
			}
		})
	}
	_ = cmd.Wait()
	if !guard.Stop() {
		c.t.Fatalf("crash point %s was not passed within a minute\n%s", point, log.String())
	}
	if status, ok := cmd.ProcessState.Sys().(syscall.WaitStatus); !ok || status.Signal() != syscall.SIGKILL {
		c.t.Fatalf("the server was to be killed and ended with %v\n%s", cmd.ProcessState, log.String())
	}
}

// secrets are those that the server made at its first start.
func (c *crashes) secrets() *configs.Secrets {
	cfg, _ := config(c.t, c.dir)
	secrets, err := cfg.LoadSecrets(nil, false)
	if err != nil {
		c.t.Fatal(err)
	}
	return secrets
}
