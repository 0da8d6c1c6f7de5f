//! How a container ended, in words.

use super::engine::{Engine, Failure};
use crate::{End, last_line};
use bollard::models::{ContainerInspectResponse, ContainerState};
use framewake_proto::size::Size;
use framewake_proto::time::Timestamp;
use framewake_proto::wire::clip;
use framewake_proto::worker_exit;

/// Longest last word that is passed on, in bytes.
const WORDS_MAX: usize = 500;
/// A program that is no worker and ends within this time never wanted to be one, in milliseconds.
const NO_WORKER_MS: u64 = 5000;

pub(super) async fn ask(engine: &Engine, name: &str) -> Result<End, Failure> {
    let container = engine.inspect(name).await?;
    // A logging driver that can't be read hides them.
    let said = match engine.last_lines(name).await {
        Ok(said) => said,
        Err(Failure::Refused { .. }) => String::new(),
        Err(away) => return Err(away),
    };
    Ok(end(&container, &said))
}

fn end(container: &ContainerInspectResponse, said: &str) -> End {
    let nothing = ContainerState::default();
    let state = container.state.as_ref().unwrap_or(&nothing);
    let code = state.exit_code.unwrap_or(-1);
    let words = last_line(said).map(|words| clip(&words, WORDS_MAX).to_owned());
    let program = program(container);
    if i32::try_from(code).is_ok_and(worker_exit::is_well) {
        if program.contains("framewake-worker") || ran_ms(state) > NO_WORKER_MS {
            return End::Left;
        }
        let reason = format!(
            "its image starts `{program}`, which ended at once: the image of a function starts framewake-worker"
        );
        return End::Failed { reason };
    }
    if state.oom_killed == Some(true) {
        let limit =
            container.host_config.as_ref().and_then(|host| host.memory).and_then(|bytes| u64::try_from(bytes).ok());
        let limit = limit
            .filter(|bytes| *bytes > 0)
            .map_or_else(|| "all there was".to_owned(), |bytes| Size(bytes).to_string());
        let reason = format!("out of memory: it took more than {limit} (`resources.memory` of the function)");
        return End::Failed { reason };
    }
    let how = match code {
        137 => return End::Failed { reason: "killed by signal 9 (by hand, or because memory ran out)".to_owned() },
        129..=192 => format!("killed by signal {}", code - 128),
        _ => format!("exit code {code}"),
    };
    let words = words.or_else(|| state.error.clone().filter(|error| !error.is_empty()));
    End::Failed { reason: words.map_or_else(|| how.clone(), |words| format!("{words} ({how})")) }
}

fn program(container: &ContainerInspectResponse) -> String {
    let first = container.path.clone().unwrap_or_default();
    let rest = container.args.clone().unwrap_or_default();
    clip(&[vec![first], rest].concat().join(" "), WORDS_MAX).to_owned()
}

fn ran_ms(state: &ContainerState) -> u64 {
    let time = |text: &Option<String>| -> Option<Timestamp> {
        serde_json::from_value(serde_json::Value::String(text.clone()?)).ok()
    };
    match (time(&state.started_at), time(&state.finished_at)) {
        (Some(began), Some(ended)) => u64::try_from(ended.since(began).as_millis()).unwrap_or(u64::MAX),
        _ => 0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use bollard::models::HostConfig;

    fn check(program: &str, state: ContainerState, said: &str, expected: &str) {
        let container = ContainerInspectResponse {
            path: Some(program.to_owned()),
            host_config: Some(HostConfig { memory: Some(128 << 20), ..HostConfig::default() }),
            state: Some(state),
            ..ContainerInspectResponse::default()
        };
        let told = match end(&container, said) {
            End::Left => "left".to_owned(),
            End::Failed { reason } | End::TakenAway { reason } => reason,
        };
        assert_eq!(told, expected);
    }

    fn exited(code: i64) -> ContainerState {
        let time = |second| Some(format!("2026-11-21T10:00:{second:02}.123456789Z"));
        ContainerState { exit_code: Some(code), started_at: time(1), finished_at: time(2), ..ContainerState::default() }
    }

    #[test]
    fn an_end_is_told_in_the_workers_own_words_where_it_had_time_for_some() {
        let worker = "/usr/bin/framewake-worker";
        check(worker, exited(0), "", "left");
        // It was asked to go, and handed back what it had.
        check(worker, exited(75), "handed back", "left");
        check(worker, exited(78), "a\nblender is not installed\n\n", "blender is not installed (exit code 78)");
        check(worker, exited(101), "no such thing\nnote: run with `RUST_BACKTRACE=1`", "no such thing (exit code 101)");
        check(worker, exited(1), "", "exit code 1");
        check(worker, exited(139), "", "killed by signal 11");
        check(worker, exited(137), "rendering", "killed by signal 9 (by hand, or because memory ran out)");
        let oom = ContainerState { oom_killed: Some(true), ..exited(137) };
        let reason = "out of memory: it took more than 128MiB (`resources.memory` of the function)";
        check(worker, oom, "", reason);
        let broken = ContainerState { error: Some("no such device".to_owned()), ..exited(128) };
        check(worker, broken, "", "no such device (exit code 128)");
    }

    #[test]
    fn an_image_that_starts_something_else_is_told_apart_from_a_worker_that_left() {
        let reason = "its image starts `bash`, which ended at once: the image of a function starts framewake-worker";
        check("bash", exited(0), "", reason);
        // A script of the user's own that ran the worker.
        let long = ContainerState { finished_at: Some("2026-11-21T10:00:30Z".to_owned()), ..exited(0) };
        check("/entrypoint.sh", long, "", "left");
    }
}
