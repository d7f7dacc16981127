package rocketmqtest

import (
	"crypto/rand"
	"testing"

	"github.com/apache/rocketmq-client-go/v2"
	"github.com/apache/rocketmq-client-go/v2/admin"
	"github.com/apache/rocketmq-client-go/v2/consumer"
	"github.com/apache/rocketmq-client-go/v2/primitive"
)

// Read returns the bodies of everything that lies in one queue of a topic now, oldest first, as another program reads them:
// with the client that everybody uses. The broker makes the reader's group.
func Read(t testing.TB, nameServer, topic string, queue int) (bodies [][]byte) {
	t.Helper()
	at := find(t, nameServer, topic, queue)
	c, err := rocketmq.NewPullConsumer(consumer.WithNameServer([]string{nameServer}), consumer.WithGroupName("reader-"+rand.Text()),
		consumer.WithInstance(rand.Text()), consumer.WithPullBatchSize(1))
	if err == nil {
		err = c.Subscribe(topic, consumer.MessageSelector{})
	}
	if err == nil {
		err = c.Start()
	}
	if err != nil {
		t.Fatal("read topic ", topic, ": ", err)
	}
	defer func() { _ = c.Shutdown() }()
	ends, err := c.PullFrom(t.Context(), at, 1<<40, 1) // behind the end: answered at once, with where that is
	for from := int64(0); err == nil && from < ends.MaxOffset; {
		var got *primitive.PullResult
		if got, err = c.PullFrom(t.Context(), at, from, 32); err == nil {
			for _, m := range got.GetMessageExts() {
				bodies = append(bodies, m.Body)
			}
			from = got.NextBeginOffset
		}
	}
	if err != nil {
		t.Fatal("read topic ", topic, ": ", err)
	}
	return bodies
}

// find is a queue of a topic.
func find(t testing.TB, nameServer, topic string, queue int) *primitive.MessageQueue {
	t.Helper()
	a, err := admin.NewAdmin(admin.WithResolver(primitive.NewPassthroughResolver([]string{nameServer})))
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = a.Close() }()
	queues, err := a.FetchPublishMessageQueues(t.Context(), topic)
	if err != nil {
		t.Fatal("find topic ", topic, ": ", err)
	}
	for _, q := range queues {
		if q.QueueId == queue {
			return q
		}
	}
	t.Fatalf("topic %s has %d queues, and no %d", topic, len(queues), queue)
	return nil
}
