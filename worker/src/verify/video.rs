//! MP4 and `QuickTime`, by structure: every sample of the video lies inside the file.

use super::Bad;
use re_mp4::{Mp4, TrackKind};
use std::fs::File;
use std::io::{BufReader, Read, Seek, SeekFrom};

/// Largest index (`moov`) read into memory: hours of video need some ten MiB.
const INDEX_SIZE_MAX: u64 = 512 * 1024 * 1024;

pub(super) struct Video {
    pub(super) width: u32,
    pub(super) height: u32,
    pub(super) frames: u32,
}

pub(super) fn read(mut reader: BufReader<File>, size_bytes: u64) -> Result<Video, Bad> {
    check_boxes(&mut reader, size_bytes)?;
    let parsed = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| Mp4::read(reader, size_bytes)));
    // The parser panics on some inconsistent indexes instead of saying so.
    let parsed = parsed.map_err(|_| Bad::Broken("its index contradicts itself".to_owned()))?;
    let mp4 = parsed.map_err(|error| Bad::Broken(error.to_string()))?;
    let track = mp4.tracks().values().find(|track| track.kind == Some(TrackKind::Video));
    // A codec that the parser doesn't know has no kind; what has a picture size is a video.
    let track = track.or_else(|| mp4.tracks().values().find(|track| track.width > 0 && track.height > 0));
    let track = track.ok_or_else(|| Bad::Broken("it has no video track".to_owned()))?;
    if track.samples.is_empty() {
        return Err(Bad::Broken("its video track has no frames".to_owned()));
    }
    for sample in &track.samples {
        if sample.size == 0 || sample.offset.saturating_add(sample.size) > size_bytes {
            return Err(Bad::Truncated("a frame of the video lies beyond the end of the file"));
        }
    }
    Ok(Video {
        width: track.width.into(),
        height: track.height.into(),
        frames: u32::try_from(track.samples.len()).unwrap_or(u32::MAX),
    })
}

/// Walks the top boxes: each must lie inside the file, and an index must be among them.
fn check_boxes(reader: &mut BufReader<File>, size_bytes: u64) -> Result<(), Bad> {
    let mut at = 0;
    let mut index = false;
    while at < size_bytes {
        let mut head = [0; 16];
        reader.seek(SeekFrom::Start(at)).map_err(Bad::Read)?;
        let long = size_bytes - at >= 16;
        let wanted = if long { 16 } else { 8 };
        if size_bytes - at < 8 || reader.read_exact(&mut head[..wanted]).is_err() {
            return Err(Bad::Truncated("the last box of the video is not whole"));
        }
        let size = match u32::from_be_bytes([head[0], head[1], head[2], head[3]]) {
            0 => size_bytes - at,
            1 if long => {
                let mut bytes = [0; 8];
                bytes.copy_from_slice(&head[8..]);
                u64::from_be_bytes(bytes)
            }
            size => size.into(),
        };
        if size < 8 || size > size_bytes - at {
            return Err(Bad::Truncated("a box of the video ends beyond the end of the file"));
        }
        if &head[4..8] == b"moov" {
            index = true;
            if size > INDEX_SIZE_MAX {
                return Err(Bad::Broken("its index is larger than 512 MiB".to_owned()));
            }
        }
        at += size;
    }
    reader.seek(SeekFrom::Start(0)).map_err(Bad::Read)?;
    if index { Ok(()) } else { Err(Bad::Truncated("the video has no index: the encoder did not finish")) }
}
