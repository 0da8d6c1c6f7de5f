-- How workers came, and what was learned of that: starts, tasks, and the last runs of schedules.

CREATE TABLE starts (
    seq      INTEGER PRIMARY KEY,              -- the oldest go when there are too many
    worker   TEXT    NOT NULL UNIQUE,
    function TEXT    NOT NULL,                 -- with its version
    pool     TEXT,                             -- NULL: people started it
    points   TEXT    NOT NULL,                 -- JSON: by the name of a point, milliseconds since 1970
    counted  TEXT,                             -- phases up to this point are in the metrics
    ended_at INTEGER,                          -- NULL: its end was not told
    reason   TEXT    NOT NULL                  -- how it ended, in words
);

CREATE TABLE learned_starts (
    function   TEXT    NOT NULL,               -- with its version
    pool       TEXT    NOT NULL,
    took       TEXT    NOT NULL,               -- JSON: milliseconds of the last starts, oldest first
    phases     TEXT    NOT NULL,               -- JSON: the same, by the name of a phase
    failures   INTEGER NOT NULL,               -- in a row
    not_before INTEGER,
    last_until INTEGER,                        -- other pools are tried first
    reason     TEXT    NOT NULL,               -- of the last that failed
    PRIMARY KEY (function, pool)
) WITHOUT ROWID;

CREATE TABLE learned_timings (
    function TEXT PRIMARY KEY,                 -- with its version
    load_s   REAL,
    task_s   REAL
) WITHOUT ROWID;

CREATE TABLE learned_runs (
    schedule INTEGER NOT NULL,
    step     INTEGER NOT NULL,
    task_s   REAL    NOT NULL,                 -- what a task took in the last run
    PRIMARY KEY (schedule, step)
) WITHOUT ROWID;
