-- Workers that ended lately: what they were given may be good for a while, and counts for nothing.

CREATE TABLE ended_workers (
    seq      INTEGER PRIMARY KEY,              -- the oldest go when there are too many
    worker   TEXT    NOT NULL UNIQUE,
    ended_at INTEGER NOT NULL,
    for_good INTEGER NOT NULL                  -- 1: its place said so, and nobody comes under this name again
);
