//! Thumbnails and previews that workers keep beside frames, and the viewer that shows them in a real browser.

use fantoccini::key::Key;
use framewake_proto::api::{JobView, OutputView};
use framewake_proto::ids::JobId;
use framewake_proto::objects::{Picture, job_prefix, picture_key};
use framewake_tests::audit::files;
use framewake_tests::browser::Browser;
use framewake_tests::farm::TestFarm;
use framewake_tests::jobs;
use framewake_tests::parts::root;
use reqwest::StatusCode;
use reqwest::header::HeaderMap;
use serde_json::{Value, json};
use std::path::{Path, PathBuf};

/// Sides of the frames of these tests.
const SIDES: (u32, u32) = (96, 54);
/// Most elements of a page.
const ELEMENTS_MAX: u64 = 3000;

/// `OpenEXR` frames: the left half is middle gray (0.18) in each, the right half a tenth brighter from one to the next.
fn write_light(folder: &Path, frames: std::ops::RangeInclusive<u16>, brighter: f32) {
    for frame in frames {
        let color = |x: usize, _: usize| {
            let light = if x < SIDES.0 as usize / 2 { 0.18 } else { brighter + f32::from(frame) * 0.1 };
            (light, light, light)
        };
        let file = folder.join(format!("{frame:04}.exr"));
        exr::prelude::write_rgb_file(file, SIDES.0 as usize, SIDES.1 as usize, color).expect("the folder is writable");
    }
}

fn write_png(file: &Path, color: [u8; 3]) {
    image::RgbImage::from_pixel(SIDES.0, SIDES.1, image::Rgb(color)).save(file).expect("the folder is writable");
}

/// A renderer that takes its frames from a folder.
fn copies(folder: &Path, frames: &str, extension: &str) -> Value {
    let script = format!("cp \"$(printf '%s/%04d.{extension}' '{}' \"$2\")\" \"$1\"", folder.display());
    let words = ["/bin/sh", "-c", &script, "sh", "{output}", "{frame}"];
    let mut job = jobs::command_with_output(&words, frames, &format!("frames/{{frame:04}}.{extension}"));
    job["steps"][0]["name"] = json!("render");
    job
}

fn folder(farm: &TestFarm, name: &str) -> PathBuf {
    let folder = farm.folder().join(name);
    std::fs::create_dir_all(&folder).expect("the test's folder is writable");
    folder
}

async fn get(farm: &TestFarm, id: JobId, rest: &str, tag: Option<&str>) -> (StatusCode, HeaderMap, Vec<u8>) {
    let url = format!("{}/v1/jobs/{id}/outputs/render/{rest}", farm.url());
    let mut request = reqwest::Client::new().get(url);
    if let Some(tag) = tag {
        request = request.header("if-none-match", tag);
    }
    let answer = request.send().await.expect("an answer");
    (answer.status(), answer.headers().clone(), answer.bytes().await.expect("a body").to_vec())
}

#[tokio::test]
async fn thumbnails_are_there_once_a_frame_is_done_and_are_no_outputs() {
    let farm = TestFarm::start(2).await;
    let sources = folder(&farm, "sources");
    write_light(&sources, 1..=3, 0.0);
    write_png(&sources.join("0001.png"), [200, 30, 90]);
    std::fs::write(sources.join("0001.txt"), "no picture").expect("writes");
    let light = farm.succeed(&copies(&sources, "1-3", "exr")).await;
    let shown = farm.succeed(&copies(&sources, "1", "png")).await;
    let text = farm.succeed(&copies(&sources, "1", "txt")).await;

    let outputs = farm.outputs(light.id).await;
    assert_eq!(outputs.len(), 3, "thumbnails are not among the outputs");
    let stored = files(&farm.store_folder().join(job_prefix(&light.project, light.id)));
    assert_eq!(stored.len(), 3, "nor in the folder of the job: {stored:?}");
    for output in &outputs {
        check_picture(&farm, &light, output, Picture::Thumbnail, image::ImageFormat::Jpeg).await;
        check_picture(&farm, &light, output, Picture::Preview, image::ImageFormat::Png).await;
    }
    let png = &farm.outputs(shown.id).await[0];
    check_picture(&farm, &shown, png, Picture::Thumbnail, image::ImageFormat::Jpeg).await;
    // A browser shows the file itself; and of a text there is nothing to see.
    for (id, rest) in
        [(shown.id, "0/preview"), (text.id, "0/thumbnail"), (text.id, "0/preview"), (light.id, "3/thumbnail")]
    {
        let (status, _, body) = get(&farm, id, rest, None).await;
        assert_eq!(status, StatusCode::NOT_FOUND, "{rest}");
        assert!(String::from_utf8_lossy(&body).contains("urn:framewake:not-found"), "{rest}");
    }
}

/// It is small, is what it says, and is sent once.
async fn check_picture(
    farm: &TestFarm,
    job: &JobView,
    output: &OutputView,
    picture: Picture,
    format: image::ImageFormat,
) {
    let id = job.id;
    let rest = format!("{}/{}", output.task, picture.as_str());
    let (status, head, body) = get(farm, id, &rest, None).await;
    assert_eq!(
        (status, head["content-type"].to_str().expect("ASCII")),
        (StatusCode::OK, picture.media_type()),
        "{rest}"
    );
    assert_eq!(head["cache-control"], "private, no-cache");
    assert!(head["content-security-policy"].to_str().expect("ASCII").starts_with("sandbox"));
    let image = image::load_from_memory_with_format(&body, format).expect("a picture");
    assert_eq!((image.width(), image.height()), SIDES);
    let tag = head["etag"].to_str().expect("ASCII");
    assert_eq!(get(farm, id, &rest, Some(tag)).await.0, StatusCode::NOT_MODIFIED);
    // Under the digest of its output it never changes; another digest is another output.
    let (status, head, _) = get(farm, id, &format!("{rest}?of={}", output.sha256), None).await;
    assert_eq!(
        (status, &head["cache-control"]),
        (StatusCode::OK, &"private, max-age=31536000, immutable".parse().expect("ASCII"))
    );
    let other = "0".repeat(64);
    assert_eq!(get(farm, id, &format!("{rest}?of={other}"), None).await.0, StatusCode::NOT_FOUND);
    assert_eq!(get(farm, id, &format!("{rest}?of=x"), None).await.0, StatusCode::BAD_REQUEST);
}

#[tokio::test]
async fn a_picture_that_can_not_be_kept_fails_no_frame_and_one_of_an_output_that_was_there_is_made_anew() {
    let farm = TestFarm::start(1).await;
    let sources = folder(&farm, "sources");
    write_light(&sources, 1..=1, 0.0);
    // Where pictures go, a file is in the way.
    let pictures = farm.store_folder().join("pictures");
    std::fs::write(&pictures, "in the way").expect("the test's folder is writable");
    let first = farm.succeed(&copies(&sources, "1", "exr")).await;
    std::fs::remove_file(&pictures).expect("it is there");
    assert_eq!(get(&farm, first.id, "0/thumbnail", None).await.0, StatusCode::NOT_FOUND);
    assert_eq!(get(&farm, first.id, "0", None).await.0, StatusCode::OK);

    // An attempt was lost after it had stored its output, and before its pictures.
    let go = farm.folder().join("go");
    let mut job = copies(&sources, "1", "exr");
    let words = job["steps"][0]["parameters"]["words"][1].as_str().expect("a script").to_owned();
    job["steps"][0]["parameters"]["words"][1] =
        json!(format!("until [ -e {} ]; do sleep 0.02; done; {words}", go.display()));
    let id = farm.submit(&job).await;
    let lost = farm.store_folder().join(job_prefix(&first.project, id)).join("frames/0001.exr");
    std::fs::create_dir_all(lost.parent().expect("has one")).expect("the store is writable");
    std::fs::copy(sources.join("0001.exr"), &lost).expect("the store is writable");
    std::fs::write(&go, "").expect("the test's folder is writable");
    let view = farm.over(id).await;
    assert_eq!(view.tasks.done, 1);
    let output = &farm.outputs(id).await[0];
    assert!(farm.store_folder().join(picture_key(id, &output.sha256, Picture::Thumbnail)).is_file());
    assert_eq!(get(&farm, id, "0/preview", None).await.0, StatusCode::OK);
}

#[tokio::test]
async fn workers_without_credentials_of_the_store_keep_pictures_too() {
    let farm = TestFarm::start_guarded(1, true, &root().join("samples/functions"), |_| {}).await;
    let sources = folder(&farm, "sources");
    write_light(&sources, 1..=2, 0.0);
    let job = farm.succeed(&copies(&sources, "1-2", "exr")).await;
    for output in farm.outputs(job.id).await {
        check_picture(&farm, &job, &output, Picture::Thumbnail, image::ImageFormat::Jpeg).await;
        check_picture(&farm, &job, &output, Picture::Preview, image::ImageFormat::Png).await;
    }
}

/// Waits until a sample of a canvas of the stage is what an encoder of sRGB makes of this light; the preview may be off by half a percent of it.
async fn shows(browser: &Browser, canvas: u32, x: u32, light: f64) {
    let color = if light >= 1.0 { 255.0 } else { 255.0 * (1.055 * light.powf(1.0 / 2.4) - 0.055) };
    let script = format!(
        "const canvas = document.querySelectorAll('.stage canvas')[{canvas}];
         return Boolean(canvas) && Math.abs(canvas.getContext('2d').getImageData({x}, 20, 1, 1).data[0] - {color}) < 2"
    );
    browser.wait(&format!("canvas {canvas} shows a light of {light}"), &script).await;
}

/// Presses keys on what has this name.
async fn keys(browser: &Browser, name: &str, keys: &str) {
    browser.go_to(name).await;
    browser.type_keys(keys).await;
}

fn pressed(key: Key) -> String {
    char::from(key).to_string()
}

const STAGE: &str = "Picture of render";
const EXPOSURE: &str = "Exposure";

#[tokio::test]
async fn light_is_exposed_compared_and_played_in_the_browser() {
    let farm = TestFarm::start(2).await;
    let (dark, bright) = (folder(&farm, "dark"), folder(&farm, "bright"));
    write_light(&dark, 1..=4, 0.0);
    write_light(&bright, 1..=4, 0.5);
    let job = farm.succeed(&copies(&dark, "1-4", "exr")).await;
    let other = farm.succeed(&copies(&bright, "1-4", "exr")).await;
    let browser = Browser::start().await;
    browser.open(&format!("{}/jobs/{}", farm.url(), job.id)).await;
    shows(&browser, 0, 10, 0.18).await;
    shows(&browser, 0, 80, 0.1).await;
    let thumbs = "const all = [...document.querySelectorAll('.thumb img')];
                  return all.length === 4 && all.every((one) => one.complete && one.naturalWidth === 96)";
    browser.wait("each frame has a thumbnail", thumbs).await;

    // A stop brighter, by four steps of the slider; then back.
    let right = pressed(Key::Right).repeat(4);
    keys(&browser, EXPOSURE, &right).await;
    shows(&browser, 0, 10, 0.36).await;
    browser.sees("+1.00 stops").await;
    browser.press("Reset").await;
    shows(&browser, 0, 10, 0.18).await;
    // What is brighter than white comes back when it is made darker; softly, it is no plain white before.
    keys(&browser, STAGE, &"+".repeat(24)).await;
    browser.sees("+6.00 stops").await;
    shows(&browser, 0, 10, 1.0).await;
    browser.tick("soft highlights").await;
    keys(&browser, STAGE, "0").await;
    keys(&browser, STAGE, &"+".repeat(12)).await;
    shows(&browser, 0, 10, 1.0 - 0.5 * f64::exp(1.0 - 2.0 * 1.44)).await;
    browser.tick("soft highlights").await;
    keys(&browser, STAGE, "0").await;
    shows(&browser, 0, 10, 0.18).await;

    // Frame 1 is held beside frame 2.
    keys(&browser, STAGE, "c").await;
    shows(&browser, 1, 80, 0.1).await;
    keys(&browser, STAGE, &pressed(Key::Right)).await;
    shows(&browser, 0, 80, 0.2).await;
    shows(&browser, 1, 80, 0.1).await;
    keys(&browser, STAGE, "c").await;
    let wiped = "const side = document.querySelectorAll('.stage.wipe .side')[1];
                 return Boolean(side) && getComputedStyle(side).clipPath.includes('50%')";
    browser.wait("one is wiped over the other", wiped).await;
    keys(&browser, STAGE, "c").await;
    browser.wait("the difference is shown", "return Boolean(document.querySelector('.stage.difference'))").await;
    let (left, right) = difference(&browser).await;
    assert!(left < 8 && right > 24, "halves that are alike are black, others are not: {left} {right}");
    // The same frame of another job.
    browser.write("with frame", "").await;
    browser.write("of job", &other.id.to_string()).await;
    browser.type_keys(&pressed(Key::Enter)).await;
    shows(&browser, 1, 80, 0.7).await;
    keys(&browser, STAGE, &pressed(Key::Right)).await;
    shows(&browser, 0, 80, 0.3).await;
    shows(&browser, 1, 80, 0.8).await;
    for (theme, width) in [("light", 1280), ("dark", 500)] {
        browser.client.set_window_size(width, 900).await.expect("a window has a size");
        browser.ask(&format!("document.documentElement.dataset.theme = '{theme}'")).await;
        assert_eq!(browser.broken_rules().await, json!([]), "{theme}");
        let wide = "return document.documentElement.scrollWidth <= document.documentElement.clientWidth";
        assert_eq!(browser.ask(wide).await, Value::Bool(true), "the viewer is wider than the window");
    }

    // The flip-book goes round, with both, until it is stopped.
    browser.write("Pictures a second", "30").await;
    browser.ask("window.seen = new Set(); window.looks = setInterval(() => window.seen.add(document.querySelector('.viewer [role=status]').textContent.split(' · ')[0]), 5)").await;
    keys(&browser, STAGE, " ").await;
    browser.wait("every frame is played", "return window.seen.size === 4").await;
    browser.ask("window.seen.clear()").await;
    browser.wait("and again", "return window.seen.size === 4").await;
    keys(&browser, STAGE, " ").await;
    browser
        .wait(
            "it stops",
            "return [...document.querySelectorAll('.viewer button')].some((one) => one.innerText === 'Play')",
        )
        .await;
    browser.close().await;
}

/// How bright the page shows the left and the right half of the stage.
async fn difference(browser: &Browser) -> (u8, u8) {
    browser.write("How much stronger the difference is shown", "4").await;
    browser.ask("document.querySelector('.stage').scrollIntoView({ block: 'center' })").await;
    let place = browser
        .ask("const { x, y, width, height } = document.querySelector('.stage canvas').getBoundingClientRect(); return [x, y, width, height]")
        .await;
    let [x, y, width, height] = [0, 1, 2, 3].map(|at| place[at].as_f64().expect("a number"));
    let png = browser.client.screenshot().await.expect("a picture of the page");
    let page = image::load_from_memory(&png).expect("a PNG").to_luma8();
    // Inside the window, and so no negative numbers.
    #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)]
    let at = |share: f64| page.get_pixel((x + width * share) as u32, (y + height / 2.0) as u32).0[0];
    (at(0.25), at(0.75))
}

#[tokio::test]
async fn a_thumbnail_that_comes_after_its_frame_is_shown_once_it_is_there() {
    let farm = TestFarm::start(1).await;
    let sources = folder(&farm, "sources");
    write_png(&sources.join("0001.png"), [200, 30, 90]);
    let job = farm.succeed(&copies(&sources, "1", "png")).await;
    let digest = &farm.outputs(job.id).await[0].sha256;
    let thumbnail = farm.store_folder().join(picture_key(job.id, digest, Picture::Thumbnail));
    let later = sources.join("thumbnail");
    std::fs::rename(&thumbnail, &later).expect("the worker has kept it");
    let browser = Browser::start().await;
    browser.open(&format!("{}/jobs/{}", farm.url(), job.id)).await;
    let none = "return document.querySelector('.thumb .none')?.innerText === 'png'";
    browser.wait("in its place is the kind of the file", none).await;
    std::fs::rename(&later, &thumbnail).expect("the store is a folder");
    let there =
        "return document.querySelector('.thumb img')?.naturalWidth === 96 && !document.querySelector('.thumb .none')";
    browser.wait("it is shown", there).await;
    browser.close().await;
}

#[tokio::test]
async fn of_many_frames_a_page_of_thumbnails_is_held_and_the_ends_are_reached_by_keyboard() {
    let farm = TestFarm::start(4).await;
    let sources = folder(&farm, "sources");
    write_png(&sources.join("0001.png"), [200, 30, 90]);
    let mut job = copies(&sources, "1-260", "png");
    let script = format!("cp '{}' \"$1\"", sources.join("0001.png").display());
    job["steps"][0]["parameters"]["words"][1] = json!(script);
    let job = farm.succeed(&job).await;
    let browser = Browser::start().await;
    browser.open(&format!("{}/jobs/{}", farm.url(), job.id)).await;
    let shown = |frame: u32| {
        format!(
            "return Boolean(document.querySelector('.viewer [role=status]')?.textContent.startsWith('frame {frame} '))
                 && document.querySelector('.thumb[aria-current]')?.innerText.trim() === '{frame}'"
        )
    };
    browser.wait("the first frame is shown", &shown(1)).await;
    keys(&browser, STAGE, &pressed(Key::End)).await;
    browser.wait("the last frame is shown", &shown(260)).await;
    browser.wait("there is none after it", "return [...document.querySelectorAll('main button')].some((one) => one.innerText === 'Later frames' && one.ariaDisabled === 'true')").await;
    keys(&browser, STAGE, &pressed(Key::Left)).await;
    browser.wait("and the one before", &shown(259)).await;
    keys(&browser, STAGE, &pressed(Key::Home)).await;
    browser.wait("the first again", &shown(1)).await;
    browser.press("Later frames").await;
    browser.sees("frames 25 – 48").await;
    // Which way there is nothing is said, to who can't see it too, and whoever stands there stays.
    let ends = "const is = (name) => [...document.querySelectorAll('main button')].find((one) => one.innerText === name).ariaDisabled;
                return [is('Earlier frames'), is('Later frames')]";
    assert_eq!(browser.ask(ends).await, json!(["false", "false"]));
    browser.press("Earlier frames").await;
    browser.sees("frames 1 – 24").await;
    assert_eq!(browser.ask(ends).await, json!(["true", "false"]));
    browser.type_keys(&pressed(Key::Enter)).await;
    assert_eq!(browser.stands_on().await, "Earlier frames");
    browser.press("Later frames").await;
    browser.sees("frames 25 – 48").await;
    browser.press("30").await;
    browser.wait("one is taken", &shown(30)).await;
    let elements = browser.ask("return document.querySelectorAll('*').length").await.as_u64().expect("a number");
    assert!(elements < ELEMENTS_MAX, "{elements} elements");

    // What would take a browser's memory is not loaded. It is large by its row alone: a file like it takes a worker minutes.
    let database = sqlx::sqlite::SqliteConnectOptions::new().filename(farm.data().join("framewake.db"));
    let mut database = sqlx::ConnectOptions::connect(&database).await.expect("the scheduler's file");
    let grown = sqlx::query("UPDATE results SET width = 32768, height = 16384 WHERE task = 1");
    assert_eq!(grown.execute(&mut database).await.expect("it is SQLite").rows_affected(), 1);
    browser.open(&format!("{}/jobs/{}", farm.url(), job.id)).await;
    browser.wait("the first frame is shown", &shown(1)).await;
    keys(&browser, STAGE, &pressed(Key::Right)).await;
    browser.sees("has 32768×16384 pixels, more than a page shows: download it.").await;
    let loaded = "return performance.getEntriesByType('resource').some((one) => one.name.includes('/render/1?'))";
    assert_eq!(browser.ask(loaded).await, Value::Bool(false), "its file was loaded");

    // A video is played, and has nothing to step through.
    std::fs::copy(root().join("worker/reading/src/verify/fixtures/five_frames.mp4"), sources.join("0001.mp4"))
        .expect("the fixture is there");
    let video = farm.succeed(&copies(&sources, "1", "mp4")).await;
    browser.open(&format!("{}/jobs/{}", farm.url(), video.id)).await;
    let played = "return Boolean(document.querySelector('.stage video[controls]'))
                      && document.querySelector('.viewer [aria-label=\"Next frame\"]').checkVisibility() === false
                      && document.querySelector('.thumb video')?.videoWidth > 0";
    browser.wait("the video is shown", played).await;
    browser.close().await;
}
