package bench

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

// target is somebody's server whose ops listener is there.
func target(url string) *server { return &server{ops: newOpsClient(url, "", nil)} }

// counting is a watch of a server that says these counts, one a look, the last one for ever.
func counting(t *testing.T, counts ...int) *watch {
	t.Helper()
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		fmt.Fprintf(w, "%s %d\n", storedMetric, counts[0])
		if len(counts) > 1 {
			counts = counts[1:]
		}
	}))
	t.Cleanup(server.Close)
	return &watch{server: target(server.URL), cancel: func() {}}
}

// A server that is started anew counts from 0; a watch goes on.
func TestCountOverARestart(t *testing.T) {
	w := counting(t, 100, 250, 10, 10, 30, 5)
	var got []int64
	for range 6 {
		n, err := w.count(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		got = append(got, n)
	}
	if diff := cmp.Diff([]int64{100, 250, 260, 260, 280, 285}, got); diff != "" || w.restarts != 2 {
		t.Errorf("%d restarts, %s", w.restarts, diff)
	}
	round := &Round{}
	if w.note(round); len(round.Notes) != 1 {
		t.Errorf("%v", round.Notes)
	}
}

// A server that is gone is said to be, and what was not counted is no figure.
func TestServerIsGone(t *testing.T) {
	defer func(d time.Duration) { goneWait = d }(goneWait)
	goneWait = 20 * time.Millisecond
	w := counting(t, 7)
	w.server.ops.base = "http://127.0.0.1:1"
	if _, err := w.settle(t.Context(), 10, true); err == nil || !strings.Contains(err.Error(), "gone") {
		t.Error(err)
	}
	w = counting(t, 7)
	if last, err := w.settle(t.Context(), 7, true); err != nil || last.stored != 7 {
		t.Error(last, err)
	}
	s := &Series{} // nothing was stored, and the only look was before the load
	s.watched(&watch{samples: []sample{{time.Now(), 0}}}, time.Now().Add(time.Hour), time.Now())
	if len(s.Stored) != 1 {
		t.Error(s.Stored)
	}
}
