//! How a worker comes: the points on its way from the wish for one to its first frame, and how that is told.

#[cfg(feature = "schema")]
use crate::ids::Name;
#[cfg(feature = "schema")]
use crate::time::Timestamp;
use serde::{Deserialize, Serialize};
#[cfg(feature = "schema")]
use utoipa::ToSchema;

/// A point on a worker's way to its first frame, in the order in which they are passed. It gives its name to the phase that it
/// ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(ToSchema))]
#[serde(rename_all = "snake_case")]
pub enum StartPoint {
    /// One more worker was wanted.
    Wanted,
    /// Its pool had room, and was asked for it.
    Asked,
    /// Its place took the request.
    Created,
    /// A machine was chosen for it.
    Scheduled,
    /// Its image is on that machine.
    Image,
    /// Its process runs.
    Process,
    /// It is connected to NATS.
    Nats,
    /// It was given its first order.
    Order,
    /// The inputs of that order are there.
    Inputs,
    /// Its renderer is ready to render.
    Renderer,
    /// Its first frame is rendered, verified and stored.
    Frame,
}

impl StartPoint {
    pub const ALL: [StartPoint; 11] = [
        StartPoint::Wanted,
        StartPoint::Asked,
        StartPoint::Created,
        StartPoint::Scheduled,
        StartPoint::Image,
        StartPoint::Process,
        StartPoint::Nats,
        StartPoint::Order,
        StartPoint::Inputs,
        StartPoint::Renderer,
        StartPoint::Frame,
    ];

    pub fn as_str(self) -> &'static str {
        match self {
            StartPoint::Wanted => "wanted",
            StartPoint::Asked => "asked",
            StartPoint::Created => "created",
            StartPoint::Scheduled => "scheduled",
            StartPoint::Image => "image",
            StartPoint::Process => "process",
            StartPoint::Nats => "nats",
            StartPoint::Order => "order",
            StartPoint::Inputs => "inputs",
            StartPoint::Renderer => "renderer",
            StartPoint::Frame => "frame",
        }
    }

    /// The point of this name.
    pub fn named(name: &str) -> Option<StartPoint> {
        StartPoint::ALL.into_iter().find(|point| point.as_str() == name)
    }

    /// What is true of a worker that came so far.
    pub fn describe(self) -> &'static str {
        match self {
            StartPoint::Wanted => "it is wanted",
            StartPoint::Asked => "it is asked for",
            StartPoint::Created => "its place knows of it",
            StartPoint::Scheduled => "it has a machine",
            StartPoint::Image => "its image is there",
            StartPoint::Process => "its process runs",
            StartPoint::Nats => "it is connected to NATS",
            StartPoint::Order => "it has its first order",
            StartPoint::Inputs => "its inputs are there",
            StartPoint::Renderer => "its renderer is ready",
            StartPoint::Frame => "its first frame is done",
        }
    }
}

/// How one worker came, as far as it did.
#[cfg(feature = "schema")]
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct WorkerStart {
    pub worker: Name,
    pub function: String,
    /// Where it was started; absent for one that people started.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pool: Option<Name>,
    /// In the order in which they were passed. What nobody tells of is missing, and what it took is in the next.
    pub steps: Vec<StartStep>,
    /// Why it does not come further, as its place tells; empty: all goes as it should.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub waits: String,
    /// When and how the worker ended.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ended: Option<StartEnd>,
}

/// A point that was passed.
#[cfg(feature = "schema")]
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct StartStep {
    pub point: StartPoint,
    pub at: Timestamp,
    /// Since the point before.
    pub took_ms: u64,
}

#[cfg(feature = "schema")]
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct StartEnd {
    /// Absent: it ended while no scheduler ran.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub at: Option<Timestamp>,
    pub reason: String,
}

#[cfg(feature = "schema")]
impl WorkerStart {
    /// From the first point that is known to the last, in milliseconds.
    pub fn took_ms(&self) -> u64 {
        self.steps.iter().map(|step| step.took_ms).sum()
    }

    /// Whether it has its first frame.
    pub fn is_complete(&self) -> bool {
        self.steps.last().is_some_and(|step| step.point == StartPoint::Frame)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn points_are_in_the_order_of_their_list_and_read_as_they_are_written() {
        assert!(StartPoint::ALL.is_sorted());
        for point in StartPoint::ALL {
            assert_eq!(StartPoint::named(point.as_str()), Some(point));
            assert_eq!(serde_json::to_value(point).expect("JSON"), point.as_str());
        }
        assert_eq!(StartPoint::named("slot"), None);
    }
}
