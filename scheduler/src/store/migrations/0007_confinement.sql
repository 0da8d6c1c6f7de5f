-- What confined the renderer of an attempt, as its worker said; empty when it said nothing.
ALTER TABLE attempts ADD COLUMN confinement TEXT NOT NULL DEFAULT '';
