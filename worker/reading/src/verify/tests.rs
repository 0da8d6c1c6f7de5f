//! Good, cut off, mislabeled and empty outputs.

mod bombs;
mod special;

use super::*;
use ::image::{ImageFormat, Rgb, RgbImage};
use std::path::PathBuf;

fn folder() -> tempfile::TempDir {
    tempfile::tempdir().expect("a folder")
}

fn picture(color: [u8; 3]) -> RgbImage {
    RgbImage::from_fn(64, 36, |x, y| if (x + y) % 2 == 0 { Rgb(color) } else { Rgb([0, 0, 0]) })
}

fn write_picture(folder: &Path, name: &str, color: [u8; 3], format: ImageFormat) -> PathBuf {
    let path = folder.join(name);
    picture(color).save_with_format(&path, format).expect("writes");
    path
}

fn cut(path: &Path, percent: usize) {
    let bytes = std::fs::read(path).expect("reads");
    std::fs::write(path, &bytes[..bytes.len() * percent / 100]).expect("writes");
}

fn refused(path: &Path, extension: &str) -> String {
    check(path, extension, &Verify::default()).expect_err("is bad").to_string()
}

#[test]
fn whole_pictures_are_good_and_their_size_is_known() {
    let folder = folder();
    for (name, extension, format) in [("a.png", "png", ImageFormat::Png), ("a.jpg", "jpg", ImageFormat::Jpeg)] {
        let path = write_picture(folder.path(), name, [200, 10, 10], format);
        let verified = check(&path, extension, &Verify::default()).expect(name);
        assert_eq!((verified.width, verified.height), (64, 36));
        assert_eq!(verified.size_bytes, std::fs::metadata(&path).expect("is there").len());
    }
}

#[test]
fn pictures_that_are_cut_off_anywhere_are_bad() {
    let folder = folder();
    for percent in [99, 90, 50, 10] {
        let png = write_picture(folder.path(), "a.png", [200, 10, 10], ImageFormat::Png);
        cut(&png, percent);
        assert!(refused(&png, "png").contains("cut off"), "{percent}");
        let jpeg = write_picture(folder.path(), "a.jpg", [200, 10, 10], ImageFormat::Jpeg);
        cut(&jpeg, percent);
        assert!(refused(&jpeg, "jpg").contains("cut off"), "{percent}");
    }
}

#[test]
fn a_picture_with_a_hole_in_its_data_is_bad() {
    let folder = folder();
    let path = write_picture(folder.path(), "a.png", [200, 10, 10], ImageFormat::Png);
    let mut bytes = std::fs::read(&path).expect("reads");
    let middle = bytes.len() / 2;
    bytes[middle] ^= 0xff;
    std::fs::write(&path, bytes).expect("writes");
    assert!(refused(&path, "png").contains("does not decode"));
}

#[test]
fn a_jpeg_without_its_middle_is_bad_although_it_has_its_end() {
    let folder = folder();
    let path = folder.path().join("a.jpg");
    // As `cjpeg` writes them: with restart markers, with a scan for each color, and one scan better than the other.
    let mut files = vec![
        ("restarts", include_bytes!("fixtures/restarts.jpg").to_vec()),
        ("scans", include_bytes!("fixtures/scans.jpg").to_vec()),
        ("progressive", include_bytes!("fixtures/progressive.jpg").to_vec()),
    ];
    let plain = RgbImage::from_fn(96, 64, |x, y| {
        Rgb([x * 2, y * 3, x * y % 251].map(|part| u8::try_from(part).expect("small")))
    });
    plain.save_with_format(&path, ImageFormat::Jpeg).expect("writes");
    files.push(("plain", std::fs::read(&path).expect("reads")));
    for (name, whole) in files {
        std::fs::write(&path, &whole).expect("writes");
        check(&path, "jpg", &Verify::default()).unwrap_or_else(|bad| panic!("{name} is whole: {bad}"));
        let data = whole.windows(2).position(|pair| pair == [0xff, 0xda]).expect("it has data") + 32;
        let length = whole.len() - data - 2;
        if name == "scans" {
            // Between its scans there is no room for noise: such files, which no renderer is known to write, are believed.
            continue;
        }
        let mut missed = Vec::new();
        for (from, part) in [(0, 2), (8, 2), (4, 4), (2, 8), (8, 8), (12, 16), (2, 16)] {
            let from = data + length * from / 16;
            let mut holed = whole.clone();
            holed.drain(from..(from + length / part).min(whole.len() - 2));
            std::fs::write(&path, &holed).expect("writes");
            if check(&path, "jpg", &Verify::default()).is_ok() {
                missed.push((from, part));
            }
        }
        // A progressive file that lost whole scans, with their heads, is a coarser picture that says nothing of them.
        let scans_lost = if name == "progressive" { 2 } else { 0 };
        assert!(missed.len() <= scans_lost, "{name} of {length} bytes: nothing was missed without {missed:?}");
    }
}

#[test]
fn a_name_must_tell_the_kind() {
    let folder = folder();
    let path = write_picture(folder.path(), "a.png", [200, 10, 10], ImageFormat::Jpeg);
    assert_eq!(refused(&path, "png"), "the output is named `.png` and is a JPEG file");
    std::fs::write(&path, b"text").expect("writes");
    assert_eq!(refused(&path, "exr"), "the output is named `.exr` and is something else");
}

#[test]
fn absent_and_empty_outputs_are_bad_and_unknown_kinds_are_good_when_not_empty() {
    let folder = folder();
    let path = folder.path().join("a.bin");
    assert!(matches!(check(&path, "bin", &Verify::default()), Err(Bad::Missing)));
    std::fs::write(&path, b"").expect("writes");
    assert!(matches!(check(&path, "bin", &Verify::default()), Err(Bad::Empty)));
    std::fs::write(&path, b"x").expect("writes");
    assert_eq!(check(&path, "bin", &Verify::default()).expect("good").size_bytes, 1);
    let wanted = Verify { width: Some(64), ..Verify::default() };
    assert!(matches!(check(&path, "bin", &wanted), Err(Bad::SizeUnknown(_))));
    let link = folder.path().join("b.bin");
    std::os::unix::fs::symlink("/etc/hostname", &link).expect("links");
    assert!(matches!(check(&link, "bin", &Verify::default()), Err(Bad::Missing)));
}

#[test]
fn size_and_blackness_are_held_against_what_was_asked() {
    let folder = folder();
    let path = write_picture(folder.path(), "a.png", [200, 10, 10], ImageFormat::Png);
    let wanted = Verify { width: Some(64), height: Some(37), ..Verify::default() };
    let error = check(&path, "png", &wanted).expect_err("other size").to_string();
    assert_eq!(error, "the output is 64x36 pixels, and 64x37 was asked for");
    let black = write_picture(folder.path(), "b.png", [0, 0, 0], ImageFormat::Png);
    assert!(matches!(check(&black, "png", &Verify::default()), Err(Bad::Black)));
    let allowed = Verify { black: Policy::Allow, ..Verify::default() };
    check(&black, "png", &allowed).expect("allowed");
    // What Blender's dithering makes of a scene without light.
    let dithered = write_picture(folder.path(), "d.png", [1, 0, 1], ImageFormat::Png);
    assert!(matches!(check(&dithered, "png", &Verify::default()), Err(Bad::Black)));
    let dim = write_picture(folder.path(), "e.png", [0, 3, 0], ImageFormat::Png);
    check(&dim, "png", &Verify::default()).expect("somebody may see it");
    let deep = folder.path().join("f.png");
    let save =
        |level: u16| ::image::ImageBuffer::from_pixel(8, 8, ::image::Luma([level])).save(&deep).expect("written");
    save(2 * 257);
    assert!(matches!(check(&deep, "png", &Verify::default()), Err(Bad::Black)));
    save(2 * 257 + 1);
    check(&deep, "png", &Verify::default()).expect("above the bound");
}

fn write_exr(path: &Path, pixel: impl Fn(usize, usize) -> (f32, f32, f32) + Sync) {
    ::exr::prelude::write_rgb_file(path, 64, 36, pixel).expect("writes");
}

#[test]
fn exr_files_are_decoded_and_their_bad_numbers_counted() {
    let folder = folder();
    let path = folder.path().join("a.exr");
    write_exr(&path, |x, _| (x as f32, 0.5, 0.1));
    let verified = check(&path, "exr", &Verify::default()).expect("good");
    assert_eq!((verified.width, verified.height, verified.note), (64, 36, None));
    for percent in [99, 50, 10, 1] {
        write_exr(&path, |x, _| (x as f32, 0.5, 0.1));
        cut(&path, percent);
        assert!(check(&path, "exr", &Verify::default()).is_err(), "{percent}");
    }
    write_exr(&path, |x, y| if (x, y) == (3, 3) { (f32::NAN, f32::INFINITY, 0.0) } else { (1.0, 1.0, 1.0) });
    let error = check(&path, "exr", &Verify::default()).expect_err("NaN");
    assert!(matches!(error, Bad::NotFinite { count: 2, total: 6912 }), "{error}");
    check(&path, "exr", &Verify { nan: Policy::Allow, ..Verify::default() }).expect("allowed");
    write_exr(&path, |_, _| (0.0, 0.0, 0.0));
    assert!(matches!(check(&path, "exr", &Verify::default()), Err(Bad::Black)));
}

const VIDEOS: [(&str, &[u8]); 3] = [
    ("mp4", include_bytes!("fixtures/five_frames.mp4")),
    ("mp4", include_bytes!("fixtures/five_frames_index_first.mp4")),
    ("mov", include_bytes!("fixtures/five_frames.mov")),
];

#[test]
fn frames_of_videos_are_counted() {
    let folder = folder();
    let path = folder.path().join("video");
    for (extension, bytes) in VIDEOS {
        std::fs::write(&path, bytes).expect("writes");
        let verified = check(&path, extension, &Verify { frames: Some(5), ..Verify::default() }).expect("good");
        assert_eq!((verified.width, verified.height, verified.frames), (32, 16, Some(5)));
        let error = check(&path, extension, &Verify { frames: Some(6), ..Verify::default() }).expect_err("other");
        assert_eq!(error.to_string(), "the video has 5 frames, and 6 were asked for");
    }
}

#[test]
fn frames_in_fragments_are_counted() {
    let folder = folder();
    let path = folder.path().join("video");
    let bytes = include_bytes!("fixtures/three_frames_in_fragments.mp4");
    std::fs::write(&path, bytes).expect("writes");
    let verified = check(&path, "mp4", &Verify { frames: Some(3), ..Verify::default() }).expect("good");
    assert_eq!((verified.width, verified.height, verified.frames), (16, 16, Some(3)));
    // Claims of any number of frames, in the index and in a fragment, cost nothing.
    for (table, count_at) in [(b"stsz", 12), (b"trun", 8)] {
        for count in [1, 2, u32::MAX] {
            let mut bytes = bytes.to_vec();
            let at = bytes.windows(4).position(|window| window == table).expect("it is there") - 4;
            bytes[at + 8 + count_at - 4..][..4].copy_from_slice(&count.to_be_bytes());
            std::fs::write(&path, bytes).expect("writes");
            let judged = check(&path, "mp4", &Verify { frames: Some(3), ..Verify::default() });
            assert!(judged.is_err(), "{table:?} says {count}");
        }
    }
}

#[test]
fn a_video_that_is_cut_off_anywhere_is_bad() {
    let folder = folder();
    let path = folder.path().join("video");
    for (extension, bytes) in VIDEOS {
        for length in (0..bytes.len()).rev().step_by(7) {
            std::fs::write(&path, &bytes[..length]).expect("writes");
            assert!(check(&path, extension, &Verify::default()).is_err(), "{extension} cut to {length} bytes");
        }
    }
}
