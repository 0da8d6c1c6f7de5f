//! Files of pools and functions, read at the start: all that is wrong with them is said at once.

use anyhow::{Context, Result, bail};
use framewake_core::scale::keep::Window;
use framewake_core::values::LOCAL_POOL;
use framewake_proto::function::FunctionSpec;
use framewake_proto::ids::Name;
use framewake_proto::job::Fault;
use framewake_proto::pool::{POOLS_MAX, PoolMachine, PoolSpec, ProviderSpec, STARTS_A_MINUTE_MAX};
use framewake_proto::price::Market;
use serde::de::DeserializeOwned;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// Largest file.
const FILE_MAX: u64 = 256 * 1024;

/// The functions of files and folders.
pub(crate) fn functions(paths: &[PathBuf]) -> Result<Vec<FunctionSpec>> {
    let Files { good, wrong } = read(paths, "--functions", function_faults)?;
    if !wrong.is_empty() {
        bail!("functions that can't be used:\n  {}", wrong.join("\n  "));
    }
    Ok(good.into_iter().map(|(_, spec)| spec).collect())
}

fn function_faults(function: &FunctionSpec) -> Vec<Fault> {
    function.faults().into_iter().chain(Window::faults(function)).collect()
}

/// The pools of files and folders, and this machine with so many slots: unless a file speaks of it, or it has none and
/// there are others.
pub(crate) fn pools(paths: &[PathBuf], slots: u32) -> Result<Vec<PoolSpec>> {
    let Files { good: read, mut wrong } = read(paths, "--pools", PoolSpec::faults)?;
    let mut named: BTreeMap<String, &Path> = BTreeMap::new();
    for (file, pool) in &read {
        if let Some(other) = named.insert(pool.name.to_string(), file) {
            wrong.push(format!(
                "{}: /name: `{}` is the pool of {} already",
                file.display(),
                pool.name,
                other.display()
            ));
        }
    }
    let local = read.iter().filter(|(_, pool)| matches!(pool.provider, ProviderSpec::Local {}));
    for (file, _) in local.skip(1) {
        wrong.push(format!("{}: /provider: there is one pool of this machine already", file.display()));
    }
    wrong.extend(shared_gpus(&read));
    if read.len() >= POOLS_MAX {
        wrong.push(format!("there are {} pools, more than the {POOLS_MAX} allowed", read.len()));
    }
    if !wrong.is_empty() {
        bail!("pools that can't be used:\n  {}", wrong.join("\n  "));
    }
    let mut pools: Vec<PoolSpec> = read.into_iter().map(|(_, pool)| pool).collect();
    let said = pools.iter().any(|pool| pool.name.as_str() == LOCAL_POOL || pool.provider == ProviderSpec::Local {});
    if !said && (slots > 0 || pools.is_empty()) {
        pools.push(local_pool(slots));
    }
    Ok(pools)
}

/// GPUs of one engine that two pools name: each would give them away.
fn shared_gpus(pools: &[(PathBuf, PoolSpec)]) -> Vec<String> {
    let mut named: BTreeMap<(&str, &str), &Name> = BTreeMap::new();
    let mut wrong = Vec::new();
    for (file, pool) in pools {
        let ProviderSpec::Docker(docker) = &pool.provider else { continue };
        for gpu in &docker.gpus {
            let host = docker.host.as_str();
            if let Some(other) = named.insert((host, gpu), &pool.name) {
                let file = file.display();
                wrong.push(format!("{file}: /provider/gpus: `{gpu}` of this engine is with pool `{other}` already"));
            }
        }
    }
    wrong
}

/// This machine, with room for so many workers.
fn local_pool(slots: u32) -> PoolSpec {
    PoolSpec {
        name: LOCAL_POOL.parse().expect("a good name"),
        description: String::new(),
        max: slots,
        gpu: None,
        machine: PoolMachine::default(),
        market: Market::OnDemand,
        order: 0,
        start_within: None,
        starts_a_minute: STARTS_A_MINUTE_MAX,
        provider: ProviderSpec::Local {},
    }
}

/// What files hold, by file name, and what is wrong with the others.
struct Files<T> {
    good: Vec<(PathBuf, T)>,
    wrong: Vec<String>,
}

fn read<T: DeserializeOwned>(paths: &[PathBuf], option: &str, faults: impl Fn(&T) -> Vec<Fault>) -> Result<Files<T>> {
    let mut files = Vec::new();
    for path in paths {
        if path.is_dir() {
            let entries = std::fs::read_dir(path).with_context(|| format!("{option} {}", path.display()))?;
            let yaml =
                |file: &PathBuf| file.extension().is_some_and(|extension| extension == "yaml" || extension == "yml");
            files.extend(entries.flatten().map(|entry| entry.path()).filter(yaml));
        } else {
            files.push(path.clone());
        }
    }
    files.sort();
    let (mut good, mut wrong) = (Vec::new(), Vec::new());
    for file in files {
        match read_one(&file, &faults) {
            Ok(spec) => good.push((file, spec)),
            Err(reason) => wrong.push(format!("{}: {reason}", file.display())),
        }
    }
    Ok(Files { good, wrong })
}

fn read_one<T: DeserializeOwned>(file: &Path, faults: impl Fn(&T) -> Vec<Fault>) -> Result<T, String> {
    let size = std::fs::metadata(file).map_err(|error| error.to_string())?.len();
    if size > FILE_MAX {
        return Err(format!("{size} bytes, more than the {FILE_MAX} of such a file"));
    }
    let text = std::fs::read_to_string(file).map_err(|error| error.to_string())?;
    let spec: T = framewake_proto::yaml::read(&text).map_err(|error| error.to_string())?;
    let faults: Vec<String> =
        faults(&spec).into_iter().map(|fault| format!("{}: {}", fault.field, fault.reason)).collect();
    if faults.is_empty() { Ok(spec) } else { Err(faults.join("; ")) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(files: &[(&str, &str)], slots: u32, expected: Result<&[&str], &[&str]>) {
        let folder = tempfile::tempdir().expect("room for a folder");
        for (name, text) in files {
            std::fs::write(folder.path().join(name), text).expect("writable");
        }
        match (pools(&[folder.path().to_owned()], slots), expected) {
            (Ok(pools), Ok(names)) => {
                let found: Vec<&str> = pools.iter().map(|pool| pool.name.as_str()).collect();
                assert_eq!(found, names);
            }
            (Err(error), Err(words)) => {
                let said = error.to_string();
                for words in words {
                    assert!(said.contains(words), "{words} is not in\n{said}");
                }
            }
            (found, expected) => panic!("{found:?}, not {expected:?}"),
        }
    }

    const DOCKER: &str = "name: big\nmax: 4\nprovider: { kind: docker, network: render }\n";

    #[test]
    fn this_machine_is_a_pool_unless_a_file_speaks_of_it_or_it_has_no_room() {
        check(&[], 2, Ok(&["local"]));
        check(&[], 0, Ok(&["local"]));
        check(&[("a.yaml", DOCKER), ("notes.txt", "no pool")], 2, Ok(&["big", "local"]));
        check(&[("a.yaml", DOCKER)], 0, Ok(&["big"]));
        check(&[("a.yaml", "name: here\nmax: 8\nprovider: { kind: local }\n")], 2, Ok(&["here"]));
    }

    #[test]
    fn all_that_is_wrong_with_pools_is_said_at_once() {
        let wrong = "name: odd\nmax: 0\nstarts_a_minute: 0\nprovider: { kind: docker, host: ftp://x, gpus: [a, a] }\n";
        let local = "name: this\nmax: 1\nprovider: { kind: local }\n";
        let gpus = "name: NAME\nmax: 1\ngpu: { model: L4, memory: 24GiB }\nprovider: { kind: docker, gpus: [GPU-1] }\n";
        let files = [
            ("a.yaml", DOCKER),
            ("b.yaml", DOCKER),
            ("c.yaml", wrong),
            ("d.yaml", "name: x\nmax: 1\nprovider: { kind: cloud }\n"),
            ("e.yaml", "name: y\nmax: 1\nsize: 3\nprovider: { kind: local }\n"),
            ("f.yaml", local),
            ("g.yaml", &local.replace("this", "that")),
            ("h.yaml", &gpus.replace("NAME", "one")),
            ("i.yaml", &gpus.replace("NAME", "two")),
            ("j.yaml", &gpus.replace("NAME", "three").replace("GPU-1", "GPU-2").replace("24GiB", "24GiB, count: 2")),
        ];
        let expected = [
            "b.yaml: /name: `big` is the pool of",
            "c.yaml: /max: must be 1 to",
            "/starts_a_minute: must be",
            "/provider/host: must begin",
            "/provider/gpus: must name different",
            "d.yaml: ",
            "`cloud`",
            "e.yaml: ",
            "`size`",
            "g.yaml: /provider: there is one pool of this machine",
            "i.yaml: /provider/gpus: `GPU-1` of this engine is with pool `one` already",
            "j.yaml: /gpu/count: a worker can have 2, and `provider.gpus` names 1",
        ];
        check(&files, 2, Err(&expected));
    }
}
