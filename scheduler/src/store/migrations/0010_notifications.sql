-- Who is told of what, and what is to be told yet.

CREATE TABLE notify_targets (
    id           INTEGER PRIMARY KEY,
    name         TEXT    NOT NULL UNIQUE,
    spec         TEXT    NOT NULL,         -- JSON of TargetSpec, with its secrets
    delivered_at INTEGER,
    failed_at    INTEGER,
    failure      TEXT    NOT NULL          -- why the last try failed
);

-- What was delivered has no row any more.
CREATE TABLE notifications (
    seq         INTEGER PRIMARY KEY,
    id          TEXT    NOT NULL UNIQUE,   -- ULID, the same at every try
    target      INTEGER NOT NULL,          -- notify_targets.id
    notice      TEXT    NOT NULL,          -- JSON of Notice
    made_at     INTEGER NOT NULL,
    since       INTEGER NOT NULL,          -- made or sent again then: it is tried for a while from here
    tries       INTEGER NOT NULL,
    due_at      INTEGER,                   -- the next try; NULL: it was given up
    given_up_at INTEGER,
    reason      TEXT    NOT NULL           -- why the last try failed
);
CREATE INDEX notifications_due ON notifications (target, due_at, seq) WHERE due_at IS NOT NULL;
CREATE INDEX notifications_dead ON notifications (target, seq) WHERE due_at IS NULL;

-- Jobs that are not over and of which an error was told.
CREATE TABLE first_errors (job INTEGER PRIMARY KEY);
