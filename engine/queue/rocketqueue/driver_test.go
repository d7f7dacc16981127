package rocketqueue

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/apache/rocketmq-client-go/v2/primitive"

	"sluice/engine/order"
	"sluice/engine/queue"
	"sluice/internal/rocketmqtest"
	"sluice/persist/store"
)

// childQueue is the environment variable that turns the test binary into a consumer: name server and name.
const childQueue = "ROCKETQUEUE_TEST_CHILD"

// consumeForEver receives flash messages, says each, and acknowledges those that ask for it.
func consumeForEver(queue string) {
	server, name, _ := strings.Cut(queue, " ")
	ctx := context.Background()
	q, err := Open(ctx, Options{NameServers: []string{server}, Name: name, MemoryMax: 8 << 20, Partitions: partitions, Letters: (*store.Letters)(nil)}) // it buries nothing
	if err != nil {
		panic(err)
	}
	c, err := q.Consumer(ctx, order.Flash)
	if err != nil {
		panic(err)
	}
	for {
		got, err := c.Receive(ctx, 10, 1<<20)
		if err != nil {
			panic(err)
		}
		for _, d := range got {
			if strings.HasSuffix(string(d.Body), "acked") {
				if err := c.Ack(ctx, d.Partition, d.Position); err != nil {
					panic(err)
				}
			}
			fmt.Printf("%s\n", d.Body)
		}
	}
}

// child starts such a consumer; heard waits until it has said all of the texts.
func child(t *testing.T, o Options) (process *os.Process, heard func(texts ...string)) {
	t.Helper()
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), childQueue+"="+o.NameServers[0]+" "+o.Name)
	cmd.Stderr = os.Stderr
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	out, err := cmd.StdoutPipe()
	if err == nil {
		err = cmd.Start()
	}
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
	})
	lines := bufio.NewScanner(out)
	var said []string
	return cmd.Process, func(texts ...string) {
		t.Helper()
		for slices.ContainsFunc(texts, func(text string) bool { return !slices.Contains(said, text) }) {
			if !lines.Scan() {
				t.Fatalf("the child said %q and ended", said)
			}
			said = append(said, lines.Text())
		}
	}
}

// What a killed process had not acknowledged comes to another one, at once; it takes over every partition.
func TestConsumerKilled(t *testing.T) {
	t.Parallel()
	o := options(t)
	q := open(t, o)
	process, heard := child(t, o)
	parts := partitions.Each(order.Flash)
	publish(t, q, parts[0], "0 acked", "0 held")
	publish(t, q, parts[1], "1 held", "1 also held")
	heard("0 acked", "0 held", "1 held", "1 also held")
	eventually(t, "the ack is committed", func() bool {
		b, err := q.Backlog(t.Context(), parts[0])
		return err == nil && b.Messages == 1
	})
	c := consume(t, q, order.Flash) // gets one of the partitions
	if err := process.Kill(); err != nil {
		t.Fatal(err)
	}
	got := texts(receive(t, c, has("0 held", "1 held", "1 also held")))
	if slices.Contains(got, "0 acked") {
		t.Errorf("%q came: one of them was acknowledged and committed", got)
	}
}

// A process that is frozen loses its partitions when the broker's idle time is over, and is not missed. When it wakes it
// does not set back what others have acknowledged.
func testConsumerFrozen(t *testing.T, _ *rocketmqtest.RocketMQ, o Options) {
	q := open(t, o)
	process, heard := child(t, o)
	parts := partitions.Each(order.Flash)
	publish(t, q, parts[0], "0 held")
	publish(t, q, parts[1], "1 acked")
	heard("0 held", "1 acked")
	if err := process.Signal(syscall.SIGSTOP); err != nil {
		t.Fatal(err)
	}
	since := time.Now()
	c := consume(t, q, order.Flash)
	publish(t, q, parts[0], "0 next")
	publish(t, q, parts[1], "1 next")
	got := receive(t, c, has("0 held", "0 next", "1 next"))
	t.Logf("its partitions have gone to another after %v", time.Since(since))
	for _, d := range got {
		if err := c.Ack(t.Context(), d.Partition, d.Position); err != nil {
			t.Fatal(err)
		}
	}
	settled := func() bool {
		for _, p := range parts {
			if b, err := q.Backlog(t.Context(), p); err != nil || b.Messages > 0 {
				return false
			}
		}
		return true
	}
	eventually(t, "all is acknowledged", settled)
	if err := process.Signal(syscall.SIGCONT); err != nil {
		t.Fatal(err)
	}
	publish(t, q, parts[0], "0 acked")
	publish(t, q, parts[1], "1 last acked")
	for came := false; !came; { // one of the partitions is the child's again
		ctx, cancel := context.WithTimeout(t.Context(), 500*time.Millisecond)
		got, _ := c.Receive(ctx, 10, 1<<20)
		cancel()
		for _, d := range got {
			if err := c.Ack(t.Context(), d.Partition, d.Position); err != nil {
				t.Fatal(err)
			}
		}
		came = settled()
	}
	if err := c.Close(); err != nil {
		t.Error(err)
	}
	if !settled() {
		t.Error("acknowledged messages have come back")
	}
}

func eventually(t *testing.T, what string, done func() bool) {
	t.Helper()
	for end := time.Now().Add(patience); !done(); time.Sleep(20 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("%s: it did not happen", what)
		}
	}
}

// Two consumers share the partitions; when one leaves in good order, what it has acknowledged does not come again.
func TestConsumersShare(t *testing.T) {
	t.Parallel()
	q := open(t, options(t))
	first, second := consume(t, q, order.Normal), consume(t, q, order.Normal)
	got := map[queue.Consumer]map[order.Partition]bool{first: {}, second: {}}
	acked := map[string]bool{}
	take := func(c queue.Consumer) {
		ctx, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
		defer cancel()
		list, _ := c.Receive(ctx, 100, 1<<20)
		for _, d := range list {
			got[c][d.Partition], acked[string(d.Body)] = true, true
			if err := c.Ack(t.Context(), d.Partition, d.Position); err != nil {
				t.Fatal(err)
			}
		}
	}
	n := 0
	round := func() {
		for _, p := range partitions.Each(order.Normal) {
			publish(t, q, p, fmt.Sprintf("%d/%d.", p, n))
		}
		n++
	}
	for len(got[first]) == 0 || len(got[second]) == 0 || len(got[first])+len(got[second]) > partitions.Normal {
		clear(got[first]) // before they have settled both may serve one
		clear(got[second])
		for range 5 {
			round()
			take(first)
			take(second)
		}
		if n > 2000 {
			t.Fatalf("they never share: %v", got)
		}
	}
	for len(acked) < n*partitions.Normal {
		take(first)
		take(second)
	}
	if err := first.Close(); err != nil {
		t.Fatal(err)
	}
	round()
	want := numberedLast(n - 1)
	for _, text := range texts(receive(t, second, has(want...))) {
		if acked[text] {
			t.Errorf("%s was acknowledged, and comes again", text)
		}
	}
}

// A broker that hung can list a member for two minutes after it has left. Whoever joins anew gets its queues nevertheless.
func TestJoinAnew(t *testing.T) {
	t.Parallel()
	q := open(t, options(t))
	first := consume(t, q, order.Normal).(*consumer)
	if err := first.Close(); err != nil {
		t.Fatal(err)
	}
	at := q.options.place(partitions.Each(order.Normal)[0])
	route, err := q.routes.place(at.topic)
	if err != nil {
		t.Fatal(err)
	}
	dead, err := dial(t.Context(), route.addr, nil)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(dead.close)
	if err := dead.heartbeat(t.Context(), first.member, at); err != nil {
		t.Fatal(err)
	}
	var beats sync.WaitGroup
	t.Cleanup(beats.Wait)
	beats.Go(func() {
		for pause(t.Context(), beatEvery) == nil {
			_ = dead.heartbeat(t.Context(), first.member, at)
		}
	})
	var want []string
	for _, p := range partitions.Each(order.Normal) {
		publish(t, q, p, fmt.Sprint(p))
		want = append(want, fmt.Sprint(p))
	}
	receive(t, consume(t, q, order.Normal), has(want...))
}

func numberedLast(n int) (texts []string) {
	for _, p := range partitions.Each(order.Normal) {
		texts = append(texts, fmt.Sprintf("%d/%d.", p, n))
	}
	return texts
}

// Only one answer says that a message is durable, and only one that it is certainly not there.
func TestVerdict(t *testing.T) {
	t.Parallel()
	result := func(s primitive.SendStatus) *primitive.SendResult { return &primitive.SendResult{Status: s} }
	if err := verdict(result(primitive.SendOK), nil); err != nil {
		t.Error(err)
	}
	for status, name := range statuses {
		if err := verdict(result(status), nil); err == nil || errors.Is(err, queue.ErrFull) || !strings.Contains(err.Error(), name) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if err := verdict(nil, errors.New("CODE: 14, DESC: service not available now.")); !errors.Is(err, queue.ErrFull) {
		t.Errorf("a broker whose disk is full: %v", err)
	}
	for _, text := range []string{"request timeout", "CODE: 1, DESC: no", "CODE: 2, DESC: busy", "CODE: 13, DESC: too long", "CODE: 140, DESC: 14"} {
		if err := verdict(result(primitive.SendUnknownError), errors.New(text)); err == nil || errors.Is(err, queue.ErrFull) {
			t.Errorf("%s: %v", text, err)
		}
	}
}

// A producer whose sends run out of time for a while, with no answer in between, is replaced once.
func TestSilentProducerIsReplaced(t *testing.T) {
	t.Parallel()
	q := open(t, options(t))
	s, old := q.sender, q.sender.current
	long := time.Now().Add(-2 * lateMax)
	if s.outlived(old, true) || old.lateFrom.IsZero() {
		t.Error("replaced after one late send")
	}
	old.lateFrom = long
	if s.outlived(old, false) || s.outlived(old, true) {
		t.Error("replaced although it was answered")
	}
	old.lateFrom = long
	if !s.outlived(old, true) || s.current == old {
		t.Error("not replaced")
	}
	old.lateFrom = long
	if s.outlived(old, true) {
		t.Error("replaced twice")
	}
	if err := old.Shutdown(); err != nil {
		t.Error(err)
	}
	publish(t, q, 0, "by the new one")
}

// Name servers may have names, which the client of RocketMQ does not take.
func TestNameServersByName(t *testing.T) {
	t.Parallel()
	o := options(t)
	_, port, _ := strings.Cut(o.NameServers[0], ":")
	o.NameServers = []string{"localhost:" + port}
	publish(t, open(t, o), 0, "hello")
}

// Events are in order per shard.
func TestEvents(t *testing.T) {
	t.Parallel()
	o := options(t)
	q := open(t, o)
	e := q.Events()
	var want [][]byte
	for n := range 40 {
		want = append(want, fmt.Appendf(nil, "event %d", n))
	}
	for n := 0; n < len(want); n += 4 {
		if err := e.Publish(t.Context(), 5, want[n:n+4]); err != nil {
			t.Fatal(err)
		}
		if err := e.Publish(t.Context(), 6, want[n:n+1]); err != nil {
			t.Fatal(err)
		}
	}
	got, err := e.Read(t.Context(), 5)
	if err != nil {
		t.Fatal(err)
	}
	if !slices.EqualFunc(got, want, func(a, b []byte) bool { return string(a) == string(b) }) {
		t.Errorf("%q, want %q", got, want)
	}
	if other, err := e.Read(t.Context(), 6); len(other) != 10 {
		t.Errorf("%q on another shard, %v", other, err)
	}
	ended, end := context.WithCancel(t.Context())
	end()
	if err := e.Publish(ended, 5, want[:1]); !errors.Is(err, context.Canceled) {
		t.Errorf("publish with an ended context: %v", err)
	}
	if err := e.Close(); err != nil {
		t.Error(err)
	}
	if err := e.Publish(t.Context(), 5, want[:1]); !errors.Is(err, queue.ErrClosed) {
		t.Errorf("publish behind the end: %v", err)
	}
}

// What somebody has set back is committed again by whoever has acknowledged more.
func TestCommittedOffsetIsKept(t *testing.T) {
	t.Parallel()
	q := open(t, options(t))
	p := partitions.Each(order.Flash)[0]
	c := consume(t, q, order.Flash)
	publish(t, q, p, "a", "b", "c")
	got := receive(t, c, has("a", "b", "c"))
	if err := c.Ack(t.Context(), p, got[2].Position); err != nil {
		t.Fatal(err)
	}
	at := q.options.place(p)
	l, err := q.asking[order.Flash].link(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	committed := func() bool {
		offset, ok, err := l.committed(t.Context(), at)
		return err == nil && ok && offset == 3
	}
	eventually(t, "the ack is committed", committed)
	if err := l.commit(t.Context(), at, 1); err != nil {
		t.Fatal(err)
	}
	eventually(t, "it is committed again", committed)
}
