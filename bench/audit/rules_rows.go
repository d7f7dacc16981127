package audit

import "sluice/engine/order"

// take adds a finding that was made while the rows were read.
func (f *finding) take(from *finding) {
	f.rule.Checked += from.rule.Checked
	f.rule.Violations += from.rule.Violations
	for _, e := range from.rule.Examples {
		if len(f.rule.Examples) < examplesMax {
			f.rule.Examples = append(f.rule.Examples, e)
		}
	}
}

func checkState(c *evidence, f *finding) {
	for _, s := range c.shards {
		f.take(&s.state)
		stored := int64(s.state.rule.Checked)
		if s.recorded != stored {
			f.violation("shard %d: its flushes recorded %d orders, %d are stored", s.number, s.recorded, stored)
		}
	}
}

func checkMoney(c *evidence, f *finding) {
	for _, s := range c.shards {
		f.take(&s.money)
		for i := range s.parked {
			if p := &s.parked[i]; p.bad != nil {
				f.violation("parked order %d does not read: %v", p.id, p.bad)
			}
		}
	}
}

func checkLog(c *evidence, f *finding) {
	causes := map[string]int{}
	for _, s := range c.shards {
		for p, x := range s.parts {
			l := s.log[p]
			if l == nil {
				l = &stockLog{first: 1}
			}
			f.checked(int(l.rows))
			if l.first != 1 || l.last != l.rows || l.last != x.logged {
				f.violation("partition %d: %d rows numbered %d to %d, and the partition says %d",
					p, l.rows, l.first, l.last, x.logged)
			}
		}
		for p := range s.log {
			if _, home := s.parts[p]; !home {
				f.violation("shard %d has a stock log of partition %d, whose home it is not", s.number, p)
			}
		}
		for cause, n := range s.causes {
			causes[cause] += n
		}
	}
	for cause, n := range causes {
		if n > 1 {
			f.violation("%d rows have the cause %q", n, cause)
		}
	}
}

func checkLeak(c *evidence, f *finding) {
	for _, s := range c.shards {
		f.checked(s.state.rule.Checked)
		f.take(&s.leaked)
		for id := range s.given {
			for _, x := range c.find(id) {
				if x.status.Live() && x.status != order.Refunded {
					f.violation("order %d is %s, but its units were given back", x.id, x.status)
				}
			}
		}
	}
}

func checkFast(c *evidence, f *finding) {
	if c.fast == nil {
		f.notChecked("no server was given")
		return
	}
	left := c.fast.left()
	c.eachOffer(f, func(id order.OfferID, o *offer) {
		n, there := left[id]
		switch units := c.live[id] + c.due[id]; {
		case !there && !c.fast.sells(o.kind):
			f.rule.Note = "offers of a kind that this server does not sell were not checked"
		case !there:
			f.violation("offer %d is missing in fast stock", id)
		case n+units != o.total:
			f.violation("offer %d: %d left in fast stock + %d in orders or due to come back, but %d on sale", id, n, units, o.total)
		}
	})
}

func checkFastBuyers(c *evidence, f *finding) {
	if c.fast == nil {
		f.notChecked("no server was given")
		return
	}
	held := c.fast.buyers()
	want := map[holding]int64{}
	add(want, c.held)
	add(want, c.dueHeld)
	f.checked(len(want))
	for h, n := range want {
		if o := c.offers[h.offer]; held[h] != n && (o == nil || c.fast.sells(o.kind)) {
			f.violation("offer %d, user %d: fast stock says %d units, orders %d", h.offer, h.user, held[h], n)
		}
		delete(held, h)
	}
	for h, n := range held {
		if n != 0 {
			f.violation("offer %d, user %d: fast stock says %d units, orders none", h.offer, h.user, n)
		}
	}
}
