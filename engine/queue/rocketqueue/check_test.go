package rocketqueue

import (
	"maps"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"sluice/engine/order"
	"sluice/engine/queue"
	"sluice/internal/rocketmqtest"
)

func TestValidate(t *testing.T) {
	t.Parallel()
	good := Options{NameServers: []string{"10.0.0.1:9876", "mq.example:9876"}, Name: "shop-1_a", MemoryMax: 1 << 20}
	if err := good.Validate(); err != nil {
		t.Error(err)
	}
	for want, spoil := range map[string]func(*Options){
		"name_servers must name at least one":  func(o *Options) { o.NameServers = nil },
		`name_servers: "mq" is not host:port`:  func(o *Options) { o.NameServers = []string{"mq"} },
		`name_servers: ":1" is not host:port`:  func(o *Options) { o.NameServers = []string{":1"} },
		"name must be 1 to 60 letters, digits": func(o *Options) { o.Name = "a b" },
		"memory_max must be at least 1048576":  func(o *Options) { o.MemoryMax = 1 },
	} {
		o := good
		spoil(&o)
		if err := o.Validate(); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%v, want %q", err, want)
		}
	}
}

// What a broker says of itself is judged setting by setting.
func TestBrokerSettings(t *testing.T) {
	t.Parallel()
	o := Options{MaxQueueAge: 2 * time.Hour}
	good := map[string]string{"flushDiskType": "SYNC_FLUSH", "maxMessageSize": strconv.Itoa(queue.MessageMax), "fileReservedTime": "4",
		"cleanFileForciblyEnable": "false", "serverChannelMaxIdleTimeSeconds": "35"}
	var r Report
	if r.settings(&o, "b:1", good); len(r.Notes) != 3 || len(r.Warnings)+len(r.Faults) > 0 {
		t.Errorf("%+v", r)
	}
	for _, c := range []struct {
		name, value string
		fault       bool
		want        string
	}{
		{"flushDiskType", "ASYNC_FLUSH", false, "an order that was answered 202 may not survive a power loss"},
		{"maxMessageSize", strconv.Itoa(queue.MessageMax - 1), true, "maxMessageSize is 1048575; a batch of orders has up to 1048576 bytes"},
		{"fileReservedTime", "3", true, "it deletes messages after 3 h (fileReservedTime), stored as orders or not; engine.max_queue_age, 2h0m0s, may be half of that at most"},
		{"serverChannelMaxIdleTimeSeconds", "14", true, "consumers are thrown out between two heartbeats"},
		{"serverChannelMaxIdleTimeSeconds", "34", false, "a publication may be caught in it; 45 is better"},
		{"cleanFileForciblyEnable", "true", false, "it deletes messages whatever their age, stored as orders or not"},
		{"maxMessageSize", "", false, `its maxMessageSize is ""`},
	} {
		settings := maps.Clone(good)
		settings[c.name] = c.value
		var r Report
		r.settings(&o, "b:1", settings)
		said, other := r.Warnings, r.Faults
		if c.fault {
			said, other = other, said
		}
		if len(said) != 1 || len(other) > 0 || !strings.Contains(said[0], c.want) || !strings.HasPrefix(said[0], "broker b:1: ") {
			t.Errorf("%s=%s: %+v", c.name, c.value, r)
		}
	}
}

// Check makes nothing, sees what Open has made, and says what Open refuses in the same words.
func TestCheck(t *testing.T) {
	t.Parallel()
	o := options(t)
	expect := func(what string, r *Report, notes ...string) {
		t.Helper()
		if err := r.Err(); err != nil {
			t.Errorf("%s: %v", what, err)
		}
		for _, want := range notes {
			if !slices.ContainsFunc(r.Notes, func(text string) bool { return strings.Contains(text, want) }) {
				t.Errorf("%s: %q, want %q", what, r.Notes, want)
			}
		}
	}
	for range 2 {
		expect("before the first start", Check(t.Context(), o), "name server "+o.NameServers[0]+" answers",
			"topic "+o.Name+"-orders-normal does not exist yet: the first start makes it, with 3 queues", "SYNC_FLUSH", "it deletes messages after")
	}
	open(t, o)
	expect("after it", Check(t.Context(), o), "topic "+o.Name+"-orders-flash: 2 queues on broker ", "topic "+o.Name+"-order-events: 16 queues")
	other := o
	other.Partitions = order.Partitions{Normal: 3, Flash: 4}
	const want = "has 2 queues, engine.partitions.flash says 4: it cannot change once there are messages"
	if err := Check(t.Context(), other).Err(); err == nil || !strings.Contains(err.Error(), want) {
		t.Errorf("other partitions: %v", err)
	}
	if _, err := Open(t.Context(), other); err == nil || !strings.Contains(err.Error(), want) {
		t.Errorf("opened with other partitions: %v", err)
	}
	if r := Check(t.Context(), o); r.Err() != nil {
		t.Errorf("it has changed the topic: %v", r.Err())
	}
	other = o
	other.NameServers = append([]string{"127.0.0.1:1"}, o.NameServers...)
	if r := Check(t.Context(), other); r.Err() != nil || len(r.Warnings) != 1 || !strings.Contains(r.Warnings[0], "127.0.0.1:1") {
		t.Errorf("one of two name servers is away: %+v", r)
	}
	publish(t, open(t, other), 0, "by the other one")
	other.NameServers = other.NameServers[:1]
	const away = "is it running, and is queue.rocketqueue.name_servers right?"
	if err := Check(t.Context(), other).Err(); err == nil || !strings.Contains(err.Error(), away) {
		t.Errorf("no name server: %v", err)
	}
	other = o
	other.Name, other.Broker = o.Name+"-2", "elsewhere"
	if err := Check(t.Context(), other).Err(); err == nil || !strings.Contains(err.Error(), "the name servers know no broker elsewhere, but [") {
		t.Errorf("a broker that is not there: %v", err)
	}
}

// A broker that takes no messages of such a size refuses them before it stores anything, and the driver says that it does
// not know: it never judges by the size.
func testBrokerTakesSmallOnes(t *testing.T, r *rocketmqtest.RocketMQ, o Options) {
	q := open(t, o)
	l, err := dial(t.Context(), r.Broker.Addr, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer l.close()
	set := func(size int) {
		t.Helper()
		if _, err := l.call(t.Context(), &command{Code: 25, Body: []byte("maxMessageSize=" + strconv.Itoa(size) + "\n")}); err != nil {
			t.Fatal(err)
		}
	}
	set(50_000)
	defer set(4 << 20)
	if err := Check(t.Context(), o).Err(); err == nil || !strings.Contains(err.Error(), "maxMessageSize is 50000") {
		t.Errorf("the check says %v", err)
	}
	if err := q.Publish(t.Context(), 0, make([]byte, 60_000)); err == nil || !strings.Contains(err.Error(), "CODE: 13") {
		t.Errorf("published 60,000 bytes: %v", err)
	}
	publish(t, q, 0, "a small one")
	receive(t, consume(t, q, order.Normal), has("a small one"))
}
