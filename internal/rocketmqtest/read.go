package rocketmqtest

import (
	"crypto/rand"
	"sync"
	"testing"

	"github.com/apache/rocketmq-client-go/v2"
	"github.com/apache/rocketmq-client-go/v2/admin"
	"github.com/apache/rocketmq-client-go/v2/consumer"
	"github.com/apache/rocketmq-client-go/v2/primitive"
)

// Reader reads a topic as another program does: with the client that everybody uses. The broker makes its group.
type Reader struct {
	client rocketmq.PullConsumer
	queues []*primitive.MessageQueue

	mu   sync.Mutex
	next map[int]int64
	read map[int][][]byte
}

// NewReader joins; it leaves with the test.
func NewReader(t testing.TB, nameServer, topic string) *Reader {
	t.Helper()
	r := &Reader{next: map[int]int64{}, read: map[int][][]byte{}}
	a, err := admin.NewAdmin(admin.WithResolver(primitive.NewPassthroughResolver([]string{nameServer})))
	if err == nil {
		r.queues, err = a.FetchPublishMessageQueues(t.Context(), topic)
		_ = a.Close() // it has no state
	}
	if err == nil {
		r.client, err = rocketmq.NewPullConsumer(consumer.WithNameServer([]string{nameServer}), consumer.WithGroupName("reader-"+rand.Text()),
			consumer.WithInstance(rand.Text()), consumer.WithPullBatchSize(1))
	}
	if err == nil {
		err = r.client.Subscribe(topic, consumer.MessageSelector{})
	}
	if err == nil {
		err = r.client.Start()
	}
	if err != nil {
		t.Fatal("read topic ", topic, ": ", err)
	}
	t.Cleanup(func() { _ = r.client.Shutdown() })
	return r
}

// Queue returns the bodies of everything that lies in one queue now, oldest first.
func (r *Reader) Queue(t testing.TB, number int) [][]byte {
	t.Helper()
	r.mu.Lock()
	defer r.mu.Unlock()
	var at *primitive.MessageQueue
	for _, q := range r.queues {
		if q.QueueId == number {
			at = q
		}
	}
	if at == nil {
		t.Fatalf("the topic has %d queues, and no %d", len(r.queues), number)
	}
	ends, err := r.client.PullFrom(t.Context(), at, 1<<40, 1) // behind the end: answered at once, with where that is
	for err == nil && r.next[number] < ends.MaxOffset {
		var got *primitive.PullResult
		if got, err = r.client.PullFrom(t.Context(), at, r.next[number], 32); err == nil {
			for _, m := range got.GetMessageExts() {
				r.read[number] = append(r.read[number], m.Body)
			}
			r.next[number] = got.NextBeginOffset
		}
	}
	if err != nil {
		t.Fatal("read ", at, ": ", err)
	}
	return r.read[number]
}
