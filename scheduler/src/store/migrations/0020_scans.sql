-- What a scanner said of the images of versions, and versions that are not active for it.

CREATE TABLE scans (
    name     TEXT    NOT NULL,             -- of the function
    version  INTEGER NOT NULL,
    spec     TEXT,                         -- JSON of a version that is not active; NULL: it is in functions
    deployed TEXT,                         -- JSON of what is deployed with it once it is active
    added_at INTEGER NOT NULL,
    waits    INTEGER NOT NULL,             -- 1: its scan is to come, or goes on
    view     TEXT    NOT NULL,             -- JSON: what was found
    PRIMARY KEY (name, version)
) WITHOUT ROWID;
