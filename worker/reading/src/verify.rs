//! Whether an output is what it should be: there, whole, of the right kind and size, with an image in
//! it. What the renderer said about it counts for nothing here.

mod exr;
mod image;
mod jpeg;
mod output;
mod patience;
mod video;

pub use output::OutputFile;

use crate::pictures::Seen;
use framewake_proto::job::{Policy, Verify};
use patience::Patient;
use std::io::{BufRead, BufReader, Read, Seek, SeekFrom};
use std::path::Path;
use std::time::{Duration, Instant};

/// Largest output. A file with a hole costs its renderer nothing, and whoever copies it all of its size.
pub const OUTPUT_SIZE_MAX: u64 = 64 * 1024 * 1024 * 1024;
/// Largest side of an image.
pub const SIDE_MAX: u32 = 32 * 1024;
/// Most bytes an image may need while it is decoded.
pub const DECODED_SIZE_MAX: u64 = 2 * 1024 * 1024 * 1024;
/// Longest time for one output: the largest honest ones need a minute.
pub const CHECK_TIME_MAX: Duration = Duration::from_mins(5);

/// What a good output is.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Verified {
    pub size_bytes: u64,
    /// 0 where the kind of file has none or we can't read it.
    pub width: u32,
    pub height: u32,
    /// Frames of a video.
    pub frames: Option<u32>,
    /// Something worth a line in the log.
    pub note: Option<String>,
    /// What smaller pictures are made of.
    pub seen: Seen,
}

/// Why an output does not count.
#[derive(Debug, thiserror::Error)]
pub enum Bad {
    #[error("the renderer wrote no output")]
    Missing,
    #[error("the output is empty")]
    Empty,
    #[error("cannot read the output")]
    Read(#[source] std::io::Error),
    #[error("the output is named `.{extension}` and is {found}")]
    OtherKind { extension: String, found: &'static str },
    #[error("the output is cut off: {0}")]
    Truncated(&'static str),
    #[error("the output does not decode: {0}")]
    Broken(String),
    #[error("the output has {0} bytes, more than the {OUTPUT_SIZE_MAX} allowed")]
    TooLong(u64),
    #[error("looking through the output took longer than {} s", CHECK_TIME_MAX.as_secs())]
    TooSlow,
    #[error(
        "the output is {width}x{height} pixels, more than this worker decodes ({SIDE_MAX} a side, {} MiB in all)",
        size_bytes_max >> 20
    )]
    TooLarge { width: u64, height: u64, size_bytes_max: u64 },
    #[error("the output is {width}x{height} pixels, and {expected} was asked for")]
    OtherSize { width: u32, height: u32, expected: String },
    #[error("the size of `.{0}` files can't be checked: leave `verify.width` and `verify.height` out")]
    SizeUnknown(String),
    #[error("the video has {found} frames, and {expected} were asked for")]
    OtherFrames { found: u32, expected: u32 },
    #[error(
        "every pixel is black: look at lights, camera and what is hidden from renders; hint: `verify: {{black: allow}}` accepts that"
    )]
    Black,
    #[error("{count} of {total} samples are NaN or infinite; hint: `verify: {{nan: allow}}` accepts that")]
    NotFinite { count: u64, total: u64 },
}

/// What decoding found out about an image.
#[derive(Debug, Default)]
struct Picture {
    width: u32,
    height: u32,
    /// No color in any pixel; `None` where the file has no colors.
    black: Option<bool>,
    samples: u64,
    not_finite: u64,
    note: Option<String>,
    seen: Seen,
}

/// Checks the file `path`, which must hold an output with this lower-case `extension`. Takes as long
/// as decoding does: not for the runtime's own threads.
pub fn check(path: &Path, extension: &str, wanted: &Verify) -> Result<Verified, Bad> {
    check_file(&OutputFile::open(path)?, extension, wanted)
}

/// The same of a file that is open.
pub fn check_file(output: &OutputFile, extension: &str, wanted: &Verify) -> Result<Verified, Bad> {
    let file = output.from_start().map_err(Bad::Read)?;
    check_read(BufReader::with_capacity(128 * 1024, file), output.size_bytes(), extension, wanted)
}

/// The same of `size_bytes` bytes that are read from anywhere.
pub fn check_read<R: BufRead + Seek>(
    reader: R,
    size_bytes: u64,
    extension: &str,
    wanted: &Verify,
) -> Result<Verified, Bad> {
    check_until(Instant::now() + CHECK_TIME_MAX, reader, size_bytes, extension, wanted)
}

fn check_until<R: BufRead + Seek>(
    deadline: Instant,
    reader: R,
    size_bytes: u64,
    extension: &str,
    wanted: &Verify,
) -> Result<Verified, Bad> {
    if size_bytes > OUTPUT_SIZE_MAX {
        return Err(Bad::TooLong(size_bytes));
    }
    let checked = check_bytes(Patient::new(reader, deadline), size_bytes, extension, wanted);
    // A decoder tells in its own words that nothing more was to be read.
    if checked.is_err() && Instant::now() >= deadline { Err(Bad::TooSlow) } else { checked }
}

fn check_bytes<R: BufRead + Seek>(
    mut reader: R,
    size_bytes: u64,
    extension: &str,
    wanted: &Verify,
) -> Result<Verified, Bad> {
    check_kind(&mut reader, extension)?;
    let mut verified = Verified { size_bytes, ..Verified::default() };
    let picture = match extension {
        "png" | "jpg" | "jpeg" => Some(image::decode(reader, extension, size_bytes)?),
        "exr" => Some(exr::decode(reader)?),
        "mp4" | "mov" | "m4v" => {
            let video = video::read(reader, size_bytes)?;
            (verified.width, verified.height, verified.frames) = (video.width, video.height, Some(video.frames));
            if let Some(expected) = wanted.frames
                && expected != video.frames
            {
                return Err(Bad::OtherFrames { found: video.frames, expected });
            }
            None
        }
        _ if wanted.width.is_some() || wanted.height.is_some() => return Err(Bad::SizeUnknown(extension.to_owned())),
        _ => return Ok(verified),
    };
    if let Some(picture) = &picture {
        (verified.width, verified.height) = (picture.width, picture.height);
        verified.note.clone_from(&picture.note);
    }
    check_size(&verified, wanted)?;
    if let Some(picture) = picture {
        verified.seen = picture.seen;
        if picture.not_finite > 0 && wanted.nan == Policy::Refuse {
            return Err(Bad::NotFinite { count: picture.not_finite, total: picture.samples });
        }
        if picture.black == Some(true) && wanted.black == Policy::Refuse {
            return Err(Bad::Black);
        }
    }
    Ok(verified)
}

fn check_size(found: &Verified, wanted: &Verify) -> Result<(), Bad> {
    let differs = |wanted: Option<u32>, found: u32| wanted.is_some_and(|wanted| wanted != found);
    if differs(wanted.width, found.width) || differs(wanted.height, found.height) {
        let expected = match (wanted.width, wanted.height) {
            (Some(width), Some(height)) => format!("{width}x{height}"),
            (Some(width), None) => format!("a width of {width}"),
            (None, height) => format!("a height of {}", height.unwrap_or_default()),
        };
        return Err(Bad::OtherSize { width: found.width, height: found.height, expected });
    }
    Ok(())
}

/// The first bytes must be those of the kind that the name promises.
fn check_kind(reader: &mut (impl Read + Seek), extension: &str) -> Result<(), Bad> {
    let mut head = [0; 12];
    let mut filled = 0;
    while filled < head.len() {
        match reader.read(&mut head[filled..]).map_err(Bad::Read)? {
            0 => break,
            count => filled += count,
        }
    }
    reader.seek(SeekFrom::Start(0)).map_err(Bad::Read)?;
    let kind = kind_of(&head[..filled]);
    let expected = match extension {
        "png" => Kind::Png,
        "jpg" | "jpeg" => Kind::Jpeg,
        "exr" => Kind::Exr,
        "mp4" | "mov" | "m4v" => Kind::Mp4,
        _ => return Ok(()),
    };
    if kind == expected {
        return Ok(());
    }
    Err(Bad::OtherKind { extension: extension.to_owned(), found: kind.describe() })
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Png,
    Jpeg,
    Exr,
    Mp4,
    Other,
}

impl Kind {
    fn describe(self) -> &'static str {
        match self {
            Kind::Png => "a PNG file",
            Kind::Jpeg => "a JPEG file",
            Kind::Exr => "an OpenEXR file",
            Kind::Mp4 => "an MP4 or QuickTime file",
            Kind::Other => "something else",
        }
    }
}

fn kind_of(head: &[u8]) -> Kind {
    match head {
        [0x89, b'P', b'N', b'G', 0x0d, 0x0a, 0x1a, 0x0a, ..] => Kind::Png,
        [0xff, 0xd8, 0xff, ..] => Kind::Jpeg,
        [0x76, 0x2f, 0x31, 0x01, ..] => Kind::Exr,
        [_, _, _, _, b'f', b't', b'y', b'p', ..] => Kind::Mp4,
        _ => Kind::Other,
    }
}

#[cfg(test)]
mod tests;
