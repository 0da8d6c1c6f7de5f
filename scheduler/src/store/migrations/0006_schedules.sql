-- When jobs are made by themselves, and what became of each due time.

CREATE TABLE schedules (
    id          INTEGER PRIMARY KEY,
    name        TEXT    NOT NULL UNIQUE,
    spec        TEXT    NOT NULL,          -- JSON of ScheduleSpec
    paused      INTEGER NOT NULL,
    last_due    INTEGER NOT NULL,          -- the newest due time that was decided about; never goes back
    last_manual INTEGER NOT NULL,          -- the same of runs by hand
    runs        INTEGER NOT NULL           -- number of the newest run
);

-- One row a due time, written with its job in one transaction: the primary key is what makes it one job.
CREATE TABLE schedule_runs (
    schedule    INTEGER NOT NULL,          -- schedules.id
    due         INTEGER NOT NULL,
    state       TEXT    NOT NULL,          -- waiting submitted skipped
    number      INTEGER,
    job         INTEGER,                   -- jobs.seq
    reason      TEXT    NOT NULL,
    decided_at  INTEGER NOT NULL,
    late_start  INTEGER,                   -- noticed then
    late_finish INTEGER,
    PRIMARY KEY (schedule, due)
) WITHOUT ROWID;
