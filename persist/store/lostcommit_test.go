package store

import (
	"context"
	"database/sql/driver"
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/go-sql-driver/mysql"

	"sluice/engine/order"
)

// lossy is a desk whose way to its one MySQL shard leads through a proxy.
type lossy struct {
	*desk
	proxy *proxy
}

func newLossy(t *testing.T, offers ...[2]int64) *lossy {
	t.Helper()
	needMySQL(t)
	o := testOptions(t, MySQL, 1)
	p, through := newProxy(t, o.Shards[0])
	o.Shards[0] = through
	x, ids := newSaleOn(t, o, offers...)
	return &lossy{&desk{sale: x, offers: ids, start: order.MilliOf(time.Now())}, p}
}

// losing does something whose nth COMMIT is lost.
func (l *lossy) losing(what string, nth int64, do func()) {
	l.t.Helper()
	l.proxy.commits.Store(nth)
	do()
	if l.proxy.commits.Load() > 0 {
		l.t.Errorf("%s: no COMMIT was lost", what)
	}
}

// onBothSides runs f twice: with COMMITs that the server got, and with COMMITs that it never saw.
func onBothSides(t *testing.T, f func(t *testing.T, l *lossy), offers ...[2]int64) {
	t.Parallel()
	for _, arrives := range []bool{true, false} {
		t.Run(fmt.Sprintf("arrives=%v", arrives), func(t *testing.T) {
			t.Parallel()
			l := newLossy(t, offers...)
			l.proxy.arrives.Store(arrives)
			f(t, l)
		})
	}
}

// A COMMIT whose answer is lost is repeated, whether the server has executed it or not, and takes effect once: the way of
// an order from its claim to its units' return.
func TestLostCommit(t *testing.T) {
	onBothSides(t, func(t *testing.T, l *lossy) {
		ctx := context.Background()
		first, second := l.order(1, "a", 0, 2), l.order(2, "b", 0, 2)
		var rows []Row
		l.losing("claim", 1, func() { rows = l.claimed(first, second) })
		l.expect(l.offers[0], 6, map[order.UserID]int64{1: 2, 2: 2})
		for i := range rows {
			if rows[i].Status != order.AwaitingPayment {
				t.Errorf("order %d is %s (%s)", i, rows[i].Status, rows[i].Reason)
			}
		}

		l.losing("record", 1, func() { l.record(time.Hour, rows...) })
		for _, r := range []*order.Record{first, second} {
			if o := l.read(r.ID); o.Status != order.AwaitingPayment || o.DuplicateOf != 0 {
				t.Errorf("recorded: %+v", o)
			}
		}
		if n := sum(l.flushes()); n != 2 {
			t.Errorf("%d orders in the events of flushes, want 2", n)
		}

		l.losing("cancel", 1, func() {
			if o, _, err := l.Cancel(ctx, first.ID, 1); err != nil || o.Status != order.Cancelled {
				t.Errorf("cancelled: %+v, %v", o, err)
			}
		})
		due := l.due()
		if len(due) != 1 {
			t.Fatalf("%d give-backs are due, want 1", len(due))
		}
		l.losing("give back", 1, func() { noError(t, l.GiveBack(ctx, l.Home(l.p), due)) })
		l.expect(l.offers[0], 8, map[order.UserID]int64{2: 2})
		l.losing("gave back", 1, func() { noError(t, l.GaveBack(ctx, 0, due)) })
		if len(l.due()) != 0 || len(l.gives()) != 1 {
			t.Errorf("due %v, given back %v", l.due(), l.gives())
		}
	}, [2]int64{10, 3})
}

// The same for what people and processes do beside the orders.
func TestLostCommitOfOthers(t *testing.T) {
	onBothSides(t, func(t *testing.T, l *lossy) {
		ctx := context.Background()
		r := l.order(3, "", 0, 1)
		parked := []ParkedOrder{{Order: r.ID, Batch: 7, Partition: l.p, Epoch: l.epoch, Status: order.AwaitingPayment,
			Bytes: order.AppendRecord(nil, r)}}
		l.losing("park", 1, func() { noError(t, l.Park(ctx, l.Home(l.p), parked)) })
		if list, err := l.Parked(ctx, l.Home(l.p), 0, 10); err != nil || len(list) != 1 {
			t.Errorf("parked %v, %v", list, err)
		}
		l.losing("unpark", 1, func() { noError(t, l.Unpark(ctx, l.Home(l.p), parked)) })

		l.losing("change", 1, func() {
			_, o, err := l.ChangeOffer(ctx, l.offers[0], OfferChange{Total: ptr(int64(13))})
			if err != nil || o.Total != 13 {
				t.Errorf("raised to %d: %v", o.Total, err)
			}
		})
		l.expect(l.offers[0], 13, nil)
		if p := l.part(); p.Logged != 2 {
			t.Errorf("logged %d, want 2", p.Logged)
		}
		for nth := int64(1); nth <= 2; nth++ { // the one for the ids, the one for the offers
			var list []order.Offer
			var err error
			l.losing("create", nth, func() { list, err = l.CreateOffers(ctx, []order.Offer{tea(1), tea(1)}) })
			noError(t, err)
			p := l.partition(&list[0])
			stored, err := l.Offers(ctx, p, list[0].ID-1, 10)
			noError(t, err)
			if len(stored) != 2 || stored[0] != list[0] || stored[1] != list[1] || stored[0].Created != uint64(nth) {
				t.Errorf("created %+v, stored %+v", list, stored)
			}
		}
		var lease Lease
		var err error
		l.losing("lease", 1, func() { lease, err = l.LeaseNode(ctx, "a", 1<<40) })
		noError(t, err)
		l.losing("renew", 1, func() {
			renewed, err := l.RenewNode(ctx, lease, 1<<41)
			if err != nil || renewed.Until <= lease.Until {
				t.Errorf("renewed %+v: %+v %v", lease, renewed, err)
			}
		})
	}, [2]int64{10, 3})
}

// When the COMMIT of every run is lost the answer is an error, which says that nothing is known: also where the server
// has executed the first one. The same call later does what is left to do.
func TestCommitsLostAgainAndAgain(t *testing.T) {
	onBothSides(t, func(t *testing.T, l *lossy) {
		m := l.batch(users(1, 2), int(l.offers[0]), 2)
		l.proxy.all.Store(true)
		if verdicts, err := l.Claim(context.Background(), l.Home(l.p), []*order.Message{m}); err == nil || verdicts != nil {
			t.Errorf("claimed: %v, %v", verdicts, err)
		}
		l.proxy.all.Store(false)
		if lost := l.proxy.lost.Load(); lost != lostRunsMax {
			t.Errorf("%d COMMITs were lost, want %d", lost, lostRunsMax)
		}
		l.claim(m)
		l.expect(l.offers[0], 6, map[order.UserID]int64{1: 2, 2: 2})
	}, [2]int64{10, 3})
}

// A server that hangs in COMMIT or ROLLBACK is waited for no longer than the caller wants, and the connection on which the
// transaction may still be open is not used again.
func TestHangingEndOfATransaction(t *testing.T) {
	t.Parallel()
	for _, how := range []string{"COMMIT", "ROLLBACK"} {
		t.Run(how, func(t *testing.T) {
			t.Parallel()
			l := newLossy(t, [2]int64{10, 0})
			l.proxy.silent.Store(how)
			ctx, cancel := context.WithTimeout(t.Context(), time.Second)
			defer cancel()
			began := time.Now()
			refused := errors.New("refused")
			err := l.update(ctx, 0, order.Flash, func(x *tx) error {
				if _, err := x.exec("UPDATE offer_stock SET sold = sold + 1"); err != nil {
					return err
				}
				if how == "ROLLBACK" {
					return refused
				}
				return nil
			})
			const hanging = 20 * time.Second // the driver's own patience is 30 s
			if want := map[string]error{"COMMIT": context.DeadlineExceeded, "ROLLBACK": refused}[how]; !errors.Is(err, want) ||
				time.Since(began) > hanging {
				t.Errorf("after %v: %v, want %v", time.Since(began), err, want)
			}
			l.proxy.silent.Store("")
			l.proxy.cut()  // the server learns of it
			for range 20 { // a connection of the pool may learn of it only by being used
				if _, err := l.Count(t.Context(), l.p, l.epoch); !errors.Is(err, mysql.ErrInvalidConn) {
					break
				}
			}
			l.expect(l.offers[0], 10, nil)
		})
	}
}

// A COMMIT that came too late to be sent leaves its transaction open: the connection is not used again.
func TestCommitThatCameTooLate(t *testing.T) {
	t.Parallel()
	needMySQL(t)
	o := testOptions(t, MySQL, 1)
	cfg, err := sessionConfig(o.Shards[0], &o)
	noError(t, err)
	connector, err := mysql.NewConnector(cfg)
	noError(t, err)
	conn, err := committedConnector{connector}.Connect(t.Context())
	noError(t, err)
	defer func() { _ = conn.Close() }()
	ctx, cancel := context.WithCancel(t.Context())
	x, err := conn.(driver.ConnBeginTx).BeginTx(ctx, driver.TxOptions{})
	noError(t, err)
	cancel()
	if err := x.Commit(); !errors.Is(err, context.Canceled) {
		t.Errorf("commit: %v", err)
	}
	if conn.(driver.Validator).IsValid() {
		t.Error("the connection goes back with an open transaction")
	}
}
