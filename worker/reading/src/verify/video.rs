//! MP4 and `QuickTime`, by structure: every frame of the video lies inside the file. Reads the index, whole or in
//! fragments, and of that only what says where frames are; work and memory grow with the index, whatever it claims.

use super::Bad;
use std::io::{BufRead, Seek, SeekFrom};

/// Largest index (`moov`, or one `moof`) read into memory: hours of video need some ten MiB.
const INDEX_SIZE_MAX: u64 = 64 * 1024 * 1024;

/// Most outermost boxes: a day of video with a fragment for each second needs a sixth of it.
const BOXES_MAX: u32 = 1024 * 1024;

pub(super) struct Video {
    pub(super) width: u32,
    pub(super) height: u32,
    pub(super) frames: u32,
}

pub(super) fn read(mut reader: impl BufRead + Seek, size_bytes: u64) -> Result<Video, Bad> {
    let tops = top_boxes(&mut reader, size_bytes)?;
    let index = tops.iter().find(|top| &top.kind == b"moov");
    let index = index.ok_or(Bad::Truncated("the video has no index: the encoder did not finish"))?;
    let index = load(&mut reader, index)?;
    let track = find_track(&index)?;
    let mut frames = Frames { size_bytes, count: 0, total_bytes: 0 };
    track.count_samples(&mut frames)?;
    for top in tops.iter().filter(|top| &top.kind == b"moof") {
        let fragment = load(&mut reader, top)?;
        track.count_fragment(&fragment, top.start, &mut frames)?;
    }
    if frames.count == 0 {
        return Err(Bad::Broken("its video track has no frames".to_owned()));
    }
    let frames = u32::try_from(frames.count).unwrap_or(u32::MAX);
    Ok(Video { width: track.width, height: track.height, frames })
}

/// A box that is not inside another.
struct Top {
    kind: [u8; 4],
    start: u64,
    /// Where its contents begin, and how long they are.
    body: u64,
    body_size: u64,
}

/// The outermost boxes that make up the index; each box of the file must lie inside it.
fn top_boxes(reader: &mut (impl BufRead + Seek), size_bytes: u64) -> Result<Vec<Top>, Bad> {
    let mut found = Vec::new();
    let (mut start, mut count, mut at) = (0, 0, 0_u64);
    while start < size_bytes {
        count += 1;
        if count > BOXES_MAX {
            return Err(Bad::Broken(format!("it has more than {BOXES_MAX} boxes")));
        }
        let left = size_bytes - start;
        let mut head = [0; 16];
        // What is buffered stays: most boxes may be small ones.
        reader.seek_relative(start.cast_signed() - at.cast_signed()).map_err(Bad::Read)?;
        let long = left >= 16;
        let wanted = if long { 16 } else { 8 };
        if left < 8 || reader.read_exact(&mut head[..wanted]).is_err() {
            return Err(Bad::Truncated("the last box of the video is not whole"));
        }
        at = start + wanted as u64;
        let (size, head_size) = match u32_at(&head, 0) {
            Some(0) => (left, 8),
            Some(1) if long => (u64_at(&head, 8).unwrap_or(0), 16),
            size => (size.unwrap_or(0).into(), 8),
        };
        if size < head_size || size > left {
            return Err(Bad::Truncated("a box of the video ends beyond the end of the file"));
        }
        let kind = [head[4], head[5], head[6], head[7]];
        if matches!(&kind, b"moov" | b"moof") {
            found.push(Top { kind, start, body: start + head_size, body_size: size - head_size });
        }
        start += size;
    }
    Ok(found)
}

fn load(reader: &mut (impl BufRead + Seek), top: &Top) -> Result<Vec<u8>, Bad> {
    if top.body_size > INDEX_SIZE_MAX {
        return Err(Bad::Broken(format!("its index is larger than {} MiB", INDEX_SIZE_MAX >> 20)));
    }
    let mut body = vec![0; usize::try_from(top.body_size).expect("it is below INDEX_SIZE_MAX")];
    reader.seek(SeekFrom::Start(top.body)).map_err(Bad::Read)?;
    reader.read_exact(&mut body).map_err(Bad::Read)?;
    Ok(body)
}

/// The boxes in the contents of another, until one that can't be.
fn boxes(mut rest: &[u8]) -> impl Iterator<Item = ([u8; 4], &[u8])> {
    std::iter::from_fn(move || {
        let kind = *rest.get(4..)?.first_chunk::<4>()?;
        let (size, head_size) = match u32_at(rest, 0)? {
            0 => (rest.len(), 8),
            1 => (usize::try_from(u64_at(rest, 8)?).ok()?, 16),
            size => (size as usize, 8),
        };
        let body = rest.get(head_size..size)?;
        rest = &rest[size..];
        Some((kind, body))
    })
}

fn child(body: &[u8], kind: [u8; 4]) -> Option<&[u8]> {
    boxes(body).find(|(found, _)| *found == kind).map(|(_, body)| body)
}

fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    bytes.get(at..)?.first_chunk().map(|four| u32::from_be_bytes(*four))
}

fn u64_at(bytes: &[u8], at: usize) -> Option<u64> {
    bytes.get(at..)?.first_chunk().map(|eight| u64::from_be_bytes(*eight))
}

/// What contradicts itself, or ends before it should.
fn inconsistent() -> Bad {
    Bad::Broken("its index contradicts itself".to_owned())
}

/// The track with the picture.
struct Track<'a> {
    id: u32,
    width: u32,
    height: u32,
    /// Where its samples are.
    table: &'a [u8],
    /// What fragments leave out.
    default_size: u32,
}

fn find_track(index: &[u8]) -> Result<Track<'_>, Bad> {
    let mut tracks = boxes(index).filter(|(kind, _)| kind == b"trak").map(|(_, body)| body);
    let is_video = |track: &&[u8]| {
        let handler = child(track, *b"mdia").and_then(|media| child(media, *b"hdlr"));
        handler.and_then(|handler| handler.get(8..12)) == Some(b"vide")
    };
    let track = tracks.find(is_video).ok_or_else(|| Bad::Broken("it has no video track".to_owned()))?;
    let header = child(track, *b"tkhd").ok_or_else(inconsistent)?;
    // The second version has longer times before the id.
    let id = u32_at(header, if header.first() == Some(&1) { 20 } else { 12 }).ok_or_else(inconsistent)?;
    // The last two numbers are the sides, in 16.16 fixed point.
    let side = |from_end: usize| header.len().checked_sub(from_end).and_then(|at| u32_at(header, at));
    let (width, height) = side(8).zip(side(4)).ok_or_else(inconsistent)?;
    let media = child(track, *b"mdia").and_then(|media| child(media, *b"minf"));
    let table = media.and_then(|media| child(media, *b"stbl")).ok_or_else(inconsistent)?;
    let defaults = child(index, *b"mvex").and_then(|extends| {
        boxes(extends).find(|(kind, body)| kind == b"trex" && u32_at(body, 4) == Some(id)).map(|(_, body)| body)
    });
    let default_size = defaults.and_then(|defaults| u32_at(defaults, 16)).unwrap_or(0);
    Ok(Track { id, width: width >> 16, height: height >> 16, table, default_size })
}

/// Frames counted so far.
struct Frames {
    size_bytes: u64,
    count: u64,
    total_bytes: u64,
}

impl Frames {
    /// `count` frames of `size` bytes, one after the other from `offset`.
    fn add(&mut self, offset: u64, count: u64, size: u32) -> Result<(), Bad> {
        let bytes = count.saturating_mul(size.into());
        if count > 0 && (size == 0 || offset.saturating_add(bytes) > self.size_bytes) {
            return Err(Bad::Truncated("a frame of the video lies beyond the end of the file"));
        }
        self.count += count;
        self.total_bytes = self.total_bytes.saturating_add(bytes);
        // Frames share no bytes; without this a short file could claim any number of them.
        if self.total_bytes > self.size_bytes { Err(inconsistent()) } else { Ok(()) }
    }
}

impl Track<'_> {
    /// Samples of the index: in chunks at `offsets`, as many in each as `runs` says, of these `sizes`.
    fn count_samples(&self, frames: &mut Frames) -> Result<(), Bad> {
        let sizes = child(self.table, *b"stsz").ok_or_else(inconsistent)?;
        let (same, count) = u32_at(sizes, 4).zip(u32_at(sizes, 8)).ok_or_else(inconsistent)?;
        if count == 0 {
            return Ok(());
        }
        let (offsets, wide) = match (child(self.table, *b"stco"), child(self.table, *b"co64")) {
            (Some(offsets), _) => (offsets, false),
            (None, Some(offsets)) => (offsets, true),
            (None, None) => return Err(inconsistent()),
        };
        let runs = child(self.table, *b"stsc").ok_or_else(inconsistent)?;
        let (chunk_count, run_count) = u32_at(offsets, 4).zip(u32_at(runs, 4)).ok_or_else(inconsistent)?;
        // First chunk and samples a chunk of run `at`.
        let run = |at: u32| {
            (at < run_count).then(|| (u32_at(runs, 8 + 12 * at as usize), u32_at(runs, 12 + 12 * at as usize)))
        };
        let (mut sample, mut next_run, mut in_chunk) = (0, 0, 0);
        for chunk in 0..chunk_count {
            while let Some((first, samples)) = run(next_run) {
                if first.ok_or_else(inconsistent)? > chunk + 1 {
                    break;
                }
                in_chunk = samples.ok_or_else(inconsistent)?;
                next_run += 1;
            }
            let at = chunk as usize;
            let offset = if wide { u64_at(offsets, 8 + 8 * at) } else { u32_at(offsets, 8 + 4 * at).map(u64::from) };
            let mut offset = offset.ok_or_else(inconsistent)?;
            let here = in_chunk.min(count - sample);
            if same > 0 {
                frames.add(offset, here.into(), same)?;
            } else {
                for at in sample..sample + here {
                    let size = u32_at(sizes, 12 + 4 * at as usize).ok_or_else(inconsistent)?;
                    frames.add(offset, 1, size)?;
                    offset += u64::from(size);
                }
            }
            sample += here;
            if sample == count {
                return Ok(());
            }
        }
        Err(inconsistent())
    }

    /// Samples of a fragment whose box begins at `start`.
    fn count_fragment(&self, fragment: &[u8], start: u64, frames: &mut Frames) -> Result<(), Bad> {
        for (_, part) in boxes(fragment).filter(|(kind, _)| kind == b"traf") {
            let header = child(part, *b"tfhd").ok_or_else(inconsistent)?;
            if u32_at(header, 4) == Some(self.id) {
                self.count_runs(part, header, start, frames).ok_or_else(inconsistent)??;
            }
        }
        Ok(())
    }

    /// `None` when a box ends before it should.
    fn count_runs(&self, part: &[u8], header: &[u8], start: u64, frames: &mut Frames) -> Option<Result<(), Bad>> {
        const BASE: u32 = 0x1;
        const SIZE: u32 = 0x10;
        // Fields before the default size: where data begins, description, duration.
        let before = [(BASE, 8), (0x2, 4), (0x8, 4)];
        let flags = u32_at(header, 0)? & 0xff_ffff;
        let base = if flags & BASE == 0 { start } else { u64_at(header, 8)? };
        let place = 8 + before.iter().filter(|(flag, _)| flags & flag != 0).map(|(_, size)| size).sum::<usize>();
        let default_size = if flags & SIZE == 0 { self.default_size } else { u32_at(header, place)? };
        let mut offset = base;
        for (_, run) in boxes(part).filter(|(kind, _)| kind == b"trun") {
            let (flags, count) = (u32_at(run, 0)? & 0xff_ffff, u32_at(run, 4)?);
            let mut at = 8;
            if flags & 0x1 != 0 {
                offset = base.checked_add_signed(u32_at(run, at)?.cast_signed().into())?;
                at += 4;
            }
            if flags & 0x4 != 0 {
                at += 4;
            }
            // Duration, size, flags, time: those that are there stand in this order.
            let fields = [0x100, 0x200, 0x400, 0x800].map(|flag| usize::from(flags & flag != 0));
            let width = 4 * fields.iter().sum::<usize>();
            if flags & 0x200 == 0 {
                let added = frames.add(offset, count.into(), default_size);
                offset = offset.saturating_add(u64::from(count) * u64::from(default_size));
                if added.is_err() {
                    return Some(added);
                }
                continue;
            }
            for sample in 0..count as usize {
                let size = u32_at(run, at + sample * width + 4 * fields[0])?;
                if let Err(bad) = frames.add(offset, 1, size) {
                    return Some(Err(bad));
                }
                offset += u64::from(size);
            }
        }
        Some(Ok(()))
    }
}
