package gateway

import (
	"fmt"
	"slices"
	"testing"
	"time"

	"sluice/engine/order"
)

func TestReadOffer(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	opens := order.MilliOf(time.Now().Add(time.Hour))
	id := w.offer(func(o *order.Offer) { o.Title, o.Limit, o.Kind = `Tea "green"`, 3, order.Flash })
	future := w.offer(func(o *order.Offer) { o.Opens = opens })
	path := fmt.Sprintf("/v1/offers/%d", id)
	a := w.get(0, path).is(200, "")
	for field, want := range map[string]any{"id": fmt.Sprint(id), "shop_id": "5", "group": fmt.Sprintf("f%d", id), "sku": "sku-1",
		"title": `Tea "green"`, "kind": "flash", "unit_price": 1999.0, "currency": "CNY", "total": 100.0, "remaining": 100.0,
		"per_user_limit": 3.0, "state": "open"} {
		if a.body[field] != want {
			t.Errorf("%s is %v, want %v", field, a.body[field], want)
		}
	}
	if _, err := time.Parse(time.RFC3339, a.text("server_time")); err != nil || a.header.Get("Cache-Control") != "max-age=1" {
		t.Errorf("%v %s", a.header, a.raw)
	}
	if a := w.get(0, fmt.Sprintf("/v1/offers/%d", future)).is(200, ""); a.text("state") != "upcoming" || a.text("opens_at") == "" {
		t.Errorf("got %s", a.raw)
	}

	tag := a.header.Get("ETag")
	same := w.do(request{method: "GET", path: path, header: map[string]string{"If-None-Match": `"x", ` + tag}}).is(304, "")
	if same.raw != "" || same.header.Get("ETag") != tag {
		t.Errorf("got %v %s", same.header, same.raw)
	}
	w.place(42, item(id, 3)).is(202, "")
	await(t, "the units to go", func() bool { return w.engine.Offer(id).Left() == 97 })
	other := w.do(request{method: "GET", path: path, header: map[string]string{"If-None-Match": tag}}).is(200, "")
	if other.body["remaining"] != 97.0 || other.header.Get("ETag") == tag {
		t.Errorf("got %v %s", other.header, other.raw)
	}
	if a := w.do(request{method: "HEAD", path: path}).is(200, ""); a.raw != "" || a.header.Get("ETag") == "" {
		t.Errorf("got %v %s", a.header, a.raw)
	}
	for _, bad := range []string{"999999", "0", "x", "07", "-1", "1/x"} {
		a := w.get(0, "/v1/offers/"+bad)
		if a.status != 404 {
			t.Errorf("%s: %d %s", bad, a.status, a.raw)
		}
	}
}

func TestListOffers(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	var all, flash, shop []string
	for i := range 6 {
		id := fmt.Sprint(w.offer(func(o *order.Offer) {
			o.Shop = order.ShopID(1 + i%3)
			if i%2 == 1 {
				o.Kind = order.Flash
			}
		}))
		all = append(all, id)
		if i%2 == 1 {
			flash = append(flash, id)
		}
		if i%3 == 2 {
			shop = append(shop, id)
		}
	}
	list := func(query string) (got []string, next string) {
		t.Helper()
		a := w.get(0, "/v1/offers?"+query).is(200, "")
		for _, o := range a.body["data"].([]any) {
			got = append(got, o.(map[string]any)["id"].(string))
		}
		next, _ = a.body["next_cursor"].(string)
		return got, next
	}
	await(t, "the list", func() bool { got, _ := list(""); return len(got) == 6 })
	for query, want := range map[string][]string{"": all, "kind=flash": flash, "shop_id=3": shop, "shop_id=3&kind=flash": shop[1:],
		"shop_id=77": nil, "cursor=" + all[2]: all[3:], "cursor=9223372036854775807": nil} {
		if got, next := list(query); !slices.Equal(got, want) || next != "" {
			t.Errorf("%q: got %v, %q, want %v", query, got, next, want)
		}
	}
	page, next := list("limit=4")
	rest, last := list("limit=4&cursor=" + next)
	if !slices.Equal(append(page, rest...), all) || last != "" {
		t.Errorf("pages %v and %v", page, rest)
	}
	for _, bad := range []string{"limit=0", "kind=normal,flash", "kind=x", "shop_id=x", "shop_id=0", "shop_id=", "kind=", "cursor=x"} {
		w.get(0, "/v1/offers?"+bad).is(400, "invalid_request")
	}
}
