-- How workers were lost, and the places that are set aside for failing what others render.

-- JSON of the last losses, oldest first: {attempt: [chunk, number], worker, places, at, how}.
ALTER TABLE chunks ADD COLUMN lost TEXT NOT NULL DEFAULT '[]';

-- How the worker was lost, in words; empty for every other outcome.
ALTER TABLE attempts ADD COLUMN reason TEXT NOT NULL DEFAULT '';

-- Places that are set aside, or were lately.
CREATE TABLE places (
    name      TEXT    PRIMARY KEY,         -- a machine, or machine/GPU
    since     INTEGER NOT NULL,
    until     INTEGER NOT NULL,            -- to be tried again from then on
    times     INTEGER NOT NULL,            -- in a row; each lasts twice as long
    reason    TEXT    NOT NULL,
    proven_at INTEGER                      -- it was tried again and worked; NULL before
) WITHOUT ROWID;
