-- Most units have priority 0, and are handed out in the order of their names, in which the unique index
-- has them already. So only the others are queued in an index of their own: one that is ordered by
-- name costs another page for each unit with a random name.

-- 1: available, with priority 0, as it was inserted: found by going through the names. Any later change
-- sets it to 0, also one by hand to a finished unit, which then is queued again.
ALTER TABLE work_unit ADD COLUMN in_name_order INTEGER NOT NULL DEFAULT 0
    CHECK (in_name_order = 0 OR in_name_order = 1);

DROP INDEX work_unit_available;

-- What get_work takes from, in its order, with what it finds in the order of names.
CREATE INDEX work_unit_queued
    ON work_unit (work_spec_id, priority DESC, CAST(name AS BLOB)) WHERE status = 1 AND in_name_order = 0;

-- How far get_work has gone through the names of a work spec: no unit up to this name has in_name_order.
-- NULL if it has not begun.
ALTER TABLE work_unit_count ADD COLUMN passed_name BLOB;

-- The units of older files are all in the index.
UPDATE work_unit_count
   SET passed_name = (SELECT CAST(name AS BLOB)
                        FROM work_unit
                       WHERE work_unit.work_spec_id = work_unit_count.work_spec_id
                       ORDER BY CAST(name AS BLOB) DESC
                       LIMIT 1);
