//! Outputs that cost their maker nothing and would cost the worker its memory or its night. They are judged by a process
//! of their own, to which the system gives no more memory than an output may need.

use super::*;
use std::fs::File;
use std::os::unix::fs::FileExt;
use std::process::Command;

/// What the judge may take: an image, and itself with the stacks of its threads.
const MEMORY_MAX: u64 = DECODED_SIZE_MAX + 512 * 1024 * 1024;
/// The judge's own name among the tests, and where it finds what it judges.
const JUDGE: &str = "verify::tests::bombs::bombs_are_judged_in_bounded_memory_and_time";
const FOLDER: &str = "FRAMEWAKE_BOMBS";
/// Together they take a second; a bomb that goes off takes hours, or the judge.
const TIME_MAX: Duration = Duration::from_mins(1);

/// Its extension, its first bytes, what is written where after them, and words of the judgment.
struct Bomb {
    extension: &'static str,
    head: Vec<u8>,
    /// The file's size and its last bytes; what is between is a hole.
    end: Option<(u64, Vec<u8>)>,
    judgment: &'static str,
}

fn bomb(extension: &'static str, head: Vec<u8>, judgment: &'static str) -> Bomb {
    Bomb { extension, head, end: None, judgment }
}

fn with_hole(extension: &'static str, head: Vec<u8>, size_bytes: u64, last: &[u8], judgment: &'static str) -> Bomb {
    Bomb { extension, head, end: Some((size_bytes, last.to_vec())), judgment }
}

fn bombs() -> Vec<Bomb> {
    let unfolds = zeros(64 << 20);
    let profile = [b"icc\0\0".as_slice(), &unfolds].concat();
    let text = [b"Comment\0\0".as_slice(), &unfolds].concat();
    let one = png_sides(1, 1, 8, 0, false);
    let huge_text = [&one, 2_000_000_000_u32.to_be_bytes().as_slice(), b"tEXt"].concat();
    // What unfolds to some thousands of zeros, and claims to be a terabyte of bytes or of numbers.
    let small = zeros(2);
    let length = small.len() as u64;
    let claims = dwa(&[0, 1 << 40, length, 0, 0, 0, 0, 0, 0, 0, 0], &small);
    let counts = dwa(&[0, 0, 0, length, 0, 0, 0, 0, 1 << 40, 0, 1], &small);
    let endless = [&EXR_START, b"owner\0string\0".as_slice(), &i32::MAX.to_le_bytes()].concat();
    vec![
        bomb("png", png(&png_sides(32_768, 32_768, 16, 6, false), &[(b"IDAT", &zeros(2))]), "2048 MiB in all"),
        bomb("png", png(&png_sides(1_000_000, 1, 8, 0, false), &[]), "1000000x1 pixels"),
        // A picture of a few hundred bytes that would take gigabytes to look at.
        bomb("png", png(&png_sides(60_000, 60_000, 8, 0, false), &[(b"IDAT", &zeros(2))]), "60000x60000 pixels"),
        bomb("jpg", jpeg(60_000, 60_000), "60000x60000 pixels"),
        bomb("exr", exr(&[], 3, 3, 60_000, &[]), "60000x60000 pixels"),
        bomb("png", png(&png_sides(u32::MAX, u32::MAX, 8, 0, false), &[]), "pixels, more than"),
        // Its rows may be there, so room is taken for them; they are not.
        bomb("png", png(&png_sides(32_768, 32_768, 8, 0, true), &[(b"IDAT", &zeros(300))]), "does not decode"),
        bomb("png", png(&one, &[(b"iCCP", &profile), (b"IDAT", &zeros(2))]), "every pixel is black"),
        bomb("png", png(&one, &[(b"zTXt", &text), (b"IDAT", &zeros(2))]), "every pixel is black"),
        with_hole("png", huge_text, 2_000_000_100, &PNG_END, "beside its pixels"),
        with_hole("jpg", jpeg(8, 8), 3 << 30, &[0xff, 0xd9], "more than 409 MiB"),
        bomb("jpg", jpeg(30_000, 30_000), "409 MiB in all"),
        // Nine bytes a pixel while it is decoded, of a file of a hundred.
        bomb("jpg", jpeg(4000, 4000), "4000"),
        bomb("exr", exr(&[tiles(32_768, 32_768)], 64, 3, 64, &[]), "take more than 512 MiB each"),
        bomb("exr", exr(&[tiles(u32::MAX / 2, u32::MAX / 2)], 1, 3, 64, &[]), "does not decode"),
        bomb("exr", exr(&[], 1, 3, 100_000, &[]), "pixels, more than"),
        bomb("exr", exr(&[], 5000, 3, 64, &[]), "5000 channels"),
        bomb("exr", exr(&[], 100_000, 8, 64, &[]), "channels, more than 1024"),
        bomb("exr", exr(&[], 1, 8, 32, &block(&claims)), "claims to hold more"),
        bomb("exr", exr(&[], 1, 9, 64, &block(&counts)), "claims to hold more"),
        // The largest block that may be, of which a few bytes came.
        bomb("exr", exr(&[tiles(16_384, 8_192)], 1, 3, 16_384, &tile(&zeros(1000))), "does not decode"),
        bomb("exr", exr(&[tiles(16_384, 8_192)], 1, 3, 16_384, &tile(&zeros(1 << 29))), "does not decode"),
        with_hole("exr", endless, 3 << 30, &[0], "header is larger than 32 MiB"),
        bomb("exr", many_parts(3000), "does not decode"),
        bomb(
            "mp4",
            [boxed(b"ftyp", b"isom"), boxed(b"moof", b"").repeat(1_100_000)].concat(),
            "more than 1048576 boxes",
        ),
        with_hole(
            "mp4",
            [boxed(b"ftyp", b"isom"), b"\0\0\0\0moov".to_vec()].concat(),
            60 << 30,
            &[0],
            "larger than 64 MiB",
        ),
    ]
}

#[test]
#[allow(clippy::disallowed_methods)] // A word from the test to its own second process.
fn bombs_are_judged_in_bounded_memory_and_time() {
    if let Ok(folder) = std::env::var(FOLDER) {
        return judge(Path::new(&folder));
    }
    let folder = folder();
    let bombs = bombs();
    for (at, bomb) in bombs.iter().enumerate() {
        let file = File::create(folder.path().join(format!("{at:02}.{}", bomb.extension))).expect("makes");
        file.write_all_at(&bomb.head, 0).expect("writes");
        if let Some((size_bytes, last)) = &bomb.end {
            file.write_all_at(last, size_bytes - last.len() as u64).expect("writes");
        }
    }
    let began = Instant::now();
    let limited = format!("ulimit -v {} && exec \"$@\"", MEMORY_MAX / 1024);
    let judged = Command::new("sh")
        .args(["-c", &limited, "sh"])
        .arg(std::env::current_exe().expect("a test has a path"))
        .args(["--exact", JUDGE, "--nocapture"])
        .env(FOLDER, folder.path())
        .output()
        .expect("runs");
    let said = String::from_utf8_lossy(&judged.stdout);
    assert!(judged.status.success(), "{said}\n{}", String::from_utf8_lossy(&judged.stderr));
    assert!(began.elapsed() < TIME_MAX, "{:?}", began.elapsed());
    let judgments: Vec<&str> = said.lines().filter_map(|line| line.strip_prefix("judged ")).collect();
    assert_eq!(judgments.len(), bombs.len(), "{said}");
    let unlike = bombs.iter().zip(&judgments).filter(|(bomb, judgment)| !judgment.contains(bomb.judgment));
    let unlike: Vec<_> = unlike.map(|(bomb, judgment)| format!("expected {:?}: {judgment}", bomb.judgment)).collect();
    assert!(unlike.is_empty(), "{unlike:#?}\n{said}");
}

#[allow(clippy::print_stdout)] // What its first process reads.
fn judge(folder: &Path) {
    let mut files: Vec<PathBuf> = std::fs::read_dir(folder).expect("lists").flatten().map(|file| file.path()).collect();
    files.sort();
    println!();
    for file in files {
        let extension = file.extension().and_then(|extension| extension.to_str()).expect("has one");
        let began = Instant::now();
        let judgment = check(&file, extension, &Verify::default());
        let judgment = judgment.map_or_else(|bad| bad.to_string(), |good| format!("good: {good:?}"));
        println!("judged {} in {:?}: {judgment}", file.display(), began.elapsed());
    }
}

#[test]
fn an_output_that_takes_too_long_is_given_up() {
    let folder = folder();
    let png = write_picture(folder.path(), "a.png", [200, 10, 10], ImageFormat::Png);
    let jpeg = write_picture(folder.path(), "a.jpg", [200, 10, 10], ImageFormat::Jpeg);
    let exr = folder.path().join("a.exr");
    write_exr(&exr, |_, _| (0.5, 0.5, 0.5));
    let video = folder.path().join("a.mp4");
    std::fs::write(&video, VIDEOS[0].1).expect("writes");
    for (path, extension) in [(png, "png"), (jpeg, "jpg"), (exr, "exr"), (video, "mp4")] {
        let bytes = std::fs::read(path).expect("reads");
        let size = bytes.len() as u64;
        let check = |deadline| check_until(deadline, std::io::Cursor::new(&bytes), size, extension, &Verify::default());
        check(Instant::now() + CHECK_TIME_MAX).expect(extension);
        let given_up = check(Instant::now()).expect_err(extension);
        assert!(matches!(given_up, Bad::TooSlow), "{extension}: {given_up}");
    }
}

/// A zlib stream of zeros: `count` of them, rounded up to some thousands.
fn zeros(count: u32) -> Vec<u8> {
    let mut bits = Bits { bytes: vec![0x78, 0x01], bit: 0 };
    // The last block, of the fixed codes.
    bits.put(0b1, 1);
    bits.put(0b01, 2);
    bits.put_code(0b0011_0000, 8);
    for _ in 0..24 {
        // 258 times what was last.
        bits.put_code(0b1100_0101, 8);
        bits.put_code(0, 5);
    }
    // Eight of these have 13 bytes, which then repeat themselves.
    let period = bits.bytes[17..30].to_vec();
    let periods = count.div_ceil(8 * 258);
    bits.bytes.splice(30..30, period.repeat(periods as usize));
    bits.put_code(0, 7);
    // The checksum of zeros.
    let length = 1 + 258 * (24 + 8 * u64::from(periods));
    bits.bytes.extend(u32::try_from((length % 65_521) << 16 | 1).expect("it fits").to_be_bytes());
    bits.bytes
}

struct Bits {
    bytes: Vec<u8>,
    /// Bits used of the last byte; 0 for all.
    bit: u32,
}

impl Bits {
    fn put(&mut self, value: u32, count: u32) {
        for at in 0..count {
            if self.bit == 0 {
                self.bytes.push(0);
            }
            let last = self.bytes.last_mut().expect("just pushed");
            *last |= u8::try_from(value >> at & 1).expect("a bit") << self.bit;
            self.bit = (self.bit + 1) % 8;
        }
    }

    /// Codes stand with their highest bit first.
    fn put_code(&mut self, code: u32, count: u32) {
        self.put(code.reverse_bits() >> (32 - count), count);
    }
}

const PNG_END: [u8; 12] = [0, 0, 0, 0, b'I', b'E', b'N', b'D', 0xae, 0x42, 0x60, 0x82];

fn png_sides(width: u32, height: u32, bits: u8, color: u8, interlaced: bool) -> Vec<u8> {
    let header = [&width.to_be_bytes()[..], &height.to_be_bytes(), &[bits, color, 0, 0, interlaced.into()]].concat();
    [b"\x89PNG\r\n\x1a\n".as_slice(), &chunk(b"IHDR", &header)].concat()
}

fn png(start: &[u8], chunks: &[(&[u8], &[u8])]) -> Vec<u8> {
    let chunks = chunks.iter().flat_map(|(kind, data)| chunk(kind, data));
    start.iter().copied().chain(chunks).chain(PNG_END).collect()
}

fn chunk(kind: &[u8], data: &[u8]) -> Vec<u8> {
    let body = [kind, data].concat();
    let sum = !body.iter().fold(!0_u32, |sum, byte| {
        (0..8).fold(sum ^ u32::from(*byte), |sum, _| (sum >> 1) ^ (0xedb8_8320 & 0_u32.wrapping_sub(sum & 1)))
    });
    let size = u32::try_from(data.len()).expect("small");
    [&size.to_be_bytes()[..], &body, &sum.to_be_bytes()].concat()
}

/// A progressive JPEG with three colors, up to where its first scan would be.
fn jpeg(width: u16, height: u16) -> Vec<u8> {
    let sides = [&height.to_be_bytes()[..], &width.to_be_bytes()].concat();
    let quantization = [&[0xff, 0xdb, 0, 67, 0][..], &[1; 64]].concat();
    let frame = [&[0xff, 0xc2, 0, 17, 8][..], &sides, &[3, 1, 0x11, 0, 2, 0x11, 0, 3, 0x11, 0]].concat();
    let codes = [&[0xff, 0xc4, 0, 20, 0, 1][..], &[0; 15], &[0]].concat();
    let scan = [0xff, 0xda, 0, 12, 3, 1, 0, 2, 0, 3, 0, 0, 0, 0];
    [&[0xff, 0xd8][..], &quantization, &frame, &codes, &scan, &[0xff, 0xd9]].concat()
}

const EXR_START: [u8; 8] = [0x76, 0x2f, 0x31, 0x01, 2, 0, 0, 0];

fn attribute(name: &str, kind: &str, value: &[u8]) -> Vec<u8> {
    let size = i32::try_from(value.len()).expect("small");
    [name.as_bytes(), &[0], kind.as_bytes(), &[0], &size.to_le_bytes(), value].concat()
}

fn tiles(width: u32, height: u32) -> Vec<u8> {
    attribute("tiles", "tiledesc", &[&width.to_le_bytes()[..], &height.to_le_bytes(), &[0]].concat())
}

/// Attributes of a part with so many channels of floats, squares of `side`.
fn part(more: &[Vec<u8>], channels: usize, compression: u8, side: i32) -> Vec<u8> {
    let channel =
        |at: usize| [format!("c{at:07}").as_bytes(), &[0, 2, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0, 1, 0, 0, 0]].concat();
    let channels: Vec<u8> = (0..channels).flat_map(channel).chain([0]).collect();
    let last = (side - 1).to_le_bytes();
    let window = [&[0; 8][..], &last, &last].concat();
    let parts = [
        attribute("channels", "chlist", &channels),
        attribute("compression", "compression", &[compression]),
        attribute("dataWindow", "box2i", &window),
        attribute("displayWindow", "box2i", &window),
        attribute("lineOrder", "lineOrder", &[0]),
        attribute("pixelAspectRatio", "float", &1.0_f32.to_le_bytes()),
        attribute("screenWindowCenter", "v2f", &[0; 8]),
        attribute("screenWindowWidth", "float", &1.0_f32.to_le_bytes()),
        more.concat(),
        vec![0],
    ];
    parts.concat()
}

/// A file of one part, with room for some entries of its table, and then `blocks`.
fn exr(more: &[Vec<u8>], channels: usize, compression: u8, side: i32, blocks: &[u8]) -> Vec<u8> {
    let mut start = EXR_START;
    // The second byte of the flags says that it is tiled.
    start[5] = if more.is_empty() { 0 } else { 2 };
    let table = vec![0; 8 * usize::try_from(side).expect("a side").div_ceil(8192).min(2)];
    [&start[..], &part(more, channels, compression, side), &table, blocks].concat()
}

/// A block of lines from the first on.
fn block(bytes: &[u8]) -> Vec<u8> {
    let size = i32::try_from(bytes.len()).expect("small");
    [&0_i32.to_le_bytes()[..], &size.to_le_bytes(), bytes].concat()
}

/// A block as DWA packs it: numbers, then the packed parts.
fn dwa(numbers: &[u64; 11], packed: &[u8]) -> Vec<u8> {
    numbers.iter().flat_map(|number| number.to_le_bytes()).chain(packed.iter().copied()).collect()
}

/// The first tile.
fn tile(bytes: &[u8]) -> Vec<u8> {
    [&[0; 16][..], &i32::try_from(bytes.len()).expect("small").to_le_bytes(), bytes].concat()
}

fn many_parts(count: usize) -> Vec<u8> {
    let mut start = EXR_START;
    start[5] = 0x10;
    let kind = attribute("type", "string", b"scanlineimage");
    let part = |at: usize| part(&[kind.clone(), attribute("name", "string", at.to_string().as_bytes())], 1, 0, 64);
    start.into_iter().chain((0..count).flat_map(part)).chain([0]).collect()
}

fn boxed(kind: &[u8], body: &[u8]) -> Vec<u8> {
    let size = u32::try_from(body.len() + 8).expect("small");
    [&size.to_be_bytes()[..], kind, body].concat()
}
