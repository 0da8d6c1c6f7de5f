//! Runs a farm at work and takes a picture of each web page, light and dark, into `docs/web/`. `make web-pictures`; of
//! some pages alone, if it is told their names.

#![allow(clippy::print_stdout)] // Says what it has taken.

use framewake_proto::access::TokenAdd;
use framewake_tests::browser::{Browser, PHONE};
use framewake_tests::farm::TestFarm;
use framewake_tests::parts::{built, path, root};
use serde_json::json;
use std::path::Path;
use std::process::Command;

fn framewake(farm: &TestFarm, words: &[&str]) -> String {
    let mut command = Command::new(built("framewake"));
    command.args(words).current_dir(root()).env("FRAMEWAKE_URL", farm.url()).env("NO_COLOR", "1").env("PATH", path());
    let output = command.output().expect("the program runs");
    String::from_utf8_lossy(&output.stdout).into_owned()
}

/// A farm on which something is done, something fails, something runs and something waits.
async fn at_work() -> TestFarm {
    let farm = TestFarm::start(2).await;
    framewake(&farm, &["prices", "set", "any", "0.30USD"]);
    framewake(&farm, &["submit", "samples/jobs/tachyon.yaml", "--wait"]);
    framewake(&farm, &["schedules", "add", "samples/schedules/nightly.yaml"]);
    framewake(&farm, &["projects", "set", "film", "--weight", "2"]);
    framewake(&farm, &["budgets", "set", "film", "--month", "500USD"]);
    framewake(&farm, &["notify", "add", "bus", "--nats", "--on", "failed,late"]);
    let command = |name: &str, project: &str, script: &str, frames: &str| {
        json!({ "name": name, "project": project, "steps": [{
            "name": "render", "function": "command", "frames": frames, "retries": { "attempts": 1 },
            "parameters": { "program": "/bin/sh", "words": ["-c", script] },
        }]})
    };
    let some = "test $(({frame} % 9)) != 0 || { echo 'Error: no such camera: cam_{frame}'; exit 3; }";
    let failed = farm.submit(&command("shot 020 preview", "film", some, "1-40")).await;
    farm.over(failed).await;
    framewake(&farm, &["submit", "samples/jobs/povray.yaml", "--wait"]);
    let light = farm.folder().join("light");
    std::fs::create_dir_all(&light).expect("the farm's folder is writable");
    (1..=12).for_each(|frame| write_light(&light.join(format!("{frame}.exr")), frame));
    let script = format!("sleep 0.1; cp {}/{{frame}}.exr {{output}}", light.display());
    let mut lit = command("shot 050 light", "film", &script, "1-12");
    lit["steps"][0]["output"] = json!("light/{frame:04}.exr");
    farm.succeed(&lit).await;
    let role = framewake_proto::access::Role::Artist;
    let project = Some("film".parse().expect("a name"));
    let token = TokenAdd { name: "jane".parse().expect("a name"), role, project, lasts: None };
    farm.client.add_token(&token).await.expect("made");
    farm.submit(&command("shot 030 simulation", "film", "sleep 0.4", "1-2000")).await;
    farm.submit(&command("shot 040 simulation", "film", "sleep 0.4", "1-600")).await;
    farm
}

/// A ball under a sun that goes by, brighter than any screen.
fn write_light(file: &Path, frame: u16) {
    let turn = f32::from(frame) * 0.5;
    let sun = [turn.cos() * 0.6, -0.55, turn.sin().abs() * 0.6 + 0.2];
    let length = sun.iter().map(|side| side * side).sum::<f32>().sqrt();
    exr::prelude::write_rgb_file(file, 1280, 720, move |x, y| {
        let (x, y) = ((x as f32 - 640.0) / 300.0, (y as f32 - 360.0) / 300.0);
        let inside = 1.0 - x * x - y * y;
        if inside < 0.0 {
            let sky = 0.05 + 0.12 * (1.2 - y);
            return (sky * 0.5, sky * 0.7, sky);
        }
        let faces = (x * sun[0] + y * sun[1] + inside.sqrt() * sun[2]) / length;
        let (light, shine) = (faces.max(0.0), faces.max(0.0).powi(60) * 12.0);
        let stripe = if (x * 6.0).sin() * (y * 6.0).sin() > 0.0 { 0.9 } else { 0.35 };
        (light * stripe + shine + 0.01, light * stripe * 0.45 + shine + 0.015, light * 0.12 + shine * 0.8 + 0.03)
    })
    .expect("the farm's folder is writable");
}

#[tokio::main]
async fn main() {
    let mut farm = at_work().await;
    let jobs: Vec<serde_json::Value> = framewake(&farm, &["jobs", "--json"])
        .lines()
        .map(|line| serde_json::from_str(line).expect("a job a line"))
        .collect();
    let job = |name: &str| {
        let found = jobs.iter().find(|job| job["name"] == name).unwrap_or_else(|| panic!("job `{name}` is not there"));
        format!("/jobs/{}", found["id"].as_str().expect("an id"))
    };
    let picture = "return Boolean(document.querySelector('.stage img')?.naturalWidth)";
    // The first frame beside the sixth, a stop darker.
    let compared = "const stage = document.querySelector('.stage');
        if (!stage?.querySelector('canvas')) return false;
        const press = (key) => stage.dispatchEvent(new KeyboardEvent('keydown', { key, bubbles: true }));
        if (!window.begun) {
            window.begun = true;
            press('c');
            for (let step = 0; step < 4; step += 1) press('-');
        }
        if (stage.querySelectorAll('canvas').length < 2) return false;
        const thumb = document.querySelector('.thumb[data-task=\"5\"]');
        if (thumb && thumb.getAttribute('aria-current') !== 'true') thumb.click();
        document.querySelector('.viewer').parentElement.parentElement.scrollIntoView();
        return thumb?.getAttribute('aria-current') === 'true'
            && [...document.querySelectorAll('.thumb img')].every((one) => one.complete)";
    let pages = [
        ("overview", "/".to_owned(), "return document.body.innerText.includes('shot 030')"),
        ("jobs", "/jobs".to_owned(), "return document.body.innerText.includes('shot 030')"),
        ("job", job("orbit by POV-Ray"), picture),
        ("viewer", job("shot 050 light"), compared),
        ("failed", job("shot 020 preview"), "return document.body.innerText.includes('no such camera')"),
        ("submit", "/submit".to_owned(), "return Boolean(document.querySelector('select option'))"),
        ("workers", "/workers".to_owned(), "return Boolean(document.querySelector('.state.busy'))"),
        ("functions", "/functions".to_owned(), "return document.body.innerText.includes('povray')"),
        ("schedules", "/schedules".to_owned(), "return document.body.innerText.includes('nightly')"),
        ("cost", "/cost".to_owned(), "return document.body.innerText.includes('film')"),
        (
            "events",
            "/events".to_owned(),
            "return ['job.submit', 'is running'].every((words) => document.body.innerText.includes(words))",
        ),
        ("settings", "/settings".to_owned(), "return document.body.innerText.includes('Told when')"),
        ("api", "/api#jobs_submit".to_owned(), "return document.body.innerText.includes('idempotency-key')"),
    ];
    let on_a_phone = [
        ("overview-phone", "/".to_owned(), "return document.body.innerText.includes('shot 030')"),
        ("job-phone", job("orbit by POV-Ray"), picture),
    ];
    let folder = root().join("docs/web");
    std::fs::create_dir_all(&folder).expect("the repository is writable");
    let wanted: Vec<String> = std::env::args().skip(1).collect();
    let is_wanted = |name: &str| wanted.is_empty() || wanted.iter().any(|wanted| wanted == name);
    let take = async |browser: &Browser, pages: &[(&str, String, &str)]| {
        browser.open(&format!("{}/", farm.url())).await;
        for theme in ["light", "dark"] {
            browser.ask(&format!("localStorage.setItem('theme', '{theme}')")).await;
            for (name, page, drawn) in pages.iter().filter(|(name, ..)| is_wanted(name)) {
                browser.open(&format!("{}{page}", farm.url())).await;
                browser.wait(name, drawn).await;
                let file = folder.join(format!("{name}-{theme}.png"));
                browser.screenshot(&file).await;
                println!("{}", file.display());
            }
        }
    };
    let phone = Browser::start().await;
    phone.widen(PHONE).await;
    take(&phone, &on_a_phone).await;
    phone.close().await;
    let browser = Browser::start().await;
    take(&browser, &pages).await;
    if !is_wanted("login") {
        return browser.close().await;
    }
    // The scheduler asks for tokens from now on, and so does each page.
    farm.arguments = vec!["--access".to_owned(), "tokens".to_owned()];
    farm.restart_scheduler().await;
    for theme in ["light", "dark"] {
        browser.ask(&format!("localStorage.setItem('theme', '{theme}')")).await;
        browser.open(&format!("{}/", farm.url())).await;
        browser.sees("This farm asks who you are.").await;
        let file = folder.join(format!("login-{theme}.png"));
        browser.screenshot(&file).await;
        println!("{}", file.display());
    }
    browser.close().await;
}
