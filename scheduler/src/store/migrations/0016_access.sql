-- Who may do what over HTTP, and who changed what.

CREATE TABLE tokens (
    id         TEXT PRIMARY KEY,           -- 12 hexadecimal digits; said in lists and logs
    sha256     BLOB    NOT NULL,           -- of the whole token, which is nowhere
    name       TEXT    NOT NULL,
    role       TEXT    NOT NULL,           -- viewer artist operator admin
    project    TEXT,                       -- NULL: all
    made_at    INTEGER NOT NULL,
    made_by    TEXT    NOT NULL,
    expires_at INTEGER,                    -- NULL: when it is revoked
    used_at    INTEGER                     -- to within a few minutes
) WITHOUT ROWID;

-- Pruned: see AUDIT_KEPT_MAX.
CREATE TABLE audit (
    seq     INTEGER PRIMARY KEY AUTOINCREMENT,
    bulk    INTEGER NOT NULL,              -- 1: of those that come in great numbers, which must not push the others out
    at      INTEGER NOT NULL,
    who     TEXT    NOT NULL,
    token   TEXT    NOT NULL,              -- empty: none was asked for
    peer    TEXT    NOT NULL,
    action  TEXT    NOT NULL,
    subject TEXT    NOT NULL,
    project TEXT,                          -- NULL: of the farm
    before  TEXT    NOT NULL,              -- JSON, cut
    after   TEXT    NOT NULL,
    request TEXT    NOT NULL
);
CREATE INDEX audit_by_kind ON audit (bulk, seq);
CREATE INDEX audit_by_project ON audit (project, seq);

-- Which project has sent an input, byte for byte: knowing its digest is not having it.
CREATE TABLE input_owners (
    project TEXT NOT NULL,
    sha256  BLOB NOT NULL,
    PRIMARY KEY (project, sha256)
) WITHOUT ROWID;
