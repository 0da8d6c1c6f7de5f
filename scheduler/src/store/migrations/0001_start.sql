-- The truth of a farm. Tasks are computed, never stored: a job of a million frames is a few rows until frames are done.

CREATE TABLE meta (key TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID;

CREATE TABLE functions (
    name     TEXT    NOT NULL,
    version  INTEGER NOT NULL,
    spec     TEXT    NOT NULL,             -- JSON of FunctionSpec
    added_at INTEGER NOT NULL,             -- milliseconds since 1970, as all times here
    PRIMARY KEY (name, version)
) WITHOUT ROWID;

CREATE TABLE projects (name TEXT PRIMARY KEY, weight INTEGER NOT NULL) WITHOUT ROWID;

CREATE TABLE jobs (
    seq          INTEGER PRIMARY KEY,      -- order of submission; the short name of the job in other tables
    id           TEXT    NOT NULL UNIQUE,  -- ULID
    name         TEXT    NOT NULL,
    project      TEXT    NOT NULL,
    priority     INTEGER NOT NULL,
    state        TEXT    NOT NULL,         -- queued running paused succeeded failed canceled
    labels       TEXT    NOT NULL,         -- JSON object
    spec         TEXT    NOT NULL,         -- JSON of JobSpec, as submitted, functions with their version
    submitted_at INTEGER NOT NULL,
    finished_at  INTEGER
);
CREATE INDEX jobs_by_state ON jobs (state, seq);
CREATE INDEX jobs_by_project ON jobs (project, seq);

CREATE TABLE steps (
    job    INTEGER NOT NULL,               -- jobs.seq
    step   INTEGER NOT NULL,               -- index in the job
    name   TEXT    NOT NULL,
    state  TEXT    NOT NULL,               -- blocked ready running succeeded failed canceled
    total  INTEGER NOT NULL,
    open   INTEGER NOT NULL,
    done   INTEGER NOT NULL,
    failed INTEGER NOT NULL,
    load_s REAL,
    task_s REAL,
    PRIMARY KEY (job, step)
) WITHOUT ROWID;

-- Which tasks are done: one row for each 4096 tasks, one bit a task, so that a restart reads kilobytes, not rows.
CREATE TABLE done_tasks (
    job     INTEGER NOT NULL,
    step    INTEGER NOT NULL,
    segment INTEGER NOT NULL,              -- task / 4096
    bits    BLOB    NOT NULL,              -- 512 bytes, least significant bit first
    PRIMARY KEY (job, step, segment)
) WITHOUT ROWID;

-- One committed result a task: the primary key is invariant 1.
CREATE TABLE results (
    job         INTEGER NOT NULL,
    step        INTEGER NOT NULL,
    task        INTEGER NOT NULL,
    key         TEXT    NOT NULL,          -- empty for a step without output
    sha256      BLOB    NOT NULL,
    size_bytes  INTEGER NOT NULL,
    width       INTEGER NOT NULL,
    height      INTEGER NOT NULL,
    device      TEXT    NOT NULL,
    renderer    TEXT    NOT NULL,
    chunk       INTEGER NOT NULL,
    attempt     INTEGER NOT NULL,
    elapsed_ms  INTEGER NOT NULL,
    memory_peak INTEGER NOT NULL,
    at          INTEGER NOT NULL,
    PRIMARY KEY (job, step, task)
) WITHOUT ROWID;

-- Tasks that failed for good.
CREATE TABLE failures (
    job      INTEGER NOT NULL,
    step     INTEGER NOT NULL,
    task     INTEGER NOT NULL,
    verdict  TEXT    NOT NULL,
    message  TEXT    NOT NULL,
    evidence TEXT    NOT NULL,
    chunk    INTEGER NOT NULL,
    attempt  INTEGER NOT NULL,
    at       INTEGER NOT NULL,
    PRIMARY KEY (job, step, task)
) WITHOUT ROWID;

-- Chunks with a history: held by a worker, or waiting to be tried again.
CREATE TABLE chunks (
    id      INTEGER PRIMARY KEY,
    job     INTEGER NOT NULL,
    step    INTEGER NOT NULL,
    tasks   TEXT    NOT NULL,              -- JSON [[first, end], …]
    attempt INTEGER NOT NULL,
    spent   INTEGER NOT NULL,
    losses  INTEGER NOT NULL,
    worker  TEXT,                          -- the holder; NULL while it waits
    avoid   TEXT,
    since   INTEGER NOT NULL,              -- held since, or not to be offered before
    done    INTEGER NOT NULL,              -- tasks of the attempt that holds it, so far
    failed  INTEGER NOT NULL
);

CREATE TABLE attempts (
    chunk      INTEGER NOT NULL,
    attempt    INTEGER NOT NULL,
    job        INTEGER NOT NULL,
    step       INTEGER NOT NULL,
    worker     TEXT    NOT NULL,
    tasks      TEXT    NOT NULL,           -- JSON [[first, end], …], as claimed
    outcome    TEXT    NOT NULL,           -- running finished handed_back canceled license_wait lost
    done       INTEGER NOT NULL,
    failed     INTEGER NOT NULL,
    log_bytes  INTEGER NOT NULL,
    started_at INTEGER NOT NULL,
    ended_at   INTEGER,
    PRIMARY KEY (chunk, attempt)
) WITHOUT ROWID;
CREATE INDEX attempts_by_job ON attempts (job, chunk, attempt);

-- What people follow. Pruned: see EVENTS_KEPT_MAX.
CREATE TABLE events (
    seq  INTEGER PRIMARY KEY AUTOINCREMENT,
    job  INTEGER NOT NULL,
    at   INTEGER NOT NULL,
    body TEXT    NOT NULL                  -- JSON of api::Happening
);
CREATE INDEX events_by_job ON events (job, seq);

CREATE TABLE idempotency (
    key         TEXT PRIMARY KEY,
    body_sha256 BLOB    NOT NULL,
    job         INTEGER NOT NULL,
    at          INTEGER NOT NULL
) WITHOUT ROWID;
CREATE INDEX idempotency_by_age ON idempotency (at);
