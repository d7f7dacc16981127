package audit

import (
	"cmp"
	"slices"
	"strings"

	"sluice/engine/order"
)

func checkAnswered(c *evidence, f *finding) {
	lost := make(map[order.ID]bool, len(c.opts.Lost))
	for _, id := range c.opts.Lost {
		lost[id] = true
		f.checked(1)
		if len(c.find(id)) > 0 {
			f.violation("order %d is stored, and was given as lost", id)
		}
	}
	if c.opts.History == nil {
		f.notChecked("no history was given")
		return
	}
	for i := range c.opts.History {
		e := &c.opts.History[i]
		if !e.accepted() || lost[e.Order] {
			continue
		}
		f.checked(1)
		if why := c.wrongAnswer(e); why != "" {
			f.violation("user %d, key %q was answered %d with order %d: %s", e.User, e.Key, e.Code, e.Order, why)
		}
	}
}

// wrongAnswer says which promise an answer of 2xx broke, or "".
func (c *evidence) wrongAnswer(e *Entry) string {
	found := c.find(e.Order)
	switch {
	case e.Order == 0:
		return "the answer named no order"
	case len(found) == 0:
		return "it is not stored"
	case len(found) > 1:
		return "it is stored more than once"
	}
	x := &found[0]
	switch {
	case x.user != e.User:
		return "it is stored as another user's"
	case e.Key != "" && x.key != keyHash(e.Key) && x.status != order.Rejected:
		return "it is stored with another key"
	case x.status != order.Rejected, x.reason == order.ReasonRefused: // by a person: RuleState wants the event
		return ""
	case x.reason != order.ReasonDuplicate && x.reason != order.ReasonKeyReused:
		return "it is rejected: " + string(x.reason)
	}
	first := c.find(x.duplicateOf)
	if len(first) == 0 || first[0].user != e.User || first[0].status == order.Rejected {
		return "it is a duplicate of an order that is not stored, or rejected"
	}
	return ""
}

// calls are the calls of one user with one key, in the order of the history.
type calls struct {
	scope
	list []*Entry
}

// byKey groups the history's calls that had a key.
func (c *evidence) byKey() []calls {
	keyed := make([]*Entry, 0, len(c.opts.History))
	for i := range c.opts.History {
		if e := &c.opts.History[i]; e.Key != "" {
			keyed = append(keyed, e)
		}
	}
	slices.SortStableFunc(keyed, func(a, b *Entry) int {
		return cmp.Or(cmp.Compare(a.User, b.User), strings.Compare(a.Key, b.Key))
	})
	var groups []calls
	for i := 0; i < len(keyed); {
		end := i
		for end < len(keyed) && keyed[end].User == keyed[i].User && keyed[end].Key == keyed[i].Key {
			end++
		}
		groups = append(groups, calls{scope{keyed[i].User, keyHash(keyed[i].Key)}, keyed[i:end]})
		i = end
	}
	return groups
}

// storedKey says that the order at this place of evidence.orders has this user and key.
type storedKey struct {
	scope
	at int
}

// storedKeys lists the stored orders that have a key, by user and key.
func (c *evidence) storedKeys() []storedKey {
	keys := make([]storedKey, 0, len(c.orders))
	for i := range c.orders {
		if x := &c.orders[i]; x.key != 0 {
			keys = append(keys, storedKey{scope{x.user, x.key}, i})
		}
	}
	slices.SortFunc(keys, func(a, b storedKey) int { return compareScopes(a.scope, b.scope) })
	return keys
}

// ordersOf gives the stored orders of one user and key.
func (c *evidence) ordersOf(keys []storedKey, s scope) []*stored {
	at, _ := slices.BinarySearchFunc(keys, s, func(k storedKey, s scope) int { return compareScopes(k.scope, s) })
	var found []*stored
	for ; at < len(keys) && keys[at].scope == s; at++ {
		found = append(found, &c.orders[keys[at].at])
	}
	return found
}

func compareScopes(a, b scope) int {
	return cmp.Or(cmp.Compare(a.user, b.user), cmp.Compare(a.hash, b.hash))
}

func checkNoEffect(c *evidence, f *finding) {
	if c.opts.History == nil {
		f.notChecked("no history was given")
		return
	}
	keys := c.storedKeys()
	for _, g := range c.byKey() {
		if slices.ContainsFunc(g.list, func(e *Entry) bool { return e.accepted() || e.unknown() }) {
			continue
		}
		f.checked(1)
		if x := c.ordersOf(keys, g.scope); len(x) > 0 {
			f.violation("user %d, key %q was answered %d only, but order %d is stored (%s)",
				g.user, g.list[0].Key, g.list[0].Code, x[0].id, x[0].status)
		}
	}
}

// checkNoOrderLeft looks at calls answered 409 whose key has a live order in the end. That order must come from a call
// that was not over when the refused one was sent: a 409 says that no order of the key lived, and stays true.
func checkNoOrderLeft(c *evidence, f *finding) {
	if c.opts.History == nil {
		f.notChecked("no history was given")
		return
	}
	keys := c.storedKeys()
	for _, g := range c.byKey() {
		if !slices.ContainsFunc(g.list, func(e *Entry) bool { return e.Code == 409 }) {
			continue
		}
		live := order.ID(0)
		for _, x := range c.ordersOf(keys, g.scope) {
			if x.status.Live() {
				live = x.id
			}
		}
		for _, e := range g.list {
			if e.Code != 409 {
				continue
			}
			f.checked(1)
			later := slices.ContainsFunc(g.list, func(o *Entry) bool {
				return (o.accepted() || o.unknown()) && o.Answered >= e.Sent
			})
			if live != 0 && !later {
				f.violation("user %d, key %q was answered 409, but order %d of an earlier call lives", g.user, e.Key, live)
			}
		}
	}
}
