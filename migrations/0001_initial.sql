-- Times are integer microseconds since the Unix epoch, UTC.
--
-- Names (of work specs, work units, workers) are kept as they came: TEXT or BLOB. The same bytes
-- are the same name either way, and names sort by their bytes, so every index and comparison uses
-- CAST(name AS BLOB).
--
-- The CHECKs have no IN with a list: SQLite makes a temporary table for it, each time a row is written.
--
-- Foreign keys are declared for readers and for PRAGMA foreign_key_check. The daemon does not have
-- them enforced: enforcement looks for children at each delete, and would need an index on each
-- child column, dirtying one more page for every attempt.

CREATE TABLE namespace (
    id   INTEGER PRIMARY KEY,
    name TEXT NOT NULL UNIQUE
) STRICT;

CREATE TABLE work_spec (
    id                 INTEGER PRIMARY KEY,
    namespace_id       INTEGER NOT NULL REFERENCES namespace (id),
    name               ANY NOT NULL CHECK (typeof(name) = 'text' OR typeof(name) = 'blob'),
    -- The dictionary that defines it, in CBOR, as the client sent it.
    definition         BLOB NOT NULL,
    paused             INTEGER NOT NULL CHECK (paused = 0 OR paused = 1),
    weight             INTEGER NOT NULL,
    priority           REAL NOT NULL,
    continuous         INTEGER NOT NULL CHECK (continuous = 0 OR continuous = 1),
    can_be_continuous  INTEGER NOT NULL CHECK (can_be_continuous = 0 OR can_be_continuous = 1),
    interval_us        INTEGER,
    next_continuous_us INTEGER,
    max_running        INTEGER,
    max_getwork        INTEGER,
    max_retries        INTEGER,
    then_name          ANY CHECK (then_name IS NULL OR typeof(then_name) = 'text' OR typeof(then_name) = 'blob'),
    runtime            TEXT NOT NULL,
    min_gb             REAL NOT NULL,
    -- 1: gone for everybody who asks; its units are being removed in small steps.
    deleted            INTEGER NOT NULL DEFAULT 0 CHECK (deleted = 0 OR deleted = 1)
) STRICT;

CREATE UNIQUE INDEX work_spec_by_name
    ON work_spec (namespace_id, CAST(name AS BLOB)) WHERE deleted = 0;

-- How many work units each work spec has in each status. Kept beside every change, and written once
-- for each batch, so that asking costs the same at any size.
CREATE TABLE work_unit_count (
    work_spec_id INTEGER PRIMARY KEY REFERENCES work_spec (id),
    available    INTEGER NOT NULL CHECK (available >= 0),
    delayed      INTEGER NOT NULL CHECK (delayed >= 0),
    pending      INTEGER NOT NULL CHECK (pending >= 0),
    finished     INTEGER NOT NULL CHECK (finished >= 0),
    failed       INTEGER NOT NULL CHECK (failed >= 0)
) STRICT;

CREATE TABLE work_unit (
    id                    INTEGER PRIMARY KEY,
    work_spec_id          INTEGER NOT NULL REFERENCES work_spec (id),
    name                  ANY NOT NULL CHECK (typeof(name) = 'text' OR typeof(name) = 'blob'),
    -- 1 available, 2 delayed, 3 pending, 4 finished, 5 failed
    status                INTEGER NOT NULL CHECK (status BETWEEN 1 AND 5),
    priority              REAL NOT NULL,
    not_before_us         INTEGER,
    -- The attempt that decides the status, if one does.
    active_attempt_id     INTEGER REFERENCES attempt (id),
    -- The newest attempt; the older ones follow by attempt.previous_attempt_id.
    last_attempt_id       INTEGER REFERENCES attempt (id),
    -- The newest attempt at the time when the unit was added again: reports of it and of older ones
    -- that had not ended are about data that is no longer there. Kept though the attempt may go.
    superseded_attempt_id INTEGER,
    -- How many attempts there were when the unit was last added again or retried: these don't count
    -- towards its spec's max_retries.
    attempts_before       INTEGER NOT NULL DEFAULT 0,
    -- Its dictionary, in CBOR, as the client sent it.
    data                  BLOB NOT NULL,
    CONSTRAINT active_attempt_decides CHECK ((status >= 3) = (active_attempt_id IS NOT NULL)),
    CONSTRAINT delayed_until CHECK (status <> 2 OR not_before_us IS NOT NULL)
) STRICT;

CREATE UNIQUE INDEX work_unit_by_name ON work_unit (work_spec_id, CAST(name AS BLOB));

-- The queue: what get_work takes from, in its order.
CREATE INDEX work_unit_available
    ON work_unit (work_spec_id, priority DESC, CAST(name AS BLOB)) WHERE status = 1;

CREATE INDEX work_unit_delayed ON work_unit (not_before_us) WHERE status = 2;

CREATE INDEX work_unit_failed ON work_unit (work_spec_id, CAST(name AS BLOB)) WHERE status = 5;

-- Attempts are only ever appended, and found through their work unit, so that they need no index
-- but those of the few that run now.
CREATE TABLE attempt (
    id                  INTEGER PRIMARY KEY,
    work_unit_id        INTEGER NOT NULL REFERENCES work_unit (id),
    previous_attempt_id INTEGER REFERENCES attempt (id),
    -- 1 for the first attempt of its unit, 2 for the second, ...
    number              INTEGER NOT NULL CHECK (number >= 1),
    -- The worker's name; NULL for a report by somebody who did not say.
    worker              ANY CHECK (worker IS NULL OR typeof(worker) = 'text' OR typeof(worker) = 'blob'),
    -- 3 pending, 4 finished, 5 failed, 6 expired, 7 retryable
    status              INTEGER NOT NULL CHECK (status BETWEEN 3 AND 7),
    -- 1: as far as is known, the worker is busy with it, maybe in vain.
    held                INTEGER NOT NULL CHECK (held = 0 OR held = 1),
    start_us            INTEGER NOT NULL,
    end_us              INTEGER,
    expiration_us       INTEGER NOT NULL,
    -- The unit's dictionary as this attempt left it, in CBOR; NULL if it changed nothing.
    data                BLOB,
    -- Of a failed attempt, if its data has one.
    traceback           TEXT,
    CONSTRAINT ended_when_not_pending CHECK ((status = 3) = (end_us IS NULL))
) STRICT;

CREATE INDEX attempt_pending ON attempt (expiration_us) WHERE status = 3;

CREATE INDEX attempt_held ON attempt (CAST(worker AS BLOB)) WHERE held = 1;

-- Workers that are alive. One that unregisters or expires is removed; its attempts keep its name.
CREATE TABLE worker (
    id            INTEGER PRIMARY KEY,
    namespace_id  INTEGER NOT NULL REFERENCES namespace (id),
    name          ANY NOT NULL CHECK (typeof(name) = 'text' OR typeof(name) = 'blob'),
    parent        ANY CHECK (parent IS NULL OR typeof(parent) = 'text' OR typeof(parent) = 'blob'),
    mode          ANY CHECK (mode IS NULL OR typeof(mode) = 'text' OR typeof(mode) = 'blob'),
    heartbeat_us  INTEGER NOT NULL,
    expiration_us INTEGER NOT NULL,
    -- What the worker says of itself, in CBOR.
    environment   BLOB
) STRICT;

CREATE UNIQUE INDEX worker_by_name ON worker (namespace_id, CAST(name AS BLOB));

CREATE INDEX worker_by_parent
    ON worker (namespace_id, CAST(parent AS BLOB)) WHERE parent IS NOT NULL;

CREATE INDEX worker_by_expiration ON worker (expiration_us);

CREATE TABLE lock (
    -- The path's labels, each escaped and ended so that what is below a path sorts right behind it.
    path          BLOB PRIMARY KEY,
    -- The same for people: labels with slashes between them.
    path_text     TEXT NOT NULL,
    owner         ANY NOT NULL CHECK (typeof(owner) = 'text' OR typeof(owner) = 'blob'),
    expiration_us INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

CREATE INDEX lock_by_expiration ON lock (expiration_us);

-- What a person asks. Each of these must work in a stock sqlite3 3.40.

CREATE VIEW summary (namespace, work_spec, status, count) AS
SELECT namespace.name, CAST(work_spec.name AS TEXT), status.name,
       CASE status.id WHEN 1 THEN available WHEN 2 THEN delayed WHEN 3 THEN pending
                      WHEN 4 THEN finished ELSE failed END AS n
  FROM work_spec
  JOIN namespace ON namespace.id = work_spec.namespace_id
  JOIN work_unit_count ON work_unit_count.work_spec_id = work_spec.id
  JOIN (SELECT 1 AS id, 'available' AS name UNION ALL SELECT 2, 'delayed' UNION ALL SELECT 3, 'pending'
        UNION ALL SELECT 4, 'finished' UNION ALL SELECT 5, 'failed') AS status
 WHERE deleted = 0 AND n > 0
 ORDER BY namespace.name, CAST(work_spec.name AS BLOB), status.id;

CREATE VIEW work_specs (namespace, work_spec, paused, priority, weight, continuous, interval_s,
                        next_continuous, max_running, max_getwork, max_retries, then_name, runtime,
                        available, delayed, pending, finished, failed) AS
SELECT namespace.name, CAST(work_spec.name AS TEXT), paused, priority, weight, continuous,
       interval_us / 1e6, strftime('%Y-%m-%d %H:%M:%f', next_continuous_us / 1e6, 'unixepoch'),
       max_running, max_getwork, max_retries, CAST(then_name AS TEXT), runtime,
       available, delayed, pending, finished, failed
  FROM work_spec
  JOIN namespace ON namespace.id = work_spec.namespace_id
  JOIN work_unit_count ON work_unit_count.work_spec_id = work_spec.id
 WHERE deleted = 0
 ORDER BY namespace.name, CAST(work_spec.name AS BLOB);

CREATE VIEW units (namespace, work_spec, unit, status, priority, not_before, worker, expires,
                   attempts, data_bytes) AS
SELECT namespace.name, CAST(work_spec.name AS TEXT), CAST(work_unit.name AS TEXT),
       CASE work_unit.status WHEN 1 THEN 'available' WHEN 2 THEN 'delayed' WHEN 3 THEN 'pending'
                             WHEN 4 THEN 'finished' ELSE 'failed' END,
       work_unit.priority, strftime('%Y-%m-%d %H:%M:%f', not_before_us / 1e6, 'unixepoch'),
       CAST(active.worker AS TEXT),
       CASE WHEN work_unit.status = 3
            THEN strftime('%Y-%m-%d %H:%M:%f', active.expiration_us / 1e6, 'unixepoch') END,
       coalesce(last.number, 0), length(coalesce(active.data, work_unit.data))
  FROM work_unit
  JOIN work_spec ON work_spec.id = work_unit.work_spec_id AND work_spec.deleted = 0
  JOIN namespace ON namespace.id = work_spec.namespace_id
  LEFT JOIN attempt AS active ON active.id = work_unit.active_attempt_id
  LEFT JOIN attempt AS last ON last.id = work_unit.last_attempt_id;

CREATE VIEW attempts_log (attempt, namespace, work_spec, unit, number, worker, status, started, ended,
                          expires, traceback) AS
SELECT attempt.id, namespace.name, CAST(work_spec.name AS TEXT), CAST(work_unit.name AS TEXT),
       attempt.number, CAST(attempt.worker AS TEXT),
       CASE attempt.status WHEN 3 THEN 'pending' WHEN 4 THEN 'finished' WHEN 5 THEN 'failed'
                           WHEN 6 THEN 'expired' ELSE 'retryable' END,
       strftime('%Y-%m-%d %H:%M:%f', attempt.start_us / 1e6, 'unixepoch'),
       strftime('%Y-%m-%d %H:%M:%f', attempt.end_us / 1e6, 'unixepoch'),
       strftime('%Y-%m-%d %H:%M:%f', attempt.expiration_us / 1e6, 'unixepoch'),
       attempt.traceback
  FROM attempt
  JOIN work_unit ON work_unit.id = attempt.work_unit_id
  JOIN work_spec ON work_spec.id = work_unit.work_spec_id AND work_spec.deleted = 0
  JOIN namespace ON namespace.id = work_spec.namespace_id;

CREATE VIEW failures (namespace, work_spec, unit, worker, failed, traceback) AS
SELECT namespace.name, CAST(work_spec.name AS TEXT), CAST(work_unit.name AS TEXT),
       CAST(attempt.worker AS TEXT),
       strftime('%Y-%m-%d %H:%M:%f', attempt.end_us / 1e6, 'unixepoch'), attempt.traceback
  FROM work_unit
  JOIN work_spec ON work_spec.id = work_unit.work_spec_id AND work_spec.deleted = 0
  JOIN namespace ON namespace.id = work_spec.namespace_id
  JOIN attempt ON attempt.id = work_unit.active_attempt_id
 WHERE work_unit.status = 5;

CREATE VIEW active_workers (namespace, worker, parent, mode, last_heartbeat, expires, units_held) AS
SELECT namespace.name, CAST(worker.name AS TEXT), CAST(worker.parent AS TEXT),
       CAST(worker.mode AS TEXT),
       strftime('%Y-%m-%d %H:%M:%f', worker.heartbeat_us / 1e6, 'unixepoch'),
       strftime('%Y-%m-%d %H:%M:%f', worker.expiration_us / 1e6, 'unixepoch'),
       (SELECT count(*)
          FROM attempt
          JOIN work_unit ON work_unit.id = attempt.work_unit_id
          JOIN work_spec ON work_spec.id = work_unit.work_spec_id AND work_spec.deleted = 0
         WHERE CAST(attempt.worker AS BLOB) = CAST(worker.name AS BLOB) AND attempt.held = 1
           AND work_spec.namespace_id = worker.namespace_id)
  FROM worker
  JOIN namespace ON namespace.id = worker.namespace_id
 ORDER BY namespace.name, CAST(worker.name AS BLOB);

CREATE VIEW locks (path, owner, expires) AS
SELECT path_text, CAST(owner AS TEXT), strftime('%Y-%m-%d %H:%M:%f', expiration_us / 1e6, 'unixepoch')
  FROM lock
 ORDER BY path;
