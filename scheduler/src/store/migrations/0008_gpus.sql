-- What the GPUs of its worker did for a task, by their driver; NULL where it did not tell.
ALTER TABLE results ADD COLUMN energy_mj INTEGER;
ALTER TABLE results ADD COLUMN vram_peak INTEGER;             -- bytes in use on one of them
ALTER TABLE results ADD COLUMN gpu_busy INTEGER;              -- permille, the mean
ALTER TABLE results ADD COLUMN gpu_busy_max INTEGER;
