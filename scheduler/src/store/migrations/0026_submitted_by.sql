-- Who or what submitted a job; NULL for those of before.

ALTER TABLE jobs ADD COLUMN submitted_by TEXT;
-- It stands behind the text of the job, which may have a megabyte.
CREATE INDEX jobs_by_submitter ON jobs (submitted_by, seq) WHERE submitted_by IS NOT NULL;
