package persist_test

import (
	"context"
	"database/sql"
	"errors"
	"log/slog"
	"path/filepath"
	"strings"
	"testing"

	"sluice/engine/order"
	"sluice/engine/queue"
	"sluice/persist"
	"sluice/persist/store"
)

// stray publishes one order of the line's partition to the queue of another, where it is buried, and returns its message
// and its id.
func (l *line) stray(e order.Epoch) (message []byte, ids []order.ID) {
	l.t.Helper()
	mine, strayed := l.queue, &keeping{Queue: l.queue}
	l.queue = strayed
	ids = l.batch(e, 1)
	l.queue = mine
	return strayed.message, ids
}

// keeping is a queue that keeps what is published.
type keeping struct {
	queue.Queue
	message []byte
}

func (k *keeping) Publish(_ context.Context, _ order.Partition, message []byte) error {
	k.message = message
	return nil
}

func (l *line) letters() []queue.Letter {
	l.t.Helper()
	letters, err := l.queue.Letters(l.t.Context(), queue.LetterID{}, 10)
	check(l.t, err)
	return letters
}

// A dead letter that decodes goes to the partition that it names and is stored; one that does not stays.
func TestReplayLetter(t *testing.T) {
	t.Parallel()
	l := newLine(t)
	message, ids := l.stray(l.epoch)
	x, _ := l.start()
	check(t, l.queue.Publish(t.Context(), l.p-1, message))
	check(t, l.queue.Publish(t.Context(), l.p-1, []byte("not a message")))
	l.await("two dead letters", func() bool { return len(l.letters()) == 2 })
	awaitBacklog(t, l.queue, l.p-1)
	letters := l.letters()
	effect, err := x.ReplayLetter(t.Context(), letters[0].ID())
	if err != nil || !strings.Contains(effect, "1 orders are claimed") {
		t.Errorf("replay: %q, %v", effect, err)
	}
	l.awaitStored(ids)
	if _, err := x.ReplayLetter(t.Context(), letters[1].ID()); !errors.Is(err, order.ErrDamaged) {
		t.Errorf("replay of a damaged one: %v", err)
	}
	if _, err := x.ReplayLetter(t.Context(), letters[0].ID()); !errors.Is(err, queue.ErrNoLetter) {
		t.Errorf("replay of a replayed one: %v", err)
	}
	if left := l.letters(); len(left) != 1 || left[0].ID() != letters[1].ID() {
		t.Errorf("letters left: %+v", left)
	}
	check(t, l.queue.Bury(t.Context(), letters[0].Delivery, "again")) // the process died before it was dropped
	if _, err := x.ReplayLetter(t.Context(), letters[0].ID()); err != nil {
		t.Error(err)
	}
	awaitBacklog(t, l.queue, l.p)
	if st := x.Stats(); st.Stored != 1 || st.Alarms+st.Duplicates+st.RejectedCut+st.RejectedGuard != 0 {
		t.Errorf("after two replays: %+v", st)
	}
}

// What the claim will make of a letter of another epoch is said before, and what could only do harm is not published.
func TestReplayLetterOfAnotherEpoch(t *testing.T) {
	t.Parallel()
	l := newLine(t)
	x := persist.New(persist.DefaultOptions(), l.queue, l.store, slog.New(slog.DiscardHandler))
	position := uint64(0)
	replay := func(message []byte) (string, error) {
		position++
		d := queue.Delivery{Partition: l.p, Position: position, Body: message}
		check(t, l.queue.Bury(t.Context(), d, "why"))
		return x.ReplayLetter(t.Context(), queue.LetterID{Partition: l.p, Position: position})
	}
	old, _ := l.stray(l.epoch)
	older, _ := l.stray(l.epoch)
	later := l.begin(l.epoch)
	ahead, _ := l.stray(later + 1)
	var aheadError *store.AheadError
	if _, err := replay(ahead); !errors.As(err, &aheadError) {
		t.Errorf("of an epoch to come: %v", err)
	}
	if _, err := replay(order.AppendBarrier(nil, 99, l.epoch, 1)); !errors.Is(err, order.ErrDamaged) {
		t.Errorf("of a partition that is not there: %v", err)
	}
	m, err := order.DecodeMessage(order.AppendBarrier(nil, l.p, later, 1))
	check(t, err)
	_, err = l.store.Claim(t.Context(), l.store.Home(l.p), []*order.Message{m})
	check(t, err)
	if effect, err := replay(old); err != nil || !strings.Contains(effect, "rejected (cut)") {
		t.Errorf("of an epoch that has ended: %q, %v", effect, err)
	}
	check(t, l.store.Settle(t.Context(), []store.Settled{{Partition: l.p, Recorded: later, SettledAt: 1}}))
	if _, err := replay(older); !errors.Is(err, persist.ErrTooLate) {
		t.Errorf("of an epoch that is recorded: %v", err)
	}
	if left := l.letters(); len(left) != 3 {
		t.Errorf("%d letters are left, want the 3 that were not published", len(left))
	}
}

// An operator's reject is counted; a sweep removes what one that died has left.
func TestRejectIsCounted(t *testing.T) {
	t.Parallel()
	l := newLine(t)
	l.forbidOrders()
	x, stop := l.start()
	ids := l.batch(l.epoch, 1)
	l.await("poison", func() bool { return x.Stats().Poison == 1 })
	awaitBacklog(t, l.queue, l.p)
	list, err := l.store.ListParked(t.Context(), store.ParkedFilter{Shard: -1, Poison: true, Limit: 10})
	if err != nil || len(list) != 1 || list[0].Order != ids[0] {
		t.Fatalf("parked: %+v, %v", list, err)
	}
	for range 2 {
		out, err := x.RejectParked(t.Context(), list[0].Ref())
		if err != nil || out.Verdict != store.ResolvedStored || out.Order.Reason != order.ReasonRefused {
			t.Errorf("reject: %+v, %v", out, err)
		}
	}
	if n := x.Stats().RejectedOperator; n != 1 {
		t.Errorf("%d rejects are counted", n)
	}
	stop()
	check(t, l.store.Park(t.Context(), l.store.Home(l.p), list))
	l.start()
	l.await("an empty parking place", func() bool { any, err := l.store.AnyParked(t.Context()); return err == nil && !any })
}

// forbidOrders makes every user shard refuse live orders.
func (l *line) forbidOrders() {
	l.t.Helper()
	for _, name := range []string{"shard-0.db", "shard-1.db"} {
		file, err := sql.Open("sqlite", filepath.Join(l.dir, name)+"?_pragma=busy_timeout(10000)")
		check(l.t, err)
		_, err = file.Exec("CREATE TRIGGER forbid BEFORE INSERT ON orders WHEN NEW.status <> 'rejected' BEGIN SELECT RAISE(ABORT, 'forbidden'); END")
		check(l.t, err)
		check(l.t, file.Close())
	}
}
