-- What has happened in each work spec, by minute and by hour.

-- The daemon adds to it every few seconds.
CREATE TABLE history (
    work_spec_id INTEGER NOT NULL REFERENCES work_spec (id),
    -- 60: a minute, kept for a day. 3600: an hour, kept for 90 days.
    period_s     INTEGER NOT NULL CHECK (period_s = 60 OR period_s = 3600),
    -- When the minute or the hour began.
    start_us     INTEGER NOT NULL,
    -- Units that were added, and attempts that were started and have ended.
    added        INTEGER NOT NULL CHECK (added >= 0),
    started      INTEGER NOT NULL CHECK (started >= 0),
    finished     INTEGER NOT NULL CHECK (finished >= 0),
    failed       INTEGER NOT NULL CHECK (failed >= 0),
    expired      INTEGER NOT NULL CHECK (expired >= 0),
    -- For how long the finished and the failed ones ran in all.
    run_us       INTEGER NOT NULL CHECK (run_us >= 0),
    PRIMARY KEY (work_spec_id, period_s, start_us)
) STRICT, WITHOUT ROWID;

-- When the history was last written, and what the queue was like then. If it is another one when the daemon starts, what
-- happened in between is missing: the daemon was killed, or another program has changed the queue.
CREATE TABLE history_written (
    id    INTEGER PRIMARY KEY CHECK (id = 1),
    at_us INTEGER NOT NULL,
    -- The newest attempt, and how many units there were: waiting, pending, finished, failed.
    mark  TEXT NOT NULL
) STRICT;

-- Times of which something may be missing. Kept for 90 days.
CREATE TABLE history_gap (
    start_us INTEGER PRIMARY KEY,
    end_us   INTEGER NOT NULL
) STRICT;

CREATE VIEW history_log (namespace, work_spec, period_s, start, added, started, finished, failed, expired,
                         mean_run_s) AS
SELECT namespace.name, CAST(work_spec.name AS TEXT), period_s,
       strftime('%Y-%m-%d %H:%M', start_us / 1e6, 'unixepoch'),
       added, started, finished, failed, expired, run_us / 1e6 / nullif(finished + failed, 0)
  FROM history
  JOIN work_spec ON work_spec.id = history.work_spec_id AND work_spec.deleted = 0
  JOIN namespace ON namespace.id = work_spec.namespace_id
 ORDER BY namespace.name, CAST(work_spec.name AS BLOB), period_s, start_us;
