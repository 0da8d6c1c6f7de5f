//! Where the search begins: what the samples, the documents and other tests already have.

use framewake_proto::wire::{AttemptEnd, Claim, Heartbeat, Report, TaskDone, TaskFailed, TaskProgress, TaskRun};
use prost::Message;

const JOBS: [&str; 5] = [
    include_str!("../../../samples/jobs/castle.yaml"),
    include_str!("../../../samples/jobs/command.yaml"),
    include_str!("../../../samples/jobs/mitsuba.yaml"),
    include_str!("../../../samples/jobs/povray.yaml"),
    include_str!("../../../samples/jobs/tachyon.yaml"),
];
const FUNCTIONS: [&str; 5] = [
    include_str!("../../../samples/functions/blender.yaml"),
    include_str!("../../../samples/functions/command.yaml"),
    include_str!("../../../samples/functions/ffmpeg-encode.yaml"),
    include_str!("../../../samples/functions/povray.yaml"),
    include_str!("../../../samples/functions/tachyon.yaml"),
];
const RULES: [&str; 6] = [
    include_str!("../../../worker/reading/src/rules/blender.yaml"),
    include_str!("../../../worker/reading/src/rules/ffmpeg.yaml"),
    include_str!("../../../worker/reading/src/rules/generic.yaml"),
    include_str!("../../../worker/reading/src/rules/mitsuba.yaml"),
    include_str!("../../../worker/reading/src/rules/povray.yaml"),
    include_str!("../../../worker/reading/src/rules/tachyon.yaml"),
];
const PRINTED: &str = "Fra:1 Mem:8.50M (Peak 9.00M) | Time:00:00.51 | Rendering 12 / 64 samples\n\
    Error: Out of memory\nframe=  12 fps=0.0 q=-1.0 size=N/A time=00:00:00.40\nRendered 3 of 10 pixels (30%)\n\
    no space left on device\nSaved: '/scratch/0001.png'\n";
const FRAMES: [&str; 8] =
    ["7", "1-240", "1-240x2", "10,20,30-40", "-5-10", "1-100x10,1-100", " 1 , 3-9x2,2-8x2", "-10--1x3,1000000000"];
const TEMPLATES: [&str; 5] = [
    "frames/{frame:04}.png",
    "f_{frame}.exr\nf_{frame:04}.exr",
    "video.mp4",
    "a/b c/{frame:02}.jpg\na/b c/7.jpg",
    "../x.png",
];
const NAMES: [&str; 9] = [
    "blender",
    "blender@3",
    "17.2",
    "01ARZ3NDEKTSV4RRFFQ69G5FAV",
    "500ms",
    "90s",
    "retry_same",
    "2026-01-01T00:00:00.000Z",
    "farm.logs.01ARZ3NDEKTSV4RRFFQ69G5FAV.17.2",
];
const BRIDGE: &str = "{\"is\":\"hello\",\"renderer\":\"Blender 5.0.1\"}\n{\"is\":\"opened\"}\n\
    {\"is\":\"progress\",\"permille\":500,\"note\":\"sample 3\"}\n\
    {\"is\":\"rendered\",\"path\":\"/s/output.png\",\"device\":\"CPU\",\"memory_peak_bytes\":1000}\n\
    {\"is\":\"failed\",\"message\":\"no camera\",\"verdict\":\"scene_error\"}\n";
const STREAM: &str = "\u{feff}: hello\n\nevent: job_state\nid: 9\ndata: {\"seq\":9}\ndata: more\r\n\r\ndata: x\r\r";
const VIDEOS: [&[u8]; 4] = [
    include_bytes!("../../../worker/reading/src/verify/fixtures/five_frames.mp4"),
    include_bytes!("../../../worker/reading/src/verify/fixtures/five_frames_index_first.mp4"),
    include_bytes!("../../../worker/reading/src/verify/fixtures/five_frames.mov"),
    include_bytes!("../../../worker/reading/src/verify/fixtures/three_frames_in_fragments.mp4"),
];

/// Inputs to begin with.
pub fn of(target: &str) -> Vec<Vec<u8>> {
    let texts = |texts: &[&str]| texts.iter().map(|text| text.as_bytes().to_vec()).collect();
    match target {
        "bridge" => vec![chosen(100, BRIDGE)],
        "frames" => texts(&FRAMES),
        "function" => texts(&FUNCTIONS),
        "job" => texts(&JOBS),
        "lines" => vec![chosen(90, PRINTED), chosen(1, "1%\r2%\r\u{1b}[31mred\u{1b}[0m\r\nend")],
        "names" => texts(&NAMES),
        "rules" => (0..).zip(RULES).map(|(at, rules)| chosen(at, &format!("{rules}\n%%\n{PRINTED}"))).collect(),
        "stream" => vec![chosen(50, STREAM)],
        "template" => TEMPLATES.iter().map(|text| chosen(4, text)).collect(),
        "verify" => VIDEOS.iter().map(|video| [&[3], *video].concat()).collect(),
        "wire" => vec![conversation()],
        _ => Vec::new(),
    }
}

fn chosen(choice: u8, text: &str) -> Vec<u8> {
    [&[choice], text.as_bytes()].concat()
}

/// A worker claims the first chunk, reports on it, and ends it.
fn conversation() -> Vec<u8> {
    let worker = || "w1".to_owned();
    let beat = Heartbeat {
        worker: worker(),
        function: "noop".to_owned(),
        function_version: 1,
        progress: Some(TaskProgress { task: 1, permille: 10, note: "note".to_owned() }),
        ..Heartbeat::default()
    };
    let done =
        |task| TaskDone { task, key: "jobs/default/x/1.png".to_owned(), sha256: vec![7; 32], ..TaskDone::default() };
    let failed =
        |task| TaskFailed { task, verdict: "retry_same".to_owned(), message: "no".to_owned(), ..TaskFailed::default() };
    let mut said = Vec::new();
    let mut say = |kind: u8, message: Vec<u8>| {
        said.push(kind);
        said.extend_from_slice(&u16::try_from(message.len()).expect("small").to_le_bytes());
        said.extend(message);
    };
    say(2, beat.encode_to_vec());
    for (chunk, first) in (1..4).zip([0, 10, 20]) {
        say(
            1,
            Claim { worker: worker(), chunk, attempt: 1, want_step: true, confinement: "none".to_owned() }
                .encode_to_vec(),
        );
        let report = Report { worker: worker(), chunk, attempt: 1, ..Report::default() };
        let some = Report {
            done: vec![done(first), done(first + 1)],
            failed: vec![failed(first + 2)],
            load_ms: Some(5),
            ..report.clone()
        };
        say(0, some.encode_to_vec());
        say(
            0,
            Report { released: vec![TaskRun { first: first + 8, end: first + 10 }], ..report.clone() }.encode_to_vec(),
        );
        say(3, vec![0; 4]);
        say(0, Report { end: AttemptEnd::Finished.into(), log_bytes: 9, ..report }.encode_to_vec());
    }
    said
}
