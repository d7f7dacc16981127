package redisstock

import (
	"errors"
	"net"
	"slices"
	"strings"

	"github.com/redis/go-redis/v9"
)

// notBegun wraps an error that came before the script was sent.
type notBegun struct{ err error }

func (e *notBegun) Error() string { return e.err.Error() }
func (e *notBegun) Unwrap() error { return e.err }

// replyOf is what a server answered, if err is that.
func replyOf(err error) (text string, ok bool) {
	var reply redis.Error
	if !errors.As(err, &reply) {
		return "", false
	}
	return reply.Error(), true
}

// refusals begin the answers that a server gives before the first statement of a script (docs/design.md, section 5).
var refusals = []string{"NOSCRIPT", "OOM", "LOADING", "READONLY", "MASTERDOWN", "NOREPLICAS", "MISCONF", "CLUSTERDOWN", "TRYAGAIN",
	"BUSY", "MOVED", "ASK", "NOAUTH", "WRONGPASS", "NOPERM"}

// notExecuted tells whether err proves that the script had no effect.
func notExecuted(err error) bool {
	var before *notBegun
	if errors.As(err, &before) || dialled(err) || noConnection(err) {
		return true
	}
	text, reply := replyOf(err)
	switch {
	case !reply:
		return false
	case strings.Contains(text, "non local key in a cluster node"):
		return true // every key is read before the first write (lua/fence.lua)
	case strings.Contains(text, "script: "):
		return false // from inside a script, which may have written
	case strings.HasPrefix(text, "ERR max number of clients"):
		return true // the connection was refused, whatever it was about to ask
	}
	return slices.Contains(refusals, code(text))
}

// code is the first word of an answer.
func code(text string) string {
	word, _, _ := strings.Cut(text, " ")
	return word
}

// dialled tells an error of making a connection.
func dialled(err error) bool {
	var op *net.OpError
	return errors.As(err, &op) && op.Op == "dial"
}

// noConnection tells whether all connections to the server were in use for too long.
func noConnection(err error) bool {
	return errors.Is(err, redis.ErrPoolTimeout) || errors.Is(err, redis.ErrPoolExhausted)
}

// elsewhere tells whether another node of a cluster may know better who has the slot: the one that was asked is gone,
// does not answer, or is on its way up or down.
func elsewhere(err error) bool {
	if err == nil || noConnection(err) {
		return false
	}
	text, reply := replyOf(err)
	return !reply || slices.Contains([]string{"LOADING", "CLUSTERDOWN", "MASTERDOWN"}, code(text))
}
