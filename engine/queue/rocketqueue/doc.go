// Package rocketqueue is the distributed driver of the queue seam: RocketMQ 5. Each kind of orders has a topic
// (NAME-orders-normal, NAME-orders-flash) with one message queue per partition, all on one broker, and a consumer group of
// the same name. One message is one batch. Events of stored orders go to a third topic, NAME-order-events (Events).
//
// # Publishing
//
// By rocketmq-client-go: one producer, SendSync, no repeats, no compression, the queue given. Durable is what the broker
// answered with SendOK, and nothing else: it also answers, without an error, that it could not flush in time or had no
// replica. An answer that the broker has no room comes before it stores anything and is queue.ErrFull.
// Everything else is unknown: a broker that was paused stores what it was sent, long after its senders gave up.
//
// The client bounds a send by three seconds of its own and its writes by two minutes. A send is therefore left to itself
// when its caller's time is up (it has a copy of the message), and a producer whose sends all run out of time is replaced:
// its connection may be one whose other end is gone.
//
// # Consuming
//
// By a small client of our own (link.go, calls.go): the consumers of rocketmq-client-go take 33 batches of every queue into
// memory whatever their limits say, commit without telling of failures, sleep for up to half a minute after a broker's
// restart, and each leave some sixty goroutines behind for a minute or more. A consumer here is one connection to the
// broker that has the topic:
//
//	away      no connection: name servers are asked for the broker, it is dialled, every pause
//	member    heartbeats tell the broker of us; its list of members, sorted, deals out the queues: the i-th to member i mod n
//	serving   per queue that is ours: settle (where to begin), then long polls, one after the other
//
// It goes from serving to away when its connection breaks or does not answer for answerMax. It keeps its queues then: what
// was delivered is not delivered again. A member that the broker does not list gives its queues up, if others are listed: those
// have them by now. An empty list is that of a broker that has just started.
//
// A queue's share of MemoryMax bounds what waits in memory for Receive; a poll is not sent before there is room.
//
// Ack notes the highest position per partition. It is committed within ackEvery, before a queue is given up and by Close;
// the broker writes offsets down every few seconds. Whoever is killed, or whose broker is, has messages of the last seconds
// delivered again. An offset is committed only if everything before it was acknowledged, or was so when the queue came to us:
// Ack is cumulative and polls leave nothing out. An acknowledgement of a queue that is another's by now is nobody's: the
// other one began at what was committed.
//
// # A log that has lost its end
//
// A broker that comes back without the end of its log gives the offsets of what it lost to other messages, while the
// committed offset still lies behind them: whoever went on from there would never see these. So a queue is settled before
// its first poll on a connection: where the broker has started since the queue was settled last, the first message that
// it has stored since then (the broker's clock, on both sides) is looked up, and delivery goes on from there if that is
// before the committed offset. (So its clock must not be set back just behind such a start; and where a replica takes over,
// everything since the replica's own start comes again.) The start of the broker for which this was done is itself kept as an offset, of a group of
// its own (NAME-orders-KIND-starts), with the number of such cuts: the era. A position is era << 40 | offset + 1, so that
// positions grow across a cut, and an acknowledgement of what was lost covers nothing that took its place.
//
// # Crash points
//
//	before the broker's answer to a send: unknown; the engine publishes again, the relay after a crash
//	between delivery and commit:          delivered again to the next consumer
//	between a cut's commit and its note:  the cut is found again, at the same place
//	broker killed:                        up to the last seconds of commits are repeated; with SYNC_FLUSH no message is lost
//
// # Several consumers
//
// The broker notices at once that a process has died, for its connection breaks, and after its idle time (its setting
// serverChannelMaxIdleTimeSeconds, 120 s if it is not set) that one is frozen: then the others take its queues over. While
// members change two may hold one queue for a moment. Both deliver it in order from a committed offset, so the only effect is
// that messages are delivered twice, and that offsets may be set back for the time between two heartbeats.
//
// A broker that hung may list a connection that has ended meanwhile for two minutes more (its setting channelExpiredTimeout):
// it takes a last heartbeat from it after it has noticed its end. The member must be one that lives, or its queues are read by
// nobody: who joins anew has a name of those who left (Queue.member). A process that dies while the broker hangs can cost its
// queues these two minutes.
//
// # Dead letters
//
// Not in the broker, which deletes by age: in whatever Options.Letters is.
//
// # Goroutines, limits, shutdown
//
// Per consumer: one that keeps its membership, one per queue that it serves, one that reads its connection. Per link (one per
// consumer, one for everything else): the reader. Per send: one, at most sendsMax at a time; what a broker that hangs holds up
// outlives Close. The producer of rocketmq-client-go has goroutines of its own that linger after Close for up to two minutes.
// Limits: MemoryMax for each consumer, sendsMax sends, MessageMax bytes a message. Close of a consumer ends its polls,
// commits, and waits for its goroutines; Close of the queue ends the producer and the link.
//
// Locks: consumer.mu and sender.mu, neither held across I/O; link.writing (one frame at a time).
package rocketqueue
