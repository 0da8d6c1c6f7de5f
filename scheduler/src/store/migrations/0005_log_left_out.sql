-- What the renderer of an attempt said and its log does not have, because the log was full.
ALTER TABLE attempts ADD COLUMN log_left_out_bytes INTEGER NOT NULL DEFAULT 0;
