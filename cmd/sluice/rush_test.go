package main

import (
	"errors"
	"fmt"
	"io"
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

// rush lets buyers order as fast as they can until the server is gone, which end sees to, and returns what was accepted.
// A request may fail only because the server took no connection any more, or died: never with another answer.
func (s *shop) rush(offer string, end func()) []placing {
	s.t.Helper()
	var mu sync.Mutex
	var accepted []placing
	var buyers sync.WaitGroup
	for user := order.UserID(1); user <= rushBuyers; user++ {
		token := s.token(user)
		buyers.Go(func() {
			for n := 0; ; n++ {
				a, err := s.try("POST", s.gateway+"/v1/orders", token, line(offer, 1), "Idempotency-Key", fmt.Sprint(n))
				switch {
				case gone(err):
					return
				case err != nil:
					s.t.Errorf("user %d, order %d: %v", user, n, err)
					return
				case a.status == 202 || a.status == 201:
					mu.Lock()
					accepted = append(accepted, placing{user, a.field("id")})
					mu.Unlock()
				case a.status != 503 && a.status != 409:
					s.t.Errorf("user %d, order %d: %v", user, n, a)
					return
				}
			}
		})
	}
	end()
	buyers.Wait()
	return accepted
}

// gone tells an error that says that the server took the request not at all, or is dead.
func gone(err error) bool {
	return errors.Is(err, syscall.ECONNREFUSED) || errors.Is(err, syscall.ECONNRESET) || errors.Is(err, syscall.EPIPE) ||
		errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF)
}

// stored waits until every order is stored and awaits payment.
func (s *shop) stored(orders []placing) {
	s.t.Helper()
	deadline := time.Now().Add(20 * time.Second)
	for _, o := range orders {
		for {
			a := s.must(200, "GET", s.gateway+"/v1/orders/"+o.id, s.token(o.user), "")
			if a.field("status") == "awaiting_payment" {
				break
			}
			if a.field("status") != "pending" || time.Now().After(deadline) {
				s.t.Fatalf("order %s of user %d: %v", o.id, o.user, a)
			}
			time.Sleep(5 * time.Millisecond)
		}
	}
}
