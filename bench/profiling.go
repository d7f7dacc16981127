package bench

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"

	"golang.org/x/sync/errgroup"
)

// profileSecondsMax is how long a server is profiled from the beginning of the load, at most. A profile cannot be ended
// early.
const profileSecondsMax = 20

// unkept is the file of a profile that is not kept.
const unkept = "-"

// startProfile profiles every process of the server, if there is a file for it: of several processes each has its own,
// whose name ends with the process's. The function returned waits until that is done, and divides the CPU time of the round
// by it; nil: there is none.
func (r *runner) startProfile(ctx context.Context, s *server, file string) func(*Round) error {
	if file == "" {
		return func(*Round) error { return nil }
	}
	asked := []*member{{name: "sluice", ops: s.ops}}
	if s.ours() {
		asked = slices.Clone(s.members)
	}
	profiles := make([][]byte, len(asked))
	var running errgroup.Group
	for i, m := range asked {
		running.Go(func() (err error) {
			profiles[i], err = m.ops.profile(ctx, min(max(r.o.Orders/20_000, 1), profileSecondsMax))
			return err
		})
	}
	return func(round *Round) error {
		err := running.Wait()
		for i, m := range asked {
			if err != nil || round == nil {
				return err
			}
			if file != unkept {
				path := file
				if len(asked) > 1 {
					path += "." + strings.ReplaceAll(m.name, " ", "-")
				}
				err = os.WriteFile(path, profiles[i], 0o644)
			}
			round.divide(m.name, profiles[i])
		}
		return err
	}
}

// divide divides the CPU time of a process by its profile.
func (round *Round) divide(name string, profile []byte) {
	at := slices.IndexFunc(round.Processes, func(p Process) bool { return p.Name == name })
	if at < 0 {
		return
	}
	p := &round.Processes[at]
	var err error
	if p.Stages, err = stagesOf(profile, p.CPU); err != nil && !errors.Is(err, errNoSamples) {
		round.Notes = append(round.Notes, fmt.Sprintf("stages of %s: %v", name, err))
	}
}
