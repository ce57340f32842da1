-- Tokens, which say who calls and what it may do. Their secrets are not stored, only the hashes by which they are recognized.
CREATE TABLE token (
    id INTEGER PRIMARY KEY,
    name TEXT NOT NULL CHECK (name <> ''),
    -- SHA-256.
    hash BLOB NOT NULL UNIQUE CHECK (length(hash) = 32),
    -- How the secret begins, so that people recognize it.
    prefix TEXT NOT NULL,
    -- Their names, separated by spaces.
    scopes TEXT NOT NULL CHECK (scopes <> ''),
    -- The only namespace in which it counts, by name, since that may not exist yet; NULL for all.
    namespace TEXT,
    created_us INTEGER NOT NULL,
    created_by TEXT NOT NULL,
    -- A date that a person chose, which does not change when the clock is set; NULL for never.
    expires_us INTEGER,
    last_used_us INTEGER,
    revoked_us INTEGER
) STRICT;

CREATE UNIQUE INDEX token_by_name ON token (name) WHERE revoked_us IS NULL;

CREATE VIEW tokens (token, prefix, scopes, namespace, created, created_by, expires, last_used, revoked) AS
SELECT name, prefix || '...', scopes, namespace,
       strftime('%Y-%m-%d %H:%M:%f', created_us / 1e6, 'unixepoch'), created_by,
       strftime('%Y-%m-%d %H:%M:%f', expires_us / 1e6, 'unixepoch'),
       strftime('%Y-%m-%d %H:%M:%f', last_used_us / 1e6, 'unixepoch'),
       strftime('%Y-%m-%d %H:%M:%f', revoked_us / 1e6, 'unixepoch')
  FROM token
 ORDER BY name, id;

-- What was changed by calls that control the queue, and by whom; later entries have larger ids. Never data.
CREATE TABLE audit (
    id INTEGER PRIMARY KEY,
    -- By name, since it may have been removed.
    namespace TEXT NOT NULL,
    -- A time of the past, which does not change when the clock is set.
    at_us INTEGER NOT NULL,
    -- The name of the token of the one who did it; NULL without a token.
    token TEXT,
    -- 'file': by a command that had the file open.
    interface TEXT NOT NULL CHECK (interface = 'cborrpc' OR interface = 'http' OR interface = 'file'),
    -- NULL over a Unix socket, and in the file.
    address TEXT,
    action TEXT NOT NULL,
    work_spec ANY,
    detail TEXT NOT NULL,
    count INTEGER NOT NULL CHECK (count >= 0)
) STRICT;

CREATE INDEX audit_by_namespace ON audit (namespace, id);

CREATE VIEW audit_log (namespace, time, token, interface, address, action, work_spec, detail, count) AS
SELECT namespace, strftime('%Y-%m-%d %H:%M:%f', at_us / 1e6, 'unixepoch'), token, interface, address,
       action, CAST(work_spec AS TEXT), detail, count
  FROM audit
 ORDER BY id;
