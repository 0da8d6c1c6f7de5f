//! Whether the image of a version is let in: an external scanner is asked before the version is active.
//!
//! A version that waits, or was not passed, is no version of the farm yet: jobs, workers and rules know nothing of it, and the
//! one before stays the newest. What is not known to be good is not let in: a scanner that fails, hangs or says nothing that
//! can be read has passed nothing. Not here: what is kept of it (`engine/scans.rs`).

mod report;
mod run;

use crate::engine::Handle;
use clap::ValueEnum;
use framewake_proto::duration::Span;
use framewake_proto::ids::FunctionKey;
use framewake_proto::scan::{FINDINGS_MAX, FindingCounts, ScanState, ScanView, Severity};
use framewake_proto::time::Timestamp;
use std::str::FromStr;
use std::time::Duration;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

/// Stands for the image in the command.
const IMAGE: &str = "{image}";
/// Shortest and longest time of a scan that can be asked for: less is no scan, and one that goes on for more is not watched by anybody.
const WITHIN: std::ops::RangeInclusive<Duration> = Duration::from_secs(1)..=Duration::from_hours(24);
/// What keeps a version out can be mended, and is then asked about again.
const AGAIN: &str = "then add the same file again: it is scanned again";

/// How images are scanned.
#[derive(Debug, Clone, clap::Args)]
pub struct ScanSettings {
    /// Command that scans the image of a function's version before it is active, with `{image}` for its name: prints the JSON
    /// of Trivy, or SARIF. No shell reads it. Without it nothing is scanned
    #[arg(long, env = "FRAMEWAKE_SCAN_IMAGES")]
    pub scan_images: Option<ScanCommand>,
    /// Least severity of a finding that keeps a version from being active; what is less is only shown
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
    Low,
}

impl Threshold {
    fn least(self) -> Option<Severity> {
        match self {
            Threshold::Never => None,
            Threshold::Critical => Some(Severity::Critical),
            Threshold::High => Some(Severity::High),
            Threshold::Medium => Some(Severity::Medium),
            Threshold::Low => Some(Severity::Low),
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
}

impl Scanner {
    /// `None` where nothing is scanned.
    pub(crate) fn open(settings: &ScanSettings) -> Option<Scanner> {
        let ScanSettings { scan_images, scan_refuse, scan_within } = settings;
        scan_images.clone().map(|command| Scanner { command, refuse: *scan_refuse, within: scan_within.0 })
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
        let outcome = match run::run(&words, self.within).await {
            Ok(output) => report::read(&output).map_err(|error| framewake_proto::chain::Chain(&error).to_string()),
            Err(error) => Err(framewake_proto::chain::Chain(&error).to_string()),
        };
        let at = Timestamp::now();
        let mut worst = match outcome {
            Ok(findings) => findings,
            Err(why) => {
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
                    "{count} findings in its image are {least}{}: mend the image and add the version that names it, or have the finding \
                     accepted in the scanner, {AGAIN}",
                    if least == Severity::Critical { "" } else { " or worse" }
                );
                (ScanState::Refused, reason)
            }
        };
        ScanView { state, at, found, worst, reason }
    }
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
        (folder, Scanner { command, refuse, within })
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
            ("UNKNOWN", Threshold::Low, ScanState::Passed),
            ("CRITICAL", Threshold::Never, ScanState::Passed),
        ] {
            let scan = scanned(&trivy(severity), refuse).await;
            assert_eq!(scan.state, state, "{severity} {refuse:?}: {scan:?}");
            assert_eq!(scan.worst.len(), 1);
            assert_eq!(scan.reason.is_empty(), state.is_active(), "{}", scan.reason);
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

    #[tokio::test]
    async fn one_that_hangs_is_ended_with_all_that_it_started() {
        let folder = tempfile::tempdir().expect("a folder");
        let pid = folder.path().join("pid");
        let script = format!("sleep 600 & echo $! > {}; wait", pid.display());
        let (_program, scanner) = scanner(&script, Threshold::Critical, Duration::from_secs(1));
        let scan = scanner.scan("x").await;
        assert!(scan.state == ScanState::Failed && scan.reason.contains("1s"), "{}", scan.reason);
        let child = std::fs::read_to_string(&pid).expect("it began");
        // It is dead, and may wait for somebody to take note of that.
        let dead = || {
            let stat = std::fs::read_to_string(format!("/proc/{}/stat", child.trim())).unwrap_or_default();
            stat.is_empty() || stat.contains(") Z ") || stat.contains(") X ")
        };
        let ended = async {
            while !dead() {
                tokio::task::yield_now().await;
            }
        };
        tokio::time::timeout(Duration::from_secs(10), ended).await.expect("what it started is ended too");
    }
}
