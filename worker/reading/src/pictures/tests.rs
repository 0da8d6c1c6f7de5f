//! Pictures of good files of each kind, of strange ones, and of none.

use super::*;
use crate::verify::{Bad, SIDE_MAX, Verified, check_read};
use exr::prelude::{
    AnyChannel, AnyChannels, Blocks, Compression, Encoding, FlatSamples, Image, ImageAttributes, IntegerBounds, Layer,
    LayerAttributes, LineOrder, Vec2, WritableImage, f16,
};
use framewake_proto::job::{Policy, Verify};
use image::{DynamicImage, ImageFormat, Luma, LumaA, Rgb, RgbImage, Rgba};
use std::io::Cursor;

/// Judged by somebody who accepts everything that can be read at all.
fn judge(file: &[u8], extension: &str) -> Result<Verified, Bad> {
    let lenient = Verify { nan: Policy::Allow, black: Policy::Allow, ..Verify::default() };
    check_read(Cursor::new(file), file.len() as u64, extension, &lenient)
}

fn pictures(file: &[u8], extension: &str) -> Pictures {
    let seen = judge(file, extension).expect("a good file").seen;
    make(seen).expect("it has pictures")
}

fn why_none(file: &[u8], extension: &str) -> String {
    let seen = judge(file, extension).expect("a good file").seen;
    make(seen).expect_err("there is nothing to show").to_string()
}

fn file(image: impl Into<DynamicImage>, format: ImageFormat) -> Vec<u8> {
    let mut file = Cursor::new(Vec::new());
    image.into().write_to(&mut file, format).expect("writes");
    file.into_inner()
}

/// The thumbnail, as a browser reads it.
fn thumbnail_of(pictures: &Pictures) -> RgbImage {
    assert!(pictures.thumbnail.len() as u64 <= Picture::Thumbnail.size_max(), "{}", pictures.thumbnail.len());
    let image = image::load_from_memory_with_format(&pictures.thumbnail, ImageFormat::Jpeg).expect("a JPEG");
    assert!(image.width().max(image.height()) <= THUMBNAIL_SIDE_MAX);
    image.to_rgb8()
}

/// The light of a preview, line after line, as the page reads it.
fn light_of(pictures: &Pictures) -> (u32, Vec<[f32; 3]>) {
    let file = pictures.preview.as_ref().expect("light has a preview");
    assert!(file.len() as u64 <= Picture::Preview.size_max(), "{}", file.len());
    let image = image::load_from_memory_with_format(file, ImageFormat::Png).expect("a PNG");
    assert!(image.width().max(image.height()) <= PREVIEW_SIDE_MAX);
    let DynamicImage::ImageRgba8(image) = image else { panic!("four channels of eight bits") };
    let decode = |Rgba([red, green, blue, exponent]): &Rgba<u8>| {
        [red, green, blue].map(|color| f32::from(*color) * f32::exp2(f32::from(*exponent) - 136.0))
    };
    (image.width(), image.pixels().map(decode).collect())
}

/// JPEG loses a little.
fn assert_near(found: Rgb<u8>, expected: [u8; 3]) {
    let off = found.0.iter().zip(expected).map(|(found, expected)| found.abs_diff(expected)).max();
    assert!(off <= Some(4), "{found:?}, expected {expected:?}");
}

fn assert_light(found: [f32; 3], expected: [f32; 3]) {
    let brightest = expected.into_iter().fold(0.0, f32::max);
    let off = found.iter().zip(expected).map(|(found, expected)| (found - expected).abs()).fold(0.0, f32::max);
    assert!(off <= brightest / 128.0, "{found:?}, expected {expected:?}");
}

type Flat = Layer<AnyChannels<FlatSamples>>;

const LINES: Encoding =
    Encoding { compression: Compression::ZIP16, blocks: Blocks::ScanLines, line_order: LineOrder::Increasing };

/// A part of half floats.
fn part(
    width: usize,
    height: usize,
    names: &[&str],
    encoding: Encoding,
    sample: impl Fn(usize, usize, &str) -> f32,
) -> Flat {
    let channel = |name: &&str| {
        let samples = (0..width * height).map(|at| f16::from_f32(sample(at % width, at / width, name)));
        AnyChannel::new(*name, FlatSamples::F16(samples.collect()))
    };
    let channels = AnyChannels::sort(names.iter().map(channel).collect());
    Layer::new((width, height), LayerAttributes::default(), encoding, channels)
}

fn exr_of(display: IntegerBounds, parts: Vec<Flat>) -> Vec<u8> {
    let mut file = Cursor::new(Vec::new());
    let image = Image::from_layers(ImageAttributes::new(display), parts);
    image.write().to_buffered(&mut file).expect("writes");
    file.into_inner()
}

fn exr(part: Flat) -> Vec<u8> {
    exr_of(IntegerBounds::new((0, 0), part.size), vec![part])
}

#[test]
fn every_kind_of_png_and_jpeg_has_a_thumbnail_of_its_colors() {
    let (wide, high) = (640, 360);
    let left = |x: u32| x < wide / 2;
    let gray = image::ImageBuffer::from_fn(wide, high, |x, _| Luma([if left(x) { 200_u8 } else { 0 }]));
    let gray_alpha = image::ImageBuffer::from_fn(wide, high, |x, _| LumaA([200_u8, if left(x) { 255 } else { 0 }]));
    let rgb = RgbImage::from_fn(wide, high, |x, _| Rgb(if left(x) { [200, 30, 90] } else { [0, 0, 0] }));
    let rgba = image::RgbaImage::from_fn(wide, high, |x, _| Rgba([200, 30, 90, if left(x) { 255 } else { 0 }]));
    let eight: [DynamicImage; 4] = [gray.into(), gray_alpha.into(), rgb.clone().into(), rgba.into()];
    let sixteen = [
        DynamicImage::from(eight[0].to_luma16()),
        eight[1].to_luma_alpha16().into(),
        eight[2].to_rgb16().into(),
        eight[3].to_rgba16().into(),
    ];
    let mut files: Vec<_> =
        eight.into_iter().chain(sixteen).map(|image| (file(image, ImageFormat::Png), "png")).collect();
    files.push((file(rgb, ImageFormat::Jpeg), "jpg"));
    for (at, (file, extension)) in files.iter().enumerate() {
        let made = pictures(file, extension);
        assert_eq!(made.preview, None, "browsers show it as it is");
        let thumbnail = thumbnail_of(&made);
        assert_eq!(thumbnail.dimensions(), (256, 144));
        let expected = if [0, 1, 4, 5].contains(&at) { [200; 3] } else { [200, 30, 90] };
        assert_near(*thumbnail.get_pixel(40, 70), expected);
        // What is transparent is black.
        assert_near(*thumbnail.get_pixel(220, 70), [0; 3]);
    }
}

#[test]
fn small_pictures_stay_as_they_are() {
    let dots = RgbImage::from_fn(16, 8, |x, _| Rgb([if x < 8 { 250 } else { 10 }; 3]));
    let thumbnail = thumbnail_of(&pictures(&file(dots, ImageFormat::Png), "png"));
    assert_eq!(thumbnail.dimensions(), (16, 8));
    assert_near(*thumbnail.get_pixel(2, 4), [250; 3]);
}

#[test]
fn light_is_kept_however_it_was_packed() {
    let tiles = Blocks::Tiles(Vec2(64, 32));
    let packings = [
        Compression::Uncompressed,
        Compression::RLE,
        Compression::ZIP1,
        Compression::ZIP16,
        Compression::PIZ,
        Compression::PXR24,
        Compression::B44,
    ];
    for compression in packings {
        for blocks in [Blocks::ScanLines, tiles] {
            let encoding = Encoding { compression, blocks, line_order: LineOrder::Increasing };
            let colors = |x: usize, _: usize, name: &str| match (x < 200, name) {
                (_, "A") => 1.0,
                (false, _) => 0.0,
                (true, "R") => 0.5,
                (true, "G") => 0.25,
                (true, _) => 8.0,
            };
            let made = pictures(&exr(part(400, 100, &["A", "B", "G", "R"], encoding, colors)), "exr");
            let (width, light) = light_of(&made);
            assert_eq!((width, light.len()), (400, 40_000));
            assert_light(light[10], [0.5, 0.25, 8.0]);
            assert_light(light[390], [0.0; 3]);
            let thumbnail = thumbnail_of(&made);
            assert_eq!(thumbnail.dimensions(), (256, 64));
            // As a screen shows it without a change of exposure; what is brighter than white is white.
            assert_near(*thumbnail.get_pixel(40, 30), [188, 137, 255]);
        }
    }
}

#[test]
fn light_is_exact_from_the_darkest_to_the_brightest() {
    // From a thousandth of white to the sun; six stops either way of what a screen shows are within it.
    let stops = |x: usize, _: usize, name: &str| f32::exp2(x as f32 / 4.0 - 10.0) * if name == "R" { 1.0 } else { 0.3 };
    let (_, light) = light_of(&pictures(&exr(part(100, 1, &["B", "G", "R"], LINES, stops)), "exr"));
    for (x, found) in light.into_iter().enumerate() {
        assert_light(found, [stops(x, 0, "R"), stops(x, 0, "G"), stops(x, 0, "B")]);
    }
}

#[test]
fn what_is_no_light_is_none_and_what_is_infinite_is_white() {
    let samples = [f32::NAN, f32::INFINITY, f32::NEG_INFINITY, -3.0, 0.0, 1.0];
    let (_, light) = light_of(&pictures(&exr(part(6, 1, &["B", "G", "R"], LINES, |x, _, _| samples[x])), "exr"));
    let expected = [0.0, LIGHT_MAX, 0.0, 0.0, 0.0, 1.0];
    for (found, expected) in light.into_iter().zip(expected) {
        assert_light(found, [expected; 3]);
    }
    // Among good ones they spoil a pixel of many, and no more.
    let one = |x: usize, y: usize, _: &str| if (x, y) == (100, 100) { f32::NAN } else { 1.0 };
    let (_, light) = light_of(&pictures(&exr(part(2560, 200, &["B", "G", "R"], LINES, one)), "exr"));
    assert!(light.iter().flatten().all(|light| (0.7..1.01).contains(light)));
}

#[test]
fn of_many_layers_the_picture_is_shown() {
    let names = |layers: &[&str]| -> Vec<String> {
        layers.iter().flat_map(|layer| ["R", "G", "B"].map(|color| format!("{layer}.{color}"))).collect()
    };
    let show = |names: &[String]| {
        let names: Vec<&str> = names.iter().map(String::as_str).collect();
        let sample = |_: usize, _: usize, name: &str| match name.rsplit_once('.') {
            None | Some(("ViewLayer.Combined" | "beauty", _)) => 0.5,
            Some(_) => 4.0,
        };
        light_of(&pictures(&exr(part(8, 8, &names, LINES, sample)), "exr")).1[0]
    };
    assert_light(show(&names(&["ViewLayer.AO", "ViewLayer.Combined", "ViewLayer.Z"])), [0.5; 3]);
    assert_light(show(&names(&["albedo", "beauty"])), [0.5; 3]);
    let nameless = [names(&["albedo"]), ["R", "G", "B"].map(str::to_owned).to_vec()].concat();
    assert_light(show(&nameless), [0.5; 3]);
    assert_light(show(&names(&["only"])), [4.0; 3]);
    // A brightness alone is gray.
    let (_, gray) = light_of(&pictures(&exr(part(8, 8, &["Y"], LINES, |_, _, _| 2.0)), "exr"));
    assert_light(gray[0], [2.0; 3]);
    // Of several parts the first that has colors.
    let named = |mut part: Flat, name: &str| {
        part.attributes.layer_name = Some(name.into());
        part
    };
    let depth = named(part(8, 8, &["Z"], LINES, |_, _, _| 100.0), "depth");
    let colors = named(part(8, 8, &["B", "G", "R"], LINES, |_, _, _| 0.5), "colors");
    let both = exr_of(IntegerBounds::new((0, 0), (8, 8)), vec![depth.clone(), colors]);
    assert_light(light_of(&pictures(&both, "exr")).1[0], [0.5; 3]);
    let none = exr_of(IntegerBounds::new((0, 0), (8, 8)), vec![depth]);
    assert_eq!(why_none(&none, "exr"), "the file has no red, green and blue");
}

#[test]
fn a_crop_lies_where_it_was_cut_out_and_what_hangs_over_is_cut_off() {
    let white = |_: usize, _: usize, _: &str| 1.0;
    let mut crop = part(10, 10, &["B", "G", "R"], LINES, white);
    crop.attributes.layer_position = Vec2(15, -5);
    let file = exr_of(IntegerBounds::new((-10, -10), (30, 20)), vec![crop]);
    let (width, light) = light_of(&pictures(&file, "exr"));
    assert_eq!((width, light.len()), (30, 600));
    for (at, found) in light.into_iter().enumerate() {
        let (x, y) = (at % 30, at / 30);
        let inside = x >= 25 && (5..15).contains(&y);
        assert_light(found, [if inside { 1.0 } else { 0.0 }; 3]);
    }
}

#[test]
fn threads_and_dots_have_pictures_and_what_has_no_side_or_a_monstrous_one_is_no_output() {
    for (width, height, expected) in
        [(1, SIDE_MAX, (1, 256)), (SIDE_MAX, 1, (256, 1)), (1, 1, (1, 1)), (3, 1025, (1, 256))]
    {
        let thread = RgbImage::from_pixel(width, height, Rgb([255; 3]));
        let thumbnail = thumbnail_of(&pictures(&file(thread, ImageFormat::Png), "png"));
        assert_eq!(thumbnail.dimensions(), expected, "{width}x{height}");
        assert_near(*thumbnail.get_pixel(0, 0), [255; 3]);
    }
    let thread = part(2, 20_000, &["B", "G", "R"], LINES, |_, _, _| 1.0);
    let (width, light) = light_of(&pictures(&exr(thread), "exr"));
    assert_eq!((width, light.len()), (1, 1280));
    let monster = image::GrayImage::from_pixel(1, 65_535, Luma([255]));
    assert!(matches!(judge(&file(monster, ImageFormat::Png), "png"), Err(Bad::TooLarge { .. })));
    for (width, height) in [(0, 0), (0, 9), (9, 0), (1, 65_535), (u32::MAX, u32::MAX)] {
        assert_eq!(Shrink::new(width, height, THUMBNAIL_SIDE_MAX), None, "{width}x{height}");
    }
}

#[test]
fn noise_takes_no_more_than_its_bound() {
    let mut state = 1_u32;
    let mut noise = || {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        u8::try_from(state >> 24).expect("eight bits")
    };
    let dots = RgbImage::from_fn(256, 256, |_, _| Rgb([noise(), noise(), noise()]));
    thumbnail_of(&pictures(&file(dots, ImageFormat::Png), "png"));
    // The worst that a preview can be: its bytes as they are.
    let side = PREVIEW_SIDE_MAX;
    let pixels = (0..side * side).map(|_| [noise(), noise(), noise()].map(|byte| f32::from(byte) + 1.0)).collect();
    let light = Small { width: side, height: side, pixels };
    let file = preview(&light).expect("writes");
    assert!(file.len() as u64 <= Picture::Preview.size_max(), "{}", file.len());
}

#[test]
fn what_is_no_picture_has_none_and_says_why() {
    assert_eq!(why_none(b"text", "txt"), "files of this kind are not decoded");
    let video = include_bytes!("../verify/fixtures/five_frames.mp4");
    assert_eq!(why_none(video, "mp4"), "files of this kind are not decoded");
    let numbers = AnyChannels::sort([AnyChannel::new("R", FlatSamples::U32(vec![1; 64]))].into_iter().collect());
    let ids = Layer::new((8, 8), LayerAttributes::default(), LINES, numbers);
    assert_eq!(why_none(&exr(ids), "exr"), "the file has no red, green and blue");
}

#[test]
fn what_a_picture_would_take_beyond_its_bound_is_left_out() {
    let large = vec![0; 129 * 1024];
    let refused = bounded(Picture::Thumbnail, large).expect_err("too large").to_string();
    assert_eq!(refused, "the thumbnail has 132096 bytes, more than the 131072 allowed");
}
