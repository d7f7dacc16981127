package main

import (
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"

	"github.com/apache/rocketmq-client-go/v2/primitive"
	"github.com/apache/rocketmq-client-go/v2/rlog"
)

// rocketLog is the log of rocketmq-client-go, which has one for the whole process. What it takes for errors is told as
// warnings: what comes of them, the stages say. The rest is noise, some sixty lines a second.
type rocketLog struct{ to atomic.Pointer[slog.Logger] }

var (
	rocketSays  rocketLog
	rocketHeard sync.Once
)

// hearRocketMQ takes the client's log and its panics over. It must be called before a client is made.
func hearRocketMQ() {
	rocketHeard.Do(func() {
		rlog.SetLogger(&rocketSays)
		primitive.PanicHandler = func(v any) { rocketSays.say("it panicked: "+fmt.Sprint(v), nil) }
	})
}

func (l *rocketLog) say(text string, fields map[string]any) {
	log := l.to.Load()
	if log == nil {
		return
	}
	args := []any{"said", text}
	for name, value := range fields {
		args = append(args, name, fmt.Sprint(value))
	}
	log.Warn("the client of RocketMQ", args...)
}

func (l *rocketLog) Debug(string, map[string]any)             {}
func (l *rocketLog) Info(string, map[string]any)              {}
func (l *rocketLog) Warning(string, map[string]any)           {}
func (l *rocketLog) Error(text string, fields map[string]any) { l.say(text, fields) }
func (l *rocketLog) Fatal(text string, fields map[string]any) { l.say(text, fields) }
func (l *rocketLog) Level(string)                             {}
func (l *rocketLog) OutputPath(string) (err error)            { return nil }
