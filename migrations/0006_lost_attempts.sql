-- What a worker still seems to be busy with though its lease is over is looked for each time that it gets work,
-- and was found only by going through all that it has. In the index it now stands behind that.

DROP INDEX attempt_held;

CREATE INDEX attempt_held ON attempt (CAST(worker AS BLOB), status) WHERE held = 1;
