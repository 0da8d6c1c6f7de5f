-- Who or what submitted a job; NULL for those of before.

ALTER TABLE jobs ADD COLUMN submitted_by TEXT;
