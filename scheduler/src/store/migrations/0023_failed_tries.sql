-- Tries that failed, counted by minute, function, project and cause, with the last of each: the overview shows the last hour's.

CREATE TABLE failed_tries (
    minute   INTEGER NOT NULL,             -- since 1970
    function TEXT    NOT NULL,             -- with its version
    project  TEXT    NOT NULL,
    cause    TEXT    NOT NULL,             -- a verdict; empty: its worker was lost
    tries    INTEGER NOT NULL,
    job      INTEGER NOT NULL,             -- jobs.seq; from here on of the last of them
    step     INTEGER NOT NULL,
    chunk    INTEGER NOT NULL,
    attempt  INTEGER NOT NULL,
    message  TEXT    NOT NULL,
    at       INTEGER NOT NULL,
    PRIMARY KEY (minute, function, project, cause)
) WITHOUT ROWID;
