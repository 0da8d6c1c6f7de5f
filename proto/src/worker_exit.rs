//! How a worker's program ends: its exit codes, which whoever started it reads.

/// It left by itself: there was no more work, the farm did not want it any more, or its GPU broke. In mode `exec`, its
/// chunk is done, or no order came.
pub const LEFT: u8 = 0;
/// Something of its own failed: a folder, a port, what the scheduler said.
pub const FAILED: u8 = 1;
/// In mode `exec`: tasks of its chunk failed. Whether they are tried again is the farm's choice.
pub const TASK_FAILED: u8 = 65;
/// NATS or the scheduler was not there, or the scheduler refused it.
pub const UNAVAILABLE: u8 = 69;
/// It had to go before its work was done, and handed back what was not done. No attempt is spent.
pub const HANDED_BACK: u8 = 75;
/// The function can't run in this place: its program is not installed, or its confinement can't be had.
pub const CANNOT_RUN: u8 = 78;

/// Whether a worker that ended with this code did what it should: then its place is to be used again without delay.
#[must_use]
pub fn is_well(code: i32) -> bool {
    [LEFT, TASK_FAILED, HANDED_BACK].into_iter().any(|well| i32::from(well) == code)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_leaves_in_order_is_well_and_who_could_not_work_is_not() {
        let codes = [LEFT, FAILED, 2, TASK_FAILED, UNAVAILABLE, HANDED_BACK, CANNOT_RUN, 137];
        let well: Vec<bool> = codes.into_iter().map(|code| is_well(i32::from(code))).collect();
        assert_eq!(well, [true, false, false, true, false, true, false, false]);
    }
}
