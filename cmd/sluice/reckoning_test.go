package main

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"
)

// reckoning is what the buyers saw of a fault, or of several of a kind.
type reckoning struct {
	name               string
	times              int
	codes              map[int]int // answers by status, 0: none came
	sold, each, stored span        // until an order was accepted again, one of each offer, until one was stored again
	rejected           int         // orders, after they were accepted
	again, found       int         // repeats of calls whose outcome was unknown, and those of them that found their order
}

// span is some times, in microseconds.
type span []int64

func (s span) String() string {
	text := func(micros int64) string {
		return (time.Duration(micros) * time.Microsecond).Round(time.Millisecond).String()
	}
	if least, most := text(slices.Min(s)), text(slices.Max(s)); least != most {
		return least + " to " + most
	}
	return text(s[0])
}

// add takes in another fault of the kind.
func (r *reckoning) add(other *reckoning) {
	r.times += other.times
	for code, n := range other.codes {
		r.codes[code] += n
	}
	r.sold, r.each, r.stored = append(r.sold, other.sold...), append(r.each, other.each...), append(r.stored, other.stored...)
	r.rejected, r.again, r.found = r.rejected+other.rejected, r.again+other.again, r.found+other.found
}

// answers is how often which status came.
func (r *reckoning) answers() string {
	var words []string
	for _, code := range slices.Sorted(maps.Keys(r.codes)) {
		word := fmt.Sprint(code)
		if code == 0 {
			word = "none"
		}
		words = append(words, fmt.Sprintf("%s: %d", word, r.codes[code]))
	}
	return strings.Join(words, ", ")
}

func (r *reckoning) String() string {
	return fmt.Sprintf("%s: answers %s; sold again after %v, each offer within %v, stored again within %v; %d rejected after "+
		"acceptance; of %d repeats of calls of unknown outcome %d found their order", r.name, r.answers(), r.sold, r.each, r.stored,
		r.rejected, r.again, r.found)
}

// table is reckonings in Markdown.
func table(list []*reckoning) string {
	var b strings.Builder
	b.WriteString("| fault | times | answers | sold again after | each offer within | stored again within | rejected after " +
		"acceptance | repeats after an unknown outcome: found their order |\n|---|---|---|---|---|---|---|---|\n")
	for _, r := range list {
		fmt.Fprintf(&b, "| %s | %d | %s | %v | %v | %v | %d | %d of %d |\n", r.name, r.times, r.answers(), r.sold, r.each, r.stored,
			r.rejected, r.found, r.again)
	}
	return b.String()
}
