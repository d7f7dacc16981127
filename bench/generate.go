package bench

import (
	"context"
	"io"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/schollz/progressbar/v3"

	"sluice/bench/load"
)

// run puts requests on a server with the generator that was asked for.
func (r *runner) run(ctx context.Context, lo load.Options, reqs *load.Requests, repeats bool) (*outcome, error) {
	out, err := r.send(ctx, lo, reqs, repeats)
	if err == nil {
		out.complete()
	}
	return out, err
}

// send is run for who measures until later: the outcome is to be completed.
func (r *runner) send(ctx context.Context, lo load.Options, reqs *load.Requests, repeats bool) (*outcome, error) {
	own := ownCPU()
	out, err := r.generate(ctx, &lo, reqs, repeats)
	if err == nil {
		out.own = ownCPU() - own
	}
	return out, err
}

func (r *runner) generate(ctx context.Context, lo *load.Options, reqs *load.Requests, repeats bool) (*outcome, error) {
	if r.o.Generator == Wrk {
		return r.wrk(ctx, lo, reqs, repeats)
	}
	res, err := r.shown(ctx, *lo, reqs)
	if err != nil {
		return nil, err
	}
	return countsOf(res, reqs, lo.Pick), nil
}

// shown is load.Run with a progress bar, if there is a terminal to show it.
func (r *runner) shown(ctx context.Context, lo load.Options, reqs *load.Requests) (*load.Results, error) {
	if !terminal(r.o.Progress) {
		return load.Run(ctx, lo, reqs)
	}
	var n atomic.Int64
	lo.Progress = &n
	total := reqs.Len()
	if lo.Sends > 0 {
		total = lo.Sends
	}
	bar := progressbar.NewOptions(total, progressbar.OptionSetWriter(r.o.Progress), progressbar.OptionShowIts(),
		progressbar.OptionShowCount(), progressbar.OptionClearOnFinish(), progressbar.OptionSetDescription(strings.Join(lo.Addrs, " ")))
	done := make(chan struct{})
	var showing sync.WaitGroup
	showing.Go(func() {
		tick := time.NewTicker(200 * time.Millisecond)
		defer tick.Stop()
		for {
			select {
			case <-done:
				_ = bar.Clear()
				return
			case <-tick.C:
				_ = bar.Set64(n.Load())
			}
		}
	})
	res, err := load.Run(ctx, lo, reqs)
	close(done)
	showing.Wait()
	return res, err
}

// terminal tells whether w is one.
func terminal(w io.Writer) bool {
	f, ok := w.(*os.File)
	if !ok {
		return false
	}
	info, err := f.Stat()
	return err == nil && info.Mode()&os.ModeCharDevice != 0
}
