//! The web pages in a real browser, with a real farm behind them.

use framewake_proto::api::JobState;
use framewake_proto::client::JobQuery;
use framewake_proto::objects::job_prefix;
use framewake_proto::subjects::Subjects;
use framewake_proto::wire;
use framewake_tests::browser::{Browser, PHONE};
use framewake_tests::farm::TestFarm;
use framewake_tests::jobs;
use framewake_tests::noop::Workers;
use framewake_tests::parts::{built, free_port, path, root};
use framewake_tests::receiver::{Answer, Receiver};
use prost::Message;
use serde_json::{Value, json};
use std::process::Command;

#[tokio::test]
async fn a_job_is_submitted_by_form_watched_and_looked_at() {
    let farm = TestFarm::start(2).await;
    let browser = Browser::start().await;
    browser.open(&format!("{}/", farm.url())).await;
    browser.sees("Nothing runs.").await;
    browser.press("Submit a job").await;
    browser.sees("The same as a file").await;
    browser.write("Function", "tachyon").await;
    browser.write("Name", "spheres by form").await;
    browser.write("Frames", "1-40").await;
    // What is still missing is told before anything is pressed, and what is wrong at its field as one types.
    browser.sees("once this is filled in: scene").await;
    browser.write("width", "99999999").await;
    browser.sees("32768").await;
    browser.write("width", "64").await;
    // What the function can't do without is said at its field, and nothing is stored.
    browser.press("Submit").await;
    browser.sees("Something in the form can't be used.").await;
    assert_eq!(farm.client.jobs(&JobQuery::default()).await.expect("a list").items.len(), 0);
    // Files of a folder keep their places in it; a file by itself is the scene, if only one parameter can mean it.
    let textures = farm.folder().join("textures");
    std::fs::create_dir(&textures).expect("writable");
    std::fs::write(textures.join("wood.png"), "wood").expect("writable");
    std::fs::write(textures.join(".hidden"), "of an editor").expect("writable");
    browser.write("Folder", textures.to_str().expect("UTF-8")).await;
    let places = "return [...document.querySelectorAll('#places option')].map((one) => one.value).join()";
    browser.wait("one file is there", &places.replace("return ", "return 'textures/wood.png' === ")).await;
    browser.press("leave out").await;
    browser.write("Files", root().join("samples/scenes/spheres.dat").to_str().expect("UTF-8")).await;
    browser.sees("Nothing like it was rendered here yet").await;
    let command = browser.ask("return document.querySelectorAll('pre')[2].textContent").await;
    assert!(
        command
            .as_str()
            .is_some_and(|text| text.starts_with("framewake submit - --wait <<'JOB'\nname: spheres by form\n")),
        "{command}"
    );
    browser.press("Submit").await;
    browser.wait("the page of the job opens", "return location.pathname.startsWith('/jobs/')").await;
    browser.sees("spheres by form").await;
    // Live: the page is not loaded again.
    browser.ask("window.same = true").await;
    browser.sees("succeeded").await;
    browser.sees("40 of 40").await;
    let shown = "const picture = document.querySelector('.stage img');
                 return Boolean(picture?.complete && picture.naturalWidth > 0)";
    browser.wait("a frame is shown", shown).await;
    browser.press("Play").await;
    browser
        .wait("the flip-book turns", "return !document.querySelector('.viewer').innerText.includes('frame 1 ')")
        .await;
    browser.press("Log").await;
    browser.sees("Log of attempt").await;
    browser.wait("the log has text", "return document.querySelector('pre.log').textContent.length > 0").await;
    assert_eq!(browser.ask("return window.same").await, Value::Bool(true));
    // The same as it would be typed, where its file is.
    let typed = command.as_str().expect("text").replace("framewake ", "exec \"$0\" ");
    let mut shell = Command::new("sh");
    shell.args(["-c", &typed]).arg(built("framewake")).env("FRAMEWAKE_URL", farm.url()).env("PATH", path());
    let output = shell.current_dir(root().join("samples/scenes")).output().expect("there is a shell");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let jobs = farm.client.jobs(&JobQuery::default()).await.expect("a list").items;
    assert_eq!(jobs.iter().map(|job| job.tasks.done).collect::<Vec<_>>(), [40, 40]);
    // Now that the scene is known, so is what it takes, before the button is pressed; and the list is to be downloaded.
    browser.press("Outputs, to download").await;
    browser.sees("frames/0001.png").await;
    browser.open(&format!("{}/submit?function=tachyon", farm.url())).await;
    browser.sees("The same as a file").await;
    browser.write("Files", root().join("samples/scenes/spheres.dat").to_str().expect("UTF-8")).await;
    browser.write("scene", "spheres.dat").await;
    browser.write("width", "64").await;
    browser.sees("nine of ten jobs end within their range").await;
    browser.close().await;
}

/// What would run if anything took it for a page.
const MARK: &str = "<img src=x onerror='window.struck = true'>";

#[tokio::test]
async fn what_jobs_and_renderers_say_is_text_and_nothing_else() {
    let mut farm = TestFarm::start(1).await;
    farm.restart_scheduler_with(&[("FRAMEWAKE_NOTIFY_ALLOW", "127.0.0.1/32"), ("FRAMEWAKE_NOTIFY_FOR", "0s")]).await;
    // One who is told answers with markup.
    let receiver = Receiver::start(free_port(), |_| Answer::Says(MARK.to_owned())).await;
    let way = json!({ "kind": "webhook", "url": receiver.url(), "secret": "whsec_MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY=" });
    let target = json!({ "name": "hook", "on": ["failed"], "way": way });
    farm.client.add_target(&serde_json::from_value(target).expect("a target")).await.expect("a good target");
    let mut function = json!({
        "name": "marked", "description": "another version",
        "driver": { "kind": "command", "command": ["/bin/sh", "-c", "{script}"] },
        "parameters": { "script": { "type": "text", "description": MARK, "default": MARK } },
    });
    farm.client.add_function(&function).await.expect("a good function");
    function["description"] = json!(MARK);
    farm.client.add_function(&function).await.expect("a good function");
    let mut job = jobs::command(&["/bin/echo", &format!("{MARK}\u{1b}[31mred\u{1b}[0m")], "1-2");
    (job["name"], job["labels"]) = (json!(format!("job {MARK}")), json!({ "shot": MARK }));
    let view = farm.succeed(&job).await;
    let mut failing = jobs::command(&["/bin/sh", "-c", &format!("echo \"Error: {MARK}\" >&2; exit 3")], "1-2");
    (failing["name"], failing["steps"][0]["retries"]) = (json!(format!("bad {MARK}")), json!({ "attempts": 1 }));
    let bad = farm.submit(&failing).await;
    assert_eq!(farm.over(bad).await.state, JobState::Failed);
    let schedule = json!({ "name": "nightly", "cron": "0 2 * * *", "zone": "UTC", "job": failing });
    farm.client.add_schedule(&schedule).await.expect("a good schedule");
    // A file's name with markup is refused, of whoever submits and of whoever renders.
    let external = json!({
        "name": "lied", "driver": { "kind": "command", "command": ["true", "{output}"] }, "scaling": { "external": true },
    });
    farm.client.add_function(&external).await.expect("a good function");
    let step = json!({ "name": "run", "function": "lied", "frames": "1-2", "output": "shot {frame}.png", "retries": { "attempts": 1 } });
    let mut lied = json!({ "name": "lied", "steps": [step] });
    lied["steps"][0]["output"] = json!(format!("{MARK}{{frame}}.png"));
    farm.client.submit(&lied, "lied").await.expect_err("a name with markup");
    lied["steps"][0]["output"] = json!("shot {frame}.png");
    let lied = farm.submit(&lied).await;
    let prefix = job_prefix(&"default".parse().expect("a name"), lied);
    let says = move |task: u32| wire::TaskDone {
        task,
        key: if task == 0 { format!("{prefix}shot 1.png") } else { format!("{prefix}{MARK}2.png") },
        sha256: vec![7; 32],
        width: 64,
        height: 36,
        device: MARK.to_owned(),
        renderer: MARK.to_owned(),
        ..wire::TaskDone::default()
    };
    let liars = Workers::start_with(&farm.nats.url(), &"lied@1".parse().expect("a key"), 4, says).await;
    assert_eq!(farm.over(lied).await.state, JobState::Failed);
    let names: Vec<String> = farm.outputs(lied).await.into_iter().map(|output| output.name).collect();
    assert_eq!(names, ["shot 1.png"]);
    drop(liars);
    // Somebody who has a worker's place in the farm says what he likes.
    let mut worker =
        wire::Heartbeat { worker: "liar".to_owned(), function: "command".to_owned(), ..Default::default() };
    (worker.function_version, worker.host, worker.gpus) = (1, MARK.to_owned(), vec![MARK.to_owned()]);
    let sample = wire::GpuSample { uuid: MARK.to_owned(), model: MARK.to_owned(), ..Default::default() };
    worker.gpu_samples = vec![sample];
    let nats = async_nats::connect(farm.nats.url()).await.expect("NATS is there");
    let subjects = Subjects::new("framewake".parse().expect("good"));
    let key = "command@1".parse().expect("a key");
    let subject = subjects.heartbeat(&key, &worker.worker.parse().expect("a good id"));
    nats.request(subject, worker.encode_to_vec().into()).await.expect("an answer");
    let browser = Browser::start().await;
    // Each with what it shows of it, or else with what it has from the farm: then it is drawn.
    let pages = [
        ("/", MARK),
        ("/jobs", MARK),
        ("/workers", MARK),
        ("/functions", MARK),
        ("/submit?function=marked", MARK),
        ("/events", MARK),
        ("/schedules", "nightly"),
        ("/cost", "default"),
        ("/settings", MARK),
    ];
    let struck = "return window.struck ?? document.querySelectorAll('img[src=x]').length";
    for (page, words) in pages {
        browser.open(&format!("{}{page}", farm.url())).await;
        browser.sees(words).await;
        assert_eq!(browser.ask(struck).await, json!(0), "{page}");
    }
    // What a target answers, when somebody tries it.
    browser.press_labeled("Test hook").await;
    browser.sees("hook was not told: ").await;
    assert_eq!(browser.ask(struck).await, json!(0));
    // What is said of an output: in the viewer, its thumbnails and the list.
    browser.open(&format!("{}/jobs/{lied}", farm.url())).await;
    browser.sees("shot 1.png").await;
    browser.sees(MARK).await;
    browser.press("Outputs, to download").await;
    browser.wait("the list is drawn", "return Boolean(document.querySelector('a[download=\"shot 1.png\"]'))").await;
    assert_eq!(browser.ask(struck).await, json!(0));
    let file = farm.folder().join("<img src=x onerror=window.struck=1>.txt");
    std::fs::write(&file, "a scene").expect("writable");
    browser.open(&format!("{}/submit?function=marked", farm.url())).await;
    browser.sees("The same as a file").await;
    browser.write("Files", file.to_str().expect("UTF-8")).await;
    browser.write("Name", MARK).await;
    browser.sees("<img src=x onerror=window.struck=1>.txt (7 B)").await;
    browser.sees(&format!("name: \"{MARK}\"")).await;
    assert_eq!(browser.ask(struck).await, json!(0));
    for (id, said) in [(bad, format!("Error: {MARK}")), (view.id, format!("{MARK}red"))] {
        browser.open(&format!("{}/jobs/{id}", farm.url())).await;
        browser.sees(MARK).await;
        browser.press("Job file, as it was accepted").await;
        browser.press("Log").await;
        browser.sees(&said).await;
        assert_eq!(browser.ask(struck).await, json!(0));
    }
    // Even what got into a page could not run.
    browser.ask("document.body.insertAdjacentHTML('beforeend', \"<img src=x onerror='window.struck = true'>\")").await;
    let failed = "const picture = [...document.images].at(-1); return picture.complete && !window.struck";
    browser.wait("the policy refuses it", failed).await;
    browser.close().await;
}

/// Brings out what a page does not show at once.
async fn stir(browser: &Browser, page: &str) {
    match page {
        "/submit" => {
            browser.write("Frames", "1-").await;
            browser.press("Submit").await;
            browser.sees("Something in the form can't be used.").await;
        }
        "/functions" => {
            browser.press("Why so many workers").await;
            browser.sees("Frames to go").await;
        }
        page if page.starts_with("/jobs/") => {
            browser.press("Outputs, to download").await;
            browser.press("Log").await;
            browser.sees("Log of attempt").await;
        }
        "/schedules" => {
            browser.press("nightly").await;
            browser.sees("Next runs of nightly").await;
        }
        _ => {}
    }
}

#[tokio::test]
async fn nor_does_the_page_that_asks_who_one_is() {
    let mut farm = TestFarm::start(0).await;
    farm.arguments = vec!["--access".to_owned(), "tokens".to_owned()];
    farm.restart_scheduler().await;
    let browser = Browser::start().await;
    browser.open(&format!("{}/", farm.url())).await;
    for theme in ["light", "dark"] {
        browser.ask(&format!("localStorage.setItem('theme', '{theme}')")).await;
        browser.open(&format!("{}/settings", farm.url())).await;
        browser.sees("This farm asks who you are.").await;
        browser.write("Token", "fw_wrong").await;
        browser.press("Log in").await;
        browser.sees("opens nothing here").await;
        assert_eq!(browser.broken_rules().await, json!([]), "{theme}");
    }
    browser.close().await;
}

#[tokio::test]
async fn no_page_breaks_a_rule_of_accessibility_in_light_or_dark() {
    let farm = TestFarm::start(2).await;
    let good = farm.succeed(&jobs::command(&["/bin/echo", "good"], "1-3")).await;
    let mut failing = jobs::command(&["/bin/false"], "1-2");
    failing["steps"][0]["retries"] = json!({ "attempts": 1 });
    let bad = farm.submit(&failing).await;
    assert_eq!(farm.over(bad).await.state, JobState::Failed);
    let schedule = json!({ "name": "nightly", "cron": "0 2 * * *", "zone": "Europe/Berlin", "job": failing });
    farm.client.add_schedule(&schedule).await.expect("a good schedule");
    let browser = Browser::start().await;
    browser.open(&format!("{}/", farm.url())).await;
    // Each with a word that it has from the farm.
    let mut pages = vec![
        ("/".to_owned(), "Jobs running"),
        ("/jobs".to_owned(), "failed"),
        ("/submit".to_owned(), "The same as a file"),
        ("/workers".to_owned(), "Machine"),
        ("/functions".to_owned(), "tachyon"),
        ("/schedules".to_owned(), "The next four weeks"),
        ("/cost".to_owned(), "default"),
        ("/events".to_owned(), "is succeeded"),
        ("/settings".to_owned(), "Told when"),
        ("/api#jobs_submit".to_owned(), "idempotency-key"),
        ("/api#type-JobSpec".to_owned(), "always there"),
    ];
    pages.extend([(good.id, "succeeded"), (bad, "failed")].map(|(id, word)| (format!("/jobs/{id}"), word)));
    for (theme, width) in [("light", 1280), ("dark", 1280), ("light", PHONE), ("dark", PHONE)] {
        browser.widen(width).await;
        browser.ask(&format!("localStorage.setItem('theme', '{theme}')")).await;
        for (page, word) in &pages {
            browser.open(&format!("{}{page}", farm.url())).await;
            browser.sees(word).await;
            stir(&browser, page).await;
            let broken = browser.broken_rules().await;
            assert_eq!(broken, json!([]), "{page}, {theme}, {width} pixels wide");
            assert_eq!(browser.too_wide().await, json!([]), "{page} is wider than {width} pixels");
        }
    }
    // The rules find what is wrong.
    browser.ask("document.querySelector('main').innerHTML = '<img src=x><button></button>'").await;
    let broken = browser.broken_rules().await;
    assert!(broken.as_array().is_some_and(|broken| broken.len() >= 2), "{broken}");
    browser.close().await;
}

#[tokio::test]
async fn the_way_of_a_worker_is_drawn_and_told_while_it_comes() {
    let farm = TestFarm::start(1).await;
    let go = farm.folder().join("go");
    let waits = format!("until [ -e {} ]; do sleep 0.05; done", go.display());
    farm.submit(&jobs::command(&["/bin/sh", "-c", &waits], "1")).await;
    let browser = Browser::start().await;
    browser.open(&format!("{}/workers", farm.url())).await;
    // In words, for who sees no colors; the page is not loaded again.
    browser.sees(", renderer ").await;
    let drawn = "const way = document.querySelector('.way[role=img]');
                 return way?.getAttribute('aria-label').includes('process ') && way.querySelectorAll('.phase').length >= 7";
    browser.wait("a piece for each phase is drawn", drawn).await;
    std::fs::write(&go, "").expect("the test's folder is writable");
    browser.wait("the time alone is left", "return !document.querySelector('.way')").await;
    browser.close().await;
}
