package client_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"time"

	"sluice/gateway/client"
)

// shop stands for a Sluice server.
func shop(w http.ResponseWriter, r *http.Request) {
	if r.Header.Get("Sluice-User") == "43" {
		w.WriteHeader(409)
		_, _ = io.WriteString(w, `{"status":409,"code":"sold_out","detail":"No unit is left."}`)
		return
	}
	w.WriteHeader(201)
	_, _ = io.WriteString(w, `{"id":"500822478180881664","status":"awaiting_payment","amount":13600,"currency":"CNY"}`)
}

// A server of the shop orders for two of its users.
func Example() {
	server := httptest.NewServer(http.HandlerFunc(shop))
	defer server.Close()

	sluice, err := client.New(client.Options{
		Base:  server.URL,
		Token: func(context.Context) (string, error) { return "the-service-token", nil },
	})
	if err != nil {
		fmt.Println(err)
		return
	}
	defer sluice.Close()

	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	for _, user := range []string{"42", "43"} {
		request := client.OrderRequest{Items: []client.Line{{OfferID: "1", Quantity: 2}}, Wait: 5 * time.Second}
		placed, err := sluice.As(user).Place(ctx, &request)
		var problem *client.Problem
		switch {
		case err == nil:
			fmt.Println("order", placed.ID, placed.Status, placed.Amount, placed.Currency)
		case errors.Is(err, client.ErrUnknown):
			fmt.Println("keep", request.Key, "and call Place with it again")
		case errors.As(err, &problem) && problem.Code == "sold_out":
			fmt.Println("too late:", problem.Detail)
		default:
			fmt.Println(err)
		}
	}
	// Output:
	// order 500822478180881664 awaiting_payment 13600 CNY
	// too late: No unit is left.
}
