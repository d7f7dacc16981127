package persist

import (
	"context"
	"errors"
	"fmt"

	"sluice/engine/order"
	"sluice/engine/queue"
	"sluice/persist/store"
)

// ErrTooLate says that a dead letter's epoch is recorded already: what comes of it now writes nothing, for ever after.
var ErrTooLate = errors.New("its epoch is recorded: nothing of it would be stored any more")

// ReplayLetter puts a dead letter through the decoder again: a later program may read what an earlier one could not. If
// it decodes it is published as it is to the queue of the partition that it names, and then dropped. A process that dies
// between the two leaves the letter, and a second copy is harmless: claims are keyed by batch. effect says in words what
// will become of the message. queue.ErrNoLetter, order.ErrDamaged, order.ErrVersion, *store.AheadError and ErrTooLate say
// that the letter was kept and nothing was published; with any other error it may have been published.
func (p *Persist) ReplayLetter(ctx context.Context, id queue.LetterID) (effect string, err error) {
	letter, err := queue.FindLetter(ctx, p.queue, id)
	if err == nil && letter == nil {
		err = queue.ErrNoLetter
	}
	if err != nil {
		return "", fmt.Errorf("dead letter %s: %w", id, err)
	}
	m, err := order.DecodeMessage(letter.Body)
	if err == nil && int(m.Partition) >= p.store.Partitions().Count() {
		err = fmt.Errorf("%w: it belongs to partition %d of another deployment", order.ErrDamaged, m.Partition)
	}
	if err == nil {
		effect, err = p.foresee(ctx, m)
	}
	if err != nil {
		return "", fmt.Errorf("dead letter %s: %w", id, err)
	}
	if err := p.queue.Publish(ctx, m.Partition, letter.Body); err != nil {
		return "", fmt.Errorf("publish dead letter %s: %w", id, err)
	}
	if err := p.queue.Drop(ctx, id); err != nil {
		return "", fmt.Errorf("dead letter %s was published: %w", id, err)
	}
	p.log.Info("dead letter replayed", "letter", id.String(), "partition", m.Partition, "orders", len(m.Records), "effect", effect)
	return effect, nil
}

// foresee says what the claim will make of a message, as the partition's row is now.
func (p *Persist) foresee(ctx context.Context, m *order.Message) (string, error) {
	parts, _, err := p.store.Parts(ctx, p.store.Home(m.Partition))
	if err != nil {
		return "", err
	}
	var part store.Part
	for i := range parts {
		if parts[i].Partition == m.Partition {
			part = parts[i]
		}
	}
	switch {
	case m.Epoch > part.Epoch:
		return "", &store.AheadError{Partition: m.Partition, Message: m.Epoch, Reached: part.Epoch}
	case m.Kind == order.BarrierMessage:
		return "it is a barrier: it holds no orders", nil
	case m.Epoch < part.Recorded:
		return "", ErrTooLate
	case m.Epoch < part.Barrier:
		return fmt.Sprintf("its epoch has ended: %d orders are stored as rejected (cut), unless its batch was claimed before", len(m.Records)), nil
	}
	return fmt.Sprintf("%d orders are claimed and stored like any others", len(m.Records)), nil
}
