//! The web pages in a real browser, with a real farm behind them.

use framewake_proto::api::JobState;
use framewake_proto::client::JobQuery;
use framewake_tests::browser::Browser;
use framewake_tests::farm::TestFarm;
use framewake_tests::jobs;
use framewake_tests::parts::root;
use serde_json::{Value, json};

/// Most elements of a page, whatever it is about: a browser gets slow past some ten thousand.
const ELEMENTS_MAX: u64 = 3000;
/// Most memory that the scripts of a page hold.
const HEAP_MAX: u64 = 50 << 20;

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
    browser.write("Files", root().join("samples/scenes/spheres.dat").to_str().expect("UTF-8")).await;
    // What the function can't do without is said at its field, and nothing is stored.
    browser.press("Submit").await;
    browser.sees("Something in the form can't be used.").await;
    assert_eq!(farm.client.jobs(&JobQuery::default()).await.expect("a list").items.len(), 0);
    browser.write("scene", "spheres.dat").await;
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
    browser.close().await;
}

#[tokio::test]
async fn what_jobs_and_renderers_say_is_text_and_nothing_else() {
    let farm = TestFarm::start(1).await;
    let mark = "<img src=x onerror='window.struck = true'>";
    let mut job = jobs::command(&["/bin/echo", &format!("{mark}\u{1b}[31mred\u{1b}[0m")], "1-2");
    job["name"] = json!(format!("job {mark}"));
    job["labels"] = json!({ "shot": mark });
    let view = farm.succeed(&job).await;
    let browser = Browser::start().await;
    for page in ["/".to_owned(), "/jobs".to_owned(), format!("/jobs/{}", view.id)] {
        browser.open(&format!("{}{page}", farm.url())).await;
        browser.wait("the page is drawn", "return Boolean(document.querySelector('h1'))").await;
    }
    browser.sees(mark).await;
    browser.press("Log").await;
    browser.sees(&format!("{mark}red")).await;
    assert_eq!(browser.ask("return window.struck ?? null").await, Value::Null);
    // Even what got into a page could not run.
    browser.ask("document.body.insertAdjacentHTML('beforeend', \"<img src=x onerror='window.struck = true'>\")").await;
    let failed = "const picture = [...document.images].at(-1); return picture.complete && !window.struck";
    browser.wait("the policy refuses it", failed).await;
    browser.close().await;
}

#[tokio::test]
async fn a_job_of_a_million_frames_opens_like_any_other() {
    let farm = TestFarm::start(1).await;
    let job = jobs::command(&["/bin/true"], "1-1000000");
    let id = farm.submit(&job).await;
    let browser = Browser::start().await;
    browser.open(&format!("{}/jobs/{id}", farm.url())).await;
    browser.sees("of 1,000,000").await;
    let drawn = "return Boolean(document.querySelector('.strip canvas')?.width > 300)";
    browser.wait("the strip of frames is drawn", drawn).await;
    let pointed = "const strip = document.querySelector('[role=slider]'); strip.focus();
                   strip.dispatchEvent(new KeyboardEvent('keydown', { key: 'End', bubbles: true }));
                   return strip.getAttribute('aria-valuetext').includes('frame 1,000,000')";
    browser.wait("the last frame is reached by keyboard", pointed).await;
    let elements = browser.ask("return document.querySelectorAll('*').length").await.as_u64().expect("a number");
    let heap = browser.ask("return performance.memory.usedJSHeapSize").await.as_u64().expect("a number");
    assert!(elements < ELEMENTS_MAX && heap < HEAP_MAX, "{elements} elements, {heap} bytes");
    // Canceled by its button, after the question.
    browser.ask("window.confirm = () => true").await;
    browser.press("Cancel").await;
    browser.sees("canceled").await;
    assert_eq!(farm.over(id).await.state, JobState::Canceled);
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
        ("/schedules".to_owned(), "nightly"),
        ("/cost".to_owned(), "default"),
    ];
    pages.extend([(good.id, "succeeded"), (bad, "failed")].map(|(id, word)| (format!("/jobs/{id}"), word)));
    for (theme, width) in [("light", 1280), ("dark", 1280), ("light", 500)] {
        browser.client.set_window_size(width, 900).await.expect("a window has a size");
        browser.ask(&format!("localStorage.setItem('theme', '{theme}')")).await;
        for (page, word) in &pages {
            browser.open(&format!("{}{page}", farm.url())).await;
            browser.sees(word).await;
            let broken = browser.broken_rules().await;
            assert_eq!(broken, json!([]), "{page}, {theme}, {width} pixels wide");
            let wide = "return document.documentElement.scrollWidth <= document.documentElement.clientWidth";
            assert_eq!(browser.ask(wide).await, Value::Bool(true), "{page} is wider than the window");
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
