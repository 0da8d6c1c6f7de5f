//! Outputs of renderers: any bytes are judged, and made pictures of, in bounded time and memory.

use framewake_proto::job::Verify;
use framewake_proto::objects::Picture;
use framewake_reading::pictures::{NoPicture, make};
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
            match make(verified.seen) {
                Ok(made) => {
                    assert!(made.thumbnail.len() as u64 <= Picture::Thumbnail.size_max());
                    assert!(made.preview.is_none_or(|file| file.len() as u64 <= Picture::Preview.size_max()));
                }
                Err(NoPicture::Nothing(_)) => {}
                Err(none) => panic!("a good output has pictures, or nothing to show: {none}"),
            }
        }
        Err(bad) => assert!(bad.to_string().len() < 1000, "a bounded reason"),
    }
}
