-- What the GPUs of its worker did for a task, by their driver; NULL where it did not tell.
ALTER TABLE results ADD COLUMN energy_mj INTEGER;
ALTER TABLE results ADD COLUMN vram_peak INTEGER;             -- bytes in use on one of them
ALTER TABLE results ADD COLUMN gpu_busy INTEGER;              -- permille, the mean
ALTER TABLE results ADD COLUMN gpu_busy_max INTEGER;

-- GPU memory that the tasks of a step take, in bytes.
ALTER TABLE steps ADD COLUMN vram_floor INTEGER NOT NULL DEFAULT 0;  -- one ran out of a byte less
ALTER TABLE steps ADD COLUMN vram_peak INTEGER NOT NULL DEFAULT 0;   -- the most that was measured
ALTER TABLE steps ADD COLUMN vram_enough INTEGER;                    -- least memory of a GPU on which one was done
