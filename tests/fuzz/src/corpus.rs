//! The inputs worth keeping, one file for each target: each input after its length, four bytes, lowest first.

use crate::TARGETS;
use anyhow::{Context, Result, bail};
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

/// Most bytes kept for a target, the shortest inputs first: the test that plays them takes a second.
const KEPT_BYTES_MAX: usize = 80 * 1024;

/// The corpus of a target in the repository.
pub fn file(target: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("corpus").join(format!("{target}.pack"))
}

/// The inputs kept for a target.
pub fn read(target: &str) -> Result<Vec<Vec<u8>>> {
    let path = file(target);
    let packed = std::fs::read(&path).with_context(|| format!("cannot read {}", path.display()))?;
    let (mut inputs, mut rest) = (Vec::new(), packed.as_slice());
    while !rest.is_empty() {
        let Some((size, after)) = rest.split_first_chunk::<4>() else { bail!("{} is cut off", path.display()) };
        let size = u32::from_le_bytes(*size) as usize;
        let Some((input, after)) = after.split_at_checked(size) else { bail!("{} is cut off", path.display()) };
        inputs.push(input.to_vec());
        rest = after;
    }
    Ok(inputs)
}

/// Packs a folder of inputs, the shortest first.
pub fn pack(target: &str, folder: &Path) -> Result<usize> {
    let mut inputs = BTreeSet::new();
    for entry in std::fs::read_dir(folder).with_context(|| format!("cannot read {}", folder.display()))? {
        let input = std::fs::read(entry?.path())?;
        inputs.insert((input.len(), input));
    }
    let (mut packed, mut count) = (Vec::new(), 0);
    for (size, input) in &inputs {
        if packed.len() + size > KEPT_BYTES_MAX {
            break;
        }
        count += 1;
        packed.extend_from_slice(&u32::try_from(*size)?.to_le_bytes());
        packed.extend_from_slice(input);
    }
    std::fs::write(file(target), packed)?;
    Ok(count)
}

/// Writes a target's inputs and seeds into a folder, one file each.
pub fn unpack(target: &str, folder: &Path) -> Result<usize> {
    std::fs::create_dir_all(folder)?;
    let kept = if file(target).exists() { read(target)? } else { Vec::new() };
    let inputs = kept.into_iter().chain(crate::seeds::of(target));
    let mut count = 0;
    for input in inputs {
        std::fs::write(folder.join(format!("kept-{count:05}")), input)?;
        count += 1;
    }
    Ok(count)
}

/// Names of all targets.
pub fn names() -> impl Iterator<Item = &'static str> {
    TARGETS.iter().map(|target| target.name)
}
