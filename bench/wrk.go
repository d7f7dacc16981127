package bench

import (
	"bytes"
	"context"
	_ "embed"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"time"

	"sluice/bench/load"
)

//go:embed wrk.lua
var wrkScript []byte

const (
	wrkThreads  = 2
	wrkDuration = 10 * time.Second
)

// wrk runs the program wrk on the same requests. It stops when its time is up, with requests under way, and knows only
// sums. repeats lets it begin again when the requests are spent.
func (r *runner) wrk(ctx context.Context, lo *load.Options, reqs *load.Requests, repeats bool) (*outcome, error) {
	dir, err := os.MkdirTemp(r.o.Dir, "sluice-wrk-")
	if err != nil {
		return nil, err
	}
	defer os.RemoveAll(dir)
	script, data := filepath.Join(dir, "wrk.lua"), filepath.Join(dir, "requests")
	if err := errors.Join(os.WriteFile(script, wrkScript, 0o600), reqs.Write(data)); err != nil {
		return nil, err
	}
	duration := lo.Duration
	if duration == 0 {
		duration = wrkDuration
	}
	args := []string{fmt.Sprintf("-t%d", wrkThreads), fmt.Sprintf("-c%d", lo.Connections),
		fmt.Sprintf("-d%ds", int(duration.Seconds())), "--timeout", "20s", "--latency", "-s", script, scheme(lo.TLS) + lo.Addrs[0], "--", data}
	if repeats {
		args = append(args, "wrap")
	}
	cmd := exec.CommandContext(ctx, "wrk", args...)
	cmd.Env = append(os.Environ(), fmt.Sprintf("WRK_THREADS=%d", wrkThreads))
	start := time.Now()
	out, err := cmd.CombinedOutput()
	if err != nil {
		return nil, fmt.Errorf("wrk (Debian package wrk): %w\n%s", err, out)
	}
	w := parseWrk(out)
	w.start = start
	return w, nil
}

var (
	wrkTotal   = regexp.MustCompile(`(\d+) requests in ([\d.]+)(ms|s|m)`)
	wrkRate    = regexp.MustCompile(`Requests/sec:\s+([\d.]+)`)
	wrkRefused = regexp.MustCompile(`Non-2xx or 3xx responses: (\d+)`)
	wrkLatency = regexp.MustCompile(`(50|90|99)%\s+([\d.]+)(us|ms|s|m)`)
)

// parseWrk reads wrk's own report.
func parseWrk(out []byte) *outcome {
	w := &outcome{}
	if m := wrkTotal.FindSubmatch(out); m != nil {
		n, _ := strconv.Atoi(string(m[1]))
		w.counts.Sent, w.counts.Answered, w.counts.Accepted = n, n, n
		w.last = wrkTime(m[2], m[3])
	}
	if m := wrkRate.FindSubmatch(out); m != nil {
		w.rate, _ = strconv.ParseFloat(string(m[1]), 64)
	}
	if m := wrkRefused.FindSubmatch(out); m != nil {
		n, _ := strconv.Atoi(string(m[1]))
		w.counts.Accepted -= n
		w.counts.Refused = map[string]int{"not told apart by wrk": n}
	}
	for _, m := range wrkLatency.FindAllSubmatch(out, -1) {
		at := wrkTime(m[2], m[3]).Seconds() * 1000
		switch {
		case bytes.Equal(m[1], []byte("50")):
			w.answer.P50 = at
		case bytes.Equal(m[1], []byte("90")):
			w.answer.P90 = at
		default:
			w.answer.P99 = at
		}
	}
	w.answer.Count = int64(w.counts.Answered)
	return w
}

func wrkTime(number, unit []byte) time.Duration {
	d, _ := time.ParseDuration(string(number) + string(unit))
	return d
}
