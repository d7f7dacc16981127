// Package crash lets the crash tests kill the process at named points of the protocol. Without the environment variable
// SLUICE_CRASH_POINT it does nothing and costs one load.
package crash

import (
	"os"
	"strconv"
	"strings"
	"sync/atomic"
	"syscall"
)

// Points are the names that At is called with, in the order of an order's journey and then of a rebuild.
var Points = []string{"reserve", "publish", "claim", "record", "ack", "begin", "close", "drain", "barrier", "count", "load"}

// BackupPoints and RestorePoints are those of `sluice backup` and `sluice restore`.
var (
	BackupPoints  = []string{"begun", "copied", "manifest"}
	RestorePoints = []string{"placed", "restored"}
)

var (
	point string
	left  atomic.Int64
)

// SLUICE_CRASH_POINT is "name" or "name:n": kill when the point is passed for the nth time.
func init() {
	name, n, _ := strings.Cut(os.Getenv("SLUICE_CRASH_POINT"), ":")
	times, err := strconv.ParseInt(n, 10, 64)
	if err != nil {
		times = 1
	}
	point = name
	left.Store(times)
}

// At kills the process with SIGKILL if this is the point and the pass that the environment names. It is called right
// after the step that it is named after took effect.
func At(name string) {
	if point != "" && point == name && left.Add(-1) == 0 {
		_ = syscall.Kill(os.Getpid(), syscall.SIGKILL)
		select {} // the signal is on its way
	}
}
