-- What workers are paid for, and by which prices.

-- Rows of the price table. Never changed: what was paid by a row stays true.
CREATE TABLE prices (
    id             INTEGER PRIMARY KEY,
    provider       TEXT    NOT NULL,           -- aws, gcp, …; own for a price that somebody set
    instance_type  TEXT    NOT NULL,
    gpu            TEXT    NOT NULL,           -- L4; empty for a machine without one
    gpu_count      INTEGER NOT NULL,
    market         TEXT    NOT NULL,           -- on-demand spot
    region         TEXT    NOT NULL,
    micros         INTEGER NOT NULL,           -- millionths an hour
    currency       TEXT    NOT NULL,
    as_of          INTEGER NOT NULL,           -- days since 1970
    source         TEXT    NOT NULL,
    added_at       INTEGER NOT NULL
);
CREATE UNIQUE INDEX prices_once ON prices (provider, instance_type, gpu, gpu_count, market, region, as_of, micros, currency);

-- Which row workers are paid by, from a day on.
CREATE TABLE paid_by (
    paid_for TEXT    NOT NULL,                 -- any, gpu:L4, function:NAME
    since    INTEGER NOT NULL,                 -- days since 1970
    price    INTEGER NOT NULL,                 -- prices.id
    PRIMARY KEY (paid_for, since)
) WITHOUT ROWID;

-- Workers that are paid, and how far their time is accounted for.
CREATE TABLE accounts (
    worker    TEXT    PRIMARY KEY,
    function  TEXT    NOT NULL,
    version   INTEGER NOT NULL,
    gpu       TEXT    NOT NULL,                -- its model; empty for none
    opened_at INTEGER NOT NULL,
    until     INTEGER NOT NULL,
    doing     TEXT    NOT NULL,                -- starting idle working silent
    spoke_at  INTEGER,                         -- of a starting one
    chunk     INTEGER,                         -- of a working one
    attempt   INTEGER,
    upload_ms INTEGER NOT NULL,
    job       TEXT,                            -- jobs.id; the work at hand, or the last
    step      INTEGER,
    project   TEXT
) WITHOUT ROWID;

-- Paid time by cause. Totals, not attempts: a job of a million frames has some dozens of rows.
CREATE TABLE time_of_jobs (
    job     INTEGER NOT NULL,                  -- jobs.seq
    step    INTEGER NOT NULL,
    cause   TEXT    NOT NULL,
    price   INTEGER NOT NULL,                  -- prices.id; 0: unknown
    time_us INTEGER NOT NULL,
    PRIMARY KEY (job, step, cause, price)
) WITHOUT ROWID;

CREATE TABLE time_of_days (
    day      INTEGER NOT NULL,                 -- days since 1970, UTC
    project  TEXT    NOT NULL,                 -- empty: of workers that did nothing
    function TEXT    NOT NULL,                 -- name@version
    gpu      TEXT    NOT NULL,
    cause    TEXT    NOT NULL,
    price    INTEGER NOT NULL,
    time_us  INTEGER NOT NULL,
    PRIMARY KEY (day, project, function, gpu, cause, price)
) WITHOUT ROWID;
