package redisstock

import (
	"strings"
	"testing"
	"time"
)

func TestClockOff(t *testing.T) {
	t.Parallel()
	before := time.Now()
	after := before.Add(3 * time.Second) // a slow answer proves little
	for off, want := range map[time.Duration]string{
		0: "", -900 * time.Millisecond: "", 3900 * time.Millisecond: "", -1100 * time.Millisecond: "1.1s behind",
		63 * time.Second: "1m0s ahead of",
	} {
		if got := clockOff(before.Add(off), before, after); got != want {
			t.Errorf("%v: %q, want %q", off, got, want)
		}
	}
}

func TestDescribe(t *testing.T) {
	t.Parallel()
	for _, d := range []deployment{single, withReplica, cluster} {
		t.Run(d.variable, func(t *testing.T) {
			t.Parallel()
			s, err := Open(d.options(t))
			if err != nil {
				t.Fatal(err)
			}
			defer func() { _ = s.Close() }()
			servers, warnings := s.Describe(t.Context())
			if len(servers) != len(s.opts.Addrs) || len(warnings) != 0 || !strings.Contains(servers[0], ": Redis ") {
				t.Errorf("%q, %q", servers, warnings)
			}
		})
	}
}
