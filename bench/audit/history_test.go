package audit

import (
	"errors"
	"math/rand/v2"
	"os"
	"path/filepath"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"

	"sluice/engine/order"
)

func entries(n int) []Entry {
	list := make([]Entry, n)
	for i := range list {
		list[i] = Entry{User: order.UserID(i + 1), Key: "key"[:i%4], Order: order.ID(i << 20), Units: int64(i), Code: i % 600,
			Sent: int64(i) * 3, Answered: int64(i) * 4}
	}
	return list
}

func write(t *testing.T, path string, list []Entry) {
	t.Helper()
	w, err := Create(path)
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range list {
		if err := w.Append(e); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
}

func read(t *testing.T, path string) []Entry {
	t.Helper()
	list, err := ReadHistory(path)
	if err != nil {
		t.Fatal(err)
	}
	return list
}

func TestHistoryRoundTrip(t *testing.T) {
	path := filepath.Join(t.TempDir(), "history")
	want := entries(1000)
	write(t, path, want[:600])
	write(t, path, want[600:])
	if diff := cmp.Diff(want, read(t, path)); diff != "" {
		t.Error(diff)
	}
}

// TestHistoryCutAnywhere cuts a file at every byte: what was whole is read, and appending goes on behind it.
func TestHistoryCutAnywhere(t *testing.T) {
	dir := t.TempDir()
	whole := filepath.Join(dir, "whole")
	want := entries(4)
	write(t, whole, want)
	b, err := os.ReadFile(whole)
	if err != nil {
		t.Fatal(err)
	}
	at := len(historyMagic)
	for n := range want {
		end := at + len(appendEntry(nil, &want[n]))
		for cut := at; cut < end; cut++ {
			path := filepath.Join(dir, "cut")
			if err := os.WriteFile(path, b[:cut], 0o600); err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(want[:n], read(t, path)); diff != "" {
				t.Fatalf("cut at %d:\n%s", cut, diff)
			}
			write(t, path, want[3:])
			if diff := cmp.Diff(append(want[:n:n], want[3]), read(t, path)); diff != "" {
				t.Fatalf("cut at %d, then appended:\n%s", cut, diff)
			}
		}
		at = end
	}
}

func TestHistoryDamagedByteEndsIt(t *testing.T) {
	path := filepath.Join(t.TempDir(), "history")
	write(t, path, entries(10))
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	for range 200 {
		at := len(historyMagic) + rand.IntN(len(b)-len(historyMagic))
		damaged := append([]byte(nil), b...)
		damaged[at] ^= 1 << rand.IntN(8)
		if err := os.WriteFile(path, damaged, 0o600); err != nil {
			t.Fatal(err)
		}
		got := read(t, path)
		if len(got) == 10 {
			t.Fatalf("a damaged byte at %d was not seen", at)
		}
		if diff := cmp.Diff(entries(10)[:len(got)], got); diff != "" {
			t.Fatal(diff)
		}
	}
}

func TestHistoryRefusesOtherFiles(t *testing.T) {
	path := filepath.Join(t.TempDir(), "other")
	if err := os.WriteFile(path, []byte("something else, and long enough"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := ReadHistory(path); !errors.Is(err, ErrNoHistory) {
		t.Error(err)
	}
	if _, err := Create(path); !errors.Is(err, ErrNoHistory) {
		t.Error(err)
	}
}

func TestHistoryManyWriters(t *testing.T) {
	path := filepath.Join(t.TempDir(), "history")
	w, err := Create(path)
	if err != nil {
		t.Fatal(err)
	}
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			for _, e := range entries(100) {
				if err := w.Append(e); err != nil {
					t.Error(err)
				}
			}
		})
	}
	wg.Wait()
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	if got := len(read(t, path)); got != 800 {
		t.Errorf("%d entries", got)
	}
}
