//! A real browser without a window, for the tests of the pages.

use crate::farm::{kill, parent, processes};
use crate::parts::{Running, free_port, root, tool};
use crate::wait::until;
use fantoccini::{Client, ClientBuilder};
use hyper_util::client::legacy::connect::HttpConnector;
use serde_json::{Value, json};
use std::path::Path;
use std::time::Duration;
use tempfile::TempDir;

mod keys;
mod mouse;

/// Longest wait for something on a page.
const SOON: Duration = Duration::from_secs(30);

/// Pixels that most phones are wide.
pub const PHONE: u32 = 390;

/// A browser with one window; it ends with the test.
#[derive(Debug)]
pub struct Browser {
    pub client: Client,
    driver: Running,
    driver_port: u16,
    _folder: TempDir,
}

/// What a page takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Weight {
    pub elements: u64,
    /// What its scripts hold.
    pub heap_bytes: u64,
    /// Bytes that it got since it was opened, heads included; what streams have sent is not among them.
    pub wire_bytes: u64,
    pub requests: u64,
    /// Resident memory of the process that draws it, with the programs that it shares with others.
    pub renderer_bytes: u64,
    /// Of these, what nobody else has: without the browser's program and what its processes share.
    pub page_bytes: u64,
    /// Of all processes of the browser and its driver; what they share is counted once.
    pub browser_bytes: u64,
}

impl Browser {
    pub async fn start() -> Browser {
        let folder = TempDir::new().expect("a folder for the browser");
        let port = free_port();
        let mut command = std::process::Command::new(tool("chromedriver"));
        command.arg(format!("--port={port}"));
        let driver = Running::start("chromedriver", &mut command, &folder.path().join("driver.log"));
        let arguments = [
            "--headless=new",
            // Tests run as root in containers, where the sandbox can't.
            "--no-sandbox",
            "--disable-gpu",
            "--disable-dev-shm-usage",
            "--no-first-run",
            // It would look for hosts of its maker.
            "--disable-background-networking",
            "--disable-component-update",
            "--disable-sync",
            // Else what scripts hold is told in steps of megabytes.
            "--enable-precise-memory-info",
            "--window-size=1280,900",
            &format!("--user-data-dir={}", folder.path().join("profile").display()),
        ];
        let capabilities = json!({
            "goog:chromeOptions": { "args": arguments },
            "goog:loggingPrefs": { "browser": "ALL" },
        });
        let Value::Object(capabilities) = capabilities else { unreachable!("an object") };
        let url = format!("http://127.0.0.1:{port}");
        let client = until(SOON, "the browser starts", async || {
            let mut builder = ClientBuilder::new(HttpConnector::new());
            builder.capabilities(capabilities.clone()).connect(&url).await.ok()
        })
        .await;
        Browser { client, driver, driver_port: port, _folder: folder }
    }

    pub async fn open(&self, url: &str) {
        self.client.goto(url).await.unwrap_or_else(|error| panic!("{url} can't be opened: {error}"));
    }

    /// What a script gives back.
    pub async fn ask(&self, script: &str) -> Value {
        self.client.execute(script, Vec::new()).await.unwrap_or_else(|error| panic!("`{script}` fails: {error}"))
    }

    /// What a script gives back that is a list of texts.
    pub async fn texts(&self, script: &str) -> Vec<String> {
        let told = self.ask(script).await;
        let texts = told.as_array().unwrap_or_else(|| panic!("`{script}` gives no list, but {told}")).iter();
        texts.map(|text| text.as_str().unwrap_or_else(|| panic!("{text} is no text")).to_owned()).collect()
    }

    /// What a script gives to its last argument, a function, when it has it.
    pub async fn ask_later(&self, script: &str) -> Value {
        let given = self.client.execute_async(script, Vec::new()).await;
        given.unwrap_or_else(|error| panic!("`{script}` fails: {error}"))
    }

    /// Waits until a script gives something that is true.
    pub async fn wait(&self, what: &str, script: &str) {
        until(SOON, what, async || (self.ask(script).await == Value::Bool(true)).then_some(())).await;
    }

    /// Waits until the page says this.
    pub async fn sees(&self, words: &str) {
        let words_json = Value::from(words);
        let script = format!("return document.body.innerText.includes({words_json})");
        let begin = tokio::time::Instant::now();
        let mut tick = tokio::time::interval(Duration::from_millis(50));
        while self.ask(&script).await != Value::Bool(true) {
            if begin.elapsed() > SOON {
                let text = self.ask("return document.body.innerText").await;
                panic!("the page does not say `{words}`, but:\n{}", text.as_str().unwrap_or_default());
            }
            tick.tick().await;
        }
    }

    /// What the page does against the rules of WCAG 2.2, levels A and AA, and good practice, as axe finds it.
    pub async fn broken_rules(&self) -> Value {
        self.ask(&axe()).await;
        self.ask_later(
            "const done = arguments[arguments.length - 1];
             axe.run({ runOnly: ['wcag2a', 'wcag2aa', 'wcag21a', 'wcag21aa', 'wcag22aa', 'best-practice'] })
                .then((found) => done(found.violations.flatMap((rule) => rule.nodes.map((node) => `${rule.id}: ${node.html}`))));",
        )
        .await
    }

    /// Makes the page so wide; a window can't be as narrow as a phone.
    pub async fn widen(&self, width: u32) {
        let params = json!({ "width": width, "height": 900, "deviceScaleFactor": 0, "mobile": false });
        self.tell("Emulation.setDeviceMetricsOverride", &params).await;
        self.wait("the page is as wide", &format!("return innerWidth === {width}")).await;
    }

    /// A phone whose screen has three dots for each of the page's.
    pub async fn be_a_sharp_phone(&self) {
        let params = json!({ "width": PHONE, "height": 900, "deviceScaleFactor": 3, "mobile": false });
        self.tell("Emulation.setDeviceMetricsOverride", &params).await;
        self.wait("the screen is sharp", &format!("return innerWidth === {PHONE} && devicePixelRatio === 3")).await;
    }

    /// What sticks out of the page to the side.
    pub async fn too_wide(&self) -> Value {
        self.ask(
            "const { scrollWidth, clientWidth } = document.documentElement;
             if (scrollWidth <= clientWidth) return [];
             const out = [...document.querySelectorAll('body *')].filter((one) => one.getBoundingClientRect().right > clientWidth + 0.5);
             return [`${scrollWidth} of ${clientWidth}`, ...out.slice(0, 8).map((one) => one.outerHTML.slice(0, 120))];",
        )
        .await
    }

    /// What the page weighs now.
    pub async fn weigh(&self) -> Weight {
        let script = "const entries = [...performance.getEntriesByType('navigation'), ...performance.getEntriesByType('resource')];
            return [document.querySelectorAll('*').length, performance.memory.usedJSHeapSize,
                    entries.reduce((sum, entry) => sum + entry.transferSize, 0), entries.length]";
        let told = self.ask(script).await;
        let number = |at: usize| told[at].as_u64().unwrap_or_else(|| panic!("{told} has no number {at}"));
        let own = self.processes();
        // One page is one renderer; the browser keeps another at hand, which is smaller.
        let renderers = own.iter().filter(|(_, line)| line.contains("--type=renderer"));
        let renderer = renderers.map(|(pid, _)| *pid).max_by_key(|pid| memory(*pid, "Rss:")).unwrap_or(0);
        Weight {
            elements: number(0),
            heap_bytes: number(1),
            wire_bytes: number(2),
            requests: number(3),
            renderer_bytes: memory(renderer, "Rss:"),
            page_bytes: memory(renderer, "Private_Clean:") + memory(renderer, "Private_Dirty:"),
            browser_bytes: own.iter().map(|(pid, _)| memory(*pid, "Pss:")).sum(),
        }
    }

    /// The page lets go what it no longer needs, which it does by itself some time.
    pub async fn collect(&self) {
        self.tell("HeapProfiler.collectGarbage", &json!({})).await;
    }

    /// The driver's and all below it, with their command lines.
    fn processes(&self) -> Vec<(u32, String)> {
        let all = processes();
        let mut own = vec![self.driver.pid()];
        let mut at = 0;
        while at < own.len() {
            let above = own[at];
            own.extend(all.iter().map(|process| process.pid).filter(|pid| parent(*pid) == Some(above)));
            at += 1;
        }
        all.into_iter()
            .filter(|process| own.contains(&process.pid))
            .map(|process| (process.pid, process.line))
            .collect()
    }

    pub async fn screenshot(&self, file: &Path) {
        let bytes = self.client.screenshot().await.expect("a picture of the page");
        std::fs::write(file, bytes).expect("the picture can be written");
    }

    /// A command of the browser's own protocol, for what the driver has no words.
    async fn tell(&self, command: &str, params: &Value) {
        let session = self.client.session_id().await.expect("an answer").expect("there is a session");
        let url = format!("http://127.0.0.1:{}/session/{session}/goog/cdp/execute", self.driver_port);
        let body = json!({ "cmd": command, "params": params });
        let answer = reqwest::Client::new().post(url).json(&body).send().await.expect("the driver answers");
        assert!(answer.status().is_success(), "{:?}", answer.text().await);
    }

    /// From now on the browser is in this time zone.
    pub async fn live_in(&self, zone: &str) {
        self.tell("Emulation.setTimezoneOverride", &json!({ "timezoneId": zone })).await;
    }

    /// From now on what is downloaded lies in this folder.
    pub async fn download_into(&self, folder: &Path) {
        std::fs::create_dir_all(folder).expect("writable");
        self.tell("Browser.setDownloadBehavior", &json!({ "behavior": "allow", "downloadPath": folder })).await;
    }

    /// What would be pasted now.
    pub async fn copied(&self) -> String {
        let params = json!({ "permissions": ["clipboardReadWrite", "clipboardSanitizedWrite"] });
        self.tell("Browser.grantPermissions", &params).await;
        let read = "navigator.clipboard.readText().then(arguments[0], (error) => arguments[0](String(error)))";
        self.ask_later(read).await.as_str().expect("text").to_owned()
    }

    /// Ends it; a test that fails before leaves that to the drop.
    pub async fn close(mut self) {
        let _ = self.client.clone().close().await;
        self.driver.signal(rustix::process::Signal::TERM);
        self.driver.wait(SOON);
    }
}

impl Drop for Browser {
    /// A driver that is killed leaves its browser behind.
    fn drop(&mut self) {
        // Its number may be another's by now.
        if self.driver.ended() {
            return;
        }
        for (pid, _) in self.processes() {
            kill(pid);
        }
    }
}

/// The rules of axe, as a script for the browser.
fn axe() -> String {
    let packages = std::fs::read_dir(root().join(".venv/lib")).expect("`make setup` was run").flatten();
    let mut files = packages.map(|entry| entry.path().join("site-packages/axe_playwright_python/axe.min.js"));
    let file = files.find(|file| file.is_file()).expect("`make setup` installs axe");
    std::fs::read_to_string(file).expect("readable")
}

/// Bytes of a process, as `smaps_rollup` tells them; 0 for one that is gone.
fn memory(pid: u32, what: &str) -> u64 {
    let told = std::fs::read_to_string(format!("/proc/{pid}/smaps_rollup")).unwrap_or_default();
    let line = told.lines().find_map(|line| line.strip_prefix(what)).unwrap_or_default();
    line.split_whitespace().next().and_then(|kib| kib.parse::<u64>().ok()).unwrap_or(0) * 1024
}
