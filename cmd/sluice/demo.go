package main

import (
	"context"
	"fmt"
	"io"
	"time"

	"sluice/engine/order"
	"sluice/gateway"
)

// demoUser is the buyer whom the printed token belongs to.
const demoUser = 42

// flashIn is how long after the start the demo's flash sale opens: long enough to read what is printed.
const flashIn = 15 * time.Second

// demo makes sure that there is something to buy, and prints what to paste. Normal goods are created once per data
// directory, a flash sale at every start.
func (s *Server) demo(ctx context.Context, w io.Writer) error {
	goods := s.demoGoods()
	opens := order.MilliOf(time.Now().Add(flashIn).Truncate(time.Second))
	created, err := s.store.CreateOffers(ctx, append(goods, order.Offer{Shop: 1, SKU: "phone-256", Title: "Phone, 256 GB, flash sale",
		Kind: order.Flash, UnitPrice: 399_900, Currency: "CNY", Total: 100, Wanted: 100, Limit: 1, Opens: opens}))
	if err != nil {
		return fmt.Errorf("demo offers: %w", err)
	}
	for i := range created {
		for !(catalogue{s}).Sellable(&created[i]) {
			select {
			case <-ctx.Done():
				return nil
			case <-time.After(5 * time.Millisecond):
			}
		}
	}
	flash := created[len(created)-1].ID
	normal := s.firstNormal()
	token := gateway.MintToken(s.secrets.JWT, demoUser, time.Now().Add(24*time.Hour))
	_, err = fmt.Fprintf(w, demoText, address(s.config.Ops.TLS.On(), s.ops.Addr()), s.secrets.OpsToken, demoUser, token,
		address(s.config.Gateway.TLS.On(), s.gateway.Addr()), normal, normal, time.Until(opens.Time()).Seconds(), flash)
	return err
}

// address is that of a listener for people.
func address(secure bool, at string) string {
	if secure {
		return "https://" + at
	}
	return "http://" + at
}

func (s *Server) demoGoods() []order.Offer {
	if s.firstNormal() != 0 {
		return nil
	}
	good := func(sku, title string, price order.Money, total int64) order.Offer {
		return order.Offer{Shop: 1, SKU: sku, Title: title, Kind: order.Normal, UnitPrice: price, Currency: "CNY",
			Total: total, Wanted: total}
	}
	return []order.Offer{
		good("tea-250", "Green tea, 250 g", 6_800, 100_000),
		good("cup-blue", "Cup, blue", 2_900, 100_000),
		good("book-go", "A book about Go", 8_900, 100_000),
	}
}

// firstNormal is the first normal offer that can be bought now, or 0.
func (s *Server) firstNormal() order.OfferID {
	for _, o := range s.engine.Offers() {
		if o.Kind == order.Normal && o.State(order.MilliOf(time.Now()), o.Left()) == order.OfferOpen {
			return o.ID
		}
	}
	return 0
}

const demoText = `
The console, which shows all of it live:

  %s/#token=%s

Paste this into another terminal (the token is buyer %d's, for a day):

  TOKEN=%s
  API=%s

  # what is on sale
  curl -sw '\n' $API/v1/offers

  # order two units of offer %d and wait until the order is stored
  curl -sw '\n' "$API/v1/orders?wait=5" -H "Authorization: Bearer $TOKEN" -H "Content-Type: application/json" \
    -H "Idempotency-Key: demo-$RANDOM" -d '{"items":[{"offer_id":"%d","quantity":2}]}'

  # my orders
  curl -sw '\n' $API/v1/orders -H "Authorization: Bearer $TOKEN"

  # the flash sale, which opens in %.0f seconds: one unit per buyer
  curl -sw '\n' "$API/v1/orders?wait=5" -H "Authorization: Bearer $TOKEN" -H "Content-Type: application/json" \
    -H "Idempotency-Key: flash" -d '{"items":[{"offer_id":"%d","quantity":1}]}'

`
