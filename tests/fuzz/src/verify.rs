//! Outputs of renderers: any bytes are judged, in bounded time and memory.

use framewake_proto::job::Verify;
use framewake_reading::verify::{SIDE_MAX, check_read};
use std::io::Cursor;

const EXTENSIONS: [&str; 6] = ["png", "jpg", "exr", "mp4", "mov", "bin"];

/// A byte for the kind, then the file.
pub fn check(data: &[u8]) {
    let Some((choice, file)) = data.split_first() else { return };
    let extension = EXTENSIONS[usize::from(*choice) % EXTENSIONS.len()];
    let size_bytes = file.len() as u64;
    match check_read(Cursor::new(file), size_bytes, extension, &Verify::default()) {
        Ok(verified) => {
            assert_eq!(verified.size_bytes, size_bytes);
            // Videos are not decoded, so that their sides cost nothing; the format has 16 bits for each.
            let side_max = if verified.frames.is_some() { u16::MAX.into() } else { SIDE_MAX };
            assert!(verified.width <= side_max && verified.height <= side_max, "{verified:?}");
            // Each frame of a video has at least a byte of its own.
            assert!(verified.frames.is_none_or(|frames| u64::from(frames) <= size_bytes), "{verified:?}");
        }
        Err(bad) => assert!(bad.to_string().len() < 1000, "a bounded reason"),
    }
}
