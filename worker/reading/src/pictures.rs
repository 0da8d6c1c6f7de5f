//! Smaller pictures of an output, for people who look at many: a thumbnail, and a preview where browsers don't show the
//! file itself. They are made of the pixels that verification decodes anyway, so that nothing is decoded twice, and
//! say nothing about the output: where none can be made, there is none.

mod shrink;

pub(crate) use shrink::Line;
pub use shrink::Shrink;

use framewake_proto::objects::Picture;
use image::codecs::jpeg::JpegEncoder;
use image::codecs::png::{CompressionType, FilterType, PngEncoder};
use image::error::ImageError;
use image::{ExtendedColorType, ImageEncoder};
use shrink::Small;

/// Longest side of a thumbnail: sharp in a list, also where a pixel of the page is two of the screen.
pub const THUMBNAIL_SIDE_MAX: u32 = 256;
/// Longest side of a preview: what a page has room for, at some percent of the bytes of the output.
pub const PREVIEW_SIDE_MAX: u32 = 1280;
/// Larger numbers are as good as infinite to an eye; half floats end here.
const LIGHT_MAX: f32 = 65504.0;
/// A thumbnail of noise has 40 KiB with it.
const JPEG_QUALITY: u8 = 80;

/// What verification saw of an output, made small on its way.
#[derive(Debug, Clone, PartialEq)]
pub enum Seen {
    /// Nothing to be shown, and why.
    Nothing(&'static str),
    /// Colors as screens take them, from 0 to 1.
    Colors(Shrink),
    /// Light, without an end.
    Light(Shrink),
}

impl Default for Seen {
    fn default() -> Seen {
        Seen::Nothing("files of this kind are not decoded")
    }
}

/// The files that are kept beside an output.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pictures {
    /// A JPEG; light is as bright as it was rendered, and white where it is brighter than a screen.
    pub thumbnail: Vec<u8>,
    /// A PNG of light, for whoever sets the exposure later: the fourth channel is the exponent of the other three, as in
    /// Radiance files (RGBE).
    pub preview: Option<Vec<u8>>,
}

/// Why there is no picture.
#[derive(Debug, thiserror::Error)]
pub enum NoPicture {
    #[error("{0}")]
    Nothing(&'static str),
    #[error("cannot write the picture")]
    Write(#[source] ImageError),
    #[error("the {} has {size_bytes} bytes, more than the {} allowed", picture.as_str(), picture.size_max())]
    TooLarge { picture: Picture, size_bytes: usize },
}

/// Writes the pictures. Takes some ten milliseconds: not for the runtime's own threads.
pub fn make(seen: Seen) -> Result<Pictures, NoPicture> {
    match seen {
        Seen::Nothing(reason) => Err(NoPicture::Nothing(reason)),
        Seen::Colors(shrink) => Ok(Pictures { thumbnail: thumbnail(&shrink.finish())?, preview: None }),
        Seen::Light(shrink) => {
            let light = shrink.finish();
            let preview = bounded(Picture::Preview, preview(&light)?)?;
            let mut smaller = light.smaller(THUMBNAIL_SIDE_MAX);
            for light in smaller.pixels.iter_mut().flatten() {
                *light = encode_srgb(*light);
            }
            Ok(Pictures { thumbnail: thumbnail(&smaller)?, preview: Some(preview) })
        }
    }
}

/// What is added up of a sample of light: what is no number is none, and nothing is brighter than [`LIGHT_MAX`].
pub(crate) fn light(sample: f32) -> f32 {
    if sample > 0.0 { sample.min(LIGHT_MAX) } else { 0.0 }
}

fn thumbnail(colors: &Small) -> Result<Vec<u8>, NoPicture> {
    let bytes: Vec<u8> = colors.pixels.iter().flatten().map(|color| byte(color * 255.0)).collect();
    let mut file = Vec::new();
    JpegEncoder::new_with_quality(&mut file, JPEG_QUALITY)
        .write_image(&bytes, colors.width, colors.height, ExtendedColorType::Rgb8)
        .map_err(NoPicture::Write)?;
    bounded(Picture::Thumbnail, file)
}

fn preview(light: &Small) -> Result<Vec<u8>, NoPicture> {
    let bytes: Vec<u8> = light.pixels.iter().flat_map(|pixel| rgbe(*pixel)).collect();
    let mut file = Vec::new();
    PngEncoder::new_with_quality(&mut file, CompressionType::Fast, FilterType::Adaptive)
        .write_image(&bytes, light.width, light.height, ExtendedColorType::Rgba8)
        .map_err(NoPicture::Write)?;
    Ok(file)
}

fn bounded(picture: Picture, file: Vec<u8>) -> Result<Vec<u8>, NoPicture> {
    if file.len() as u64 > picture.size_max() {
        return Err(NoPicture::TooLarge { picture, size_bytes: file.len() });
    }
    Ok(file)
}

/// Three colors by one exponent: `color = byte * 2^(exponent - 136)`, so that the brightest is exact to half a percent.
fn rgbe(pixel: [f32; 3]) -> [u8; 4] {
    let brightest = pixel.into_iter().fold(0.0, f32::max);
    // A billionth of white is black at any exposure, and has an exponent of its own all the same.
    if brightest < 1e-9 {
        return [0; 4];
    }
    // The exponent of a float is one below that of a mantissa less than 1.
    let exponent = (brightest.to_bits() >> 23).cast_signed() - 126;
    let scale = f32::exp2((8 - exponent) as f32);
    let [red, green, blue] = pixel.map(|color| byte(color * scale));
    [red, green, blue, u8::try_from(exponent + 128).unwrap_or(u8::MAX)]
}

fn encode_srgb(light: f32) -> f32 {
    let light = light.clamp(0.0, 1.0);
    if light <= 0.003_130_8 { light * 12.92 } else { 1.055 * light.powf(1.0 / 2.4) - 0.055 }
}

#[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)] // It is rounded and clamped first.
fn byte(value: f32) -> u8 {
    value.round().clamp(0.0, 255.0) as u8
}

#[cfg(test)]
mod tests;
