//! What never changes of a job once it is stored, kept at hand: a followed job is asked for every second.

use super::Error;
use framewake_proto::frames::FrameSet;
use framewake_proto::ids::{JobId, Name};
use framewake_proto::job::JobSpec;
use framewake_proto::objects::job_prefix;
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

/// Most outlines kept: newer jobs are looked at more, so the oldest goes.
const OUTLINES_MAX: usize = 512;

#[derive(Debug)]
pub struct Outline {
    /// Key prefix of the outputs, with a `/` at its end.
    pub prefix: String,
    pub steps: Vec<StepOutline>,
}

#[derive(Debug)]
pub struct StepOutline {
    pub name: Name,
    /// `blender@3`
    pub function: String,
    pub frames: FrameSet,
    /// Steps that come before, those of its inputs included.
    pub after: Vec<Name>,
}

impl Outline {
    pub fn step(&self, name: &str) -> Option<usize> {
        self.steps.iter().position(|step| step.name.as_str() == name)
    }
}

#[derive(Debug, Default)]
pub(super) struct Outlines {
    kept: Mutex<BTreeMap<i64, Arc<Outline>>>,
}

impl Outlines {
    pub(super) fn get(&self, seq: i64) -> Option<Arc<Outline>> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner).get(&seq).cloned()
    }

    pub(super) fn make(&self, seq: i64, id: JobId, spec: &str) -> Result<Arc<Outline>, Error> {
        let outline = Arc::new(read(id, spec).map_err(|cause| Error::Strange { what: "the text", job: id, cause })?);
        let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        kept.insert(seq, outline.clone());
        if kept.len() > OUTLINES_MAX {
            kept.pop_first();
        }
        Ok(outline)
    }
}

fn read(id: JobId, spec: &str) -> Result<Outline, Box<dyn std::error::Error + Send + Sync>> {
    let spec: JobSpec = serde_json::from_str(spec)?;
    let prefix = job_prefix(&spec.project, id);
    let steps = spec.steps.into_iter().map(|step| {
        let frames = match &step.frames {
            None => FrameSet::single(),
            Some(text) => text.parse()?,
        };
        let mut after = step.after;
        for before in step.inputs.into_iter().filter_map(|input| input.step) {
            if !after.contains(&before) {
                after.push(before);
            }
        }
        Ok(StepOutline { name: step.name, function: step.function, frames, after })
    });
    Ok(Outline { prefix, steps: steps.collect::<Result<_, Box<dyn std::error::Error + Send + Sync>>>()? })
}
