//! `OpenEXR`, decoded block by block, so that a file of thirty layers needs the memory of one block.

use super::{Bad, Picture, SIDE_MAX};
use exr::block::UncompressedBlock;
use exr::block::reader::ChunksReader;
use exr::error::Error;
use exr::meta::attribute::SampleType;
use exr::meta::header::Header;
use exr::prelude::f16;
use std::io::{BufRead, Seek};

pub(super) fn decode(reader: impl BufRead + Seek) -> Result<Picture, Bad> {
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
    let sides = reader.headers().iter().map(|header| header.layer_size).chain([display]);
    for side in sides {
        if side.0 > SIDE_MAX as usize || side.1 > SIDE_MAX as usize {
            return Err(Bad::TooLarge { width: side.0 as u64, height: side.1 as u64 });
        }
    }
    let clamp = |side: usize| u32::try_from(side).unwrap_or(u32::MAX);
    (picture.width, picture.height) = (clamp(display.0), clamp(display.1));
    let mut chunks = match reader.all_chunks(false) {
        Ok(chunks) => chunks,
        Err(error) => return unsupported_or_broken(&error, picture),
    };
    let colors: Vec<Vec<Role>> = chunks.headers().iter().map(roles).collect();
    picture.black = colors.iter().flatten().any(|role| *role == Role::Color).then_some(true);
    while let Some(chunk) = chunks.next() {
        let block = chunk.and_then(|chunk| UncompressedBlock::decompress_chunk(chunk, chunks.meta_data(), false));
        match block {
            Ok(block) => read_block(&block, chunks.headers(), &colors, &mut picture)?,
            Err(error) => return unsupported_or_broken(&error, picture),
        }
    }
    Ok(picture)
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

fn read_block(
    block: &UncompressedBlock,
    headers: &[Header],
    roles: &[Vec<Role>],
    picture: &mut Picture,
) -> Result<(), Bad> {
    let layer = block.index.layer;
    let channels = &headers[layer].channels;
    let bad = |error: Error| Bad::Broken(error.to_string());
    for line in block.lines(channels) {
        let role = roles[layer][line.location.channel];
        let mut see = |sample: f32| {
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
            Ok(picture)
        }
        other => Err(Bad::Broken(other.to_string())),
    }
}
