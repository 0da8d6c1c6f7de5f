//! What a renderer may not do on Linux: gain rights, write outside its folders, signal or look into processes that are
//! not its own, or reach for the system calls that only attacks on the kernel need. It may read what its user may read,
//! and it has the network: scenes lie on shared folders, and licenses on servers.
//!
//! The kernel's layers hold for a thread and for all it starts. So a renderer is started from a thread that takes them
//! upon itself first: no process in between, and no code between fork and exec.

use std::path::PathBuf;

/// How much confinement a worker demands of its place.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Demand {
    /// As far as the place allows; the worker's log says what is missing, and why.
    Auto,
    /// Every layer, or the worker does not start.
    Require,
    /// None, for renderers that it stands in the way of.
    Off,
}

#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("cannot let renderers write `{}`", path.display())]
    Folder {
        path: PathBuf,
        #[source]
        error: std::io::Error,
    },
    #[error("`--confine require`, and this place lacks {0}; hint: `--confine auto` renders with what there is")]
    Lacking(String),
    #[error("the renderer could not be confined by {layer}, which was there when the worker started: {reason}")]
    Lost { layer: Layer, reason: String },
}

/// One of the kernel's means.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Layer {
    /// No program it starts gives it more rights (`no_new_privs`), and of root's rights it keeps those over files.
    Rights,
    Landlock,
    Seccomp,
}

/// In the order in which they are taken: the later ones demand the first.
const LAYERS: [Layer; 3] = [Layer::Rights, Layer::Landlock, Layer::Seccomp];

impl std::fmt::Display for Layer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Layer::Rights => "no_new_privs",
            Layer::Landlock => "Landlock",
            Layer::Seccomp => "seccomp",
        })
    }
}

/// What is said of renderers that nothing holds.
const NOTHING_HELD: &str = "none";

/// The layers that hold here, found out once and applied to every renderer.
#[derive(Debug, Default)]
pub struct Confinement {
    kernel: kernel::Layers,
    /// What holds, as people read it: `Landlock 6`.
    held: Vec<String>,
    /// What does not, with the reason.
    missing: Vec<String>,
}

impl Confinement {
    /// Finds out what can be had here. `writable` are the folders that renderers may write.
    pub fn probe(demand: Demand, writable: &[PathBuf]) -> Result<Confinement, Error> {
        if demand == Demand::Off {
            return Ok(Confinement::default());
        }
        let mut confinement = Confinement { kernel: kernel::Layers::new(writable)?, ..Confinement::default() };
        for layer in LAYERS {
            // In a thread of its own: what it takes upon itself ends with it.
            match std::thread::scope(|scope| scope.spawn(|| confinement.kernel.apply(layer)).join()) {
                Ok(Ok(version)) => confinement.held.push(format!("{layer}{version}")),
                Ok(Err(reason)) => {
                    confinement.kernel.drop(layer);
                    confinement.missing.push(format!("{layer} ({reason})"));
                }
                Err(panic) => std::panic::resume_unwind(panic),
            }
        }
        if demand == Demand::Require && !confinement.missing.is_empty() {
            return Err(Error::Lacking(confinement.missing.join(" and ")));
        }
        Ok(confinement)
    }

    /// `no_new_privs, Landlock 6, seccomp`, or `none`.
    pub fn held(&self) -> String {
        if self.held.is_empty() { NOTHING_HELD.to_owned() } else { self.held.join(", ") }
    }

    /// What the place lacks, with the reasons; empty when nothing is.
    pub fn missing(&self) -> String {
        self.missing.join(", ")
    }

    /// Runs `start`, which starts a renderer, under all that was found: whole, or not at all.
    pub fn start<T: Send>(&self, start: impl FnOnce() -> T + Send) -> Result<T, Error> {
        if self.held.is_empty() {
            return Ok(start());
        }
        let confined = || {
            for layer in LAYERS {
                if self.kernel.has(layer) {
                    self.kernel.apply(layer).map_err(|reason| Error::Lost { layer, reason })?;
                }
            }
            Ok(start())
        };
        std::thread::scope(|scope| scope.spawn(confined).join())
            .unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    }
}

#[cfg(target_os = "linux")]
mod kernel {
    use super::{Error, Layer};
    use framewake_proto::chain::Chain;
    use landlock::{
        ABI, AccessFs, LandlockStatus, PathBeneath, PathFd, Ruleset, RulesetAttr, RulesetCreated, RulesetCreatedAttr,
        Scope,
    };
    use rustix::thread::{self, CapabilitySet};
    use seccompiler::{BpfProgram, SeccompAction, SeccompFilter};
    use std::collections::BTreeMap;
    use std::path::{Path, PathBuf};

    /// The newest Landlock whose rights of writing are known here; older kernels hold what they know of it.
    const LANDLOCK: ABI = ABI::V6;
    /// The first Landlock under which a file may be renamed from one folder of the renderer's into another.
    const LANDLOCK_MIN: ABI = ABI::V2;

    /// Devices that renderers write: nothing, shared memory, and GPUs. Those that are not there are left out.
    const DEVICES: [&str; 7] =
        ["/dev/null", "/dev/zero", "/dev/full", "/dev/shm", "/dev/dri", "/dev/kfd", "/dev/nvidia-caps"];
    /// GPUs are numbered: `/dev/nvidia0`, and `/dev/nvidiactl` beside them.
    const NUMBERED_DEVICES: &str = "nvidia";

    /// System calls that no renderer needs. They answer "not permitted", as they do to any user in most containers, so
    /// that a library that tries one goes on without it.
    const REFUSED: [libc::c_long; 29] = [
        // Looking into other processes.
        libc::SYS_ptrace,
        libc::SYS_process_vm_readv,
        libc::SYS_process_vm_writev,
        // Changing the kernel, or what it runs.
        libc::SYS_bpf,
        libc::SYS_delete_module,
        libc::SYS_finit_module,
        libc::SYS_init_module,
        libc::SYS_kexec_file_load,
        libc::SYS_kexec_load,
        libc::SYS_reboot,
        // Parts of the kernel that were the way in most often, and that only profilers and debuggers use.
        libc::SYS_perf_event_open,
        libc::SYS_userfaultfd,
        // Keys of the user.
        libc::SYS_add_key,
        libc::SYS_keyctl,
        libc::SYS_request_key,
        // Other views of the files and processes.
        libc::SYS_fsmount,
        libc::SYS_fsopen,
        libc::SYS_mount,
        libc::SYS_move_mount,
        libc::SYS_open_by_handle_at,
        libc::SYS_open_tree,
        libc::SYS_pivot_root,
        libc::SYS_setns,
        libc::SYS_umount2,
        // The machine's settings.
        libc::SYS_acct,
        libc::SYS_clock_settime,
        libc::SYS_settimeofday,
        libc::SYS_swapoff,
        libc::SYS_swapon,
    ];

    /// What root keeps: its images expect to read and make files of any owner. Looking into other processes, and
    /// everything about the machine, is gone.
    const KEPT_OF_ROOT: CapabilitySet = CapabilitySet::CHOWN
        .union(CapabilitySet::DAC_OVERRIDE)
        .union(CapabilitySet::DAC_READ_SEARCH)
        .union(CapabilitySet::FOWNER)
        .union(CapabilitySet::FSETID);

    #[derive(Debug, Default)]
    pub(super) struct Layers {
        rights: bool,
        landlock: Option<Result<RulesetCreated, String>>,
        seccomp: Option<Result<BpfProgram, String>>,
    }

    impl Layers {
        pub(super) fn new(writable: &[PathBuf]) -> Result<Layers, Error> {
            for path in writable {
                std::fs::metadata(path).map_err(|error| Error::Folder { path: path.clone(), error })?;
            }
            Ok(Layers {
                rights: true,
                landlock: Some(rules(writable).map_err(|error| Chain(&error).to_string())),
                seccomp: Some(filter().map_err(|error| Chain(&error).to_string())),
            })
        }

        pub(super) fn has(&self, layer: Layer) -> bool {
            match layer {
                Layer::Rights => self.rights,
                Layer::Landlock => self.landlock.is_some(),
                Layer::Seccomp => self.seccomp.is_some(),
            }
        }

        pub(super) fn drop(&mut self, layer: Layer) {
            match layer {
                Layer::Rights => self.rights = false,
                Layer::Landlock => self.landlock = None,
                Layer::Seccomp => self.seccomp = None,
            }
        }

        /// Takes a layer upon this thread. Gives its version, with a blank before it.
        pub(super) fn apply(&self, layer: Layer) -> Result<String, String> {
            let none = || "it was not asked for".to_owned();
            match layer {
                Layer::Rights => {
                    give_up_rights().map_err(|error| error.to_string())?;
                    Ok(String::new())
                }
                Layer::Landlock => {
                    let rules = self.landlock.as_ref().ok_or_else(none)?.as_ref().map_err(Clone::clone)?;
                    let rules = rules.try_clone().map_err(|error| Chain(&error).to_string())?;
                    let status = rules.restrict_self().map_err(|error| Chain(&error).to_string())?;
                    match status.landlock {
                        LandlockStatus::Available { effective_abi, .. } if effective_abi >= LANDLOCK_MIN => {
                            Ok(format!(" {}", effective_abi as i32))
                        }
                        LandlockStatus::Available { .. } => Err("it needs Linux 5.19".to_owned()),
                        LandlockStatus::NotEnabled => {
                            Err("it is switched off: add `landlock` to the kernel's `lsm=`".to_owned())
                        }
                        LandlockStatus::NotImplemented => {
                            Err("this kernel or container does not let it through: it needs Linux 5.19".to_owned())
                        }
                    }
                }
                Layer::Seccomp => {
                    let filter = self.seccomp.as_ref().ok_or_else(none)?.as_ref().map_err(Clone::clone)?;
                    seccompiler::apply_filter(filter).map_err(|error| Chain(&error).to_string())?;
                    Ok(String::new())
                }
            }
        }
    }

    /// Rights are a thread's own; with `no_new_privs` not even root's programs get back what is given up here
    /// (capabilities(7), prctl(2)).
    fn give_up_rights() -> rustix::io::Result<()> {
        thread::set_no_new_privs(true)?;
        let mut sets = thread::capabilities(None)?;
        sets.effective &= KEPT_OF_ROOT;
        sets.permitted &= KEPT_OF_ROOT;
        sets.inheritable &= KEPT_OF_ROOT;
        thread::set_capabilities(None, sets)
    }

    fn rules(writable: &[PathBuf]) -> Result<RulesetCreated, landlock::RulesetError> {
        let writing = AccessFs::from_write(LANDLOCK);
        let mut rules = Ruleset::default().handle_access(writing)?.scope(Scope::Signal)?.create()?;
        let devices = DEVICES.iter().map(PathBuf::from).chain(numbered_devices());
        for path in writable.iter().cloned().chain(devices) {
            // What is not there can't be written either.
            let Ok(opened) = PathFd::new(&path) else { continue };
            let rights = if path.is_dir() { writing } else { writing & AccessFs::from_file(LANDLOCK) };
            rules = rules.add_rule(PathBeneath::new(opened, rights))?;
        }
        Ok(rules)
    }

    fn numbered_devices() -> Vec<PathBuf> {
        let Ok(devices) = std::fs::read_dir(Path::new("/dev")) else { return Vec::new() };
        let named = |path: &PathBuf| {
            path.file_name().is_some_and(|name| name.as_encoded_bytes().starts_with(NUMBERED_DEVICES.as_bytes()))
        };
        devices.flatten().map(|device| device.path()).filter(named).collect()
    }

    fn filter() -> Result<BpfProgram, seccompiler::BackendError> {
        let refused: BTreeMap<i64, _> = REFUSED.iter().map(|call| (*call, Vec::new())).collect();
        let refuse = SeccompAction::Errno(libc::EPERM.unsigned_abs());
        SeccompFilter::new(refused, SeccompAction::Allow, refuse, std::env::consts::ARCH.try_into()?)?.try_into()
    }
}

#[cfg(not(target_os = "linux"))]
mod kernel {
    use super::{Error, Layer};
    use std::path::PathBuf;

    #[derive(Debug, Default)]
    pub(super) struct Layers;

    impl Layers {
        pub(super) fn new(_: &[PathBuf]) -> Result<Layers, Error> {
            Ok(Layers)
        }

        pub(super) fn has(&self, _: Layer) -> bool {
            false
        }

        pub(super) fn drop(&mut self, _: Layer) {}

        pub(super) fn apply(&self, _: Layer) -> Result<String, String> {
            Err("only Linux has it".to_owned())
        }
    }
}
