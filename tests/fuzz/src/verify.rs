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
            assert!(verified.width <= SIDE_MAX && verified.height <= SIDE_MAX, "{verified:?}");
            // Each frame of a video has at least a byte of its own.
            assert!(verified.frames.is_none_or(|frames| u64::from(frames) <= size_bytes), "{verified:?}");
        }
        Err(bad) => assert!(bad.to_string().len() < 1000, "a bounded reason"),
    }
}
