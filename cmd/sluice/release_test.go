package main

import (
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// Programs of other releases, beside which this one is tested. SLUICE_OLD names a commit: that of the release before.

// releaseAt builds the program of a commit.
func releaseAt(t *testing.T, commit string) string {
	t.Helper()
	tree, root := t.TempDir(), repository(t)
	archive := exec.Command("git", "-C", root, "archive", "--format=tar", commit)
	unpack := exec.Command("tar", "-x", "-C", tree)
	var err error
	if unpack.Stdin, err = archive.StdoutPipe(); err != nil {
		t.Fatal(err)
	}
	archive.Stderr = os.Stderr
	if err := unpack.Start(); err != nil {
		t.Fatal(err)
	}
	if err := archive.Run(); err != nil {
		t.Fatalf("no commit %s in this clone: %v", commit, err)
	}
	if err := unpack.Wait(); err != nil {
		t.Fatal(err)
	}
	return built(t, tree)
}

// nextRelease builds this program as the next release will be: its tables have more, and it reads messages of one more
// version, which it writes where SLUICE_TEST_WRITES=2 tells it to. What it has more is testdata/next.patch.
func nextRelease(t *testing.T) string {
	t.Helper()
	root, tree := repository(t), t.TempDir()
	patch, err := os.ReadFile("testdata/next.patch")
	if err != nil {
		t.Fatal(err)
	}
	overlay := map[string]string{}
	for line := range strings.Lines(string(patch)) {
		name, ok := strings.CutPrefix(line, "+++ b/")
		if !ok {
			continue
		}
		name = strings.TrimSpace(name)
		overlay[filepath.Join(root, name)] = filepath.Join(tree, name)
		if err := os.MkdirAll(filepath.Join(tree, filepath.Dir(name)), 0o755); err != nil {
			t.Fatal(err)
		}
		if text, err := os.ReadFile(filepath.Join(root, name)); err == nil { // else it is new
			if err := os.WriteFile(filepath.Join(tree, name), text, 0o600); err != nil {
				t.Fatal(err)
			}
		}
	}
	apply := exec.Command("git", "apply", "-")
	apply.Dir, apply.Env, apply.Stdin = tree, append(os.Environ(), "GIT_CEILING_DIRECTORIES="+filepath.Dir(tree)), strings.NewReader(string(patch))
	if out, err := apply.CombinedOutput(); err != nil {
		t.Fatalf("testdata/next.patch does not fit the code any more: %v\n%s", err, out)
	}
	text, err := json.Marshal(map[string]any{"Replace": overlay})
	if err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(tree, "overlay.json")
	if err := os.WriteFile(file, text, 0o600); err != nil {
		t.Fatal(err)
	}
	return built(t, root, "-overlay", file)
}

// built is the program of a tree.
func built(t *testing.T, tree string, flags ...string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "sluice")
	build := exec.Command("go", append(append([]string{"build", "-ldflags=-w", "-o", path}, flags...), "./cmd/sluice")...)
	build.Dir = tree
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("build: %v\n%s", err, out)
	}
	return path
}

func repository(t *testing.T) string {
	t.Helper()
	root, err := filepath.Abs("../..")
	if err != nil {
		t.Fatal(err)
	}
	return root
}
