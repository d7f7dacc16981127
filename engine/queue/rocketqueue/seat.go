package rocketqueue

import (
	"crypto/rand"
	"fmt"
	"os"
	"slices"

	"sluice/engine/order"
)

// member is a name for a member: that of one who has left, if there is one, as the broker may list it still. It needs q.mu.
func (q *Queue) member(kind order.Kind) string {
	if left := q.left[kind]; len(left) > 0 {
		last := len(left) - 1
		q.left[kind] = left[:last]
		return left[last]
	}
	host, _ := os.Hostname() // only for people who look at the list of members
	return fmt.Sprintf("%s@%d@%s", host, os.Getpid(), rand.Text())
}

// seat is the place of a member among all, by name, and how many they are; -1 if the broker does not know it. Whoever's
// connection was replaced may be listed twice for a while.
func seat(members []string, member string) (own, n int) {
	slices.Sort(members)
	members = slices.Compact(members)
	return slices.Index(members, member), len(members)
}
