-- Which pool paid time was spent in. What was counted before is of no pool: where it was spent was not kept.

ALTER TABLE accounts ADD COLUMN pool TEXT;      -- NULL: not known, as of a worker that a person started

CREATE TABLE time_of_jobs_by_pool (
    job     INTEGER NOT NULL,                  -- jobs.seq
    step    INTEGER NOT NULL,
    pool    TEXT    NOT NULL,                  -- empty: not known
    cause   TEXT    NOT NULL,
    price   INTEGER NOT NULL,                  -- prices.id; 0: unknown
    time_us INTEGER NOT NULL,
    PRIMARY KEY (job, step, pool, cause, price)
) WITHOUT ROWID;
INSERT INTO time_of_jobs_by_pool SELECT job, step, '', cause, price, time_us FROM time_of_jobs;
DROP TABLE time_of_jobs;
ALTER TABLE time_of_jobs_by_pool RENAME TO time_of_jobs;

CREATE TABLE time_of_days_by_pool (
    day      INTEGER NOT NULL,                 -- days since 1970, UTC
    project  TEXT    NOT NULL,                 -- empty: of workers that did nothing
    function TEXT    NOT NULL,                 -- name@version
    pool     TEXT    NOT NULL,                 -- empty: not known
    gpu      TEXT    NOT NULL,
    cause    TEXT    NOT NULL,
    price    INTEGER NOT NULL,
    time_us  INTEGER NOT NULL,
    PRIMARY KEY (day, project, function, pool, gpu, cause, price)
) WITHOUT ROWID;
INSERT INTO time_of_days_by_pool SELECT day, project, function, '', gpu, cause, price, time_us FROM time_of_days;
DROP TABLE time_of_days;
ALTER TABLE time_of_days_by_pool RENAME TO time_of_days;
