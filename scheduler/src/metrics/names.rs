//! Label values that others choose: names of functions, models of GPUs. The first so many are told apart.

use framewake_proto::wire::clip;
use std::collections::HashSet;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// What all later ones are called.
pub(super) const OTHER: &str = "other";
/// Longest label value.
const NAME_MAX: usize = 64;

#[derive(Debug)]
pub(super) struct Names {
    known: Mutex<HashSet<Arc<str>>>,
    max: usize,
}

impl Names {
    pub(super) fn new(max: usize) -> Names {
        Names { known: Mutex::default(), max }
    }

    /// The name as a label value.
    pub(super) fn label(&self, name: &str) -> Arc<str> {
        let name = clip(name, NAME_MAX);
        let mut known = lock(&self.known);
        if let Some(label) = known.get(name) {
            return Arc::clone(label);
        }
        if known.len() >= self.max {
            return OTHER.into();
        }
        let label: Arc<str> = name.into();
        known.insert(Arc::clone(&label));
        label
    }
}

/// Counts are as good after a panic as before.
pub(super) fn lock<T>(of: &Mutex<T>) -> MutexGuard<'_, T> {
    of.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn past_the_bound_all_are_others() {
        let names = Names::new(2);
        let labels = ["a", "b", "a", "c", "b", "d"].map(|name| names.label(name).to_string());
        assert_eq!(labels, ["a", "b", "a", OTHER, "b", OTHER]);
        assert_eq!(names.label(&"x".repeat(1000)).as_ref(), OTHER);
        assert_eq!(Names::new(1).label(&"x".repeat(1000)).len(), NAME_MAX);
    }
}
