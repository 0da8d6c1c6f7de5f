-- Sessions of pages, so that a restart of the scheduler logs nobody out. Nothing here opens one: the cookie is nowhere.

CREATE TABLE sessions (
    sha256   BLOB PRIMARY KEY,             -- of the cookie
    token    TEXT    NOT NULL,             -- id of the token that it stands for, or of the session of somebody who has none
    person   TEXT,                         -- JSON: who logged in by a provider of identities; NULL: it stands for the token
    begun_at INTEGER NOT NULL,
    used_at  INTEGER NOT NULL,             -- to within a few minutes
    hint     BLOB                          -- the ID token, sealed with the cookie, for the logout at the provider
) WITHOUT ROWID;
CREATE INDEX sessions_by_age ON sessions (begun_at);
CREATE INDEX sessions_by_token ON sessions (token);
