package redisstock

import (
	"context"
	"errors"
	"net"
	"strings"

	"github.com/redis/go-redis/v9"
)

// notBegun wraps an error that came before the script was sent.
type notBegun struct{ err error }

func (e *notBegun) Error() string { return e.err.Error() }
func (e *notBegun) Unwrap() error { return e.err }

// isReply tells whether err is what a server answered.
func isReply(err error) bool {
	var reply redis.Error
	return errors.As(err, &reply)
}

// refusals begin the answers that a server gives before the first statement of a script (docs/design.md, section 5).
var refusals = []string{"NOSCRIPT", "OOM", "LOADING", "READONLY", "MASTERDOWN", "NOREPLICAS", "MISCONF", "CLUSTERDOWN", "TRYAGAIN",
	"BUSY", "MOVED", "ASK", "NOAUTH", "WRONGPASS", "NOPERM"}

// notExecuted tells whether err proves that the script had no effect.
func notExecuted(err error) bool {
	var before *notBegun
	var dial *net.OpError
	switch {
	case errors.As(err, &before), errors.Is(err, redis.ErrPoolTimeout), errors.Is(err, redis.ErrPoolExhausted):
		return true
	case errors.As(err, &dial) && dial.Op == "dial" && !errors.Is(err, context.Canceled):
		return true
	case !isReply(err):
		return false
	}
	text := err.Error()
	if strings.Contains(text, "non local key in a cluster node") {
		return true // every key is read before the first write (lua/fence.lua)
	}
	if strings.Contains(text, "script: ") {
		return false // from inside a script, which may have written
	}
	code, _, _ := strings.Cut(text, " ")
	for _, r := range refusals {
		if code == r {
			return true
		}
	}
	return false
}
