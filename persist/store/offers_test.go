package store

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"sluice/engine/order"
)

func TestCreateOffers(t *testing.T) {
	onDialects(t, func(t *testing.T, d Dialect) {
		ctx := context.Background()
		s := newStore(t, d, 2)
		var offers []order.Offer
		for i := range 40 {
			offers = append(offers, order.Offer{Shop: order.ShopID(1 + i%5), SKU: fmt.Sprint("sku-", i), Title: "茶 'n \\ tea", Kind: order.Kinds[i%2],
				UnitPrice: order.Money(i), Currency: "CNY", Total: int64(i), Limit: uint32(i % 3), Opens: 5, Closes: 6})
		}
		created, err := s.CreateOffers(ctx, offers)
		noError(t, err)
		byPart := map[order.Partition][]order.Offer{}
		for i, o := range created {
			if o.ID == 0 || o.PriceVersion != 1 || o.Created != 1 || o.Wanted != o.Total || o.SKU != offers[i].SKU {
				t.Errorf("created %+v", o)
			}
			if want := order.GroupOf(o.Kind, o.Shop, o.ID); o.Group != want {
				t.Errorf("offer %d is in group %q, want %q", o.ID, o.Group, want)
			}
			p := s.Partitions().Of(o.Kind, o.Group)
			byPart[p] = append(byPart[p], o)
		}
		for p, want := range byPart {
			var got []order.Offer
			for after := order.OfferID(0); ; {
				page, err := s.Offers(ctx, p, after, 3)
				noError(t, err)
				if len(page) == 0 {
					break
				}
				got = append(got, page...)
				after = page[len(page)-1].ID
			}
			if diff := cmp.Diff(want, got); diff != "" {
				t.Errorf("partition %d: %s", p, diff)
			}
			log, err := s.StockLog(ctx, p, 0, 10)
			noError(t, err)
			if len(log) != 1 || len(log[0].Items) != len(want) {
				t.Errorf("partition %d has the log %+v", p, log)
			}
			byID, err := s.OffersByID(ctx, p, []order.OfferID{want[0].ID, 777777})
			noError(t, err)
			if diff := cmp.Diff(want[:1], byID); diff != "" {
				t.Errorf("partition %d: %s", p, diff)
			}
		}
	})
}

func TestCreateOffersAtOnce(t *testing.T) {
	onDialects(t, func(t *testing.T, d Dialect) {
		s := newStore(t, d, 2)
		ids := make([][]order.Offer, 6)
		race(len(ids), func(i int) {
			for range 5 {
				list, err := s.CreateOffers(context.Background(), []order.Offer{tea(1), tea(2), tea(3)})
				if err != nil {
					t.Error(err)
				}
				ids[i] = append(ids[i], list...)
			}
		})
		seen := map[order.OfferID]bool{}
		for _, list := range ids {
			for _, o := range list {
				if seen[o.ID] {
					t.Errorf("offer %d was created twice", o.ID)
				}
				seen[o.ID] = true
			}
		}
	})
}

func tea(shop order.ShopID) order.Offer {
	return order.Offer{Shop: shop, SKU: "tea", Title: "tea", Kind: order.Normal, UnitPrice: 100, Currency: "CNY", Total: 10, Limit: 2}
}

func TestCreateOffersRefusesFields(t *testing.T) {
	s := newStore(t, SQLite, 1)
	bad, title := tea(1), tea(1)
	bad.Currency = "yuan"
	title.Title = "\xff"
	for field, o := range map[string]order.Offer{"currency": bad, "title": title} {
		_, err := s.CreateOffers(context.Background(), []order.Offer{tea(1), o})
		if fe, ok := errors.AsType[*order.FieldError](err); !ok || fe.Field != field {
			t.Errorf("%s: %v", field, err)
		}
	}
}

func ptr[T any](v T) *T { return &v }

func TestChangeOffer(t *testing.T) {
	onDialects(t, func(t *testing.T, d Dialect) {
		ctx := context.Background()
		s := newStore(t, d, 2)
		list, err := s.CreateOffers(ctx, []order.Offer{tea(1)})
		noError(t, err)
		o := list[0]
		p := s.Partitions().Of(o.Kind, o.Group)
		epoch, _, err := s.BeginRebuild(ctx, p, 0, true)
		noError(t, err)
		logged := uint64(1)
		steps := []struct {
			what   string
			change OfferChange
			want   func(*order.Offer)
			log    []order.LogItem
			wanted order.Epoch
		}{
			{"nothing", OfferChange{}, func(*order.Offer) {}, nil, 0},
			{"the same", OfferChange{Title: ptr("tea"), UnitPrice: ptr(order.Money(100)), Total: ptr(int64(10))}, func(*order.Offer) {}, nil, 0},
			{"price and title", OfferChange{Title: ptr("green"), UnitPrice: ptr(order.Money(90))},
				func(o *order.Offer) { o.Title, o.UnitPrice, o.PriceVersion = "green", 90, 2 }, []order.LogItem{{Op: order.OpNote, Offer: o.ID}}, 0},
			{"raised", OfferChange{Total: ptr(int64(15))}, func(o *order.Offer) { o.Total, o.Wanted = 15, 15 },
				[]order.LogItem{{Op: order.OpRaise, Offer: o.ID, Units: 5}}, 0},
			{"window", OfferChange{Opens: ptr(order.Milli(7)), Closes: ptr(order.Milli(9))}, func(o *order.Offer) { o.Opens, o.Closes = 7, 9 },
				[]order.LogItem{{Op: order.OpWindow, Offer: o.ID, Opens: 7, Closes: 9}}, 0},
			{"lowered", OfferChange{Total: ptr(int64(4))}, func(o *order.Offer) { o.Wanted = 4 }, nil, epoch},
			{"lowered and raised", OfferChange{Total: ptr(int64(20))}, func(o *order.Offer) { o.Total, o.Wanted = 20, 20 },
				[]order.LogItem{{Op: order.OpRaise, Offer: o.ID, Units: 5}}, epoch},
		}
		for _, step := range steps {
			_, got, err := s.ChangeOffer(ctx, o.ID, step.change)
			noError(t, err)
			step.want(&o)
			stored, err := s.OffersByID(ctx, p, []order.OfferID{o.ID})
			noError(t, err)
			if diff := cmp.Diff([]order.Offer{o, o}, append(stored, got)); diff != "" {
				t.Errorf("%s: %s", step.what, diff)
			}
			rows, err := s.StockLog(ctx, p, logged, 10)
			noError(t, err)
			var items []order.LogItem
			for _, r := range rows {
				items, logged = append(items, r.Items...), r.N
			}
			if diff := cmp.Diff(step.log, items); diff != "" {
				t.Errorf("%s: log %s", step.what, diff)
			}
			parts, _, err := s.Parts(ctx, s.Home(p))
			noError(t, err)
			for _, part := range parts {
				if part.Partition == p && part.Wanted != step.wanted {
					t.Errorf("%s: a rebuild of %d is wanted, want %d", step.what, part.Wanted, step.wanted)
				}
			}
		}
	})
}

func TestChangeOfferRefused(t *testing.T) {
	ctx := context.Background()
	s := newStore(t, SQLite, 2)
	now, err := s.Now(ctx, 0)
	noError(t, err)
	soon, later := tea(1), tea(2)
	soon.Kind, later.Kind = order.Flash, order.Flash
	soon.Opens, later.Opens = now+30_000, now+120_000
	list, err := s.CreateOffers(ctx, []order.Offer{soon, later})
	noError(t, err)
	price := OfferChange{UnitPrice: ptr(order.Money(1))}
	if _, _, err := s.ChangeOffer(ctx, list[0].ID, price); !errors.Is(err, ErrPriceFrozen) {
		t.Errorf("the price of an offer that opens in 30 s: %v", err)
	}
	if _, o, err := s.ChangeOffer(ctx, list[1].ID, price); err != nil || o.UnitPrice != 1 {
		t.Errorf("the price of an offer that opens in 2 min: %v %v", o.UnitPrice, err)
	}
	if _, _, err := s.ChangeOffer(ctx, 4711, price); !errors.Is(err, ErrNoOffer) {
		t.Errorf("no such offer: %v", err)
	}
	for field, c := range map[string]OfferChange{
		"total": {Total: ptr(int64(-1))}, "closes_at": {Closes: ptr(order.Milli(1))}, "title": {Title: ptr(strings.Repeat("x", order.TitleMax+1))},
	} {
		_, _, err := s.ChangeOffer(ctx, list[1].ID, c)
		if fe, ok := errors.AsType[*order.FieldError](err); !ok || fe.Field != field {
			t.Errorf("%s: %v", field, err)
		}
	}
}

func TestCloseOffer(t *testing.T) {
	onDialects(t, func(t *testing.T, d Dialect) {
		ctx := context.Background()
		s := newStore(t, d, 2)
		open, upcoming := tea(1), tea(1)
		upcoming.Opens = 1 << 50
		list, err := s.CreateOffers(ctx, []order.Offer{open, upcoming})
		noError(t, err)
		for _, o := range list {
			_, closed, err := s.CloseOffer(ctx, o.ID)
			noError(t, err)
			now, err := s.Now(ctx, s.Home(s.partition(&o)))
			noError(t, err)
			if closed.State(now, 1) != order.OfferClosed {
				t.Errorf("closed at %d, it is %s at %d", closed.Closes, closed.State(now, 1), now)
			}
			_, again, err := s.CloseOffer(ctx, o.ID)
			noError(t, err)
			if diff := cmp.Diff(closed, again); diff != "" {
				t.Errorf("closed twice: %s", diff)
			}
			if _, _, err := s.ChangeOffer(ctx, o.ID, OfferChange{Title: ptr("closed tea")}); err != nil {
				t.Errorf("the title of a closed offer: %v", err)
			}
		}
		rows, err := s.StockLog(ctx, s.partition(&list[0]), 1, 10)
		noError(t, err)
		if len(rows) != 4 || rows[0].Items[0].Op != order.OpWindow || rows[1].Items[0].Op != order.OpNote {
			t.Errorf("log %+v", rows)
		}
	})
}

func TestLowerTotals(t *testing.T) {
	onDialects(t, func(t *testing.T, d Dialect) {
		ctx := context.Background()
		x, ids := newSale(t, d, [2]int64{10, 0}, [2]int64{10, 0})
		x.claim(x.batch(users(1, 6), int(ids[0]), 1))
		for i, wanted := range []int64{4, 3} {
			_, _, err := x.ChangeOffer(ctx, ids[i], OfferChange{Total: &wanted})
			noError(t, err)
		}
		if err := x.LowerTotals(ctx, x.p, x.epoch-1); !errors.Is(err, ErrNotMine) {
			t.Errorf("lowered by another epoch: %v", err)
		}
		noError(t, x.LowerTotals(ctx, x.p, x.epoch))
		got, err := x.OffersByID(ctx, x.p, ids)
		noError(t, err)
		if got[0].Total != 6 || got[0].Wanted != 4 || got[1].Total != 3 {
			t.Errorf("lowered to %d and %d, want 6 (what is sold) and 3", got[0].Total, got[1].Total)
		}
		x.expect(ids[0], 0, nil)
		x.expect(ids[1], 3, nil)
		notes := func() (notes []order.OfferID) {
			rows, err := x.StockLog(ctx, x.p, 0, 100)
			noError(t, err)
			for i := range rows {
				for _, item := range rows[i].Items {
					if item.Op == order.OpNote {
						notes = append(notes, item.Offer)
					}
				}
			}
			slices.Sort(notes)
			return notes
		}
		if got := notes(); !slices.Equal(got, ids) {
			t.Errorf("the log notes lower totals of %v, want %v", got, ids)
		}
		noError(t, x.LowerTotals(ctx, x.p, x.epoch)) // one of them is still wanted lower, and cannot be
		if got := notes(); len(got) != 2 {
			t.Errorf("nothing was lowered, and the log notes %v", got)
		}
	})
}
