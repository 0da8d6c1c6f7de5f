-- What OpenFaaS clients deployed, and who is to be told of what they called.

CREATE TABLE deployments (
    function   TEXT PRIMARY KEY,
    version    INTEGER NOT NULL,           -- of the function
    body       TEXT,                       -- JSON as it was sent; NULL: removed, so that its name may be used again
    created_at INTEGER NOT NULL
) WITHOUT ROWID;

-- Workers that stay with work or without; without a row, none.
CREATE TABLE kept_workers (function TEXT PRIMARY KEY, workers INTEGER NOT NULL) WITHOUT ROWID;

-- Calls whose caller wants the answer sent. What was delivered or given up has no row any more.
CREATE TABLE callbacks (
    job      INTEGER PRIMARY KEY,          -- jobs.seq
    call     TEXT    NOT NULL,             -- id of the call
    function TEXT    NOT NULL,
    url      TEXT    NOT NULL,
    began_at INTEGER NOT NULL,
    tries    INTEGER NOT NULL,
    due_at   INTEGER NOT NULL              -- not before, once the job is over
);
