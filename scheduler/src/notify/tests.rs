//! How long is waited between tries. Receivers, crashes and dead letters: `tests/tests/notify.rs`.

use super::*;

#[test]
fn waits_double_up_to_a_bound_and_a_day_of_them_are_few() {
    assert_eq!(wait_before_next(1, 0.0), WAIT_FIRST);
    assert_eq!(wait_before_next(4, 0.0), WAIT_FIRST * 8);
    assert_eq!(wait_before_next(4, 1.0), Duration::from_millis(6400), "up to a fifth less");
    assert_eq!(wait_before_next(TRIES_MAX, 0.0), WAIT_MAX);
    assert_eq!(wait_before_next(u32::MAX, 0.5), WAIT_MAX.mul_f64(0.9));
    let day = Duration::from_hours(24);
    for chance in [0.0, 0.5, 1.0] {
        let mut spent = Duration::ZERO;
        let tries = (1..=TRIES_MAX).find(|tries| {
            spent += wait_before_next(*tries, chance);
            spent > day
        });
        assert!(tries.is_some_and(|tries| (15..TRIES_MAX).contains(&tries)), "{tries:?}");
    }
}
