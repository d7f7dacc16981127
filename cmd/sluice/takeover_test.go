package main

import (
	"archive/tar"
	"compress/gzip"
	"encoding/json"
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"testing"

	"sluice/bench/audit"
)

// takeover is written anew, by the program of the commit SLUICE_OLD, with SLUICE_TAKEOVER=write.
const takeover = "testdata/takeover.tar.gz"

// TestTakeover: the program takes over what one of an earlier release has left that was killed under load, sells from it at
// once, is killed itself, and nothing that any buyer was told at any time is broken. testdata has the data directory of
// the first release, or the commit SLUICE_OLD is built and killed here.
func TestTakeover(t *testing.T) {
	t.Parallel()
	c := newCrashes(t)
	old := os.Getenv("SLUICE_OLD")
	switch {
	case old != "":
		c.program = releaseAt(t, old)
		c.die("publish:60") // in the middle of a batch
		c.die("claim:20")
		c.program = ""
		if os.Getenv("SLUICE_TAKEOVER") == "write" {
			c.pack()
		}
	default:
		c.unpack()
	}
	left := c.count((*sight).accepted)
	c.die("publish:60")
	c.die("")
	c.heal("the release " + old)
	if n := c.count((*sight).accepted); left < 60 || n < left+60 {
		t.Errorf("%d orders were accepted before, %d since: too few for the test to show anything", left, n-left)
	}
}

// story is what a test must know of a data directory besides its files.
type story struct {
	Goods  [][]string
	Scarce string
}

// pack keeps the data directory and what was seen, but for what a start makes anew: secrets, locks, an index of the log.
func (c *crashes) pack() {
	c.t.Helper()
	f, err := os.Create(takeover)
	if err != nil {
		c.t.Fatal(err)
	}
	zip, _ := gzip.NewWriterLevel(f, gzip.BestCompression)
	w := tar.NewWriter(zip)
	add := func(name string, data []byte) {
		if err := w.WriteHeader(&tar.Header{Name: name, Mode: 0o600, Size: int64(len(data))}); err != nil {
			c.t.Fatal(err)
		}
		if _, err := w.Write(data); err != nil {
			c.t.Fatal(err)
		}
	}
	about, err := json.Marshal(story{c.goods, c.scarce})
	if err != nil {
		c.t.Fatal(err)
	}
	add("story.json", about)
	path := filepath.Join(c.t.TempDir(), "history")
	history, err := audit.Create(path)
	for i := range c.calls {
		err = errors.Join(err, history.Append(c.calls[i].Entry))
	}
	seen, reading := os.ReadFile(path)
	if err := errors.Join(err, history.Close(), reading); err != nil {
		c.t.Fatal(err)
	}
	add("history", seen)
	err = filepath.WalkDir(c.dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() || regexp.MustCompile(`lock$|-shm$|^secrets`).MatchString(d.Name()) {
			return err
		}
		data, err := os.ReadFile(path)
		name, _ := filepath.Rel(c.dir, path)
		add(filepath.Join("data", name), data)
		return err
	})
	if err := errors.Join(err, w.Close(), zip.Close(), f.Close()); err != nil {
		c.t.Fatal(err)
	}
}

// unpack puts the kept data directory into the test's own, and lets the crowd have seen what was seen.
func (c *crashes) unpack() {
	c.t.Helper()
	f, err := os.Open(takeover)
	if err != nil {
		c.t.Fatal(err)
	}
	defer func() { _ = f.Close() }()
	zip, err := gzip.NewReader(f)
	if err != nil {
		c.t.Fatal(err)
	}
	dir := filepath.Dir(c.dir)
	for r := tar.NewReader(zip); ; {
		head, err := r.Next()
		if errors.Is(err, io.EOF) {
			break
		}
		path := filepath.Join(dir, head.Name)
		data, reading := io.ReadAll(r)
		if err := errors.Join(err, reading, os.MkdirAll(filepath.Dir(path), 0o700), os.WriteFile(path, data, 0o600)); err != nil {
			c.t.Fatal(err)
		}
	}
	var about story
	text, err := os.ReadFile(filepath.Join(dir, "story.json"))
	if err != nil {
		c.t.Fatal(err)
	}
	if err := json.Unmarshal(text, &about); err != nil {
		c.t.Fatal(err)
	}
	c.goods, c.scarce = about.Goods, about.Scarce
	seen, err := audit.ReadHistory(filepath.Join(dir, "history"))
	if err != nil {
		c.t.Fatal(err)
	}
	for _, e := range seen {
		c.calls = append(c.calls, sight{Entry: e})
		if b := c.buyers[e.User-1]; e.Order != 0 {
			b.orders = append(b.orders, e.Order.String())
		}
	}
	for _, b := range c.buyers {
		b.n = len(seen) // no key comes twice
	}
}
