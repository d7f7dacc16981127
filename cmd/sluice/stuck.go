package main

import (
	"context"
	"errors"

	"sluice/configs"
	"sluice/engine/queue"
	"sluice/gateway/ops"
	"sluice/persist"
	"sluice/persist/store"
)

// stuck is what the ops listener does about parked orders and dead letters. Reading needs the store and the queue only;
// what changes something is persist's.
type stuck struct {
	*store.Store // lists and finds
	s            *Server
}

// persisting is persist once it has started; before, and where it is another role's, an error.
func (k stuck) persisting() (*persist.Persist, error) {
	if r := k.s.role(); !r.stores() {
		return nil, r.elsewhere(configs.RolePersist, "store orders")
	}
	if k.s.stages()["persist"] == nil {
		return nil, &ops.Problem{Status: 503, Code: "not_ready", Detail: "this process has not started to store orders"}
	}
	return k.s.persist, nil
}

// ReplayParked hides the store's, which counts nothing.
func (k stuck) ReplayParked(ctx context.Context, ref store.ParkedRef) (store.Resolution, error) {
	p, err := k.persisting()
	if err != nil {
		return store.Resolution{}, err
	}
	return p.ReplayParked(ctx, ref)
}

// RejectParked hides the store's, which counts nothing.
func (k stuck) RejectParked(ctx context.Context, ref store.ParkedRef) (store.Resolution, error) {
	p, err := k.persisting()
	if err != nil {
		return store.Resolution{}, err
	}
	return p.RejectParked(ctx, ref)
}

func (k stuck) Letters(ctx context.Context, after queue.LetterID, limit int) ([]queue.Letter, error) {
	return k.s.queue.Letters(ctx, after, limit)
}

func (k stuck) FindLetter(ctx context.Context, id queue.LetterID) (*queue.Letter, error) {
	return queue.FindLetter(ctx, k.s.queue, id)
}

func (k stuck) ReplayLetter(ctx context.Context, id queue.LetterID) (string, error) {
	p, err := k.persisting()
	if err != nil {
		return "", err
	}
	effect, err := p.ReplayLetter(ctx, id)
	if errors.Is(err, persist.ErrTooLate) {
		return "", &ops.Problem{Status: 409, Code: "too_late", Detail: "the letter is kept: " + err.Error()}
	}
	return effect, err
}

func (k stuck) DropLetter(ctx context.Context, id queue.LetterID) error {
	return k.s.queue.Drop(ctx, id)
}
