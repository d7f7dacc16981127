package sqlitequeue_test

import (
	"bufio"
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"sluice/engine/order"
	"sluice/engine/queue/sqlitequeue"
)

// childPath is the environment variable that turns the test binary into the child of TestKill.
const childPath = "SQLITEQUEUE_TEST_CHILD"

func TestMain(m *testing.M) {
	if path := os.Getenv(childPath); path != "" {
		publishForEver(path)
	}
	os.Exit(m.Run())
}

// publishForEver publishes from several goroutines and says which publications were answered with nil. Two of the
// partitions are consumed and acknowledged meanwhile, so that deletions and checkpoints run.
func publishForEver(path string) {
	ctx := context.Background()
	q, err := sqlitequeue.Open(ctx, sqlitequeue.Options{Path: path, Partitions: partitions, WALMax: 512 << 10})
	if err != nil {
		panic(err)
	}
	c, err := q.Consumer(ctx, order.Flash)
	if err != nil {
		panic(err)
	}
	go func() {
		for {
			got, err := c.Receive(ctx, 50, 1<<20)
			if err != nil {
				panic(err)
			}
			for _, d := range got {
				if err := c.Ack(ctx, d.Partition, d.Position); err != nil {
					panic(err)
				}
			}
		}
	}()
	var out sync.Mutex
	for i := range 2 * partitions.Count() {
		go func() {
			p := order.Partition(i % partitions.Count())
			for n := 0; ; n++ {
				body := fmt.Appendf(make([]byte, 0, 9000), "%d/%d/", i, n)
				if err := q.Publish(ctx, p, body[:len(body)+n%3*2900]); err != nil {
					panic(err)
				}
				out.Lock()
				fmt.Println(p, i, n)
				out.Unlock()
			}
		}()
	}
	select {}
}

// A killed process loses nothing that Publish had answered, and keeps the order.
func TestKill(t *testing.T) {
	for _, answers := range []int{1, 200, 1500} {
		t.Run(fmt.Sprint(answers), func(t *testing.T) {
			t.Parallel()
			path := filepath.Join(t.TempDir(), "queue.db")
			checkSurvivors(t, path, killAfter(t, path, answers))
		})
	}
}

// killAfter kills a publishing child after so many answers, and returns the highest number answered per publisher.
func killAfter(t *testing.T, path string, answers int) map[int]int {
	t.Helper()
	child := exec.Command(os.Args[0])
	child.Env = append(os.Environ(), childPath+"="+path)
	child.Stderr = os.Stderr
	out, err := child.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := child.Start(); err != nil {
		t.Fatal(err)
	}
	answered := map[int]int{}
	lines := bufio.NewScanner(out)
	for count := 0; lines.Scan(); count++ {
		if count == answers {
			if err := child.Process.Kill(); err != nil { // and read on: what it said before it died counts
				t.Fatal(err)
			}
		}
		var p, i, n int
		if _, err := fmt.Sscan(lines.Text(), &p, &i, &n); err != nil {
			t.Fatal(err)
		}
		answered[i] = n
	}
	_ = child.Wait()
	if len(answered) == 0 {
		t.Fatal("the child answered nothing")
	}
	return answered
}

func checkSurvivors(t *testing.T, path string, answered map[int]int) {
	t.Helper()
	q := open(t, sqlitequeue.Options{Path: path})
	next := map[int]int{}
	for _, kind := range order.Kinds {
		c, err := q.Consumer(t.Context(), kind)
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		for waits(t, q, kind) {
			ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
			got, err := c.Receive(ctx, 1000, 8<<20)
			cancel()
			if err != nil {
				t.Fatal(err)
			}
			for _, d := range got {
				var i, n int
				if _, err := fmt.Sscanf(string(d.Body), "%d/%d/", &i, &n); err != nil {
					t.Fatal(err)
				}
				if have, known := next[i]; known && n != have || !known && n != 0 && kind == order.Normal {
					t.Fatalf("publisher %d: %d came, %d was next", i, n, have)
				}
				next[i] = n + 1
				if err := c.Ack(t.Context(), d.Partition, d.Position); err != nil {
					t.Fatal(err)
				}
			}
		}
	}
	for i, n := range answered {
		// Of the flash partitions the child may have acknowledged everything; then nothing is left to come.
		p := order.Partition(i % partitions.Count())
		if have, known := next[i]; have <= n && (known || partitions.Kind(p) == order.Normal) {
			t.Errorf("publisher %d was answered up to %d, %d is the next to come", i, n, have)
		}
	}
}

func waits(t *testing.T, q *sqlitequeue.Queue, kind order.Kind) bool {
	t.Helper()
	for _, p := range partitions.Each(kind) {
		b, err := q.Backlog(t.Context(), p)
		if err != nil {
			t.Fatal(err)
		}
		if b.Messages > 0 {
			return true
		}
	}
	return false
}
