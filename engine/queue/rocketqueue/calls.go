package rocketqueue

import (
	"context"
	"encoding/json"
	"fmt"
	"strconv"
	"time"
)

// Codes of requests and answers.
const (
	askPull        = 11
	askOffset      = 14
	askCommit      = 15
	askCreateTopic = 17
	askConfig      = 26
	askRuntime     = 28
	askSearch      = 29
	askMax         = 30
	askMin         = 31
	askHeartbeat   = 34
	askMembers     = 38
	toldMembers    = 40
	askRoute       = 105
	askCluster     = 106
	askCreateGroup = 200
	askDropGroup   = 207
	askDropTopic   = 215
	askForgetTopic = 216
	askTopic       = 351
	askGroup       = 352
	answerOK       = 0
	answerNoTopic  = 17
	answerNothing  = 19
	answerAgain    = 20
	answerMoved    = 21
	answerNotFound = 22
	pollHold       = 5 * time.Second // the broker looks every five seconds whether a poll is over
	pollMessages   = 256
	mayHold        = 1<<1 | 1<<2 // flags of a poll: wait for a message; the subscription is in it
	mayNotHold     = 1 << 2
	readAndWrite   = 6 // the permission of a topic
)

// refusal is an answer that is none of those that a call expects.
type refusal struct {
	code   int
	remark string
}

func (r *refusal) Error() string { return fmt.Sprintf("code %d: %s", r.code, r.remark) }

// place is one message queue and the group that consumes it.
type place struct {
	topic, group string
	queue        int
}

func (p place) fields(more ...string) map[string]string {
	f := map[string]string{"topic": p.topic, "queueId": strconv.Itoa(p.queue)}
	for i := 0; i < len(more); i += 2 {
		f[more[i]] = more[i+1]
	}
	return f
}

// call asks for something that the other end has at hand. Other codes than OK and those in but are an error.
func (l *link) call(ctx context.Context, c *command, but ...int) (*command, error) {
	a, err := l.ask(ctx, c, answerMax)
	if err != nil {
		return nil, err
	}
	if a.Code != answerOK {
		for _, code := range but {
			if a.Code == code {
				return a, nil
			}
		}
		return nil, l.fault(&refusal{a.Code, a.Remark})
	}
	return a, nil
}

func (l *link) number(a *command, field string) (int64, error) {
	n, err := strconv.ParseInt(a.Fields[field], 10, 64)
	if err != nil {
		return 0, l.fault(fmt.Errorf("the answer's %s is %q", field, a.Fields[field]))
	}
	return n, nil
}

// committed is the offset that the group has committed; ok is false if it has committed none.
func (l *link) committed(ctx context.Context, p place) (offset int64, ok bool, err error) {
	a, err := l.call(ctx, &command{Code: askOffset, Fields: p.fields("consumerGroup", p.group, "setZeroIfNotFound", "false")}, answerNotFound)
	if err != nil || a.Code == answerNotFound {
		return 0, false, err
	}
	offset, err = l.number(a, "offset")
	return offset, err == nil && offset >= 0, err
}

func (l *link) commit(ctx context.Context, p place, offset int64) error {
	_, err := l.call(ctx, &command{Code: askCommit, Fields: p.fields("consumerGroup", p.group, "commitOffset", strconv.FormatInt(offset, 10))})
	return err
}

// max is the offset that the next message will get.
func (l *link) max(ctx context.Context, p place) (int64, error) {
	a, err := l.call(ctx, &command{Code: askMax, Fields: p.fields()})
	if err != nil {
		return 0, err
	}
	return l.number(a, "offset")
}

// min is the offset of the oldest message that the broker still has.
func (l *link) min(ctx context.Context, p place) (int64, error) {
	a, err := l.call(ctx, &command{Code: askMin, Fields: p.fields()})
	if err != nil {
		return 0, err
	}
	return l.number(a, "offset")
}

// since is the offset of about the first message that was stored at a time, Unix milliseconds, or later.
func (l *link) since(ctx context.Context, p place, at int64) (int64, error) {
	a, err := l.call(ctx, &command{Code: askSearch, Fields: p.fields("timestamp", strconv.FormatInt(at, 10))})
	if err != nil {
		return 0, err
	}
	return l.number(a, "offset")
}

// pulled is what a poll brought.
type pulled struct {
	messages []stored
	next     int64 // the offset to go on from
	moved    bool  // the offset asked for is not in the log
	again    bool  // ask again: nothing is said
}

// poll reads messages from an offset on, and waits a while for the first.
func (l *link) poll(ctx context.Context, p place, from int64) (*pulled, error) {
	return l.pull(ctx, p, from, pull{messages: pollMessages, hold: pollHold, flags: mayHold})
}

// peek reads messages that are there.
func (l *link) peek(ctx context.Context, p place, from int64, most int) (*pulled, error) {
	return l.pull(ctx, p, from, pull{messages: most, flags: mayNotHold})
}

// pull is how to read.
type pull struct {
	messages int
	hold     time.Duration
	flags    int
}

func (l *link) pull(ctx context.Context, p place, from int64, how pull) (*pulled, error) {
	a, err := l.ask(ctx, &command{Code: askPull, Fields: p.fields("consumerGroup", p.group,
		"queueOffset", strconv.FormatInt(from, 10), "maxMsgNums", strconv.Itoa(how.messages), "sysFlag", strconv.Itoa(how.flags),
		"commitOffset", "0", "suspendTimeoutMillis", strconv.FormatInt(how.hold.Milliseconds(), 10),
		"subscription", "*", "subVersion", "0", "expressionType", "TAG")}, 2*how.hold+2*answerMax)
	if err != nil {
		return nil, err
	}
	got := &pulled{moved: a.Code == answerMoved, again: a.Code == answerAgain}
	switch a.Code {
	case answerOK:
		if got.messages, err = decodeMessages(a.Body); err != nil {
			return nil, l.fault(err)
		}
	case answerNothing, answerAgain, answerMoved:
	default:
		return nil, l.fault(&refusal{a.Code, a.Remark})
	}
	got.next, err = l.number(a, "nextBeginOffset")
	return got, err
}

// heartbeat tells the broker that a member of a group lives.
func (l *link) heartbeat(ctx context.Context, member string, p place) error {
	body, err := json.Marshal(map[string]any{"clientID": member, "producerDataSet": []any{}, "consumerDataSet": []any{map[string]any{
		"groupName": p.group, "consumeType": "CONSUME_ACTIVELY", "messageModel": "CLUSTERING", "unitMode": false,
		"consumeFromWhere": "CONSUME_FROM_FIRST_OFFSET", "subscriptionDataSet": []any{map[string]any{
			"topic": p.topic, "subString": "*", "expressionType": "TAG", "subVersion": 1, "classFilterMode": false,
			"tagsSet": []string{}, "codeSet": []int{}}}}}})
	if err != nil {
		return err
	}
	_, err = l.call(ctx, &command{Code: askHeartbeat, Body: body})
	return err
}

// members are those whom the broker knows of a group, in no order.
func (l *link) members(ctx context.Context, group string) ([]string, error) {
	// A broker that knows nobody answers with an error of the general kind.
	a, err := l.call(ctx, &command{Code: askMembers, Fields: map[string]string{"consumerGroup": group}}, 1)
	if err != nil || a.Code != answerOK {
		return nil, err
	}
	var list struct{ ConsumerIdList []string }
	if err := json.Unmarshal(a.Body, &list); err != nil {
		return nil, l.fault(err)
	}
	return list.ConsumerIdList, nil
}

// started is when the broker was started, Unix milliseconds of its clock.
func (l *link) started(ctx context.Context) (int64, error) {
	a, err := l.call(ctx, &command{Code: askRuntime})
	if err != nil {
		return 0, err
	}
	var info struct{ Table map[string]string }
	if err := json.Unmarshal(a.Body, &info); err != nil {
		return 0, l.fault(err)
	}
	at, err := strconv.ParseInt(info.Table["bootTimestamp"], 10, 64)
	if err != nil || at <= 0 {
		return 0, l.fault(fmt.Errorf("it does not say when it was started: bootTimestamp is %q", info.Table["bootTimestamp"]))
	}
	return at, nil
}
