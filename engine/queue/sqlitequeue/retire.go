package sqlitequeue

import (
	"errors"
	"slices"
)

// acknowledge moves the partition's ack forward; q.mu is held. The rows go later.
func (q *Queue) acknowledge(p *part, position uint64) {
	p.acked = max(p.acked, position)
	q.weigh(p)
}

// weigh lists the partition for deletion when it is worth one.
func (q *Queue) weigh(p *part) {
	if !p.heavy && p.acked-p.retired >= retireMin {
		p.heavy = true
		q.heavy = append(q.heavy, p)
	}
}

// nextRetirement takes at most one partition from the list, in turn.
func (q *Queue) nextRetirement(atMost uint64) []retirement {
	q.mu.Lock()
	defer q.mu.Unlock()
	for len(q.heavy) > 0 {
		p := q.heavy[0]
		q.heavy = slices.Delete(q.heavy, 0, 1)
		p.heavy = false
		if p.retired < p.acked { // the keeper may have been faster
			return []retirement{{part: p, from: p.retired, to: min(p.acked, p.retired+atMost)}}
		}
	}
	return nil
}

// retired books the end of a deletion; q.mu is held.
func (q *Queue) retired(r retirement, ok bool) {
	if ok {
		r.part.retired = r.to
	}
	q.weigh(r.part)
}

// retireStep deletes at most atMost acknowledged rows of one partition in a transaction of its own. write is held. more
// tells that this partition has others.
func (q *Queue) retireStep(p *part, atMost uint64) (more bool, err error) {
	q.mu.Lock()
	r := retirement{part: p, from: p.retired, to: min(p.acked, p.retired+atMost)}
	more = r.to < p.acked
	q.mu.Unlock()
	if r.from == r.to || q.broken != nil {
		return false, q.broken
	}
	if err := q.transact(nil, []retirement{r}); err != nil {
		return false, err
	}
	q.countWAL(nil, []retirement{r})
	return more, nil
}

// retireAll deletes every acknowledged row. write is held.
func (q *Queue) retireAll() error {
	var errs []error
	for _, p := range q.parts {
		for more := true; more; {
			var err error
			if more, err = q.retireStep(p, keeperRows); err != nil {
				errs = append(errs, err)
			}
		}
	}
	return errors.Join(errs...)
}
