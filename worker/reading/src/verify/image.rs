//! PNG and JPEG, decoded whole.

use super::{Bad, DECODED_SIZE_MAX, Picture, SIDE_MAX};
use image::error::ImageError;
use image::{DynamicImage, ImageDecoder, ImageFormat, ImageReader, Limits};
use std::io::{BufRead, Read, Seek, SeekFrom};

/// Bytes after which the end of a JPEG is no longer looked for: some programs pad.
const JPEG_PADDING_MAX: u64 = 4096;

pub(super) fn decode(mut reader: impl BufRead + Seek, extension: &str, size_bytes: u64) -> Result<Picture, Bad> {
    // The decoders forgive a missing end; we don't.
    let format = if extension == "png" {
        check_png_end(&mut reader, size_bytes)?;
        ImageFormat::Png
    } else {
        check_jpeg_end(&mut reader, size_bytes)?;
        ImageFormat::Jpeg
    };
    let mut limits = Limits::default();
    limits.max_image_width = Some(SIDE_MAX);
    limits.max_image_height = Some(SIDE_MAX);
    limits.max_alloc = Some(DECODED_SIZE_MAX);
    let mut reader = ImageReader::with_format(reader, format);
    reader.limits(limits);
    let decoder = reader.into_decoder().map_err(|error| broken(&error, 0, 0))?;
    let (width, height) = decoder.dimensions();
    if decoder.total_bytes() > DECODED_SIZE_MAX {
        return Err(Bad::TooLarge { width: width.into(), height: height.into() });
    }
    let pixels = DynamicImage::from_decoder(decoder).map_err(|error| broken(&error, width, height))?;
    let samples = u64::from(width) * u64::from(height) * u64::from(pixels.color().channel_count());
    Ok(Picture { width, height, black: Some(is_black(&pixels)), samples, not_finite: 0, note: None })
}

fn broken(error: &ImageError, width: u32, height: u32) -> Bad {
    match error {
        ImageError::Limits(_) => Bad::TooLarge { width: width.into(), height: height.into() },
        other => Bad::Broken(other.to_string()),
    }
}

/// No color anywhere; alpha is no color.
fn is_black(pixels: &DynamicImage) -> bool {
    fn dark<T: Copy + Default + PartialEq>(samples: &[T], channels: usize, colors: usize) -> bool {
        samples.chunks_exact(channels).all(|pixel| pixel[..colors].iter().all(|sample| *sample == T::default()))
    }
    match pixels {
        DynamicImage::ImageLuma8(image) => dark(image.as_raw(), 1, 1),
        DynamicImage::ImageLumaA8(image) => dark(image.as_raw(), 2, 1),
        DynamicImage::ImageRgb8(image) => dark(image.as_raw(), 3, 3),
        DynamicImage::ImageRgba8(image) => dark(image.as_raw(), 4, 3),
        DynamicImage::ImageLuma16(image) => dark(image.as_raw(), 1, 1),
        DynamicImage::ImageLumaA16(image) => dark(image.as_raw(), 2, 1),
        DynamicImage::ImageRgb16(image) => dark(image.as_raw(), 3, 3),
        DynamicImage::ImageRgba16(image) => dark(image.as_raw(), 4, 3),
        // PNG and JPEG decode into nothing else.
        _ => false,
    }
}

fn check_png_end(reader: &mut (impl BufRead + Seek), size_bytes: u64) -> Result<(), Bad> {
    const END: [u8; 12] = [0, 0, 0, 0, b'I', b'E', b'N', b'D', 0xae, 0x42, 0x60, 0x82];
    let tail = tail(reader, size_bytes, END.len() as u64)?;
    if tail == END { Ok(()) } else { Err(Bad::Truncated("a PNG file ends with an IEND chunk")) }
}

fn check_jpeg_end(reader: &mut (impl BufRead + Seek), size_bytes: u64) -> Result<(), Bad> {
    let tail = tail(reader, size_bytes, JPEG_PADDING_MAX)?;
    let padded = tail.iter().rposition(|byte| *byte != 0).map_or(0, |last| last + 1);
    let ends = tail[..padded].ends_with(&[0xff, 0xd9]);
    if ends { Ok(()) } else { Err(Bad::Truncated("a JPEG file ends with an EOI marker")) }
}

fn tail(reader: &mut (impl BufRead + Seek), size_bytes: u64, count: u64) -> Result<Vec<u8>, Bad> {
    let mut tail = Vec::new();
    reader.seek(SeekFrom::Start(size_bytes.saturating_sub(count))).map_err(Bad::Read)?;
    reader.by_ref().take(count).read_to_end(&mut tail).map_err(Bad::Read)?;
    reader.seek(SeekFrom::Start(0)).map_err(Bad::Read)?;
    Ok(tail)
}
