-- The units that a long output names are added in slices, so that nobody has to wait for all of them. The
-- first slice is added with the finish; the others are stored here with it, until each has had its turn.
CREATE TABLE output_slice (
    id           INTEGER PRIMARY KEY,
    -- The work spec that gets the units: the successor of that of the finished one.
    work_spec_id INTEGER NOT NULL REFERENCES work_spec (id),
    -- That of the finished unit, for units that state none.
    priority     REAL NOT NULL,
    -- The units in CBOR: a list of what add_work_units takes.
    units        BLOB NOT NULL
) STRICT;

-- For deleted specs.
CREATE INDEX output_slice_by_spec ON output_slice (work_spec_id);
