//! GPUs as a file describes them, which tests write anew while the worker runs.

use super::Error;
use framewake_gpu::Look;
use framewake_proto::wire::GpuSample;
use serde::Deserialize;
use std::path::{Path, PathBuf};

/// The file, in JSON.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct Script {
    /// Nothing can be read, for this reason.
    fails: Option<String>,
    gpus: Vec<GpuSample>,
    /// UUID and number of all Xids since the beginning, oldest first.
    xids: Vec<(String, u32)>,
    /// UUIDs of those that are there and can't be spoken to.
    lost: Vec<String>,
}

pub(super) struct Reader {
    path: PathBuf,
    given: Vec<String>,
    xids_told: usize,
}

impl Reader {
    pub(super) fn open(path: &Path, given: &[String]) -> Result<Reader, Error> {
        let reader = Reader { path: path.to_owned(), given: given.to_vec(), xids_told: 0 };
        reader.read()?;
        Ok(reader)
    }

    fn read(&self) -> Result<Script, Error> {
        let text = std::fs::read(&self.path).map_err(|error| Error::Script { path: self.path.clone(), error })?;
        let script: Script =
            serde_json::from_slice(&text).map_err(|error| Error::Words { path: self.path.clone(), error })?;
        match script.fails {
            Some(why) => Err(Error::Told(why)),
            None => Ok(script),
        }
    }

    pub(super) fn look(&mut self) -> Result<Look, Error> {
        let script = self.read()?;
        let ours = |uuid: &String| self.given.is_empty() || self.given.contains(uuid);
        let told = script.xids.iter().skip(self.xids_told);
        let xids = told.filter(|(uuid, _)| ours(uuid)).cloned().collect();
        self.xids_told = script.xids.len();
        let is_lost = |sample: &GpuSample| script.lost.contains(&sample.uuid);
        let samples = script.gpus.iter().filter(|sample| ours(&sample.uuid) && !is_lost(sample)).cloned().collect();
        Ok(Look { samples, xids, lost: script.lost.into_iter().filter(ours).collect() })
    }
}
