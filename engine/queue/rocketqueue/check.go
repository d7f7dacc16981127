package rocketqueue

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"sluice/engine/queue"
)

const (
	idleMin  = 15 // seconds: three heartbeats of a consumer
	idleGood = 35 // a little more than the 30 s between two heartbeats of rocketmq-client-go
)

// Report is what a look at RocketMQ has shown, in words for the person who starts the program.
type Report struct {
	Notes    []string // as it should be
	Warnings []string // what a person should know
	Faults   []string // what keeps the program from starting
}

// Err is the faults as one error, nil if there are none.
func (r *Report) Err() error {
	errs := make([]error, len(r.Faults))
	for i, text := range r.Faults {
		errs[i] = errors.New(text)
	}
	return errors.Join(errs...)
}

func (r *Report) note(format string, args ...any) {
	r.Notes = append(r.Notes, fmt.Sprintf(format, args...))
}

func (r *Report) warn(format string, args ...any) {
	r.Warnings = append(r.Warnings, fmt.Sprintf(format, args...))
}

func (r *Report) fault(format string, args ...any) {
	r.Faults = append(r.Faults, fmt.Sprintf(format, args...))
}

// Check looks at the name servers, at the topics, and at the settings of their brokers. It changes nothing.
func Check(ctx context.Context, o Options) *Report {
	r := &Report{}
	if err := o.Validate(); err != nil {
		r.fault("%v", err)
		return r
	}
	if !r.nameServers(ctx, &o) {
		return r
	}
	routes := newRoutes(&o, checkAfter)
	brokers := map[string]string{} // address by name
	missing := false
	for _, w := range o.wanted() {
		found, ok, err := routes.ask(ctx, w.topic)
		switch {
		case err != nil:
			r.fault("%v", err)
			continue
		case !ok:
			missing = true
			r.note("topic %s does not exist yet: the first start makes it, with %d queues", w.topic, w.queues)
			continue
		case !w.fits(found):
			r.fault("%v", w.differs(found))
		default:
			r.note("topic %s: %d queues on broker %s at %s", w.topic, found.queues, found.broker, found.addr)
		}
		brokers[found.broker] = found.addr
	}
	if missing && len(r.Faults) == 0 {
		if addr, err := routes.choose(ctx, &o); err != nil {
			r.fault("%v", err)
		} else {
			brokers[addr] = addr
		}
	}
	looked := map[string]bool{}
	for _, addr := range brokers {
		if !looked[addr] {
			looked[addr] = true
			r.broker(ctx, &o, addr)
		}
	}
	return r
}

// nameServers tells whether one answers at least.
func (r *Report) nameServers(ctx context.Context, o *Options) (one bool) {
	var silent []string
	for _, addr := range o.NameServers {
		if _, err := newRoutes(&Options{NameServers: []string{addr}}, 0).brokers(ctx); err != nil {
			silent = append(silent, err.Error())
		} else {
			one = true
			r.note("name server %s answers", addr)
		}
	}
	for _, text := range silent {
		if one {
			r.warn("%s", text)
		} else {
			r.fault("%s", text)
		}
	}
	return one
}

// broker looks at the settings of a broker.
func (r *Report) broker(ctx context.Context, o *Options, addr string) {
	l, err := dial(ctx, addr, nil)
	if err != nil {
		r.fault("broker %v: the name servers say that it is there; is it running, and can its address be reached from here (its setting brokerIP1)?", err)
		return
	}
	defer l.close()
	a, err := l.call(ctx, &command{Code: askConfig})
	if err != nil {
		r.fault("broker %v", err)
		return
	}
	r.settings(o, addr, properties(a.Body))
}

// settings judges a broker by its own words.
func (r *Report) settings(o *Options, addr string, of map[string]string) {
	number := func(name string) (n int64, ok bool) {
		n, err := strconv.ParseInt(of[name], 10, 64)
		if err != nil {
			r.warn("broker %s: its %s is %q, which says nothing", addr, name, of[name])
		}
		return n, err == nil
	}
	switch flush := of["flushDiskType"]; flush {
	case "SYNC_FLUSH":
		r.note("broker %s: SYNC_FLUSH, what is accepted is on its disk", addr)
	default:
		r.warn("broker %s: flushDiskType is %s: an order that was answered 202 may not survive a power loss of the broker; SYNC_FLUSH does",
			addr, flush)
	}
	if n, ok := number("maxMessageSize"); ok && n < queue.MessageMax {
		r.fault("broker %s: maxMessageSize is %d; a batch of orders has up to %d bytes", addr, n, int(queue.MessageMax))
	}
	if hours, ok := number("fileReservedTime"); ok {
		keeps := time.Duration(hours) * time.Hour
		if o.MaxQueueAge > 0 && keeps < 2*o.MaxQueueAge {
			r.fault("broker %s: it deletes messages after %d h (fileReservedTime), stored as orders or not; engine.max_queue_age, %v, may be half of that at most",
				addr, hours, o.MaxQueueAge)
		} else {
			r.note("broker %s: it deletes messages after %d h", addr, hours)
		}
	}
	if of["cleanFileForciblyEnable"] != "false" {
		r.warn("broker %s: cleanFileForciblyEnable is %q: when its disk is nearly full it deletes messages whatever their age, stored as orders or not; "+
			"with false it takes no more instead", addr, of["cleanFileForciblyEnable"])
	}
	switch seconds, ok := number("serverChannelMaxIdleTimeSeconds"); {
	case !ok:
	case seconds < idleMin:
		r.fault("broker %s: serverChannelMaxIdleTimeSeconds is %d: consumers are thrown out between two heartbeats; at least %d", addr, seconds, idleMin)
	case seconds < idleGood:
		r.warn("broker %s: serverChannelMaxIdleTimeSeconds is %d: it ends connections over which nothing was published lately, and a publication may be caught in it; 45 is better",
			addr, seconds)
	default:
		r.note("broker %s: the queues of a consumer that is frozen go to others after %d s (serverChannelMaxIdleTimeSeconds)", addr, seconds)
	}
}

// properties reads what Java writes as properties.
func properties(text []byte) map[string]string {
	list := map[string]string{}
	for lines := bufio.NewScanner(bytes.NewReader(text)); lines.Scan(); {
		if name, value, ok := strings.Cut(lines.Text(), "="); ok {
			list[strings.TrimSpace(name)] = strings.TrimSpace(value)
		}
	}
	return list
}
