//! PNG and JPEG, decoded whole.

use super::{Bad, DECODED_SIZE_MAX, Picture, SIDE_MAX, jpeg};
use crate::pictures::{Seen, Shrink, THUMBNAIL_SIDE_MAX};
use image::codecs::jpeg::JpegDecoder;
use image::codecs::png::PngDecoder;
use image::error::ImageError;
use image::{DynamicImage, ImageDecoder, Limits};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::io::{BufRead, Cursor, Read, Seek, SeekFrom};

/// Bytes after which the end of a JPEG is no longer looked for: some programs pad.
const JPEG_PADDING_MAX: u64 = 4096;

/// Most bytes of a PNG that are not pixels: texts and profiles unfold on their way in.
const PNG_EXTRAS_MAX: u64 = 16 * 1024 * 1024;
/// Largest JPEG, as a file and as pixels. We hold the file, and the decoder the file, the pixels, and for a progressive one
/// coefficients of twice the size: [`DECODED_SIZE_MAX`] in all.
const JPEG_SIZE_MAX: u64 = DECODED_SIZE_MAX / 5;

/// Brightest sample of a black image, of 255: Blender dithers by default, which makes ones of some zeros, and JPEG twos of those.
const BLACK_MAX: u32 = 2;

pub(super) fn decode(mut reader: impl BufRead + Seek, extension: &str, size_bytes: u64) -> Result<Picture, Bad> {
    // The decoders forgive a missing end; we don't.
    if extension == "png" {
        check_png_end(&mut reader, size_bytes)?;
        check_sides(png_sides(&mut reader)?, DECODED_SIZE_MAX)?;
        let mut limits = Limits::no_limits();
        limits.max_alloc = Some(PNG_EXTRAS_MAX);
        let decoder = PngDecoder::with_limits(reader, limits).map_err(|error| broken(&error))?;
        let (picture, pixels) = read(decoder, DECODED_SIZE_MAX)?;
        Ok(Picture { seen: see(&pixels), ..picture })
    } else {
        check_jpeg_end(&mut reader, size_bytes)?;
        if size_bytes > JPEG_SIZE_MAX {
            return Err(Bad::Broken(format!("a JPEG file of more than {} MiB", JPEG_SIZE_MAX >> 20)));
        }
        let mut bytes = Vec::new();
        reader.take(JPEG_SIZE_MAX).read_to_end(&mut bytes).map_err(Bad::Read)?;
        let (picture, pixels) = read_jpeg(&bytes)?;
        let (seen, digest) = (see(&pixels), digest(&pixels));
        drop(pixels);
        let noisy = jpeg::with_noise(&bytes)?;
        drop(bytes);
        // A picture of noise may be refused for what is in it; it differs all the same.
        if noisy.is_some_and(|noisy| read_jpeg(&noisy).map_or(true, |(_, others)| self::digest(&others) != digest)) {
            return Err(Bad::Truncated("a JPEG file has data for each of its pixels"));
        }
        Ok(Picture { seen, ..picture })
    }
}

fn read_jpeg(bytes: &[u8]) -> Result<(Picture, DynamicImage), Bad> {
    let decoder = JpegDecoder::new(Cursor::new(bytes)).map_err(|error| broken(&error))?;
    check_sides(decoder.dimensions(), JPEG_SIZE_MAX)?;
    read(decoder, JPEG_SIZE_MAX)
}

fn digest(pixels: &DynamicImage) -> u64 {
    let mut digest = DefaultHasher::new();
    pixels.as_bytes().hash(&mut digest);
    digest.finish()
}

fn check_sides((width, height): (u32, u32), size_bytes_max: u64) -> Result<(), Bad> {
    if width > SIDE_MAX || height > SIDE_MAX {
        return Err(Bad::TooLarge { width: width.into(), height: height.into(), size_bytes_max });
    }
    Ok(())
}

/// What the first chunk says, which the decoder believes.
fn png_sides(reader: &mut (impl BufRead + Seek)) -> Result<(u32, u32), Bad> {
    let mut head = [0; 24];
    reader.read_exact(&mut head).map_err(|_| Bad::Truncated("a PNG file begins with its sides"))?;
    reader.seek(SeekFrom::Start(0)).map_err(Bad::Read)?;
    let side = |at: usize| u32::from_be_bytes([head[at], head[at + 1], head[at + 2], head[at + 3]]);
    Ok((side(16), side(20)))
}

fn broken(error: &ImageError) -> Bad {
    match error {
        ImageError::Limits(_) => {
            Bad::Broken(format!("it holds more than {} MiB beside its pixels", PNG_EXTRAS_MAX >> 20))
        }
        other => Bad::Broken(other.to_string()),
    }
}

fn read(decoder: impl ImageDecoder, size_bytes_max: u64) -> Result<(Picture, DynamicImage), Bad> {
    let (width, height) = decoder.dimensions();
    if decoder.total_bytes() > size_bytes_max {
        return Err(Bad::TooLarge { width: width.into(), height: height.into(), size_bytes_max });
    }
    let pixels = DynamicImage::from_decoder(decoder).map_err(|error| broken(&error))?;
    let samples = u64::from(width) * u64::from(height) * u64::from(pixels.color().channel_count());
    let picture = Picture { width, height, black: Some(is_black(&pixels)), samples, ..Picture::default() };
    Ok((picture, pixels))
}

/// The pixels made small; what is transparent shows the black behind it.
fn see(pixels: &DynamicImage) -> Seen {
    shrink(pixels).map_or(Seen::Nothing("the colors are of a kind that is not known"), Seen::Colors)
}

fn shrink(pixels: &DynamicImage) -> Option<Shrink> {
    fn gather<T: Copy + Into<f32>>(shrink: &mut Shrink, samples: &[T], width: usize, kind: (usize, bool), white: f32) {
        let (channels, alpha) = kind;
        let share = |sample: T| sample.into() / white;
        for (y, line) in (0..).zip(samples.chunks_exact(channels * width)) {
            let Some(mut into) = shrink.line(0, y, 0..3) else { return };
            for pixel in line.chunks_exact(channels) {
                let cover = if alpha { share(pixel[channels - 1]) } else { 1.0 };
                let colors = if channels < 3 { [pixel[0]; 3] } else { [pixel[0], pixel[1], pixel[2]] };
                into.add_pixel(colors.map(|color| cover * share(color)));
            }
        }
    }
    let mut shrink = Shrink::new(pixels.width(), pixels.height(), THUMBNAIL_SIDE_MAX)?;
    let width = pixels.width() as usize;
    let (to, byte, word) = (&mut shrink, f32::from(u8::MAX), f32::from(u16::MAX));
    match pixels {
        DynamicImage::ImageLuma8(image) => gather(to, image.as_raw(), width, (1, false), byte),
        DynamicImage::ImageLumaA8(image) => gather(to, image.as_raw(), width, (2, true), byte),
        DynamicImage::ImageRgb8(image) => gather(to, image.as_raw(), width, (3, false), byte),
        DynamicImage::ImageRgba8(image) => gather(to, image.as_raw(), width, (4, true), byte),
        DynamicImage::ImageLuma16(image) => gather(to, image.as_raw(), width, (1, false), word),
        DynamicImage::ImageLumaA16(image) => gather(to, image.as_raw(), width, (2, true), word),
        DynamicImage::ImageRgb16(image) => gather(to, image.as_raw(), width, (3, false), word),
        DynamicImage::ImageRgba16(image) => gather(to, image.as_raw(), width, (4, true), word),
        // PNG and JPEG decode into nothing else.
        _ => return None,
    }
    Some(shrink)
}

/// No color anywhere that an eye could see; alpha is no color.
fn is_black(pixels: &DynamicImage) -> bool {
    fn dark<T: Copy + Into<u32>>(samples: &[T], channels: usize, colors: usize) -> bool {
        let white = if size_of::<T>() == 1 { u32::from(u8::MAX) } else { u32::from(u16::MAX) };
        let black = white / u32::from(u8::MAX) * BLACK_MAX;
        samples.chunks_exact(channels).all(|pixel| pixel[..colors].iter().all(|sample| (*sample).into() <= black))
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
