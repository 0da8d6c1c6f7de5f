//! Whether the image of a version is let in: an external scanner is asked before the version is active.
//!
//! A version that waits, or was not passed, is no version of the farm yet: jobs, workers and rules know nothing of it, and the
//! one before stays the newest. What is not known to be good is not let in: a scanner that fails, hangs or says nothing that
//! can be read has passed nothing. Not here: what is kept of it (`engine/scans.rs`).

mod report;
mod run;

use crate::engine::Handle;
use clap::ValueEnum;
use framewake_proto::chain::Chain;
use framewake_proto::duration::Span;
use framewake_proto::ids::FunctionKey;
use framewake_proto::scan::{FINDINGS_MAX, FindingCounts, ScanState, ScanView, Severity};
use framewake_proto::time::Timestamp;
use std::path::Path;
use std::str::FromStr;
use std::time::Duration;
use tokio::sync::mpsc;
use tokio::task::spawn_blocking;
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

/// Stands for the image in the command.
const IMAGE: &str = "{image}";
/// Shortest and longest time of a scan that can be asked for: less is no scan, and one that goes on for more is not watched by anybody.
const WITHIN: std::ops::RangeInclusive<Duration> = Duration::from_secs(1)..=Duration::from_hours(24);
/// Longest reason that is told: a scanner's report, and what is wrong with it, may be megabytes.
const WHY_MAX: usize = 600;
/// What keeps a version out can be mended, and is then asked about again.
const AGAIN: &str = "then add the same file again: it is scanned again";

/// How images are scanned.
#[derive(Debug, Clone, clap::Args)]
pub struct ScanSettings {
    /// Command that scans the image of a function's version before it is active, with `{image}` for its name: prints the JSON
    /// of Trivy, or SARIF. No shell reads it. Without it nothing is scanned
    #[arg(long, env = "FRAMEWAKE_SCAN_IMAGES")]
    pub scan_images: Option<ScanCommand>,
    /// Least severity of a finding that keeps a version from being active; what is less, or not known, is only shown
    #[arg(long, env = "FRAMEWAKE_SCAN_REFUSE", value_enum, default_value_t)]
    pub scan_refuse: Threshold,
    /// Longest time of one scan
    #[arg(long, env = "FRAMEWAKE_SCAN_WITHIN", default_value = "10m", value_parser = within)]
    pub scan_within: Span,
}

fn within(text: &str) -> Result<Span, String> {
    let span: Span = text.parse().map_err(|error| format!("{error}"))?;
    if WITHIN.contains(&span.0) { Ok(span) } else { Err("a scan takes 1s to 1d".to_owned()) }
}

/// From which severity on a version is kept out.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, ValueEnum)]
pub enum Threshold {
    /// Warn only: whatever is found is shown, and keeps nothing out
    Never,
    #[default]
    Critical,
    High,
    Medium,
    /// Whatever is found, also what nobody has given a severity yet
    Low,
}

impl Threshold {
    fn least(self) -> Option<Severity> {
        match self {
            Threshold::Never => None,
            Threshold::Critical => Some(Severity::Critical),
            Threshold::High => Some(Severity::High),
            Threshold::Medium => Some(Severity::Medium),
            // Who refuses the least of what is known means everything: what nobody has judged yet may be the worst.
            Threshold::Low => Some(Severity::Unknown),
        }
    }
}

/// Words of the scanner's command, one of which has `{image}` in it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ScanCommand(Vec<String>);

#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum ScanCommandError {
    #[error("it is empty: name the scanner's program")]
    Empty,
    #[error("no word after the program has `{{image}}` in it: the scanner would not know what to scan")]
    NoImage,
}

impl FromStr for ScanCommand {
    type Err = ScanCommandError;

    fn from_str(text: &str) -> Result<ScanCommand, ScanCommandError> {
        let words: Vec<String> = text.split_whitespace().map(str::to_owned).collect();
        let Some((_, arguments)) = words.split_first() else { return Err(ScanCommandError::Empty) };
        if !arguments.iter().any(|word| word.contains(IMAGE)) {
            return Err(ScanCommandError::NoImage);
        }
        Ok(ScanCommand(words))
    }
}

impl ScanCommand {
    /// Program and arguments for this image.
    fn for_image(&self, image: &str) -> Vec<String> {
        // The program is the operator's alone.
        let fill = |(at, word): (usize, &String)| if at == 0 { word.clone() } else { word.replace(IMAGE, image) };
        self.0.iter().enumerate().map(fill).collect()
    }
}

/// An image that waits for its scan.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct ScanOrder {
    pub(crate) key: FunctionKey,
    pub(crate) image: String,
}

/// Asks the scanner about one image after the other.
#[derive(Debug)]
pub(crate) struct Scanner {
    command: ScanCommand,
    refuse: Threshold,
    within: Duration,
    /// Of this farm's scans; one scheduler at a time has the data folder.
    mark: String,
}

impl Scanner {
    /// `None` where nothing is scanned. Ends what a scheduler left that was killed during a scan.
    pub(crate) async fn open(settings: &ScanSettings, data: &Path) -> Option<Scanner> {
        let ScanSettings { scan_images, scan_refuse, scan_within } = settings;
        let command = scan_images.clone()?;
        let mark = std::fs::canonicalize(data).unwrap_or_else(|_| data.to_owned()).display().to_string();
        let left = mark.clone();
        spawn_blocking(move || run::end_marked(&left)).await.expect("it does not panic");
        Some(Scanner { command, refuse: *scan_refuse, within: scan_within.0, mark })
    }

    /// Until `stop`; what is under way then is ended, and begun again by the next start.
    pub(crate) async fn run(
        self,
        handle: Handle,
        mut orders: mpsc::UnboundedReceiver<ScanOrder>,
        stop: CancellationToken,
    ) {
        loop {
            let order = tokio::select! {
                order = orders.recv() => order,
                () = stop.cancelled() => return,
            };
            let Some(ScanOrder { key, image }) = order else { return };
            info!(function = %key, "the image of {key} is scanned");
            let scan = tokio::select! {
                scan = self.scan(&image) => scan,
                () = stop.cancelled() => return,
            };
            match scan.state {
                ScanState::Passed => info!(function = %key, "the image of {key} is let in: {}", scan.found),
                ScanState::Refused | ScanState::Failed | ScanState::Waiting => {
                    warn!(function = %key, "{key} is not active: {}", scan.reason);
                }
            }
            if handle.scanned(key, scan).await.is_err() {
                return;
            }
        }
    }

    async fn scan(&self, image: &str) -> ScanView {
        let words = self.command.for_image(image);
        let outcome = match run::run(&words, self.within, &self.mark).await {
            // Of megabytes it takes longer than others may wait for this thread.
            Ok(output) => spawn_blocking(move || report::read(&output).map_err(|error| Chain(&error).to_string()))
                .await
                .expect("it does not panic"),
            Err(error) => Err(Chain(&error).to_string()),
        };
        let at = Timestamp::now();
        let mut worst = match outcome {
            Ok(findings) => findings,
            Err(why) => {
                let why = in_one_line(&why, WHY_MAX);
                let reason = format!("its image could not be scanned: {why}; see to the scanner, {AGAIN}");
                let found = FindingCounts::default();
                return ScanView { state: ScanState::Failed, at, found, worst: Vec::new(), reason };
            }
        };
        let mut found = FindingCounts::default();
        for finding in &worst {
            found.add(finding.severity);
        }
        worst.sort_by(|a, b| b.severity.cmp(&a.severity).then_with(|| a.id.cmp(&b.id)));
        worst.truncate(FINDINGS_MAX);
        let too_much = self.refuse.least().filter(|least| found.from(*least) > 0);
        let (state, reason) = match too_much {
            None => (ScanState::Passed, String::new()),
            Some(least) => {
                let count = found.from(least);
                let reason = format!(
                    "{count} findings in its image are {}: mend the image and add the version that names it, or have the finding \
                     accepted in the scanner, {AGAIN}",
                    match least {
                        Severity::Critical => "critical",
                        Severity::High => "high or worse",
                        Severity::Medium => "medium or worse",
                        Severity::Low | Severity::Unknown => "low or worse, or of a severity that nobody has told",
                    }
                );
                (ScanState::Refused, reason)
            }
        };
        ScanView { state, at, found, worst, reason }
    }
}

/// What others have said, as a line of at most so many characters that does nothing to whoever reads it.
fn in_one_line(text: &str, chars_max: usize) -> String {
    let line: String = text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
    let line = line.split_whitespace().collect::<Vec<_>>().join(" ");
    if line.chars().nth(chars_max).is_none() { line } else { line.chars().take(chars_max).chain(['…']).collect() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_command_names_a_program_and_where_the_image_goes() {
        let command: ScanCommand = "trivy image --format json --input={image} {image}".parse().expect("good");
        let filled = command.for_image("r.example/a b:1");
        assert_eq!(filled, ["trivy", "image", "--format", "json", "--input=r.example/a b:1", "r.example/a b:1"]);
        assert_eq!("  ".parse::<ScanCommand>(), Err(ScanCommandError::Empty));
        for bad in ["trivy", "trivy image", "{image}", "{image} x"] {
            assert_eq!(bad.parse::<ScanCommand>(), Err(ScanCommandError::NoImage), "{bad}");
        }
        assert!(within("0s").is_err() && within("2d").is_err() && within("x").is_err());
        assert_eq!(within("1s"), Ok(Span(Duration::from_secs(1))));
    }

    fn scanner(script: &str, refuse: Threshold, within: Duration) -> (tempfile::TempDir, Scanner) {
        use std::os::unix::fs::PermissionsExt;
        let folder = tempfile::tempdir().expect("a folder");
        let program = folder.path().join("scanner");
        std::fs::write(&program, format!("#!/bin/sh\n{script}\n")).expect("written");
        std::fs::set_permissions(&program, std::fs::Permissions::from_mode(0o755)).expect("ours");
        let command = format!("{} {{image}}", program.display()).parse().expect("good");
        let mark = folder.path().display().to_string();
        (folder, Scanner { command, refuse, within, mark })
    }

    async fn scanned(script: &str, refuse: Threshold) -> ScanView {
        let (_folder, scanner) = scanner(script, refuse, Duration::from_secs(20));
        scanner.scan("r.example/image:1").await
    }

    /// As Trivy prints it, with one finding of this severity.
    fn trivy(severity: &str) -> String {
        format!(
            r#"echo '{{"SchemaVersion":2,"ArtifactName":"'"$1"'","Results":[{{"Target":"debian","Vulnerabilities":[{{"VulnerabilityID":"CVE-2026-1","PkgName":"zlib1g","InstalledVersion":"1.2","Severity":"{severity}","Title":"overflow"}}]}}]}}'"#
        )
    }

    #[tokio::test]
    async fn a_version_is_let_in_or_kept_out_by_the_worst_that_was_found() {
        for (severity, refuse, state) in [
            ("CRITICAL", Threshold::Critical, ScanState::Refused),
            ("HIGH", Threshold::Critical, ScanState::Passed),
            ("HIGH", Threshold::High, ScanState::Refused),
            ("CRITICAL", Threshold::Low, ScanState::Refused),
            ("LOW", Threshold::Low, ScanState::Refused),
            ("UNKNOWN", Threshold::Low, ScanState::Refused),
            ("UNKNOWN", Threshold::Medium, ScanState::Passed),
            ("UNKNOWN", Threshold::Critical, ScanState::Passed),
            ("UNKNOWN", Threshold::Never, ScanState::Passed),
            ("CRITICAL", Threshold::Never, ScanState::Passed),
        ] {
            let scan = scanned(&trivy(severity), refuse).await;
            assert_eq!(scan.state, state, "{severity} {refuse:?}: {scan:?}");
            assert_eq!(scan.worst.len(), 1);
            assert_eq!(scan.reason.is_empty(), state.is_active(), "{}", scan.reason);
            assert_eq!(
                scan.found.to_string().contains("1 of unknown severity"),
                severity == "UNKNOWN",
                "{}",
                scan.found
            );
        }
    }

    #[tokio::test]
    async fn a_scanner_that_does_not_say_has_passed_nothing() {
        let good = trivy("LOW");
        for (script, said) in [
            ("exit 0".to_owned(), "no JSON"),
            ("echo nothing to see here".to_owned(), "no JSON"),
            ("echo '{}'".to_owned(), "neither"),
            (r#"echo '{"SchemaVersion":2,"Results":[]}'"#.to_owned(), "looked at nothing"),
            (r#"echo '{"SchemaVersion":2}'"#.to_owned(), "looked at nothing"),
            (trivy("AWFUL"), "AWFUL"),
            (format!("{good}; echo 'no database' >&2; exit 1"), "no database"),
            (format!("{good}; kill -9 $$"), "signal"),
            ("head -c 100000000 /dev/zero".to_owned(), "more than"),
        ] {
            let scan = scanned(&script, Threshold::Never).await;
            assert_eq!(scan.state, ScanState::Failed, "{script}");
            assert!(scan.reason.contains(said) && scan.reason.contains("again"), "{script}: {}", scan.reason);
        }
        let (_folder, missing) = scanner("", Threshold::Never, Duration::from_secs(5));
        let missing = Scanner { command: "/nowhere/scanner {image}".parse().expect("good"), ..missing };
        assert!(missing.scan("x").await.reason.contains("/nowhere/scanner"));
    }

    /// The numbers that a script wrote down, once it wrote so many.
    fn written(file: &Path, count: usize) -> Vec<u32> {
        let text = std::fs::read_to_string(file).expect("it began");
        let numbers: Vec<u32> = text.split_whitespace().map(|word| word.parse().expect("a number")).collect();
        assert_eq!(numbers.len(), count, "{text}");
        numbers
    }

    async fn all_end(pids: &[u32]) {
        // It is dead, and may wait for somebody to take note of that.
        let dead = |pid: &u32| {
            let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
            stat.is_empty() || stat.contains(") Z ") || stat.contains(") X ")
        };
        let ended = async {
            while !pids.iter().all(dead) {
                tokio::task::yield_now().await;
            }
        };
        tokio::time::timeout(Duration::from_secs(10), ended).await.expect("what it started is ended too");
    }

    /// Starts one that stays in the group, and one that leaves it; both write their numbers into the file.
    fn helpers(file: &Path, output: &str) -> String {
        let file = file.display();
        format!(
            "sleep 600 {output} & echo $! >> {file}; setsid sh -c 'echo $$ >> {file}; exec sleep 600' {output} &
             until [ $(wc -l < {file}) = 2 ]; do sleep 0.01; done"
        )
    }

    #[tokio::test]
    async fn one_that_hangs_is_ended_with_all_that_it_started() {
        let folder = tempfile::tempdir().expect("a folder");
        let pids = folder.path().join("pids");
        let script = format!("{}; wait", helpers(&pids, ""));
        let (_program, scanner) = scanner(&script, Threshold::Critical, Duration::from_secs(2));
        let scan = scanner.scan("x").await;
        assert!(scan.state == ScanState::Failed && scan.reason.contains("2s"), "{}", scan.reason);
        all_end(&written(&pids, 2)).await;
    }

    #[tokio::test]
    async fn what_one_that_ended_well_left_behind_is_ended_and_not_waited_for() {
        let folder = tempfile::tempdir().expect("a folder");
        // Whether they hold its output open or not.
        for (name, output) in [("open", ""), ("closed", ">/dev/null 2>&1")] {
            let pids = folder.path().join(name);
            let script = format!("{}; {}", helpers(&pids, output), trivy("LOW"));
            let (_program, scanner) = scanner(&script, Threshold::Critical, Duration::from_mins(1));
            let scan = tokio::time::timeout(Duration::from_secs(20), scanner.scan("x")).await.expect("not held up");
            assert_eq!(scan.state, ScanState::Passed, "{}", scan.reason);
            all_end(&written(&pids, 2)).await;
        }
    }

    #[tokio::test]
    async fn what_a_scheduler_left_that_was_killed_is_ended_by_the_next() {
        let folder = tempfile::tempdir().expect("a folder");
        let own = std::fs::canonicalize(folder.path()).expect("it is there").display().to_string();
        let mut started = [own.as_str(), "/somebody/elses"].map(|mark| {
            let mut command = std::process::Command::new("sleep");
            command.arg("600").env("FRAMEWAKE_SCAN", mark).spawn().expect("it starts")
        });
        let settings = ScanSettings {
            scan_images: Some("scanner {image}".parse().expect("good")),
            scan_refuse: Threshold::Critical,
            scan_within: Span(Duration::from_secs(9)),
        };
        let opened = Scanner::open(&settings, folder.path()).await.expect("there is a scanner");
        assert_eq!(opened.mark, own);
        all_end(&[started[0].id()]).await;
        assert!(started[1].try_wait().expect("our child").is_none(), "others' scans go on");
        for child in &mut started {
            let _gone_already = child.kill();
            child.wait().expect("our child");
        }
    }

    #[tokio::test]
    async fn what_a_scanner_says_is_bounded_and_in_one_line_whatever_it_says() {
        // Errors of JSON have in them what they are about.
        let long = "$(head -c 1000000 /dev/zero | tr '\\0' x)";
        for script in [
            format!(r#"echo '{{"SchemaVersion":2,"Results":"'"{long}"'"}}'"#),
            format!(r#"echo '{{"version":"2.1.0","runs":["'"{long}"'"]}}'"#),
            format!("printf '{long}\\033[31m\\n\\n' >&2; exit 3"),
        ] {
            let scan = scanned(&script, Threshold::Critical).await;
            assert_eq!(scan.state, ScanState::Failed, "{script}");
            assert!(scan.reason.len() < 2 * WHY_MAX, "{} bytes", scan.reason.len());
            assert!(!scan.reason.contains(char::is_control) && scan.reason.contains(AGAIN), "{}", scan.reason);
        }
    }

    #[tokio::test]
    async fn a_scanner_that_floods_is_given_up_before_its_time() {
        let (_folder, scanner) = scanner("yes 0123456789", Threshold::Never, Duration::from_mins(10));
        let scan = tokio::time::timeout(Duration::from_mins(1), scanner.scan("x")).await.expect("given up");
        assert!(scan.state == ScanState::Failed && scan.reason.contains("more than"), "{}", scan.reason);
    }
}
