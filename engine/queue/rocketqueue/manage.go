package rocketqueue

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
)

// Brokers are the addresses of the brokers' masters, by name.
func Brokers(ctx context.Context, o Options) (map[string]string, error) {
	return newRoutes(&o, 0).brokers(ctx)
}

// Durability says of every broker when what it accepts is on its disk, in its own words.
func Durability(ctx context.Context, o Options) string {
	brokers, err := Brokers(ctx, o)
	if err != nil || len(brokers) == 0 {
		return "no broker answers"
	}
	var said []string
	for _, name := range slices.Sorted(maps.Keys(brokers)) {
		of := map[string]string{}
		if l, err := dial(ctx, brokers[name], nil); err == nil { // else it says nothing
			if a, err := l.call(ctx, &command{Code: askConfig}); err == nil {
				of = properties(a.Body)
			}
			l.close()
		}
		said = append(said, fmt.Sprintf("%s: flushDiskType %s, brokerRole %s", name, of["flushDiskType"], of["brokerRole"]))
	}
	return strings.Join(said, ", ")
}

// Remove removes a deployment's topics, with all that is in them, and its groups: for benches and tests, when nobody uses
// them any more. What is not there is no error.
func Remove(ctx context.Context, o Options) error {
	r := newRoutes(&o, 0)
	var errs []error
	for _, w := range o.wanted() {
		found, ok, err := r.ask(ctx, w.topic)
		if err == nil && ok {
			err = removeAt(ctx, found.addr, &w)
		}
		if err == nil && ok {
			err = r.forget(ctx, w.topic)
		}
		if err != nil {
			errs = append(errs, fmt.Errorf("remove topic %s: %w", w.topic, err))
		}
	}
	return errors.Join(errs...)
}

// removeAt removes a topic and its groups from its broker.
func removeAt(ctx context.Context, addr string, w *wanted) error {
	l, err := dial(ctx, addr, nil)
	if err != nil {
		return fmt.Errorf("broker %w", err)
	}
	defer l.close()
	var errs []error
	for _, group := range w.groups {
		_, err := l.call(ctx, &command{Code: askDropGroup, Fields: map[string]string{"groupName": group, "cleanOffset": "true"}})
		errs = append(errs, err)
	}
	_, err = l.call(ctx, &command{Code: askDropTopic, Fields: map[string]string{"topic": w.topic}})
	return errors.Join(append(errs, err)...)
}

// forget has every name server forget a topic, which its broker no longer has.
func (r *routes) forget(ctx context.Context, topic string) error {
	var errs []error
	for _, addr := range r.nameServers {
		l, err := dial(ctx, addr, nil)
		if err == nil {
			_, err = l.call(ctx, &command{Code: askForgetTopic, Fields: map[string]string{"topic": topic}})
			l.close()
		}
		if err != nil {
			errs = append(errs, fmt.Errorf("name server %w", err))
		}
	}
	return errors.Join(errs...)
}
