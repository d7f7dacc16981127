package bench

import (
	"context"

	"sluice/bench/audit"
	"sluice/bench/load"
)

// beside is a few orders that are sent beside the load to learn what the load itself cannot tell.
type beside interface {
	stop() error     // sends no more, and waits for what is under way
	accepted() int64 // once it has stopped
	history() []audit.Entry
	fill(round *Round)
}

// besides are all that run beside one load.
type besides []beside

// startBeside starts what a round has beside its load.
func (r *runner) startBeside(ctx context.Context, s *server, so saleOptions, spec load.Spec) (list besides, err error) {
	if r.o.Generator != Own {
		return nil, nil
	}
	waiting, err := startRecords(ctx, load.Options{Addrs: s.gateways, TLS: s.tls}, spec)
	if err != nil {
		return nil, err
	}
	list = besides{waiting}
	if so.looked {
		looking, err := startLooks(ctx, s, spec)
		if err != nil {
			_ = list.stop() // the first error says more
			return nil, err
		}
		list = append(list, looking)
	}
	return list, nil
}

func (list besides) stop() (err error) {
	for _, b := range list {
		if stopped := b.stop(); err == nil {
			err = stopped
		}
	}
	return err
}

func (list besides) accepted() (sum int64) {
	for _, b := range list {
		sum += b.accepted()
	}
	return sum
}

func (list besides) history() (all []audit.Entry) {
	for _, b := range list {
		all = append(all, b.history()...)
	}
	return all
}

func (list besides) fill(round *Round) {
	for _, b := range list {
		b.fill(round)
	}
}
