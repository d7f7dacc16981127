package bench

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strconv"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
)

// TestMain lets the test binary be the bare server, as the program is in real runs.
func TestMain(m *testing.M) {
	if len(os.Args) == 7 && os.Args[1] == "bench" && os.Args[2] == "ceiling" {
		size, err := strconv.Atoi(os.Args[6])
		if err == nil {
			ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
			defer stop()
			err = ServeCeiling(ctx, CeilingOptions{Listen: os.Args[4], AnswerBytes: size}, os.Stdout)
		}
		if err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		return
	}
	code := m.Run()
	if program := built.Load(); program != nil {
		_ = os.RemoveAll(filepath.Dir(*program))
	}
	os.Exit(code)
}

var built atomic.Pointer[string]

// sluice builds the program once.
var sluice = sync.OnceValues(func() (string, error) {
	dir, err := os.MkdirTemp("", "sluice-bench-test-")
	if err != nil {
		return "", err
	}
	program := filepath.Join(dir, "sluice")
	built.Store(&program)
	if out, err := exec.Command("go", "build", "-o", program, "sluice/cmd/sluice").CombinedOutput(); err != nil {
		return program, errors.Join(fmt.Errorf("%s", out), err)
	}
	return program, nil
})
