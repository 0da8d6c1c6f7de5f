//! Chance from a seed. Each kind of fault has dice of its own, so that switching one off leaves those of
//! the others as they were.

use crate::fault::Fault;
use fastrand::Rng;

#[derive(Debug, Clone)]
pub(crate) struct Chance {
    world: Rng,
    faults: Vec<Rng>,
}

impl Chance {
    pub(crate) fn new(seed: u64) -> Chance {
        let mut root = Rng::with_seed(seed);
        Chance { world: root.fork(), faults: Fault::ALL.iter().map(|_| root.fork()).collect() }
    }

    /// The dice of the world when nothing goes wrong.
    pub(crate) fn world(&mut self) -> &mut Rng {
        &mut self.world
    }

    pub(crate) fn of(&mut self, fault: Fault) -> &mut Rng {
        &mut self.faults[fault as usize]
    }
}

/// `median` milliseconds, log-normally spread.
pub(crate) fn log_normal_ms(rng: &mut Rng, median_ms: u32, sigma: f64) -> u32 {
    // Box and Muller's two uniforms to one normal.
    let (one, two) = (rng.f64().max(f64::MIN_POSITIVE), rng.f64());
    let normal = (-2.0 * one.ln()).sqrt() * (std::f64::consts::TAU * two).cos();
    ms(f64::from(median_ms) * (sigma * normal).exp())
}

/// Time until the next of events that happen so many times a minute.
pub(crate) fn pause_ms(rng: &mut Rng, times_a_minute: f64) -> i64 {
    i64::from(ms(-(1.0 - rng.f64()).ln() / times_a_minute * 60_000.0)).max(1)
}

// Clamped to the range of u32 before.
#[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)]
fn ms(value: f64) -> u32 {
    value.clamp(1.0, f64::from(u32::MAX)) as u32
}
