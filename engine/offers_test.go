package engine

import (
	"cmp"
	"slices"
	"testing"
)

// The list is made once per change and is right after every one.
func TestOffersAreSortedOncePerChange(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	for range 3 {
		w.offer(10, 0)
	}
	list := w.engine.Offers()
	if again := w.engine.Offers(); len(list) != 3 || len(again) != 3 || &again[0] != &list[0] {
		t.Errorf("a list without a change in between is another: %v and %v", list, again)
	}
	if !slices.IsSortedFunc(list, func(a, b *Offer) int { return cmp.Compare(a.ID, b.ID) }) {
		t.Errorf("the list is not sorted")
	}
	_, _, err := w.store.ChangeOffer(t.Context(), list[1].ID, storeTitle("new"))
	check(t, err)
	w.await("the new title", func() bool { return w.engine.Offers()[1].Title == "new" })
	if list[1].Title == "new" {
		t.Error("a list that was given away has changed")
	}
	w.offer(10, 0)
	if n := len(w.engine.Offers()); n != 4 {
		t.Errorf("%d offers after a creation", n)
	}
}
