//! Places that fail are set aside: their workers leave, what they broke costs nothing, and they come back.

use super::explain::Listener;
use super::{Applied, Farm, WorkerState};
use crate::change::Change;
use crate::health::{Fault, Judgment, Scene, Standing};
use crate::loss;
use crate::timers::Timer;
use crate::values::Place;
use framewake_proto::ids::WorkerId;
use framewake_proto::time::Timestamp;

/// A place, for people.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PlaceStatus<'a> {
    pub place: &'a Place,
    pub standing: PlaceStanding,
    /// Workers there that are not leaving.
    pub workers: u32,
    /// How often it was set aside lately.
    pub times: u32,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PlaceStanding {
    Good,
    /// It looks broken and goes on all the same: why, and why it must.
    Suspect {
        reason: String,
        kept: &'static str,
    },
    Aside {
        since: Timestamp,
        until: Timestamp,
        reason: String,
    },
    /// It is back: its first task decides.
    Trial {
        since: Timestamp,
        reason: String,
    },
}

impl Farm {
    /// Blames the places of a worker for a failure, and sets aside those that are broken.
    pub(super) fn blame(
        &mut self,
        now: Timestamp,
        places: &[Place],
        function: usize,
        scene: Scene,
        how: Fault,
        out: &mut Applied,
    ) {
        for place in places {
            self.health.failed(now, place, function, scene, how);
            self.judge(now, place, out);
        }
        for place in self.health.wronged() {
            self.restore_place(now, &place, out);
        }
    }

    /// A task was done at these places.
    pub(super) fn praise(
        &mut self,
        now: Timestamp,
        places: &[Place],
        function: usize,
        scene: Scene,
        out: &mut Applied,
    ) {
        for place in places {
            if self.health.done(now, place, function, scene) {
                self.store_place(place, out);
                self.set_place_timer(place);
            }
        }
    }

    /// A task that had failed at this place was done elsewhere.
    pub(super) fn prove(&mut self, now: Timestamp, place: &Place, scene: Scene, task: u32, out: &mut Applied) {
        self.health.done_elsewhere(place, scene, task);
        self.judge(now, place, out);
    }

    fn judge(&mut self, now: Timestamp, place: &Place, out: &mut Applied) {
        if let Judgment::Broken { reason } = self.health.judge(now, place, || self.needed(place)) {
            self.health.set_aside(now, place, reason);
            self.store_place(place, out);
            self.set_place_timer(place);
            self.give_attempts_back(now, place, out);
            for id in self.workers_of(place) {
                self.ask_to_leave(now, id, out);
            }
        }
    }

    /// The driver's word needs no comparison: the GPU is set aside at once, even if it is the last.
    pub(super) fn condemn(&mut self, now: Timestamp, place: &Place, reason: &str, out: &mut Applied) {
        if self.health.condemn(now, place, loss::words(reason)) {
            self.store_place(place, out);
            self.set_place_timer(place);
            self.give_attempts_back(now, place, out);
            for id in self.workers_of(place) {
                self.ask_to_leave(now, id, out);
            }
        }
    }

    /// Functions with work to do that have workers at this place.
    fn needed(&self, place: &Place) -> Vec<usize> {
        let there = self.workers.values().filter(|worker| worker.places.contains(place));
        let mut needed: Vec<usize> =
            there.map(|worker| worker.function).filter(|at| self.functions[*at].tasks > 0).collect();
        needed.sort_unstable();
        needed.dedup();
        needed
    }

    /// Workers there that are not leaving.
    fn workers_of(&self, place: &Place) -> Vec<WorkerId> {
        let there = self
            .workers
            .iter()
            .filter(|(_, worker)| worker.places.contains(place) && !matches!(worker.state, WorkerState::Draining(_)));
        there.map(|(id, _)| id.clone()).collect()
    }

    /// What a broken place cost is free: attempts that chunks spent on it, and workers they lost there.
    fn give_attempts_back(&mut self, now: Timestamp, place: &Place, out: &mut Applied) {
        for chunk in self.chunks.values_mut() {
            let before = (chunk.spent, chunk.losses);
            let spent = chunk.blamed.len();
            chunk.blamed.retain(|blamed| !blamed.contains(place));
            chunk.spent = chunk.spent.saturating_sub(u32::try_from(spent - chunk.blamed.len()).unwrap_or(u32::MAX));
            let lost = chunk.lost.len();
            chunk.lost.retain(|loss| !loss.places.contains(place));
            chunk.losses = chunk.losses.saturating_sub(u32::try_from(lost - chunk.lost.len()).unwrap_or(u32::MAX));
            if before != (chunk.spent, chunk.losses) {
                out.changes.push(Change::ChunkStored(chunk.store(now)));
            }
        }
    }

    /// Whether a worker that spoke may work where it is, or why not.
    pub(super) fn is_welcome(&self, id: &WorkerId, places: &[Place]) -> Result<(), String> {
        for place in places {
            match self.health.standing(place) {
                Standing::Good | Standing::Proven { .. } => {}
                // Whoever asks about the function hears this; why, is told in the list of places to whom it concerns.
                Standing::Aside { until, .. } => {
                    return Err(format!("it came up on {place}, which is set aside until {until}"));
                }
                Standing::Trial { .. } if self.workers_of(place).iter().all(|other| other == id) => {}
                Standing::Trial { .. } => {
                    return Err(format!("it came up on {place}, where one worker tries whether it works again"));
                }
            }
        }
        Ok(())
    }

    /// Whether a place of this name was ever seen, as far as is remembered.
    pub fn knows_place(&self, place: &Place) -> bool {
        self.health.knows(place)
    }

    pub(super) fn is_aside(&self, id: &WorkerId) -> bool {
        let places = self.workers.get(id).map_or(&[][..], |worker| &worker.places);
        places.iter().any(|place| matches!(self.health.standing(place), Standing::Aside { .. }))
    }

    pub(super) fn place_due(&mut self, now: Timestamp, place: &Place, out: &mut Applied) {
        if self.health.look(now, place) {
            self.store_place(place, out);
            // Capacity may be back.
            self.touched.extend(0..self.functions.len());
        }
        self.set_place_timer(place);
    }

    /// Somebody mended it, or it was set aside wrongly.
    pub(super) fn restore_place(&mut self, now: Timestamp, place: &Place, out: &mut Applied) {
        if self.health.restore(place) {
            self.store_place(place, out);
            for function in 0..self.functions.len() {
                // Those because workers came up there among them.
                self.end_waits(now, function);
            }
        }
    }

    pub(super) fn set_place_timer(&mut self, place: &Place) {
        if let Some(at) = self.health.deadline(place) {
            self.set_timer(at, Timer::Place(place.clone()));
        }
    }

    fn store_place(&self, place: &Place, out: &mut Applied) {
        out.changes.push(match self.health.stored(place) {
            Some(stored) => Change::PlaceStored(stored),
            None => Change::PlaceForgotten { place: place.clone() },
        });
    }

    /// All places that are known, by name.
    pub fn places(&self, now: Timestamp) -> impl Iterator<Item = PlaceStatus<'_>> {
        let mut workers = std::collections::BTreeMap::<&Place, u32>::new();
        for worker in self.workers.values().filter(|worker| !matches!(worker.state, WorkerState::Draining(_))) {
            for place in &worker.places {
                *workers.entry(place).or_default() += 1;
            }
        }
        self.health.places().map(move |(place, standing, times)| {
            let standing = match standing {
                Standing::Aside { since, until, reason } => {
                    PlaceStanding::Aside { since: *since, until: *until, reason: reason.clone() }
                }
                Standing::Trial { since, reason } => PlaceStanding::Trial { since: *since, reason: reason.clone() },
                Standing::Good | Standing::Proven { .. } => {
                    match self.health.judge(now, place, || self.needed(place)) {
                        Judgment::Suspect { reason, kept } => PlaceStanding::Suspect { reason, kept },
                        Judgment::Well | Judgment::Broken { .. } => PlaceStanding::Good,
                    }
                }
            };
            PlaceStatus { place, standing, workers: workers.get(place).copied().unwrap_or(0), times }
        })
    }

    /// Why work may wait for a place, for people: those that are set aside.
    pub(super) fn places_aside(&self, to: &Listener) -> impl Iterator<Item = String> {
        let own_alone = to.own_alone;
        self.health.places().filter_map(move |(place, standing, _)| match standing {
            Standing::Aside { until, .. } if own_alone => Some(format!("set aside: {place} until {until}")),
            Standing::Aside { until, reason, .. } => Some(format!(
                "set aside: {place} until {until}, because {reason}; `framewake workers restore {place}` brings it back"
            )),
            Standing::Good | Standing::Trial { .. } | Standing::Proven { .. } => None,
        })
    }
}
