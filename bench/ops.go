package bench

import (
	"bufio"
	"bytes"
	"context"
	"crypto/tls"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"strings"
	"time"

	"sluice/engine/order"
)

// opsClient speaks to a server's ops listener.
type opsClient struct {
	base, token string
	http        http.Client
}

func newOpsClient(addr, token string, secure *tls.Config) *opsClient {
	c := &opsClient{base: strings.TrimSuffix(addr, "/"), token: token, http: http.Client{Timeout: 2 * time.Minute}}
	if !strings.Contains(addr, "://") {
		c.base = scheme(secure) + c.base
	}
	if secure != nil {
		c.http.Transport = &http.Transport{TLSClientConfig: secure}
	}
	return c
}

// scheme begins the address of a listener.
func scheme(secure *tls.Config) string {
	if secure != nil {
		return "https://"
	}
	return "http://"
}

func (c *opsClient) do(ctx context.Context, method, path string, body []byte) ([]byte, error) {
	_, answer, err := c.call(ctx, method, path, body)
	return answer, err
}

// call is do for who wants to know which of the good statuses it was.
func (c *opsClient) call(ctx context.Context, method, path string, body []byte) (status int, answer []byte, err error) {
	req, err := http.NewRequestWithContext(ctx, method, c.base+path, bytes.NewReader(body))
	if err != nil {
		return 0, nil, err
	}
	req.Header.Set("Authorization", "Bearer "+c.token)
	req.Header.Set("Content-Type", "application/json")
	res, err := c.http.Do(req)
	if err != nil {
		return 0, nil, err
	}
	defer res.Body.Close()
	answer, err = io.ReadAll(res.Body)
	if err == nil && res.StatusCode >= 300 {
		err = fmt.Errorf("%s %s: %s: %s", method, path, res.Status, answer)
	}
	return res.StatusCode, answer, err
}

// offerTitle is that of every offer of a bench.
const offerTitle = "bench"

// createOffer creates a flash offer that is open and waits until the process sells it.
func (c *opsClient) createOffer(ctx context.Context, units int64, limit int) (order.OfferID, error) {
	in, err := json.Marshal(map[string]any{
		"shop_id": "1", "sku": "BENCH-1", "title": offerTitle, "kind": "flash", "unit_price": 9900, "currency": "CNY",
		"total": units, "per_user_limit": limit,
	})
	if err != nil {
		return 0, err
	}
	answer, err := c.do(ctx, http.MethodPost, "/ops/offers", in)
	if err != nil {
		return 0, fmt.Errorf("create an offer: %w", err)
	}
	var out struct {
		ID string `json:"id"`
	}
	if err := json.Unmarshal(answer, &out); err != nil {
		return 0, fmt.Errorf("create an offer: %w", err)
	}
	id, ok := order.ParseID(out.ID)
	if !ok {
		return 0, fmt.Errorf("create an offer: the answer has no id: %s", answer)
	}
	return order.OfferID(id), nil
}

// Ordinary offers of a bench: so many shops, each with so many offers.
const (
	shops      = 50
	shopOffers = 20
	shopUnits  = 10_000_000 // of each offer: none sells out
)

// createShops creates ordinary offers and waits until the process sells them.
func (c *opsClient) createShops(ctx context.Context) ([][]order.OfferID, error) {
	var list [][]order.OfferID
	for shop := range shops {
		var lines bytes.Buffer
		for n := range shopOffers {
			fmt.Fprintf(&lines, `{"shop_id":"%d","sku":"BENCH-%d-%d","title":"%s","kind":"normal","unit_price":%d,"currency":"CNY","total":%d}`+"\n",
				1000+shop, shop, n, offerTitle, 1000+n, shopUnits)
		}
		answer, err := c.do(ctx, http.MethodPost, "/ops/offers/batch", lines.Bytes())
		if err != nil {
			return nil, fmt.Errorf("create offers: %w", err)
		}
		var offers []order.OfferID
		for line := range bytes.Lines(answer) {
			var out struct {
				Offer struct {
					ID string `json:"id"`
				} `json:"offer"`
			}
			if err := json.Unmarshal(line, &out); err != nil {
				return nil, fmt.Errorf("create offers: %w", err)
			}
			id, ok := order.ParseID(out.Offer.ID)
			if !ok {
				return nil, fmt.Errorf("create offers: the answer has no id: %s", line)
			}
			offers = append(offers, order.OfferID(id))
		}
		list = append(list, offers)
	}
	return list, nil
}

// sells tells whether the process sells an offer already: it changes the offer's title to what it is, and the answer says
// whether that is in force there. It takes two seconds to say no.
func (c *opsClient) sells(ctx context.Context, id order.OfferID) (bool, error) {
	status, _, err := c.call(ctx, http.MethodPatch, fmt.Sprintf("/ops/offers/%d", id), []byte(`{"title":"`+offerTitle+`"}`))
	return status == http.StatusOK, err
}

// remaining is the number of units left of an offer.
func (c *opsClient) remaining(ctx context.Context, id order.OfferID) (int64, error) {
	answer, err := c.do(ctx, http.MethodGet, fmt.Sprintf("/ops/offers/%d", id), nil)
	if err != nil {
		return 0, err
	}
	var out struct {
		Remaining int64 `json:"remaining"`
	}
	return out.Remaining, json.Unmarshal(answer, &out)
}

// storedMetric counts orders whose rows are committed.
const storedMetric = "sluice_orders_stored_total"

// stored is the number of orders that the process has committed since it started.
func (c *opsClient) stored(ctx context.Context) (int64, error) {
	text, err := c.metrics(ctx)
	if err != nil {
		return 0, err
	}
	return sumMetric(text, storedMetric)
}

func (c *opsClient) metrics(ctx context.Context) ([]byte, error) {
	return c.do(ctx, http.MethodGet, "/metrics", nil)
}

// sumMetric adds up a metric over its labels.
func sumMetric(text []byte, name string) (sum int64, err error) {
	found, err := eachMetric(text, name, func(v float64) { sum += int64(v) })
	if err == nil && !found {
		err = fmt.Errorf("the server has no metric %s", name)
	}
	return sum, err
}

// eachMetric gives the values of a metric, one for each of its labels, and tells whether there is any.
func eachMetric(text []byte, name string, each func(v float64)) (found bool, err error) {
	for lines := bufio.NewScanner(bytes.NewReader(text)); lines.Scan(); {
		rest, ok := strings.CutPrefix(lines.Text(), name)
		if !ok || rest == "" || rest[0] != ' ' && rest[0] != '{' {
			continue
		}
		v, err := strconv.ParseFloat(rest[strings.LastIndexByte(rest, ' ')+1:], 64)
		if err != nil {
			return found, fmt.Errorf("metric %s: %w", name, err)
		}
		found = true
		each(v)
	}
	return found, nil
}

// profile is a CPU profile of the next seconds.
func (c *opsClient) profile(ctx context.Context, seconds int) ([]byte, error) {
	b, err := c.do(ctx, http.MethodGet, fmt.Sprintf("/debug/pprof/profile?seconds=%d", seconds), nil)
	if err != nil {
		return nil, fmt.Errorf("profile: %w", err)
	}
	return b, nil
}
