package store

import (
	"database/sql"
	"strings"

	"sluice/engine/order"
)

// limits gives the per-user limits of the offers that batches name. Limits never change, so each is read once in the
// life of the process. Offers that this shard does not know have none.
func (t *tx) limits(batches []*order.Message) (map[order.OfferID]uint32, error) {
	limits := make(map[order.OfferID]uint32)
	var unknown []order.OfferID
	for _, m := range batches {
		for i := range m.Records {
			for j := range m.Records[i].Items {
				id := m.Records[i].Items[j].Offer
				if _, seen := limits[id]; seen {
					continue
				}
				facts, ok := t.store.offers.Load(id)
				if !ok {
					unknown = append(unknown, id)
					facts = offerFacts{}
				}
				limits[id] = facts.(offerFacts).limit
			}
		}
	}
	err := in(unknown, func(marks string, args []any) error {
		return t.query("SELECT offer_id, p, lim FROM offer WHERE offer_id IN "+marks, func(r *sql.Rows) error {
			var id order.OfferID
			var facts offerFacts
			if err := r.Scan(&id, &facts.partition, &facts.limit); err != nil {
				return err
			}
			t.store.offers.Store(id, facts)
			limits[id] = facts.limit
			return nil
		}, args...)
	})
	return limits, err
}

// stockChunk bounds the offers of one guarded update.
const stockChunk = 100

// takeStock raises what is sold, guarded by the totals: errGuard if one of them, or an unknown offer, refuses.
func (t *tx) takeStock(d *demand) error {
	for offers := d.offers; len(offers) > 0; {
		n := min(len(offers), stockChunk)
		query, args := d.guardedUpdate(offers[:n])
		found, err := t.exec(query, args...)
		if guardRefused(err) || (err == nil && found != int64(n)) {
			return errGuard
		}
		if err != nil {
			return err
		}
		offers = offers[n:]
	}
	return nil
}

// guardedUpdate is "UPDATE ... SET sold = sold + n WHERE sold + n <= total" for several offers in one statement, each
// with its own n.
func (d *demand) guardedUpdate(offers []order.OfferID) (query string, args []any) {
	if len(offers) == 1 {
		n := d.units[offers[0]]
		return "UPDATE offer_stock SET sold = sold + ? WHERE offer_id = ? AND sold + ? <= total", []any{n, offers[0], n}
	}
	units := "CASE offer_id" + strings.Repeat(" WHEN ? THEN ?", len(offers)) + " END"
	pairs := make([]any, 0, 2*len(offers))
	ids := make([]any, 0, len(offers))
	for _, id := range offers {
		pairs = append(pairs, id, d.units[id])
		ids = append(ids, id)
	}
	args = append(append(append(args, pairs...), ids...), pairs...)
	return "UPDATE offer_stock SET sold = sold + " + units + " WHERE offer_id IN " + tuple(len(offers)) +
		" AND sold + " + units + " <= total", args
}

// takeRoom raises what users hold of limited offers. The row itself refuses a unit too many: errGuard.
func (t *tx) takeRoom(d *demand, limits map[order.OfferID]uint32) error {
	values := make([]any, 0, 4*len(d.holdings))
	for _, h := range d.holdings {
		values = append(values, int64(h.offer), int64(h.user), h.units, int64(limits[h.offer]))
	}
	tail := t.d.upsert("offer_id, user_id", "units = units + new(units)")
	err := t.insertRows(insert{"buyer (offer_id, user_id, units, lim)", 4, tail}, values)
	if guardRefused(err) {
		return errGuard
	}
	return err
}

// readGuards reads what is left for the orders of batches, under the lock of their partitions.
func (t *tx) readGuards(batches []*order.Message, limits map[order.OfferID]uint32) (*guards, error) {
	g := &guards{left: make(map[order.OfferID]int64), room: make(map[holder]int64)}
	users := make(map[order.OfferID][]order.UserID)
	for _, m := range batches {
		for i := range m.Records {
			r := &m.Records[i]
			for j := range r.Items {
				h := holder{r.Items[j].Offer, r.User}
				g.left[h.offer] = 0
				if _, seen := g.room[h]; limits[h.offer] > 0 && !seen {
					g.room[h] = int64(limits[h.offer])
					users[h.offer] = append(users[h.offer], h.user)
				}
			}
		}
	}
	err := in(sortedKeys(g.left), func(marks string, args []any) error {
		return t.query("SELECT offer_id, total - sold FROM offer_stock WHERE offer_id IN "+marks, func(r *sql.Rows) error {
			var id order.OfferID
			var left int64
			err := r.Scan(&id, &left)
			g.left[id] = left
			return err
		}, args...)
	})
	if err != nil {
		return nil, err
	}
	return g, t.readRoom(g, users)
}

func (t *tx) readRoom(g *guards, users map[order.OfferID][]order.UserID) error {
	for _, offer := range sortedKeys(users) {
		err := in(users[offer], func(marks string, args []any) error {
			query := "SELECT user_id, lim - units FROM buyer WHERE user_id IN " + marks + " AND offer_id = ?"
			return t.query(query, func(r *sql.Rows) error {
				h := holder{offer: offer}
				var room int64
				err := r.Scan(&h.user, &room)
				g.room[h] = room
				return err
			}, append(args, offer)...)
		})
		if err != nil {
			return err
		}
	}
	return nil
}
