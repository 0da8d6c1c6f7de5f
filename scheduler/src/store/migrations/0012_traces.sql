-- Where jobs belong in traces, so that what is sent after a crash hangs where it would have hung. Only of jobs that are
-- traced, and only while traces are on.
CREATE TABLE traces (
    job    INTEGER PRIMARY KEY,            -- jobs.seq
    trace  TEXT    NOT NULL,               -- 32 hexadecimal digits
    parent TEXT,                           -- the span that the job's hangs under, 16 hexadecimal digits; NULL: none
    since  INTEGER NOT NULL                -- when the job's span begins: submitted, or tried again
);
