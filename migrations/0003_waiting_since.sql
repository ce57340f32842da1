-- Since when a work spec has had available units without a break; NULL if it has none, or if that is not
-- known. One number for each spec, and not one for each unit.
ALTER TABLE work_unit_count ADD COLUMN waiting_since_us INTEGER;

-- Of older files only this much is known.
UPDATE work_unit_count
   SET waiting_since_us = CAST(strftime('%s', 'now') AS INTEGER) * 1000000
 WHERE available > 0;
