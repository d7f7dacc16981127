-- +goose Up

-- The same tables as for SQLite, in the subset that MySQL 8 and MariaDB 10.11 share; the comments are there.
-- Text compares by bytes (utf8mb4_bin): keys, groups and SKUs are case-sensitive.

CREATE TABLE IF NOT EXISTS fact (
    name  VARCHAR(64) NOT NULL PRIMARY KEY,
    value TEXT        NOT NULL
) ENGINE=InnoDB DEFAULT CHARSET=utf8mb4 COLLATE=utf8mb4_bin;

CREATE TABLE IF NOT EXISTS counter (
    name VARCHAR(64) NOT NULL PRIMARY KEY,
    next BIGINT      NOT NULL
) ENGINE=InnoDB DEFAULT CHARSET=utf8mb4 COLLATE=utf8mb4_bin;

CREATE TABLE IF NOT EXISTS node (
    n        INT          NOT NULL PRIMARY KEY,
    owner    VARCHAR(200) NOT NULL,
    since_at BIGINT       NOT NULL,
    until_at BIGINT       NOT NULL
) ENGINE=InnoDB DEFAULT CHARSET=utf8mb4 COLLATE=utf8mb4_bin;

CREATE TABLE IF NOT EXISTS part (
    p          INT    NOT NULL PRIMARY KEY,
    epoch      BIGINT NOT NULL,
    barrier    BIGINT NOT NULL,
    recorded   BIGINT NOT NULL,
    logged     BIGINT NOT NULL,
    wanted     BIGINT NOT NULL,
    busy_until BIGINT NOT NULL,
    settled_at BIGINT NOT NULL
) ENGINE=InnoDB DEFAULT CHARSET=utf8mb4 COLLATE=utf8mb4_bin;

CREATE TABLE IF NOT EXISTS offer (
    offer_id      BIGINT       NOT NULL PRIMARY KEY,
    p             INT          NOT NULL,
    shop_id       BIGINT       NOT NULL,
    group_id      VARCHAR(64)  NOT NULL,
    sku           VARCHAR(64)  NOT NULL,
    title         VARCHAR(200) NOT NULL,
    kind          VARCHAR(8)   NOT NULL,
    price_version INT          NOT NULL,
    currency      CHAR(3)      NOT NULL,
    lim           INT          NOT NULL,
    opens_at      BIGINT       NOT NULL,
    closes_at     BIGINT       NOT NULL,
    created_n     BIGINT       NOT NULL,
    KEY offer_by_partition (p, offer_id)
) ENGINE=InnoDB DEFAULT CHARSET=utf8mb4 COLLATE=utf8mb4_bin;

CREATE TABLE IF NOT EXISTS offer_price (
    offer_id   BIGINT NOT NULL,
    version    INT    NOT NULL,
    unit_price BIGINT NOT NULL,
    since_at   BIGINT NOT NULL,
    PRIMARY KEY (offer_id, version)
) ENGINE=InnoDB DEFAULT CHARSET=utf8mb4 COLLATE=utf8mb4_bin;

CREATE TABLE IF NOT EXISTS offer_stock (
    offer_id     BIGINT NOT NULL PRIMARY KEY,
    total        BIGINT NOT NULL,
    total_wanted BIGINT NOT NULL,
    sold         BIGINT NOT NULL,
    CHECK (0 <= sold AND sold <= total)
) ENGINE=InnoDB DEFAULT CHARSET=utf8mb4 COLLATE=utf8mb4_bin;

CREATE TABLE IF NOT EXISTS buyer (
    offer_id BIGINT NOT NULL,
    user_id  BIGINT NOT NULL,
    units    BIGINT NOT NULL,
    lim      BIGINT NOT NULL,
    PRIMARY KEY (offer_id, user_id),
    CHECK (0 <= units AND units <= lim)
) ENGINE=InnoDB DEFAULT CHARSET=utf8mb4 COLLATE=utf8mb4_bin;

CREATE TABLE IF NOT EXISTS claimed_batch (
    p        INT    NOT NULL,
    batch_id BIGINT NOT NULL,
    epoch    BIGINT NOT NULL,
    rejects  BLOB,
    PRIMARY KEY (p, batch_id),
    KEY claimed_batch_by_epoch (p, epoch)
) ENGINE=InnoDB DEFAULT CHARSET=utf8mb4 COLLATE=utf8mb4_bin;

CREATE TABLE IF NOT EXISTS stock_log (
    p     INT        NOT NULL,
    n     BIGINT     NOT NULL,
    cause VARCHAR(64),
    items MEDIUMBLOB NOT NULL,
    PRIMARY KEY (p, n),
    UNIQUE KEY stock_log_by_cause (cause)
) ENGINE=InnoDB DEFAULT CHARSET=utf8mb4 COLLATE=utf8mb4_bin;

CREATE TABLE IF NOT EXISTS parked (
    order_id BIGINT      NOT NULL,
    batch_id BIGINT      NOT NULL,
    shard    INT         NOT NULL,
    p        INT         NOT NULL,
    epoch    BIGINT      NOT NULL,
    status   VARCHAR(20) NOT NULL,
    reason   VARCHAR(20) NOT NULL,
    error    TEXT        NOT NULL,
    bytes    MEDIUMBLOB  NOT NULL,
    PRIMARY KEY (order_id, batch_id),
    KEY parked_by_shard (shard, order_id)
) ENGINE=InnoDB DEFAULT CHARSET=utf8mb4 COLLATE=utf8mb4_bin;

CREATE TABLE IF NOT EXISTS orders (
    order_id     BIGINT      NOT NULL PRIMARY KEY,
    batch_id     BIGINT      NOT NULL,
    epoch        BIGINT      NOT NULL,
    user_id      BIGINT      NOT NULL,
    shop_id      BIGINT      NOT NULL,
    group_id     VARCHAR(64) NOT NULL,
    idem_key     VARCHAR(64) NOT NULL,
    key_hash     BIGINT,
    fingerprint  BIGINT      NOT NULL,
    kind         VARCHAR(8)  NOT NULL,
    status       VARCHAR(20) NOT NULL,
    reason       VARCHAR(20) NOT NULL,
    duplicate_of BIGINT      NOT NULL,
    goods        BIGINT      NOT NULL,
    discount     BIGINT      NOT NULL,
    freight      BIGINT      NOT NULL,
    amount       BIGINT      NOT NULL,
    currency     CHAR(3)     NOT NULL,
    items        BLOB        NOT NULL,
    details      BLOB,
    unpaid_until BIGINT,
    created_at   BIGINT      NOT NULL,
    updated_at   BIGINT      NOT NULL,
    paid_at      BIGINT      NOT NULL,
    UNIQUE KEY orders_by_user_key (user_id, key_hash),
    KEY orders_by_unpaid_until (unpaid_until)
) ENGINE=InnoDB DEFAULT CHARSET=utf8mb4 COLLATE=utf8mb4_bin;

CREATE TABLE IF NOT EXISTS order_event (
    order_id BIGINT      NOT NULL,
    n        INT         NOT NULL,
    at       BIGINT      NOT NULL,
    type     VARCHAR(20) NOT NULL,
    actor    VARCHAR(64) NOT NULL,
    data     BLOB,
    due      BIGINT,
    PRIMARY KEY (order_id, n),
    KEY order_event_by_due (due)
) ENGINE=InnoDB DEFAULT CHARSET=utf8mb4 COLLATE=utf8mb4_bin;
