-- +goose Up

-- As for SQLite; the comments are there. Each statement that changes a table commits by itself: this may run again after
-- the column was added.
SET @there = (SELECT COUNT(*) FROM information_schema.columns
    WHERE table_schema = DATABASE() AND table_name = 'order_event' AND column_name = 'feed_n');
SET @change = IF(@there = 0, 'ALTER TABLE order_event ADD COLUMN feed_n BIGINT, ADD KEY order_event_by_feed (feed_n)', 'DO 0');
PREPARE feed_change FROM @change;
EXECUTE feed_change;
DEALLOCATE PREPARE feed_change;

INSERT INTO counter (name, next) VALUES ('feed', 1), ('feed_published', 1) ON DUPLICATE KEY UPDATE next = next;
