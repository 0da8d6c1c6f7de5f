//! Which GPUs this machine has, to be given to workers one by one. The worker's program is asked, because it can read them
//! and because a process can be given up when the driver hangs.

use crate::engine::{Handle, Message};
use crate::queue::reading;
use framewake_core::event::Event;
use framewake_core::gpus::{Gpu, Handing};
use framewake_core::values::Place;
use framewake_proto::wire::{GpuSample, clip};
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;
use tokio::process::Command;
use tracing::{debug, info, warn};

/// How often they are looked for anew: one may be built in, or its driver be loaded.
const LIST_EVERY: Duration = Duration::from_mins(5);
/// The same while the driver hangs.
const LIST_AGAIN: Duration = Duration::from_secs(10);
/// How long a driver may take; one that no program holds needs two seconds.
const LIST_MAX: Duration = Duration::from_secs(20);
/// Longest reason that is passed on.
const REASON_MAX: usize = 300;

/// Why no worker with a GPU starts at first.
pub(crate) const AWAITED: &str = "those of this machine are being looked for";

/// What the worker's program says.
enum Listed {
    Gpus(Vec<Gpu>),
    /// None can be read, for this reason.
    Nothing(String),
    Hangs,
}

/// Tells the engine which GPUs there are, from now on.
pub(crate) async fn hand_out(program: PathBuf, handle: Handle) {
    let mut known = false;
    loop {
        let (handing, wait) = match list(&program).await {
            Listed::Gpus(gpus) => {
                if !known {
                    let names: Vec<&str> = gpus.iter().map(|gpu| gpu.uuid.as_str()).collect();
                    info!("workers are given the GPUs of this machine: {}", names.join(", "));
                }
                known = true;
                (Some(Handing::Out(gpus)), LIST_EVERY)
            }
            // They were there: workers must not begin to share what is left.
            Listed::Nothing(why) if known => {
                warn!("the GPUs can't be listed any more: {why}");
                (None, LIST_EVERY)
            }
            Listed::Nothing(why) => {
                // So it is on most machines; `framewake doctor` says whether something lacks one.
                debug!("workers find their GPUs themselves, because none is listed here: {why}");
                (Some(Handing::Own), LIST_EVERY)
            }
            Listed::Hangs => {
                let why = format!("their driver has not answered for {} s", LIST_MAX.as_secs());
                warn!("GPUs: {why}");
                ((!known).then_some(Handing::Awaited { why }), LIST_AGAIN)
            }
        };
        if let Some(handing) = handing
            && !handle.tell(Message::Happened(Event::GpusHanded(handing))).await
        {
            return;
        }
        tokio::time::sleep(wait).await;
    }
}

async fn list(program: &Path) -> Listed {
    let mut command = Command::new(program);
    command.arg("list-gpus").stdin(Stdio::null()).kill_on_drop(true);
    match tokio::time::timeout(LIST_MAX, command.output()).await {
        Err(_) => Listed::Hangs,
        Ok(Err(error)) => Listed::Nothing(format!("`{}` does not start: {error}", program.display())),
        Ok(Ok(output)) if output.status.success() => match serde_json::from_slice::<Vec<GpuSample>>(&output.stdout) {
            Ok(samples) if samples.is_empty() => Listed::Nothing("there are none".to_owned()),
            Ok(samples) => {
                let host = host();
                Listed::Gpus(
                    samples.iter().map(|sample| reading::described(place(&host, &sample.uuid), sample)).collect(),
                )
            }
            Err(error) => Listed::Nothing(format!("the answer makes no sense: {error}")),
        },
        Ok(Ok(output)) => {
            let said = String::from_utf8_lossy(&output.stderr).into_owned();
            Listed::Nothing(clip(said.lines().last().unwrap_or_default(), REASON_MAX).to_owned())
        }
    }
}

/// The machine, as workers started here name it.
pub(crate) fn host() -> String {
    #[allow(clippy::disallowed_methods)] // Workers inherit it.
    let set = std::env::var("FRAMEWAKE_HOST").ok().filter(|host| !host.is_empty());
    set.unwrap_or_else(|| rustix::system::uname().nodename().to_string_lossy().into_owned())
}

/// A GPU of it.
pub(crate) fn place(host: &str, uuid: &str) -> Place {
    Place::new(&format!("{host}/{uuid}"))
}
