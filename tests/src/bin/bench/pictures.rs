//! What thumbnails and previews cost a worker for a frame: looking through the output with what they are made of, and
//! writing them, beside the decoder alone.

use crate::{percentile, report};
use exr::prelude::{
    AnyChannel, AnyChannels, Blocks, Compression, Encoding, FlatSamples, Image, Layer, LayerAttributes, LineOrder,
    ReadChannels, ReadLayers, WritableImage, f16, read,
};
use framewake_proto::job::Verify;
use framewake_reading::pictures::make;
use framewake_reading::verify::check_read;
use image::{ImageFormat, RgbImage};
use std::io::Cursor;
use std::time::Instant;

const ROUNDS: usize = 9;

pub(crate) fn run() {
    for (name, width, height) in [("1920x1080", 1920, 1080), ("3840x2160", 3840, 2160)] {
        let file = exr_file(width, height);
        measure(&format!("{name} OpenEXR, half, ZIP"), "exr", &file, || {
            let reader = read().no_deep_data().largest_resolution_level().all_channels().first_valid_layer();
            let image = reader.all_attributes().non_parallel().from_buffered(Cursor::new(&file)).expect("a good file");
            assert_eq!(image.layer_data.size.0, width);
        });
        let file = png_file(u32::try_from(width).expect("small"), u32::try_from(height).expect("small"));
        measure(&format!("{name} PNG, 8 bits"), "png", &file, || {
            image::load_from_memory_with_format(&file, ImageFormat::Png).expect("a good file");
        });
    }
}

fn measure(name: &str, extension: &str, file: &[u8], decode: impl Fn()) {
    let (mut decoding, mut checking, mut making, mut sizes) = (Vec::new(), Vec::new(), Vec::new(), (0, 0));
    for _ in 0..ROUNDS {
        let begin = Instant::now();
        decode();
        decoding.push(begin.elapsed().as_secs_f64() * 1e3);
        let begin = Instant::now();
        let seen = check_read(Cursor::new(file), file.len() as u64, extension, &Verify::default()).expect("good").seen;
        checking.push(begin.elapsed().as_secs_f64() * 1e3);
        let begin = Instant::now();
        let made = make(seen).expect("it has pictures");
        making.push(begin.elapsed().as_secs_f64() * 1e3);
        sizes = (made.thumbnail.len(), made.preview.map_or(0, |file| file.len()));
    }
    let [decoding, checking, making] = [decoding, checking, making].map(|mut all| percentile(&mut all, 0.5));
    let kib = |bytes: usize| bytes as f64 / 1024.0;
    report(
        &format!("{name}: looked through, pictures made"),
        &format!("{checking:.0} ms, {making:.0} ms"),
        &format!(
            "the decoder alone {decoding:.0} ms; {:.0} KiB of file, {:.1} of thumbnail, {:.0} of preview",
            kib(file.len()),
            kib(sizes.0),
            kib(sizes.1)
        ),
    );
}

/// Waves with the grain of a render that was stopped early.
fn wave(x: usize, y: usize, color: usize, noise: &mut u32) -> f32 {
    *noise = noise.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
    let grain = (*noise >> 16) as f32 / 65_536.0;
    let (x, y) = (x as f32 / 200.0, y as f32 / 150.0);
    (1.0 + (x + color as f32).sin() * (y - color as f32).cos()) * (0.9 + 0.2 * grain)
}

fn exr_file(width: usize, height: usize) -> Vec<u8> {
    let mut noise = 1;
    let channels = ["A", "B", "G", "R"].iter().enumerate().map(|(color, name)| {
        let sample =
            |at: usize, noise: &mut u32| if *name == "A" { 1.0 } else { wave(at % width, at / width, color, noise) };
        let samples = (0..width * height).map(|at| f16::from_f32(sample(at, &mut noise))).collect();
        AnyChannel::new(*name, FlatSamples::F16(samples))
    });
    let encoding =
        Encoding { compression: Compression::ZIP16, blocks: Blocks::ScanLines, line_order: LineOrder::Increasing };
    let channels = AnyChannels::sort(channels.collect());
    let image = Image::from_layer(Layer::new((width, height), LayerAttributes::default(), encoding, channels));
    let mut file = Cursor::new(Vec::new());
    image.write().to_buffered(&mut file).expect("memory takes it");
    file.into_inner()
}

fn png_file(width: u32, height: u32) -> Vec<u8> {
    let mut noise = 1;
    let image = RgbImage::from_fn(width, height, |x, y| {
        // Below 2.2, times 110.
        #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)]
        let color = |color| (wave(x as usize, y as usize, color, &mut noise) * 110.0) as u8;
        image::Rgb([0, 1, 2].map(color))
    });
    let mut file = Cursor::new(Vec::new());
    image.write_to(&mut file, ImageFormat::Png).expect("memory takes it");
    file.into_inner()
}
