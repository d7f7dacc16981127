package gateway

import (
	"net/netip"
	"strconv"
	"sync/atomic"
	"time"

	"sluice/engine/order"
	"sluice/gateway/limit"
)

// Limits bound how often requests come. They count for one process: N gateways let N times as many through. A request
// that one of them refuses takes nothing from any of them.
type Limits struct {
	// Global counts every request that could be read, and every line of a batch of orders.
	Global limit.Limit
	// IP counts the requests of one address: an IPv4 address or an IPv6 /64. Those with a service token do not count.
	IP limit.Limit
	// User counts the requests and lines for one user, by whoever acts for him.
	User limit.Limit
	// Offer counts the orders for one offer that come to the engine, batches included.
	Offer limit.Limit
}

// on tells whether any limit is.
func (l *Limits) on() bool { return l.Global.On() || l.IP.On() || l.User.On() || l.Offer.On() }

// How many keys of each limit are kept (limit.Keyed says what becomes of more).
const (
	limitedIPsMax    = limit.KeysMax
	limitedUsersMax  = limit.KeysMax
	limitedOffersMax = 1_000_000
)

// limitName says which limit refused.
type limitName uint8

const (
	limitNone limitName = iota
	limitGlobal
	limitIP
	limitUser
	limitOffer
	limitsEnd
)

var limitNames = [limitsEnd]string{limitGlobal: "global", limitIP: "ip", limitUser: "user", limitOffer: "offer"}

var limitDetails = [limitsEnd]string{
	limitGlobal: "More requests come than are served at the moment. Nothing was done; try again after retry_after_ms.",
	limitIP:     "Too many requests from your network address. Nothing was done; try again after retry_after_ms.",
	limitUser:   "Too many requests of this user. Nothing was done; try again after retry_after_ms.",
	limitOffer:  "Too many orders for one of these offers. Nothing was ordered; try again after retry_after_ms.",
}

// limiters are the limits' memory. It is safe for concurrent use.
type limiters struct {
	began   time.Time // the limiters count time from here
	proxies []netip.Prefix
	global  limit.Global
	ip      *limit.Keyed
	user    *limit.Keyed
	offer   *limit.Keyed
	refused [limitsEnd]atomic.Int64
}

func newLimiters(proxies []netip.Prefix) *limiters {
	return &limiters{began: time.Now(), proxies: proxies, ip: limit.NewKeyed(limitedIPsMax),
		user: limit.NewKeyed(limitedUsersMax), offer: limit.NewKeyed(limitedOffersMax)}
}

// forgetUnused frees the memory of limits that are off.
func (l *limiters) forgetUnused(rates *Limits) {
	for keyed, rate := range map[*limit.Keyed]*limit.Limit{l.ip: &rates.IP, l.user: &rates.User, l.offer: &rates.Offer} {
		if !rate.On() {
			keyed.Forget()
		}
	}
}

// limited says that a limit refused: which one, and after how long to come again. The zero limited is no refusal.
type limited struct {
	by   limitName
	wait time.Duration
}

func (d limited) problem() *problem {
	return &problem{code: codeRateLimited, detail: limitDetails[d.by], limited: d}
}

// admission is what one request, or one line of a batch, has taken from the limits so far. Each limit is asked once, and
// one that is off costs a comparison. The first that refuses gives everything back.
type admission struct {
	rates *Limits // those of the request's arrival; if none is on, the rest is not set
	l     *limiters
	now   int64 // of the arrival, as the limiters count time

	global, ipTaken bool
	ip              uint64 // the address that was counted, if ipTaken
	user            uint64 // 0: not counted
}

// begin forgets a former request. It returns false if no limit is on.
func (a *admission) begin(g *Gateway, now time.Time) bool {
	rates := &g.tuned.Load().Limits
	if !rates.on() {
		a.rates = rates
		return false
	}
	*a = admission{rates: rates, l: g.limiters, now: int64(now.Sub(g.limiters.began))}
	return true
}

func (a *admission) takeGlobal() limited {
	if !a.rates.Global.On() {
		return limited{}
	}
	if wait := a.l.global.Take(a.now, &a.rates.Global); wait > 0 {
		return a.refuse(limitGlobal, wait)
	}
	a.global = true
	return limited{}
}

// takeIP is for callers that know that the limit is on.
func (a *admission) takeIP(client netip.Addr) limited {
	a.ip = addressKey(client)
	if wait := a.l.ip.Take(a.ip, a.now, &a.rates.IP); wait > 0 {
		return a.refuse(limitIP, wait)
	}
	a.ipTaken = true
	return limited{}
}

func (a *admission) takeUser(u order.UserID) limited {
	if !a.rates.User.On() {
		return limited{}
	}
	if wait := a.l.user.Take(uint64(u), a.now, &a.rates.User); wait > 0 {
		return a.refuse(limitUser, wait)
	}
	a.user = uint64(u)
	return limited{}
}

// takeOffers takes one of every line's offer. Offers that do not exist are left to the engine: they have no place here.
func (a *admission) takeOffers(lines []order.Line, c Catalogue) limited {
	if !a.rates.Offer.On() {
		return limited{}
	}
	for i, line := range lines {
		if c.Offer(line.Offer) == nil {
			continue
		}
		if wait := a.l.offer.Take(uint64(line.Offer), a.now, &a.rates.Offer); wait > 0 {
			for _, before := range lines[:i] {
				if c.Offer(before.Offer) != nil {
					a.l.offer.GiveBack(uint64(before.Offer), &a.rates.Offer)
				}
			}
			return a.refuse(limitOffer, wait)
		}
	}
	return limited{}
}

// refuse gives back what was taken.
func (a *admission) refuse(by limitName, wait time.Duration) limited {
	if a.global {
		a.l.global.GiveBack(&a.rates.Global)
	}
	if a.ipTaken {
		a.l.ip.GiveBack(a.ip, &a.rates.IP)
	}
	if a.user != 0 {
		a.l.user.GiveBack(a.user, &a.rates.User)
	}
	a.global, a.ipTaken, a.user = false, false, 0
	a.l.refused[by].Add(1)
	return limited{by, wait}
}

// admit asks the limits that need no user. ok is false if the request was refused.
func (c *call) admit() (ok bool) {
	a := &c.admission
	if !a.begin(c.g, c.now) {
		return true
	}
	if a.rates.IP.On() && !c.hasServiceToken() && !c.pass(a.takeIP(c.g.limiters.client(c.ctx))) {
		return false
	}
	return c.pass(a.takeGlobal())
}

// pass refuses the request if a limit did.
func (c *call) pass(d limited) (ok bool) {
	if d.by == limitNone {
		return true
	}
	c.refuse(d.problem())
	return false
}

// admitLine asks the limits for one line of a batch. The zero limited lets it through.
func (g *Gateway) admitLine(now time.Time, u order.UserID, lines []order.Line) limited {
	var a admission
	if !a.begin(g, now) {
		return limited{}
	}
	if d := a.takeGlobal(); d.by != limitNone {
		return d
	}
	if d := a.takeUser(u); d.by != limitNone {
		return d
	}
	return a.takeOffers(lines, g.deps.Catalogue)
}

// appendRetryAfter appends d in whole seconds, rounded up, at least 1.
func appendRetryAfter(dst []byte, d time.Duration) []byte {
	return strconv.AppendInt(dst, max(1, int64((d+time.Second-1)/time.Second)), 10)
}
