//! The page of a job without a mouse: its pictures, its logs and what there is to be downloaded, by Tab and the keys of what one
//! stands on, alone.

use fantoccini::key::Key;
use framewake_proto::client::Action;
use framewake_tests::browser::Browser;
use framewake_tests::farm::TestFarm;
use framewake_tests::jobs;
use serde_json::json;

/// Says which frame is shown, once it is and its picture is there.
async fn shows(browser: &Browser, frame: u32) {
    let script = format!(
        "return Boolean(document.querySelector('.stage canvas'))
             && document.querySelector('.viewer [role=status]').textContent.startsWith('frame {frame} ')"
    );
    browser.wait(&format!("frame {frame} is shown"), &script).await;
}

async fn press(browser: &Browser, key: Key) {
    browser.type_keys(&key.to_string()).await;
}

/// Waits until the stage has this look, and the button of it says so.
async fn looks(browser: &Browser, class: &str) {
    let script = format!("return document.querySelector('.viewer .stage').className === '{class}'");
    browser.wait(&format!("the pictures are shown as {class}"), &script).await;
}

const STAGE: &str = "Picture of run";

/// A job of five frames of light, and the page of it.
async fn pictures() -> (TestFarm, Browser) {
    let farm = TestFarm::start(2).await;
    for frame in 1..=5_u16 {
        let color = |_: usize, _: usize| (f32::from(frame) * 0.1, 0.18, 0.18);
        let file = farm.folder().join(format!("{frame}.exr"));
        exr::prelude::write_rgb_file(file, 96, 54, color).expect("the folder is writable");
    }
    let script = format!("cp {}/$2.exr $1", farm.folder().display());
    let words = ["/bin/sh", "-c", &script, "sh", "{output}", "{frame}"];
    let job = farm.succeed(&jobs::command_with_output(&words, "1-5", "light/{frame:04}.exr")).await;
    let browser = Browser::start().await;
    browser.open(&format!("{}/jobs/{}", farm.url(), job.id)).await;
    shows(&browser, 1).await;
    (farm, browser)
}

#[tokio::test]
async fn pictures_are_walked_played_exposed_and_compared_with_keys_on_the_picture() {
    let (_farm, browser) = pictures().await;
    browser.tab_to(STAGE).await;
    for (key, frame) in [(Key::Right, 2), (Key::Left, 1), (Key::End, 5), (Key::Home, 1)] {
        press(&browser, key).await;
        shows(&browser, frame).await;
    }
    for (key, frame) in [(".", 2), (".", 3), (",", 2)] {
        browser.type_keys(key).await;
        shows(&browser, frame).await;
    }
    for (keys, stops) in [("++", "+0.50 stops"), ("---", "−0.25 stops"), ("0", "0.00 stops")] {
        browser.type_keys(keys).await;
        browser.sees(stops).await;
    }
    for (key, class) in [
        ("z", "stage one actual"),
        ("z", "stage one"),
        ("c", "stage beside"),
        ("c", "stage wipe"),
        ("c", "stage difference"),
        ("c", "stage one"),
    ] {
        browser.type_keys(key).await;
        looks(&browser, class).await;
    }
    let seen = "window.seen = new Set();
        new MutationObserver(() => window.seen.add(document.querySelector('.viewer [role=status]').textContent.split(' · ')[0]))
            .observe(document.querySelector('.viewer [role=status]'), { childList: true })";
    browser.ask(seen).await;
    browser.type_keys(" ").await;
    browser.wait("every frame is played", "return window.seen.size === 5").await;
    browser.type_keys(" ").await;
    browser.sees("Play").await;
    assert_eq!(browser.stands_on().await, STAGE, "whatever was pressed, one stands on the picture still");
    browser.close().await;
}

#[tokio::test]
async fn what_is_beside_the_picture_is_reached_by_tab_and_does_what_it_says() {
    let (farm, browser) = pictures().await;
    browser.tab_to(STAGE).await;
    browser.press_by_keys("Next frame").await;
    shows(&browser, 2).await;
    browser.tab_back_to("Previous frame").await;
    press(&browser, Key::Enter).await;
    shows(&browser, 1).await;
    browser.tab_to("Pictures a second").await;
    browser.type_keys("30").await;
    browser.tab_to("again and again").await;
    browser.type_keys(" ").await;
    browser.tab_back_to("Play").await;
    browser.type_keys(" ").await;
    shows(&browser, 5).await;
    // It ends there, since it does not go round.
    browser.sees("Play").await;
    assert_eq!(browser.stands_on().await, "Play");
    browser.press_by_keys("Actual pixels").await;
    looks(&browser, "stage one actual").await;
    press(&browser, Key::Enter).await;
    looks(&browser, "stage one").await;
    browser.tab_to("Exposure").await;
    browser.type_keys(&Key::Right.to_string().repeat(4)).await;
    browser.sees("+1.00 stops").await;
    browser.press_by_keys("Reset the exposure").await;
    browser.sees("0.00 stops").await;
    browser.tab_to("soft highlights").await;
    browser.type_keys(" ").await;
    browser.wait("it is ticked", "return document.activeElement.checked").await;
    browser.tab_to("Compare").await;
    press(&browser, Key::Down).await;
    looks(&browser, "stage beside").await;
    browser.tab_to("with frame").await;
    browser.type_keys("3").await;
    press(&browser, Key::Enter).await;
    browser.wait("two are shown", "return document.querySelectorAll('.stage canvas').length === 2").await;
    browser.tab_back_to("Compare").await;
    press(&browser, Key::Down).await;
    looks(&browser, "stage wipe").await;
    browser.tab_to("Where one picture ends and the other begins").await;
    press(&browser, Key::Home).await;
    let wiped = "return document.querySelector('.stage').style.getPropertyValue('--share') === '0%'";
    browser.wait("the other is all that is seen", wiped).await;
    browser.tab_back_to("Compare").await;
    press(&browser, Key::Home).await;
    looks(&browser, "stage one").await;
    // A thumbnail, and the file of what is shown.
    browser.tab_to("Frame 4").await;
    press(&browser, Key::Enter).await;
    shows(&browser, 4).await;
    let marked = "return document.activeElement.getAttribute('aria-current')";
    assert_eq!(browser.ask(marked).await, "true", "one stands on the thumbnail that was taken");
    browser.tab_back_to("Download").await;
    let file = browser.ask("return [document.activeElement.download, document.activeElement.href]").await;
    assert_eq!(file[0], "0004.exr");
    let bytes = reqwest::get(file[1].as_str().expect("an address")).await.expect("an answer").bytes().await;
    let wanted = std::fs::read(farm.folder().join("4.exr")).expect("it was written");
    assert!(bytes.expect("a body") == wanted, "the link leads to the file of the frame");
    browser.close().await;
}

#[tokio::test]
async fn a_log_is_opened_searched_and_left_and_outputs_are_reached() {
    let farm = TestFarm::start(1).await;
    let script = "echo hay; echo a needle in frame $2; echo more hay; echo done > $1";
    let words = ["/bin/sh", "-c", script, "sh", "{output}", "{frame}"];
    let job = farm.succeed(&jobs::command_with_output(&words, "7", "said/{frame:04}.txt")).await;
    let browser = Browser::start().await;
    browser.open(&format!("{}/jobs/{}", farm.url(), job.id)).await;
    browser.sees("succeeded").await;
    browser.press_by_keys("Log of attempt 1.1").await;
    browser.sees("a needle in frame 7").await;
    // One is where there is something to read, and not in the list of attempts.
    let reads = "return document.activeElement.matches('pre.log')";
    browser.wait("one stands in the log", reads).await;
    browser.tab_back_to("Search the log").await;
    browser.type_keys("NEEDLE").await;
    let found = "return document.querySelector('pre.log').textContent === 'a needle in frame 7'";
    browser.wait("what was searched for is left", found).await;
    browser.tab_to("keep to the end").await;
    browser.tab_to("Download").await;
    let file = browser.ask("return document.activeElement.href").await;
    let text = reqwest::get(file.as_str().expect("an address")).await.expect("an answer").text().await;
    assert!(text.expect("text").contains("more hay"), "the link leads to the whole log");
    browser.tab_back_to("Close").await;
    press(&browser, Key::Enter).await;
    browser.wait("it is closed", "return !document.querySelector('pre.log')").await;
    assert_eq!(browser.stands_on().await, "Log of attempt 1.1", "one is back where it was opened");

    browser.press_by_keys("Outputs, to download").await;
    browser.sees("said/0007.txt").await;
    browser.tab_to("said/0007.txt").await;
    let file = browser.ask("return [document.activeElement.download, document.activeElement.href]").await;
    assert_eq!(file[0], "0007.txt");
    let text = reqwest::get(file[1].as_str().expect("an address")).await.expect("an answer").text().await;
    assert_eq!(text.expect("text"), "done\n");
    browser.press_by_keys("Job file, as it was accepted").await;
    browser.tab_to("Job file").await;
    browser.close().await;
}

#[tokio::test]
async fn who_stands_in_a_list_stands_on_the_same_thing_while_it_grows() {
    let farm = TestFarm::start(1).await;
    let job = |name: &str| {
        let mut job = jobs::command(&["/bin/sleep", "600"], "1-3");
        job["name"] = json!(name);
        job
    };
    farm.submit(&job("the first")).await;
    let browser = Browser::start().await;
    browser.open(&format!("{}/jobs", farm.url())).await;
    browser.tab_to("Choose the first").await;
    // The newest stand above the others, also those of the same name.
    for name in ["the second", "the first"] {
        browser.ask("window.row = document.querySelector('tbody tr')").await;
        farm.submit(&job(name)).await;
        browser.wait("the list is drawn anew", "return !window.row.isConnected").await;
        let rows = "const rows = [...document.querySelectorAll('tbody tr')]; return rows.findIndex((row) => row.contains(document.activeElement)) === rows.length - 1";
        browser.wait("one stands where one stood", rows).await;
        assert_eq!(browser.stands_on().await, "Choose the first");
    }
    browser.close().await;
}

#[tokio::test]
async fn what_one_stands_on_stays_in_sight_while_the_page_grows_above_it_and_who_has_moved_away_is_left_there() {
    let farm = TestFarm::start(2).await;
    let go = farm.folder().join("go");
    let script = format!("until test -e {}; do sleep 0.02; done; exit 3", go.display());
    let mut job = jobs::command(&["/bin/sh", "-c", &script], "1-30");
    job["steps"][0]["retries"] = json!({ "attempts": 1 });
    job["steps"][0]["chunking"] = json!({ "mode": "fixed", "size": 1 });
    let id = farm.submit(&job).await;
    let browser = Browser::start().await;
    // Large enough to come there without moving it: at its upper end a browser holds nothing still.
    browser.client.set_window_size(1280, 1600).await.expect("a window has a size");
    browser.open(&format!("{}/jobs/{id}", farm.url())).await;
    browser.sees("Log").await;
    browser.tab_to("Outputs, to download").await;
    assert_eq!(browser.ask("return scrollY").await, json!(0));
    // Above come the frames that failed, and more attempts.
    std::fs::write(&go, "").expect("writable");
    assert_eq!(farm.over(id).await.tasks.failed, 30);
    let grown = "return document.querySelectorAll('#failures tbody tr').length >= 20
        && document.activeElement.getBoundingClientRect().bottom + scrollY > innerHeight + 200";
    browser.wait("the page has grown", grown).await;
    let drawn = "requestAnimationFrame(() => requestAnimationFrame(arguments[0]))";
    browser.ask_later(drawn).await;
    let place = "const { top, bottom } = document.activeElement.getBoundingClientRect(); return top >= 0 && bottom <= innerHeight";
    assert_eq!(browser.stands_on().await, "Outputs, to download");
    assert_eq!(browser.ask(place).await, json!(true), "and is seen");

    // Whoever looks elsewhere is not called back, though what failed is tried again and fails once more.
    std::fs::remove_file(&go).expect("it is there");
    browser.ask("scrollTo(0, 0)").await;
    browser.ask_later(drawn).await;
    assert_eq!(
        browser.ask("return document.activeElement.getBoundingClientRect().top > innerHeight").await,
        json!(true)
    );
    // Of a job that is over nobody tells the page any more that it is tried again.
    browser.wait("it is over there too", "return Boolean(document.querySelector('main > div .state.failed'))").await;
    farm.client.act(id, Action::Retry).await.expect("it has failed");
    browser.wait("nothing failed", "return document.getElementById('failures').hidden").await;
    std::fs::write(&go, "").expect("writable");
    assert_eq!(farm.over(id).await.tasks.failed, 30);
    browser.wait("the page is as long as it was", grown).await;
    browser.ask_later(drawn).await;
    assert_eq!(browser.ask("return scrollY").await, json!(0));
    assert_eq!(browser.stands_on().await, "Outputs, to download");
    browser.close().await;
}
