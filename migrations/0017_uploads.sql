-- How far uploads of units have come (`POST /units/SPEC` with an `Upload-Id`), so that a client whose connection broke can
-- go on. A row is written with the units that it counts. The newest 10,000 are kept.
CREATE TABLE upload (
    id           INTEGER PRIMARY KEY,
    work_spec_id INTEGER NOT NULL REFERENCES work_spec (id),
    -- Chosen by the client.
    name         TEXT NOT NULL,
    -- Lines that are done, and what became of their units.
    lines        INTEGER NOT NULL CHECK (lines >= 0),
    new          INTEGER NOT NULL CHECK (new >= 0),
    reset        INTEGER NOT NULL CHECK (reset >= 0),
    skipped      INTEGER NOT NULL CHECK (skipped >= 0),
    UNIQUE (work_spec_id, name)
) STRICT;
