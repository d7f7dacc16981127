package rocketqueue

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"net"
	"slices"
	"strconv"
	"sync"
	"time"

	"sluice/engine/order"
)

const (
	routeAfter  = 15 * time.Second // until a name server must know a new topic: a new broker takes some seconds
	brokerAfter = 40 * time.Second // until one must know its brokers: those that it had before its restart say so every 30 s
	checkAfter  = 5 * time.Second  // the same, for somebody who only wants to know
	routeEvery  = 50 * time.Millisecond
)

// routes knows on which broker a topic lies, and asks the name servers where that is.
type routes struct {
	nameServers []string
	patience    time.Duration // for the name servers to know a broker

	mu    sync.Mutex
	known map[string]route // by topic: as it was last heard
}

// route is where a topic lies.
type route struct {
	broker string
	addr   string // of the master
	queues int
}

func newRoutes(o *Options, patience time.Duration) *routes {
	return &routes{nameServers: o.NameServers, patience: patience, known: map[string]route{}}
}

func checkAddr(addr string) error {
	if host, port, err := net.SplitHostPort(addr); err != nil || host == "" || port == "" {
		return fmt.Errorf("%q is not host:port", addr)
	}
	return nil
}

// place is where a topic lies, as it was last heard.
func (r *routes) place(topic string) (route, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	at, ok := r.known[topic]
	if !ok {
		return route{}, fmt.Errorf("it is not known where topic %s lies", topic)
	}
	return at, nil
}

// find asks where a topic lies. Where no name server answers, it is where it was.
func (r *routes) find(ctx context.Context, topic string) (route, error) {
	found, ok, err := r.ask(ctx, topic)
	switch {
	case err == nil && !ok:
		err = fmt.Errorf("there is no topic %s", topic)
	case err == nil:
		r.mu.Lock()
		r.known[topic] = found
		r.mu.Unlock()
		return found, nil
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if last, ok := r.known[topic]; ok && last.addr != "" {
		return last, nil
	}
	return route{}, err
}

// fromAny asks one name server after the other.
func (r *routes) fromAny(ctx context.Context, c *command, but ...int) (*command, error) {
	var errs []error
	for _, addr := range r.nameServers {
		l, err := dial(ctx, addr, nil)
		if err == nil {
			var a *command
			a, err = l.call(ctx, c, but...)
			l.close()
			if err == nil {
				return a, nil
			}
		}
		errs = append(errs, fmt.Errorf("name server %s: %w: is it running, and is queue.rocketqueue.name_servers right?", addr, err))
	}
	return nil, errors.Join(errs...)
}

// ask reads a topic's route; ok is false if there is no such topic, or none that may be written.
func (r *routes) ask(ctx context.Context, topic string) (found route, ok bool, err error) {
	a, err := r.fromAny(ctx, &command{Code: askRoute, Fields: map[string]string{"topic": topic}}, answerNoTopic)
	if err != nil || a.Code == answerNoTopic {
		return route{}, false, err
	}
	var data struct {
		QueueDatas []struct {
			BrokerName                          string
			ReadQueueNums, WriteQueueNums, Perm int
		}
		BrokerDatas []struct {
			BrokerName  string
			BrokerAddrs map[string]string
		}
	}
	if err := json.Unmarshal(quoteKeys(a.Body), &data); err != nil {
		return route{}, false, fmt.Errorf("the route of topic %s: %w", topic, err)
	}
	switch {
	case len(data.QueueDatas) == 0:
		return route{}, false, nil
	case len(data.QueueDatas) > 1:
		return route{}, false, fmt.Errorf("topic %s lies on %d brokers: it must lie on one, so that every partition is one queue", topic, len(data.QueueDatas))
	}
	queues := data.QueueDatas[0]
	if queues.ReadQueueNums != queues.WriteQueueNums || queues.Perm != readAndWrite {
		return route{}, false, fmt.Errorf("topic %s has %d queues to read, %d to write and permission %d: it must be the same number, with permission 6",
			topic, queues.ReadQueueNums, queues.WriteQueueNums, queues.Perm)
	}
	found = route{broker: queues.BrokerName, queues: queues.WriteQueueNums}
	for _, b := range data.BrokerDatas {
		if b.BrokerName == found.broker {
			found.addr = b.BrokerAddrs["0"]
		}
	}
	if found.addr == "" {
		return route{}, false, fmt.Errorf("broker %s, which has topic %s, has no master now", found.broker, topic)
	}
	return found, true, nil
}

// brokers asks for the masters' addresses by the brokers' names.
func (r *routes) brokers(ctx context.Context) (map[string]string, error) {
	a, err := r.fromAny(ctx, &command{Code: askCluster})
	if err != nil {
		return nil, err
	}
	var data struct {
		BrokerAddrTable map[string]struct{ BrokerAddrs map[string]string }
	}
	if err := json.Unmarshal(quoteKeys(a.Body), &data); err != nil {
		return nil, fmt.Errorf("the list of brokers: %w", err)
	}
	masters := map[string]string{}
	for name, b := range data.BrokerAddrTable {
		if addr := b.BrokerAddrs["0"]; addr != "" {
			masters[name] = addr
		}
	}
	return masters, nil
}

// wanted is a topic that a deployment has, and the groups that commit offsets of it.
type wanted struct {
	topic  string
	queues int
	groups []string
	why    string // where the number of queues comes from; empty: any number will do
}

func (o *Options) wanted() []wanted {
	list := make([]wanted, 0, 3)
	for _, kind := range order.Kinds {
		list = append(list, wanted{o.topic(kind), len(o.Partitions.Each(kind)), []string{o.topic(kind), o.starts(kind)},
			"engine.partitions." + kind.String()})
	}
	return append(list, wanted{o.events(), eventQueues, []string{o.events()}, ""})
}

func (w *wanted) fits(found route) bool { return w.why == "" || found.queues == w.queues }

// differs says that a topic has another number of queues than it must.
func (w *wanted) differs(found route) error {
	return fmt.Errorf("topic %s on broker %s has %d queues, %s says %d: it cannot change once there are messages; put the number back, "+
		"or begin with another queue.rocketqueue.name", w.topic, found.broker, found.queues, w.why, w.queues)
}

// settle finds the topics, and makes those that are not there.
func (r *routes) settle(ctx context.Context, o *Options) error {
	for _, w := range o.wanted() {
		found, ok, err := r.ask(ctx, w.topic)
		if err == nil && !ok {
			found, err = r.create(ctx, o, &w)
		}
		switch {
		case err != nil:
			return err
		case !w.fits(found):
			return w.differs(found)
		}
		if err := r.createGroups(ctx, found.addr, w.groups); err != nil {
			return err
		}
		r.mu.Lock()
		r.known[w.topic] = found
		r.mu.Unlock()
	}
	return nil
}

// choose picks the broker for new topics. One that has just been started needs some seconds to be known.
func (r *routes) choose(ctx context.Context, o *Options) (addr string, err error) {
	wait, cancel := context.WithTimeout(ctx, r.patience)
	defer cancel()
	for {
		masters, err := r.brokers(ctx)
		names := slices.Sorted(maps.Keys(masters))
		switch {
		case err != nil:
			return "", err
		case o.Broker != "" && masters[o.Broker] != "":
			return masters[o.Broker], nil
		case o.Broker != "":
			err = fmt.Errorf("queue.rocketqueue.broker: the name servers know no broker %s, but %v", o.Broker, names)
		case len(masters) == 1:
			return masters[names[0]], nil
		case len(masters) > 1:
			return "", fmt.Errorf("there are several brokers, %v: say with queue.rocketqueue.broker on which one the topics are to lie", names)
		default:
			err = errors.New("the name servers know no broker: is it running, and does its namesrvAddr name them?")
		}
		if pause(wait, 4*routeEvery) != nil {
			return "", err
		}
	}
}

// create makes a topic and waits until the name servers know it. One that its broker has, and the name servers do not know
// yet, stays as it is.
func (r *routes) create(ctx context.Context, o *Options, w *wanted) (route, error) {
	addr, err := r.choose(ctx, o)
	if err != nil {
		return route{}, err
	}
	l, err := dial(ctx, addr, nil)
	if err != nil {
		return route{}, fmt.Errorf("broker %w", err)
	}
	defer l.close()
	there, err := l.call(ctx, &command{Code: askTopic, Fields: map[string]string{"topic": w.topic}}, answerNoTopic)
	if err == nil && there.Code == answerNoTopic {
		n := strconv.Itoa(w.queues)
		_, err = l.call(ctx, &command{Code: askCreateTopic, Fields: map[string]string{"topic": w.topic, "defaultTopic": "TBW102",
			"readQueueNums": n, "writeQueueNums": n, "perm": strconv.Itoa(readAndWrite), "topicFilterType": "SINGLE_TAG",
			"topicSysFlag": "0", "order": "false"}})
	}
	if err != nil {
		return route{}, fmt.Errorf("make topic %s: %w", w.topic, err)
	}
	ctx, cancel := context.WithTimeout(ctx, routeAfter)
	defer cancel()
	for {
		found, ok, err := r.ask(ctx, w.topic)
		if err != nil || ok {
			return found, err
		}
		if err := pause(ctx, routeEvery); err != nil {
			return route{}, fmt.Errorf("topic %s was made on the broker at %s, and the name servers do not know it yet: %w", w.topic, addr, err)
		}
	}
}

// createGroups makes those groups that are not there.
func (r *routes) createGroups(ctx context.Context, addr string, groups []string) error {
	l, err := dial(ctx, addr, nil)
	if err != nil {
		return fmt.Errorf("broker %w", err)
	}
	defer l.close()
	for _, group := range groups {
		if _, err := l.call(ctx, &command{Code: askGroup, Fields: map[string]string{"group": group}}); err == nil {
			continue
		}
		body, err := json.Marshal(map[string]any{"groupName": group, "consumeEnable": true, "consumeFromMinEnable": true,
			"consumeBroadcastEnable": false, "retryQueueNums": 0, "retryMaxTimes": 0, "notifyConsumerIdsChangedEnable": true})
		if err == nil {
			_, err = l.call(ctx, &command{Code: askCreateGroup, Body: body})
		}
		if err != nil {
			return fmt.Errorf("make group %s: %w", group, err)
		}
	}
	return nil
}

// line is a connection to the broker of a topic that is made when it is needed, and made anew when it was lost.
type line struct {
	routes *routes
	topic  string

	mu sync.Mutex
	l  *link
}

func (n *line) link(ctx context.Context) (*link, error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.l != nil {
		select {
		case <-n.l.lost:
			n.l.close()
			n.l = nil
		default:
			return n.l, nil
		}
	}
	at, err := n.routes.find(ctx, n.topic)
	if err != nil {
		return nil, err
	}
	n.l, err = dial(ctx, at.addr, nil)
	return n.l, err
}

func (n *line) close() {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.l != nil {
		n.l.close()
		n.l = nil
	}
}

// pause waits; an error is that of ctx.
func pause(ctx context.Context, d time.Duration) error {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}
