//! Runs a farm at work and takes a picture of each web page, light and dark, into `docs/web/`. `make web-pictures`.

#![allow(clippy::print_stdout)] // Says what it has taken.

use framewake_tests::browser::Browser;
use framewake_tests::farm::TestFarm;
use framewake_tests::parts::{built, path, root};
use serde_json::json;
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
    farm.submit(&command("shot 030 simulation", "film", "sleep 0.4", "1-2000")).await;
    farm.submit(&command("shot 040 simulation", "film", "sleep 0.4", "1-600")).await;
    farm
}

#[tokio::main]
async fn main() {
    let farm = at_work().await;
    let jobs: Vec<serde_json::Value> = framewake(&farm, &["jobs", "--json"])
        .lines()
        .map(|line| serde_json::from_str(line).expect("a job a line"))
        .collect();
    let job = |name: &str| {
        let found = jobs.iter().find(|job| job["name"] == name).unwrap_or_else(|| panic!("job `{name}` is not there"));
        format!("/jobs/{}", found["id"].as_str().expect("an id"))
    };
    let picture = "return Boolean(document.querySelector('.stage img')?.naturalWidth)";
    let pages = [
        ("overview", "/".to_owned(), "return document.body.innerText.includes('shot 030')"),
        ("jobs", "/jobs".to_owned(), "return document.body.innerText.includes('shot 030')"),
        ("job", job("orbit by POV-Ray"), picture),
        ("failed", job("shot 020 preview"), "return document.body.innerText.includes('no such camera')"),
        ("submit", "/submit".to_owned(), "return Boolean(document.querySelector('select option'))"),
        ("workers", "/workers".to_owned(), "return document.body.innerText.includes('busy')"),
        ("functions", "/functions".to_owned(), "return document.body.innerText.includes('povray')"),
        ("schedules", "/schedules".to_owned(), "return document.body.innerText.includes('nightly')"),
        ("cost", "/cost".to_owned(), "return document.body.innerText.includes('film')"),
    ];
    let folder = root().join("docs/web");
    std::fs::create_dir_all(&folder).expect("the repository is writable");
    let browser = Browser::start().await;
    browser.open(&format!("{}/", farm.url())).await;
    for theme in ["light", "dark"] {
        browser.ask(&format!("localStorage.setItem('theme', '{theme}')")).await;
        for (name, page, drawn) in &pages {
            browser.open(&format!("{}{page}", farm.url())).await;
            browser.wait(name, drawn).await;
            let file = folder.join(format!("{name}-{theme}.png"));
            browser.screenshot(&file).await;
            println!("{}", file.display());
        }
    }
    browser.close().await;
}
