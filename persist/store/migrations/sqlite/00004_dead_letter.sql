-- +goose Up

-- Damaged messages of a queue that has no place of its own for them, on shard 0 (letters.go). at in Unix milliseconds.
CREATE TABLE IF NOT EXISTS dead_letter (
    p        INTEGER NOT NULL,
    position INTEGER NOT NULL,
    at       INTEGER NOT NULL,
    reason   TEXT    NOT NULL,
    body     BLOB    NOT NULL,
    PRIMARY KEY (p, position)
) WITHOUT ROWID;
