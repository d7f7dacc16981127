package order

// Status is where an order stands in its life. It is stored and shown as this text.
type Status string

// The statuses. Pending orders are accepted but not yet stored.
const (
	Pending         Status = "pending"
	AwaitingPayment Status = "awaiting_payment"
	Rejected        Status = "rejected"
	Paid            Status = "paid"
	Cancelled       Status = "cancelled"
	Expired         Status = "expired"
	Shipped         Status = "shipped"
	Delivered       Status = "delivered"
	Completed       Status = "completed"
	Refunding       Status = "refunding"
	Refunded        Status = "refunded"
)

// transitions is the one table of what may follow what. Every change of a stored order is a compare-and-set along it.
var transitions = map[Status][]Status{
	Pending:         {AwaitingPayment, Rejected},
	AwaitingPayment: {Paid, Cancelled, Expired},
	Paid:            {Shipped, Refunding},
	Shipped:         {Delivered, Refunding},
	Delivered:       {Completed, Refunding},
	Completed:       {Refunding},
	Refunding:       {Refunded, Paid, Shipped, Delivered, Completed},
	Cancelled:       {},
	Expired:         {},
	Rejected:        {},
	Refunded:        {},
}

// Statuses lists every status an order can be stored in.
func Statuses() []Status {
	return []Status{AwaitingPayment, Rejected, Paid, Cancelled, Expired, Shipped, Delivered, Completed, Refunding, Refunded}
}

// CanBecome tells whether an order may go from s to next in one step.
func (s Status) CanBecome(next Status) bool {
	for _, t := range transitions[s] {
		if t == next {
			return true
		}
	}
	return false
}

// Known tells whether s is one of the statuses above.
func (s Status) Known() bool { _, ok := transitions[s]; return ok }

// Live tells whether the order holds its units. A refunded order holds them unless it was restocked, which its stock
// log rows say; it counts as live here.
func (s Status) Live() bool { return s != Rejected && s != Cancelled && s != Expired }

// Reason says why an order is Rejected.
type Reason string

// The reasons, as stored and shown.
const (
	ReasonNone      Reason = ""
	ReasonCut       Reason = "cut"        // its batch came behind the barrier of a later epoch
	ReasonSoldOut   Reason = "sold_out"   // the guard found no units left
	ReasonOverLimit Reason = "over_limit" // the guard found the user's limit reached
	ReasonDuplicate Reason = "duplicate"  // another order holds its key
	ReasonKeyReused Reason = "key_reused" // another order with another fingerprint holds its key
	ReasonRefused   Reason = "refused"    // an operator rejected a poison order
)
