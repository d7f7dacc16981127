package redisstock

import (
	"errors"
	"fmt"
	"strconv"
)

// reader takes the values of an answer one by one. The first that is not what was asked for sets err.
type reader struct {
	values []any
	err    error
}

var errShort = errors.New("the answer is too short")

func (r *reader) next() any {
	if len(r.values) == 0 {
		r.fail(errShort)
		return nil
	}
	v := r.values[0]
	r.values = r.values[1:]
	return v
}

func (r *reader) fail(err error) {
	if r.err == nil {
		r.err = err
	}
}

func (r *reader) text() string {
	v := r.next()
	s, ok := v.(string)
	if !ok {
		r.fail(fmt.Errorf("%T is no text", v))
	}
	return s
}

func (r *reader) integer() int64 {
	v := r.next()
	n, ok := v.(int64)
	if !ok {
		r.fail(fmt.Errorf("%T is no integer", v))
	}
	return n
}

// number is a whole number in decimal text.
func (r *reader) number() uint64 {
	n, err := strconv.ParseUint(r.text(), 10, 64)
	if err != nil {
		r.fail(err)
	}
	return n
}

func (r *reader) list() []any {
	v := r.next()
	l, ok := v.([]any)
	if !ok {
		r.fail(fmt.Errorf("%T is no list", v))
	}
	return l
}
