package mariadbtest

import (
	"context"
	"testing"
	"time"
)

// What was committed survives a kill; a paused server answers once it goes on; servers are apart.
func TestServer(t *testing.T) {
	t.Parallel()
	servers := Start(t, 2)
	for _, s := range servers {
		s.Create("shop")
	}
	s := servers[0]
	db := s.Open("shop")
	defer func() { _ = db.Close() }()
	for _, query := range []string{"CREATE TABLE thing (n INT PRIMARY KEY)", "INSERT INTO thing VALUES (7)"} {
		if _, err := db.Exec(query); err != nil {
			t.Fatal(err)
		}
	}
	s.Kill()
	s.Start()
	n := 0
	if err := db.QueryRow("SELECT n FROM thing").Scan(&n); err != nil || n != 7 {
		t.Errorf("after a kill: %d, %v", n, err)
	}
	s.Pause()
	ctx, cancel := context.WithTimeout(t.Context(), 200*time.Millisecond)
	defer cancel()
	if err := db.PingContext(ctx); err == nil {
		t.Error("a paused server answers")
	}
	other := servers[1].Open("shop")
	defer func() { _ = other.Close() }()
	if err := other.QueryRow("SELECT n FROM thing").Scan(&n); err == nil {
		t.Error("the servers share their data")
	}
	s.Resume()
	if err := db.QueryRow("SELECT n FROM thing").Scan(&n); err != nil {
		t.Errorf("after a pause: %v", err)
	}
}
