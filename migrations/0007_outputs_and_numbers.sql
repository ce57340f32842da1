-- Attempts that a unit has outlived by being added again are known by their number, which says the same in every
-- database. Their ids do so only where ids grow with time.

-- Renaming a column changes the schema alone. Only units that were added again are rewritten.
ALTER TABLE work_unit RENAME COLUMN superseded_attempt_id TO superseded_number;

UPDATE work_unit
   SET superseded_number = coalesce((SELECT number FROM attempt WHERE attempt.id = superseded_number),
                                    attempts_before)
 WHERE superseded_number IS NOT NULL;

-- The attempt whose output a slice is a part of: who reported it waits until all of its slices have been added.
-- NULL for slices of earlier versions. The attempt itself may be gone.
ALTER TABLE output_slice ADD COLUMN attempt_id INTEGER;

CREATE INDEX output_slice_by_attempt ON output_slice (attempt_id);
