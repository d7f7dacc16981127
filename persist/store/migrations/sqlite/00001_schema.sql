-- +goose Up

-- Every shard has both sides: the stock side for its partitions (home) and the order side for its users.
-- Ids and 64-bit hashes are signed here: the program converts. Times are milliseconds since 1970, amounts minor units.

CREATE TABLE IF NOT EXISTS fact (
    name  TEXT NOT NULL PRIMARY KEY,
    value TEXT NOT NULL
) WITHOUT ROWID;

-- Shard 0 only: the next free offer id, and who may put which node number into order ids, and when.
CREATE TABLE IF NOT EXISTS counter (
    name TEXT    NOT NULL PRIMARY KEY,
    next INTEGER NOT NULL
) WITHOUT ROWID;

CREATE TABLE IF NOT EXISTS node (
    n        INTEGER NOT NULL PRIMARY KEY,
    owner    TEXT    NOT NULL,
    since_at INTEGER NOT NULL,
    until_at INTEGER NOT NULL
);

CREATE TABLE IF NOT EXISTS part (
    p          INTEGER NOT NULL PRIMARY KEY,
    epoch      INTEGER NOT NULL,
    barrier    INTEGER NOT NULL,
    recorded   INTEGER NOT NULL,
    logged     INTEGER NOT NULL,
    wanted     INTEGER NOT NULL,
    busy_until INTEGER NOT NULL,
    settled_at INTEGER NOT NULL
);

CREATE TABLE IF NOT EXISTS offer (
    offer_id      INTEGER NOT NULL PRIMARY KEY,
    p             INTEGER NOT NULL,
    shop_id       INTEGER NOT NULL,
    group_id      TEXT    NOT NULL,
    sku           TEXT    NOT NULL,
    title         TEXT    NOT NULL,
    kind          TEXT    NOT NULL,
    price_version INTEGER NOT NULL,
    currency      TEXT    NOT NULL,
    lim           INTEGER NOT NULL,
    opens_at      INTEGER NOT NULL,
    closes_at     INTEGER NOT NULL,
    created_n     INTEGER NOT NULL
);
CREATE INDEX IF NOT EXISTS offer_by_partition ON offer (p, offer_id);

CREATE TABLE IF NOT EXISTS offer_price (
    offer_id   INTEGER NOT NULL,
    version    INTEGER NOT NULL,
    unit_price INTEGER NOT NULL,
    since_at   INTEGER NOT NULL,
    PRIMARY KEY (offer_id, version)
) WITHOUT ROWID;

CREATE TABLE IF NOT EXISTS offer_stock (
    offer_id     INTEGER NOT NULL PRIMARY KEY,
    total        INTEGER NOT NULL,
    total_wanted INTEGER NOT NULL,
    sold         INTEGER NOT NULL,
    CHECK (0 <= sold AND sold <= total)
);

-- Limited offers only. lim repeats the offer's limit so that the row itself refuses a unit too many.
CREATE TABLE IF NOT EXISTS buyer (
    offer_id INTEGER NOT NULL,
    user_id  INTEGER NOT NULL,
    units    INTEGER NOT NULL,
    lim      INTEGER NOT NULL,
    PRIMARY KEY (offer_id, user_id),
    CHECK (0 <= units AND units <= lim)
) WITHOUT ROWID;

-- rejects is NULL, or JSON: reason to the indexes of the orders rejected for it.
CREATE TABLE IF NOT EXISTS claimed_batch (
    p        INTEGER NOT NULL,
    batch_id INTEGER NOT NULL,
    epoch    INTEGER NOT NULL,
    rejects  BLOB,
    PRIMARY KEY (p, batch_id)
) WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS claimed_batch_by_epoch ON claimed_batch (p, epoch);

-- cause is what makes a repeated give-back a no-op; rows that cannot be repeated have none.
CREATE TABLE IF NOT EXISTS stock_log (
    p     INTEGER NOT NULL,
    n     INTEGER NOT NULL,
    cause TEXT,
    items BLOB    NOT NULL,
    PRIMARY KEY (p, n)
) WITHOUT ROWID;
CREATE UNIQUE INDEX IF NOT EXISTS stock_log_by_cause ON stock_log (cause) WHERE cause IS NOT NULL;

-- Accepted orders whose user shard is down; error is not empty for an order that its shard refuses.
CREATE TABLE IF NOT EXISTS parked (
    order_id INTEGER NOT NULL,
    batch_id INTEGER NOT NULL,
    shard    INTEGER NOT NULL,
    p        INTEGER NOT NULL,
    epoch    INTEGER NOT NULL,
    status   TEXT    NOT NULL,
    reason   TEXT    NOT NULL,
    error    TEXT    NOT NULL,
    bytes    BLOB    NOT NULL,
    PRIMARY KEY (order_id, batch_id)
) WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS parked_by_shard ON parked (shard, order_id);

-- Two indexes besides the key and no third: random ones are the largest cost of the whole path.
-- key_hash is NULL for an order without a client's key and for a rejected one.
CREATE TABLE IF NOT EXISTS orders (
    order_id     INTEGER NOT NULL PRIMARY KEY,
    batch_id     INTEGER NOT NULL,
    epoch        INTEGER NOT NULL,
    user_id      INTEGER NOT NULL,
    shop_id      INTEGER NOT NULL,
    group_id     TEXT    NOT NULL,
    idem_key     TEXT    NOT NULL,
    key_hash     INTEGER,
    fingerprint  INTEGER NOT NULL,
    kind         TEXT    NOT NULL,
    status       TEXT    NOT NULL,
    reason       TEXT    NOT NULL,
    duplicate_of INTEGER NOT NULL,
    goods        INTEGER NOT NULL,
    discount     INTEGER NOT NULL,
    freight      INTEGER NOT NULL,
    amount       INTEGER NOT NULL,
    currency     TEXT    NOT NULL,
    items        BLOB    NOT NULL,
    details      BLOB,
    unpaid_until INTEGER,
    created_at   INTEGER NOT NULL,
    updated_at   INTEGER NOT NULL,
    paid_at      INTEGER NOT NULL
);
CREATE UNIQUE INDEX IF NOT EXISTS orders_by_user_key ON orders (user_id, key_hash);
CREATE INDEX IF NOT EXISTS orders_by_unpaid_until ON orders (unpaid_until) WHERE unpaid_until IS NOT NULL;

-- Audit trail and outbox. due is NULL once the event is handled.
CREATE TABLE IF NOT EXISTS order_event (
    order_id INTEGER NOT NULL,
    n        INTEGER NOT NULL,
    at       INTEGER NOT NULL,
    type     TEXT    NOT NULL,
    actor    TEXT    NOT NULL,
    data     BLOB,
    due      INTEGER,
    PRIMARY KEY (order_id, n)
) WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS order_event_by_due ON order_event (due) WHERE due IS NOT NULL;
