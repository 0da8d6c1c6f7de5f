//! `OpenEXR`, decoded block by block, so that a file of thirty layers needs the memory of one block.

use super::{Bad, DECODED_SIZE_MAX, Picture, SIDE_MAX};
use crate::pictures::{self, PREVIEW_SIDE_MAX, Seen, Shrink};
use exr::block::UncompressedBlock;
use exr::block::chunk::CompressedBlock;
use exr::block::lines::LineIndex;
use exr::block::reader::ChunksReader;
use exr::compression::Compression;
use exr::error::Error;
use exr::math::Vec2;
use exr::meta::attribute::SampleType;
use exr::meta::attribute::TileDescription;
use exr::meta::header::Header;
use exr::meta::{BlockDescription, MetaData};
use exr::prelude::f16;
use std::collections::BTreeMap;
use std::io::{BufRead, Read, Seek, SeekFrom};
use std::ops::Range;

/// Largest header of all parts together, which is held while the blocks are read; the manifests of Cryptomatte make
/// the largest that are known, of some MiB.
const HEADER_SIZE_MAX: u64 = 32 * 1024 * 1024;
/// Most bytes of a block. The decoder holds them up to four times: as they came, unpacked, sorted, and in the machine's
/// order.
const BLOCK_SIZE_MAX: u64 = DECODED_SIZE_MAX / 4;
/// Most channels of a part; Nuke, which uses most of all, knows 1023. For some compressions the decoder compares each
/// with all others, in each block.
const CHANNELS_MAX: usize = 1024;

pub(super) fn decode(mut reader: impl BufRead + Seek) -> Result<Picture, Bad> {
    // Read on their own first: the decoder would go on for as long as a header claims to be.
    let mut head = reader.by_ref().take(HEADER_SIZE_MAX);
    match MetaData::read_from_buffered(&mut head, false) {
        Ok(meta) => check_headers(&meta.headers)?,
        Err(_) if head.limit() == 0 => {
            return Err(Bad::Broken(format!("its header is larger than {} MiB", HEADER_SIZE_MAX >> 20)));
        }
        Err(error) => return unsupported_or_broken(&error, Picture::default()),
    }
    reader.seek(SeekFrom::Start(0)).map_err(Bad::Read)?;
    let reader = match exr::block::read(reader, false) {
        Ok(reader) => reader,
        Err(error) => return unsupported_or_broken(&error, Picture::default()),
    };
    let mut picture = Picture::default();
    let Some(first) = reader.headers().first() else {
        return Err(Bad::Broken("the file has no image".to_owned()));
    };
    // The display window is what the user asked for; a crop writes a smaller data window.
    let display = first.shared_attributes.display_window.size;
    let clamp = |side: usize| u32::try_from(side).unwrap_or(u32::MAX);
    (picture.width, picture.height) = (clamp(display.0), clamp(display.1));
    let mut chunks = match reader.all_chunks(false) {
        Ok(chunks) => chunks,
        Err(error) => return unsupported_or_broken(&error, picture),
    };
    let colors: Vec<Vec<Role>> = chunks.headers().iter().map(roles).collect();
    picture.black = colors.iter().flatten().any(|role| *role == Role::Color).then_some(true);
    let mut shown = Shown::choose(chunks.headers());
    while let Some(chunk) = chunks.next() {
        if let Ok(chunk) = &chunk {
            check_claims(chunks.headers()[chunk.layer_index].compression, &chunk.compressed_block)?;
        }
        let block = chunk.and_then(|chunk| UncompressedBlock::decompress_chunk(chunk, chunks.meta_data(), false));
        match block {
            Ok(block) => read_block(&block, chunks.headers(), &colors, &mut picture, shown.as_mut())?,
            Err(error) => return unsupported_or_broken(&error, picture),
        }
    }
    picture.seen =
        shown.map_or(Seen::Nothing("the file has no red, green and blue"), |shown| Seen::Light(shown.picture));
    Ok(picture)
}

/// Refuses parts whose blocks the decoder could not hold: it takes the room that is claimed.
fn check_headers(headers: &[Header]) -> Result<(), Bad> {
    for header in headers {
        for side in [header.layer_size, header.shared_attributes.display_window.size] {
            if side.0 > SIDE_MAX as usize || side.1 > SIDE_MAX as usize {
                return Err(Bad::TooLarge {
                    width: side.0 as u64,
                    height: side.1 as u64,
                    size_bytes_max: DECODED_SIZE_MAX,
                });
            }
        }
        let channels = header.channels.list.len();
        if channels > CHANNELS_MAX {
            return Err(Bad::Broken(format!("a part with {channels} channels, more than {CHANNELS_MAX}")));
        }
        let (width, height) = match header.blocks {
            BlockDescription::ScanLines => (header.layer_size.0, header.compression.scan_lines_per_block()),
            // The size of the tiles, also where the image is smaller: the decoder takes a tile for that large.
            BlockDescription::Tiles(TileDescription { tile_size, .. }) => (tile_size.0, tile_size.1),
        };
        let size_bytes = (width as u64).saturating_mul(height as u64);
        let size_bytes = size_bytes.saturating_mul(header.channels.bytes_per_pixel as u64);
        if size_bytes > BLOCK_SIZE_MAX {
            let limit = BLOCK_SIZE_MAX >> 20;
            return Err(Bad::Broken(format!("its blocks of {width}x{height} pixels take more than {limit} MiB each")));
        }
    }
    Ok(())
}

/// Refuses a block that claims to hold more than any may: for DWA the decoder takes the room before it looks.
fn check_claims(compression: Compression, block: &CompressedBlock) -> Result<(), Bad> {
    let (Compression::DWAA(_) | Compression::DWAB(_)) = compression else { return Ok(()) };
    let bytes = match block {
        CompressedBlock::ScanLine(block) => &block.compressed_pixels_le,
        CompressedBlock::Tile(block) => &block.compressed_pixels_le,
        CompressedBlock::DeepScanLine(_) | CompressedBlock::DeepTile(_) => return Ok(()),
    };
    // It begins with numbers: the version, sizes and counts of what follows, and the kind of its packing.
    let (numbers, _) = bytes.as_chunks::<8>();
    let claims = numbers.iter().take(10).map(|number| u64::from_le_bytes(*number));
    if claims.into_iter().any(|claim| claim > BLOCK_SIZE_MAX) {
        return Err(Bad::Broken("a block claims to hold more than it may".to_owned()));
    }
    Ok(())
}

/// What a channel's numbers mean to us.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Role {
    Color,
    /// Infinitely far is a good depth.
    Depth,
    Other,
}

fn roles(header: &Header) -> Vec<Role> {
    let role = |name: &str| match name.rsplit('.').next().unwrap_or_default() {
        "R" | "G" | "B" | "Y" | "r" | "g" | "b" => Role::Color,
        "Z" | "ZBack" | "z" | "depth" | "Depth" => Role::Depth,
        _ => Role::Other,
    };
    header.channels.list.iter().map(|channel| role(&channel.name.to_string())).collect()
}

/// The colors that people are shown: those of the first part that has any.
struct Shown {
    layer: usize,
    /// For each channel of the part, the colors that it is.
    channels: Vec<Option<Range<usize>>>,
    /// Where the part lies in the picture.
    at: (i64, i64),
    picture: Shrink,
}

impl Shown {
    fn choose(headers: &[Header]) -> Option<Shown> {
        let (layer, header, channels) =
            headers.iter().enumerate().find_map(|(layer, header)| Some((layer, header, colors_of(header)?)))?;
        let display = header.shared_attributes.display_window;
        let side = |side: usize| u32::try_from(side).ok();
        let picture = Shrink::new(side(display.size.0)?, side(display.size.1)?, PREVIEW_SIDE_MAX)?;
        let part = header.own_attributes.layer_position;
        let offset = |part: i32, display: i32| i64::from(part) - i64::from(display);
        let at = (offset(part.0, display.position.0), offset(part.1, display.position.1));
        Some(Shown { layer, channels, at, picture })
    }

    /// Where the samples of a line go, if they are shown. Smaller copies of the image, which some files have, are not.
    fn line(&mut self, line: &LineIndex) -> Option<pictures::Line<'_>> {
        if line.layer != self.layer || line.level != Vec2(0, 0) {
            return None;
        }
        let colors = self.channels.get(line.channel)?.clone()?;
        let (x, y) = (i64::try_from(line.position.0).ok()?, i64::try_from(line.position.1).ok()?);
        self.picture.line(x + self.at.0, y + self.at.1, colors)
    }
}

/// Which channels are red, green and blue, or all of them where there is only a brightness. A file with several layers shows
/// the one without a name, then the one that renderers call the picture, then the first.
fn colors_of(header: &Header) -> Option<Vec<Option<Range<usize>>>> {
    const PICTURES: [&str; 5] = ["combined", "beauty", "rgba", "rgb", "c"];
    let mut layers: BTreeMap<(u8, String), [Option<usize>; 3]> = BTreeMap::new();
    let mut brightness = None;
    for (at, channel) in header.channels.list.iter().enumerate() {
        if channel.sample_type == SampleType::U32 {
            continue;
        }
        let name = channel.name.to_string();
        let (layer, color) = name.rsplit_once('.').unwrap_or(("", &name));
        let color = match color {
            "R" | "r" => 0,
            "G" | "g" => 1,
            "B" | "b" => 2,
            "Y" if layer.is_empty() => {
                brightness = Some(at);
                continue;
            }
            _ => continue,
        };
        let last = layer.rsplit('.').next().unwrap_or_default().to_ascii_lowercase();
        let rank = if layer.is_empty() {
            0
        } else if PICTURES.contains(&last.as_str()) {
            1
        } else {
            2
        };
        layers.entry((rank, layer.to_owned())).or_default()[color] = Some(at);
    }
    let mut colors = vec![None; header.channels.list.len()];
    if let Some([Some(red), Some(green), Some(blue)]) =
        layers.into_values().find(|layer| layer.iter().all(Option::is_some))
    {
        for (color, channel) in [red, green, blue].into_iter().enumerate() {
            colors[channel] = Some(color..color + 1);
        }
    } else {
        colors[brightness?] = Some(0..3);
    }
    Some(colors)
}

fn read_block(
    block: &UncompressedBlock,
    headers: &[Header],
    roles: &[Vec<Role>],
    picture: &mut Picture,
    mut shown: Option<&mut Shown>,
) -> Result<(), Bad> {
    let layer = block.index.layer;
    let channels = &headers[layer].channels;
    let bad = |error: Error| Bad::Broken(error.to_string());
    for line in block.lines(channels) {
        let role = roles[layer][line.location.channel];
        let mut into = shown.as_mut().and_then(|shown| shown.line(&line.location));
        let mut see = |sample: f32| {
            if let Some(into) = &mut into {
                into.add(pictures::light(sample));
            }
            picture.samples += 1;
            if sample.is_nan() || (sample.is_infinite() && role != Role::Depth) {
                picture.not_finite += 1;
            }
            if role == Role::Color && sample != 0.0 {
                picture.black = Some(false);
            }
        };
        match channels.list[line.location.channel].sample_type {
            SampleType::F16 => {
                for sample in line.read_samples::<f16>() {
                    see(sample.map_err(bad)?.to_f32());
                }
            }
            SampleType::F32 => {
                for sample in line.read_samples::<f32>() {
                    see(sample.map_err(bad)?);
                }
            }
            // Whole numbers are ids, never colors, and always finite.
            SampleType::U32 => picture.samples += line.location.sample_count as u64,
        }
    }
    Ok(())
}

/// What our decoder does not know (deep images, newer compressions) is no fault of the output.
fn unsupported_or_broken(error: &Error, mut picture: Picture) -> Result<Picture, Bad> {
    match error {
        Error::NotSupported(what) => {
            picture.black = None;
            picture.note = Some(format!("the OpenEXR output was not decoded: {what}"));
            picture.seen = Seen::Nothing("the file was not decoded");
            Ok(picture)
        }
        other => Err(Bad::Broken(other.to_string())),
    }
}
