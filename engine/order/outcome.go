package order

// Code is the business answer to one request: a value, never an error. The numbers are those that the scripts in lua/
// return; a test holds both equal.
type Code uint8

// The answers of a reserve. The zero Code is none.
const (
	Accepted  Code = 1 // reserved; an order only once its batch is in the queue
	Repeated  Code = 2 // the key belongs to an earlier order with the same fingerprint
	KeyReused Code = 3 // the key belongs to an earlier order with another fingerprint
	NotOpen   Code = 4
	Closed    Code = 5
	OverLimit Code = 6 // the user would hold more units than the offer's per-user limit
	SoldOut   Code = 7
)

var codeNames = [...]string{"none", "accepted", "repeated", "key_reused", "not_open", "closed", "over_limit", "sold_out"}

// String is the code's name in metrics and problem documents.
func (c Code) String() string {
	if int(c) < len(codeNames) {
		return codeNames[c]
	}
	return "unknown"
}

// Refused tells whether the answer is a no that took nothing.
func (c Code) Refused() bool { return c >= KeyReused }

// Codes lists every code.
func Codes() []Code {
	return []Code{Accepted, Repeated, KeyReused, NotOpen, Closed, OverLimit, SoldOut}
}
