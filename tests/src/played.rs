//! Outputs of a job of very many frames, played: each is reported like one that was rendered, and shows one of a few pictures, so that a
//! million of them take the room of these few.

use crate::farm::TestFarm;
use crate::jobs;
use framewake_proto::ids::JobId;
use framewake_proto::objects::{Digest, Picture, job_prefix, picture_key};
use framewake_proto::wire::TaskDone;
use image::{ImageFormat, Rgb, RgbImage, Rgba, RgbaImage};
use serde_json::{Value, json};
use std::io::Cursor;

/// Pictures that there are; a frame shows the one of its task's number, again and again.
pub const KINDS: u32 = 24;
/// A preview's fourth channel, with which its bytes are 256ths.
const EXPONENT: u8 = 128;

/// A job whose outputs are light.
pub fn job(frames: u32, chunk: u32) -> Value {
    let mut job = jobs::command_with_output(&["/bin/true"], &format!("1-{frames}"), "light/{frame:07}.exr");
    job["steps"][0]["chunking"] = json!({ "mode": "fixed", "size": chunk });
    job["name"] = json!("a long reel");
    job
}

/// How bright the left half of a task's picture is: of white.
pub fn light(task: u32) -> f64 {
    f64::from(level(task)) / 256.0
}

fn level(task: u32) -> u8 {
    u8::try_from(task % KINDS * 8 + 40).expect("small")
}

fn digest(task: u32) -> Digest {
    Digest::of(format!("picture {}", task % KINDS).as_bytes())
}

/// Puts the few pictures where workers would have kept them.
pub fn keep_pictures(farm: &TestFarm, job: JobId, [width, height]: [u32; 2]) {
    for kind in 0..KINDS {
        // The left half is even; the right one is as hard to pack as a render.
        let at = |x: u32, y: u32| if x < width / 2 { level(kind) } else { noise(x, y, kind) };
        let preview = RgbaImage::from_fn(width, height, |x, y| {
            let byte = at(x, y);
            Rgba([byte, byte, byte, EXPONENT])
        });
        let thumbnail = RgbImage::from_fn(width.min(256), height.min(144), |_, _| Rgb([level(kind); 3]));
        keep(farm, job, kind, Picture::Preview, |file| preview.write_to(file, ImageFormat::Png));
        keep(farm, job, kind, Picture::Thumbnail, |file| thumbnail.write_to(file, ImageFormat::Jpeg));
    }
}

fn keep(
    farm: &TestFarm,
    job: JobId,
    kind: u32,
    picture: Picture,
    write: impl FnOnce(&mut Cursor<Vec<u8>>) -> image::ImageResult<()>,
) {
    let mut file = Cursor::new(Vec::new());
    write(&mut file).expect("it is drawn");
    let place = farm.store_folder().join(picture_key(job, &digest(kind), picture));
    std::fs::create_dir_all(place.parent().expect("it has one")).expect("the store is writable");
    std::fs::write(place, file.into_inner()).expect("the store is writable");
}

/// A byte that neighbors don't foretell well.
fn noise(x: u32, y: u32, kind: u32) -> u8 {
    let mixed = (x / 2).wrapping_mul(2_654_435_761) ^ (y / 2).wrapping_mul(2_246_822_519) ^ kind.wrapping_mul(97);
    u8::try_from((mixed >> 13) % 64 + (x * 96 / 1280).min(128)).expect("less than 192")
}

/// What a worker says of each task of the job.
pub fn results(job: JobId, sides: [u32; 2]) -> impl Fn(u32) -> TaskDone + Send + Sync + 'static {
    let prefix = job_prefix(&"default".parse().expect("a name"), job);
    move |task| TaskDone {
        task,
        key: format!("{prefix}light/{:07}.exr", task + 1),
        sha256: digest(task).0.to_vec(),
        size_bytes: 1 << 20,
        width: sides[0],
        height: sides[1],
        device: "CPU".to_owned(),
        elapsed_ms: 1000 + task % 500,
        ..TaskDone::default()
    }
}
