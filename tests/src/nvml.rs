//! A stand-in for NVIDIA's library, so that workers find GPUs on any machine: see `tests/nvml/stub.c`.

use crate::parts::root;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;

/// The library, and what it says now.
#[derive(Debug)]
pub struct StubNvml {
    folder: PathBuf,
}

impl StubNvml {
    /// Builds it in a folder of its own.
    ///
    /// # Panics
    /// Without a C compiler, which building the programs needs too.
    pub fn build(folder: &Path) -> StubNvml {
        let folder = folder.join("nvml");
        std::fs::create_dir_all(&folder).expect("the test's folder is writable");
        let mut compiler = Command::new("cc");
        compiler.args(["-shared", "-fPIC", "-O1", "-Wall", "-Wextra", "-Werror", "-o"]);
        compiler.arg(folder.join("libnvidia-ml.so.1")).arg(root().join("tests/nvml/stub.c"));
        let output = compiler.output().expect("a C compiler is there: `make setup` installs it");
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        StubNvml { folder }
    }

    fn script(&self) -> PathBuf {
        self.folder.join("script")
    }

    /// From now on it says this; see `tests/nvml/stub.c` for the words.
    pub fn says(&self, lines: &str) {
        // Renamed, so that no call finds half of it.
        let half = self.folder.join("half");
        std::fs::write(&half, lines).expect("the test's folder is writable");
        std::fs::rename(&half, self.script()).expect("the same folder");
    }

    /// For a process that shall find it, and for all that it starts.
    pub fn environment(&self) -> [(&'static str, String); 3] {
        [
            ("LD_LIBRARY_PATH", self.folder.display().to_string()),
            ("FRAMEWAKE_STUB_NVML", self.script().display().to_string()),
            ("FRAMEWAKE_GPU_LOOK_MS", "20".to_owned()),
        ]
    }
}

/// A GPU that is well, with these properties beside.
pub fn gpu(number: u32, uuid: &str, gib: u64, properties: &[(&str, u64)]) -> String {
    let mut all =
        BTreeMap::from([("memory_total", gib << 30), ("memory_used", 3 << 20), ("busy", 0), ("energy", 1000)]);
    all.extend(properties.iter().copied());
    let mut lines = vec![format!("gpu {number} uuid {uuid}"), format!("gpu {number} name NVIDIA Test {gib}")];
    lines.extend(all.iter().map(|(name, value)| format!("gpu {number} {name} {value}")));
    lines.join("\n") + "\n"
}
