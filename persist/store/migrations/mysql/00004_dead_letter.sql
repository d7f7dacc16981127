-- +goose Up

-- As for SQLite; the comments are there.
CREATE TABLE IF NOT EXISTS dead_letter (
    p        INT        NOT NULL,
    position BIGINT     NOT NULL,
    at       BIGINT     NOT NULL,
    reason   TEXT       NOT NULL,
    body     MEDIUMBLOB NOT NULL,
    PRIMARY KEY (p, position)
) ENGINE=InnoDB DEFAULT CHARSET=utf8mb4 COLLATE=utf8mb4_bin;
