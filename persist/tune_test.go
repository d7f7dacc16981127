package persist

import (
	"testing"

	"github.com/panjf2000/ants/v2"
)

// The pools of writers grow and shrink as the tuning says.
func TestWritersFollowTheTuning(t *testing.T) {
	pool, err := ants.NewPool(4)
	if err != nil {
		t.Fatal(err)
	}
	defer pool.Release()
	p := &Persist{pools: []*ants.Pool{pool}}
	tuning := DefaultOptions().Tuning
	for _, n := range []int{1, 16} {
		tuning.Writers = n
		if err := p.Tune(tuning); err != nil || pool.Cap() != n {
			t.Errorf("%d writers, not %d: %v", pool.Cap(), n, err)
		}
	}
	tuning.Writers = 0
	if p.Tune(tuning) == nil || pool.Cap() != 16 {
		t.Errorf("no writers at all were accepted, there are %d", pool.Cap())
	}
}
