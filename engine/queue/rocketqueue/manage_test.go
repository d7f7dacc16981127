package rocketqueue

import (
	"slices"
	"strings"
	"testing"
)

// What was removed is gone, topics and what the groups had read: a queue of the same name begins with nothing.
func TestRemove(t *testing.T) {
	o := options(t)
	missing := func() bool {
		return slices.ContainsFunc(Check(t.Context(), o).Notes, func(note string) bool { return strings.Contains(note, "does not exist yet") })
	}
	q := open(t, o)
	publish(t, q, 0, "one", "two")
	if missing() {
		t.Fatal("there is no topic before anything was removed")
	}
	if err := q.Close(); err != nil {
		t.Fatal(err)
	}
	if err := Remove(t.Context(), o); err != nil {
		t.Fatal(err)
	}
	if !missing() {
		t.Error("the topics are still there")
	}
	if err := Remove(t.Context(), o); err != nil {
		t.Error("what is not there: ", err)
	}
	backlog, err := open(t, o).Backlog(t.Context(), 0)
	if err != nil || backlog.Messages != 0 {
		t.Errorf("a queue of that name begins with %d messages, %v", backlog.Messages, err)
	}
	brokers, err := Brokers(t.Context(), o)
	if err != nil || len(brokers) == 0 {
		t.Errorf("brokers %v, %v", brokers, err)
	}
	if said := Durability(t.Context(), o); !strings.Contains(said, "flushDiskType SYNC_FLUSH, brokerRole ASYNC_MASTER") {
		t.Error(said)
	}
}
