-- +goose Up

-- The index of orders by user and key, kept by hand (keys.go): order_key is what was merged, order_key_run what was not
-- yet, one row per recording transaction. key_hash is 0 for an order that holds no client's key.
CREATE TABLE IF NOT EXISTS order_key (
    user_id  INTEGER NOT NULL,
    key_hash INTEGER NOT NULL,
    order_id INTEGER NOT NULL,
    PRIMARY KEY (user_id, key_hash, order_id)
) WITHOUT ROWID;

CREATE TABLE IF NOT EXISTS order_key_run (
    n       INTEGER NOT NULL PRIMARY KEY,
    entries BLOB    NOT NULL
);

INSERT INTO order_key (user_id, key_hash, order_id)
SELECT user_id, coalesce(key_hash, 0), order_id FROM orders ORDER BY 1, 2, 3;

DROP INDEX IF EXISTS orders_by_user_key;
