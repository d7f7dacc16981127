package main

import (
	"log/slog"
	"os"
	"path/filepath"

	"github.com/fsnotify/fsnotify"
)

// fileWatch tells of events that may have changed what a file holds. It watches directories: an editor puts another file
// in its place, and a Kubernetes volume changes a symbolic link beside it. It belongs to one goroutine.
type fileWatch struct {
	path    string // empty: no file
	target  string // what it is after all symbolic links, when it was last read
	watcher *fsnotify.Watcher
	events  <-chan fsnotify.Event // nil if there is nothing to watch, as is errors
	errors  <-chan error
	log     *slog.Logger
}

// watchFile watches a file that need not exist. Without a watcher, when the system has no more of them, nothing is told:
// who needs the file looks at it now and then anyway.
func watchFile(file string, log *slog.Logger) *fileWatch {
	w := &fileWatch{log: log}
	if file == "" {
		return w
	}
	path, err := filepath.Abs(file)
	if err != nil {
		path = file
	}
	w.path = path
	if w.watcher, err = fsnotify.NewWatcher(); err == nil {
		w.events, w.errors = w.watcher.Events, w.watcher.Errors
		err = w.watcher.Add(filepath.Dir(path))
	}
	if err != nil {
		log.Warn("the configuration file is not watched, only looked at now and then", "file", file, "error", err)
	}
	return w
}

// follow watches the directory of what the file is a symbolic link to, if it is one.
func (w *fileWatch) follow() {
	target, err := filepath.EvalSymlinks(w.path)
	if err != nil || target == w.target || w.watcher == nil {
		return
	}
	here, before, now := filepath.Dir(w.path), filepath.Dir(w.target), filepath.Dir(target)
	if w.target != "" && before != here && before != now {
		_ = w.watcher.Remove(before) // it may be gone already
	}
	w.target = target
	if now == here {
		return
	}
	if err := w.watcher.Add(now); err != nil {
		w.log.Warn("watching the configuration file", "file", target, "error", err)
	}
}

// concerns tells whether the event may have to do with the file.
func (w *fileWatch) concerns(e fsnotify.Event) bool {
	return e.Op != fsnotify.Chmod && (e.Name == w.path || e.Name == w.target || filepath.Base(e.Name) == "..data")
}

// read is what the file holds; nil if it cannot be read.
func (w *fileWatch) read() []byte {
	if w.path == "" {
		return nil
	}
	w.follow()
	b, err := os.ReadFile(w.path)
	if err != nil {
		return nil
	}
	return b
}

func (w *fileWatch) close() {
	if w.watcher != nil {
		_ = w.watcher.Close() // nothing was written
	}
}
