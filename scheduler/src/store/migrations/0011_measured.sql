-- What was measured of scenes, for estimates and for the GPUs of the next job; and what projects may cost.

CREATE TABLE measured (
    look        TEXT    NOT NULL,              -- digest of function, inputs and parameters, without the size of the image
    pixels      INTEGER NOT NULL,              -- of the image; 0 where the parameters don't say
    figures     TEXT    NOT NULL,              -- JSON: counts, sums and sums of squares
    vram_floor  INTEGER NOT NULL,              -- as in steps
    vram_peak   INTEGER NOT NULL,
    vram_enough INTEGER,
    last_at     INTEGER NOT NULL,              -- the oldest go when there are too many
    PRIMARY KEY (look, pixels)
) WITHOUT ROWID;
CREATE INDEX measured_by_age ON measured (last_at);

CREATE TABLE budgets (
    project     TEXT    NOT NULL,
    period      TEXT    NOT NULL,              -- month total
    micros      INTEGER NOT NULL,
    currency    TEXT    NOT NULL,
    warn        INTEGER NOT NULL,              -- percent of the limit
    at_limit    TEXT    NOT NULL,              -- warn hold finish
    told        TEXT    NOT NULL,              -- what people were told last: fine warned used_up
    told_period INTEGER NOT NULL,              -- and of which month, counted from year 0; 0 for a total
    PRIMARY KEY (project, period)
) WITHOUT ROWID;
