-- +goose Up

-- The feed of order events (feed.go): feed_n is the number, in the feed of this shard, of the last event that the row holds;
-- NULL: not numbered yet. The counters are the next number to give, and the next one to publish.
ALTER TABLE order_event ADD COLUMN feed_n INTEGER;
CREATE INDEX IF NOT EXISTS order_event_by_feed ON order_event (feed_n);

INSERT INTO counter (name, next) VALUES ('feed', 1), ('feed_published', 1) ON CONFLICT (name) DO NOTHING;
