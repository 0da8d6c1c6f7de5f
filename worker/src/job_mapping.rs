//! Which job a GPU works for, as dcgm-exporter wants it (`DCGM_HPC_JOB_MAPPING_DIR`): in a folder a file for each GPU,
//! named by its number, with the job's id in it. So its graphs have the job as a label.

use framewake_proto::wire::GpuSample;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

/// The files of one attempt, removed with it. A worker that is killed leaves them to the next attempt on the GPU.
#[derive(Debug, Default)]
pub struct JobMapping {
    files: Vec<PathBuf>,
    job: String,
}

impl JobMapping {
    /// For the GPUs whose number is known. What can't be written is said and left out: it is for graphs only.
    pub fn write(folder: &Path, gpus: &[GpuSample], job: &str) -> JobMapping {
        let mut mapping = JobMapping { files: Vec::new(), job: format!("{job}\n") };
        for index in gpus.iter().filter_map(|gpu| gpu.index) {
            let file = folder.join(index.to_string());
            match replace(&file, &mapping.job) {
                Ok(()) => mapping.files.push(file),
                Err(error) => tracing::warn!(%error, "cannot write the job of a GPU to `{}`", file.display()),
            }
        }
        mapping
    }
}

/// Whoever reads finds the old text or the new.
fn replace(file: &Path, text: &str) -> io::Result<()> {
    let half = file.with_extension(format!("{}.half", std::process::id()));
    fs::write(&half, text)?;
    fs::rename(&half, file)
}

impl Drop for JobMapping {
    fn drop(&mut self) {
        for file in &self.files {
            // Another worker on the same GPU may have written its own by now.
            if fs::read_to_string(file).is_ok_and(|text| text == self.job) {
                let _gone_already = fs::remove_file(file);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_gpu_has_a_file_with_its_job_while_the_attempt_lasts() {
        let folder = tempfile::tempdir().expect("room for a folder");
        let gpu = |index| GpuSample { index, ..GpuSample::default() };
        let read = |name: &str| fs::read_to_string(folder.path().join(name)).ok();
        let mapping = JobMapping::write(folder.path(), &[gpu(Some(0)), gpu(None), gpu(Some(3))], "01ABC");
        assert_eq!((read("0").as_deref(), read("3").as_deref()), (Some("01ABC\n"), Some("01ABC\n")));
        assert_eq!(fs::read_dir(folder.path()).expect("readable").count(), 2, "and nothing else");
        let other = JobMapping::write(folder.path(), &[gpu(Some(3))], "02DEF");
        drop(mapping);
        assert_eq!((read("0"), read("3").as_deref()), (None, Some("02DEF\n")), "the newer one stays");
        drop(other);
        assert_eq!(read("3"), None);
        let nowhere = JobMapping::write(&folder.path().join("missing"), &[gpu(Some(0))], "01ABC");
        assert!(nowhere.files.is_empty());
    }
}
