package audit

import (
	"encoding/json"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"

	"sluice/engine/order"
)

// refuse adds an order of one unit that an operator rejected and whose unit came back; bare without its goods.
func (w *world) refuse(bare bool) order.ID {
	w.t.Helper()
	id := w.place(0, flashOffer, 1, "rejected", "refused")
	data, err := json.Marshal(claim{Batch: order.BatchID(id), User: w.alice[0], Lines: []order.Line{{Offer: flashOffer, Quantity: 1}}})
	if err != nil {
		w.t.Fatal(err)
	}
	w.exec(0, "INSERT INTO order_event (order_id, n, at, type, actor, data, due) VALUES (?, 1, 1, 'refused', 'operator', ?, NULL)", id, data)
	w.giveBack(1, 1, w.cause(id))
	if bare {
		w.exec(0, `UPDATE orders SET shop_id = 0, group_id = '', idem_key = '', currency = 'XXX', goods = 0, amount = 0, items = '[]'
			WHERE order_id = ?`, id)
	}
	w.history = append(w.history, Entry{User: w.alice[0], Key: w.key(id), Order: id, Units: 1, Code: 202, Sent: 10, Answered: 20})
	return id
}

// TestRefusedOrders: what an operator rejected is no broken promise; the same without the event of that, or with its
// units gone, is one.
func TestRefusedOrders(t *testing.T) {
	for name, c := range map[string]struct {
		plant func(w *world, whole, bare order.ID)
		rules []string
	}{
		"faultless": {func(*world, order.ID, order.ID) {}, nil},
		"nobody rejected it": {func(w *world, whole, _ order.ID) {
			w.exec(0, "DELETE FROM order_event WHERE order_id = ? AND n = 1", whole)
		}, []string{RuleState}},
		"bare, and nobody rejected it": {func(w *world, _, bare order.ID) {
			w.exec(0, "UPDATE order_event SET type = 'duplicate' WHERE order_id = ? AND n = 1", bare)
		}, []string{RuleState, RuleMoney}},
		"bare with an amount": {func(w *world, _, bare order.ID) {
			w.exec(0, "UPDATE orders SET amount = 100 WHERE order_id = ?", bare)
		}, []string{RuleMoney}},
		"units lost": {func(w *world, _, bare order.ID) {
			w.exec(1, "UPDATE stock_log SET cause = NULL WHERE cause = ?", w.cause(bare))
			w.exec(1, "UPDATE offer_stock SET sold = sold + 1 WHERE offer_id = ?", flashOffer)
			w.partition(1)["left"] = map[string]int{"7": 6, "8": 6}
		}, []string{RuleLeak}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t)
			c.plant(w, w.refuse(false), w.refuse(true))
			slices.Sort(c.rules)
			if diff := cmp.Diff(c.rules, failed(w.audit())); diff != "" {
				t.Errorf("rules violated (-want +got):\n%s", diff)
			}
		})
	}
}
