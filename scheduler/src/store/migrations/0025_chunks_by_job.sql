-- How many attempts of a step run now is told with its job.

CREATE INDEX chunks_by_job ON chunks (job, step) WHERE worker IS NOT NULL;
