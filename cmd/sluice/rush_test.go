package main

import (
	"errors"
	"fmt"
	"io"
	"net/http"
	"sync"
	"syscall"
	"time"

	"sluice/engine/order"
)

// placing is an order that was answered as accepted.
type placing struct {
	user order.UserID
	id   string
}

const rushBuyers = 16

// ending is how a server ends under a rush, and what its clients may see of it.
type ending struct {
	keepAlive bool               // connections carry many requests
	gone      func(e error) bool // errors that say that the server is gone
}

var (
	// A server that dies may break any connection.
	dying = ending{true, func(err error) bool {
		return errors.Is(err, syscall.ECONNREFUSED) || errors.Is(err, syscall.ECONNRESET) || errors.Is(err, syscall.EPIPE) ||
			errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF)
	}}
	// A server that stops gracefully answers every request that it has read. On a connection of its own, a request
	// either finds no listener, or is reset unread because the listener closed with the connection in its queue.
	stopping = ending{false, func(err error) bool {
		return errors.Is(err, syscall.ECONNREFUSED) || errors.Is(err, syscall.ECONNRESET)
	}}
)

// rush lets buyers order as fast as they can until the server is gone, which end sees to once orders have been
// accepted, and returns what was accepted. Every answer but 2xx, 409 and 503 fails the test, and every error that the
// way of ending does not excuse.
func (s *shop) rush(offer string, how ending, end func()) []placing {
	s.t.Helper()
	var mu sync.Mutex
	var accepted []placing
	var buyers sync.WaitGroup
	enough := make(chan struct{})
	client := &http.Client{Transport: &http.Transport{DisableKeepAlives: !how.keepAlive, MaxIdleConnsPerHost: rushBuyers}}
	for user := order.UserID(1); user <= rushBuyers; user++ {
		token := s.token(user)
		buyers.Go(func() {
			for n := 0; ; n++ {
				a, err := s.with(client, "POST", s.gateway+"/v1/orders", token, line(offer, 1), "Idempotency-Key", fmt.Sprint(n))
				switch {
				case err != nil && how.gone(err):
					return
				case err != nil:
					s.t.Errorf("user %d, order %d: %v", user, n, err)
					return
				case a.status == 202 || a.status == 201:
					mu.Lock()
					if accepted = append(accepted, placing{user, a.field("id")}); len(accepted) == 500 {
						close(enough)
					}
					mu.Unlock()
				case a.status != 503 && a.status != 409:
					s.t.Errorf("user %d, order %d: %v", user, n, a)
					return
				}
			}
		})
	}
	select {
	case <-enough:
	case <-time.After(20 * time.Second):
	}
	end()
	buyers.Wait()
	return accepted
}

// stored waits until every order is stored and awaits payment.
func (s *shop) stored(orders []placing) {
	s.t.Helper()
	for _, o := range orders {
		var a *answer
		if !await(func() bool {
			a = s.must(200, "GET", s.gateway+"/v1/orders/"+o.id, s.token(o.user), "")
			return a.field("status") != "pending"
		}) || a.field("status") != "awaiting_payment" {
			s.t.Fatalf("order %s of user %d: %v", o.id, o.user, a)
		}
	}
}
