//! A renderer that takes milliseconds and whose pictures are known beforehand: each job's and each frame's differs, so
//! that a swapped one shows.

use framewake_proto::objects::Digest;
use serde_json::{Value, json};
use std::io::Cursor;
use std::path::Path;

const WIDTH: u32 = 48;
const HEIGHT: u32 = 27;

/// The picture of a frame, as PNG.
pub fn picture(marker: u64, frame: u64) -> Vec<u8> {
    let mut rng = fastrand::Rng::with_seed(marker.rotate_left(32) ^ frame);
    let pixels = image::RgbImage::from_fn(WIDTH, HEIGHT, |_, _| image::Rgb([rng.u8(..), rng.u8(..), rng.u8(..)]));
    let mut bytes = Cursor::new(Vec::new());
    pixels.write_to(&mut bytes, image::ImageFormat::Png).expect("memory takes it");
    bytes.into_inner()
}

pub fn digest(marker: u64, frame: u64) -> Digest {
    Digest::of(&picture(marker, frame))
}

/// The function `picture`, rendered by the program `fire` itself.
pub fn function(program: &Path) -> Value {
    json!({
        "name": "picture",
        "driver": { "kind": "command", "command": [program.display().to_string(), "picture", "{marker}", "{frame}", "{output}"] },
        "parameters": { "marker": { "type": "integer" } },
        "scaling": { "max": 4, "linger": "3s" },
    })
}
