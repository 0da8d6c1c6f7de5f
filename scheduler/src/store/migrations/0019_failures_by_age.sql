-- What failed lately, of all jobs: the overview shows the last hour's.
CREATE INDEX failures_by_age ON failures (at);
