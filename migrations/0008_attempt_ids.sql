-- Programs fence what they do with the ids of attempts, so no id is used twice, not even after the attempts with the
-- largest ids were removed.

-- No new attempt gets an id up to this one. There is no row until an attempt is removed.
CREATE TABLE attempt_floor (
    only_row INTEGER PRIMARY KEY CHECK (only_row = 1),
    id       INTEGER NOT NULL
) STRICT;

-- Raising it to the largest id of all makes one write enough for all attempts that are there now. Adding an attempt
-- writes nothing here.
CREATE TRIGGER attempt_removed AFTER DELETE ON attempt
  WHEN old.id > coalesce((SELECT id FROM attempt_floor), 0)
BEGIN
    INSERT OR REPLACE INTO attempt_floor (only_row, id)
    VALUES (1, max(old.id, coalesce((SELECT max(id) FROM attempt), 0)));
END;
