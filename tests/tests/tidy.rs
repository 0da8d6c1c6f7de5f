//! What the compiler and clippy can't see: length of files, spelling, links, places of machines, and who may use what.
//! Everything that git tracks is looked at; each rule names every place that breaks it.

use std::path::{Path, PathBuf};
use std::process::Command;

/// A ratchet: it may go down.
const RUST_LINES_MAX: usize = 700;

/// A tracked text file.
struct Text {
    path: String,
    text: String,
}

impl Text {
    fn lines(&self) -> impl Iterator<Item = (usize, &str)> {
        self.text.lines().enumerate().map(|(at, line)| (at + 1, line))
    }

    fn is_rust(&self) -> bool {
        self.has_extension("rs")
    }

    fn is_page(&self) -> bool {
        self.has_extension("md")
    }

    fn has_extension(&self, extension: &str) -> bool {
        Path::new(&self.path).extension().is_some_and(|found| found == extension)
    }

    /// Written by others or by programs, or full of what these rules forbid: this file.
    fn is_exempt(&self) -> bool {
        ["LICENSE", "Cargo.lock", "tests/tests/tidy.rs"].contains(&self.path.as_str())
    }
}

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("the folder above this package").to_owned()
}

/// Tracked files that are there and are text.
fn tracked() -> Vec<Text> {
    let listed = Command::new("git").args(["ls-files", "-z"]).current_dir(root()).output().expect("git runs");
    assert!(listed.status.success(), "git ls-files: {}", String::from_utf8_lossy(&listed.stderr));
    let paths = String::from_utf8(listed.stdout).expect("names are UTF-8");
    let paths = paths.split('\0').filter(|path| !path.is_empty());
    let texts: Vec<Text> = paths
        .filter_map(|path| {
            let bytes = std::fs::read(root().join(path)).ok()?;
            let text = String::from_utf8(bytes).ok().filter(|text| !text.contains('\0'))?;
            Some(Text { path: path.to_owned(), text })
        })
        .collect();
    assert!(texts.len() > 100, "only {} tracked files were read", texts.len());
    texts
}

/// Fails with every place at once.
fn none(rule: &str, places: Vec<String>) {
    assert!(places.is_empty(), "{rule}:\n  {}", places.join("\n  "));
}

/// Places where a line of a tracked file is `wrong`, which says what is.
fn places(of: impl Fn(&Text) -> bool, wrong: impl Fn(&Text, &str) -> Option<String>) -> Vec<String> {
    let mut found = Vec::new();
    for text in tracked().iter().filter(|text| !text.is_exempt() && of(text)) {
        for (number, line) in text.lines() {
            if let Some(what) = wrong(text, line) {
                found.push(format!("{}:{number}: {what}", text.path));
            }
        }
    }
    found
}

/// Runs of letters, in lower case.
fn words(line: &str) -> impl Iterator<Item = String> {
    line.split(|c: char| !c.is_ascii_alphabetic()).filter(|word| !word.is_empty()).map(str::to_ascii_lowercase)
}

#[test]
fn no_source_file_is_longer_than_can_be_read_at_a_sitting() {
    let long = tracked().into_iter().filter(Text::is_rust).filter_map(|text| {
        let lines = text.text.lines().count();
        (lines > RUST_LINES_MAX).then(|| format!("{}: {lines} lines", text.path))
    });
    none("files over the ratchet: divide them by what they are about", long.collect());
}

#[test]
fn tests_wait_for_conditions_and_never_sleep_for_luck() {
    // Each with its reason.
    let allowed = [
        "tests/src/bin/bench/idle.rs",       // doing nothing for a while is what it measures
        "worker/tests/common/mod.rs",        // the pause between two looks at a condition, with a deadline
        "tests/src/proxy.rs",                // being slow is what it is for
        "tests/src/proxy/s3.rs",             // the same
        "tests/src/gateway.rs",              // the same
        "tests/src/wait.rs",                 // the same
        "scheduler/core/tests/world/mod.rs", // words about a simulated world, which has no clock
    ];
    let of_tests = |text: &Text| {
        let path = text.path.as_str();
        let inside = path.starts_with("tests/") || path.contains("/tests/") || path.ends_with("/tests.rs");
        text.is_rust() && inside && !allowed.contains(&path)
    };
    let found = places(of_tests, |_, line| {
        let at = line.find("sleep(")?;
        // Within quotes it is a shell's or Python's: a renderer that takes its time.
        let quotes = line[..at].matches('"').count();
        (quotes % 2 == 0).then(|| "sleep: wait for what should happen, with a deadline".to_owned())
    });
    none("tests that sleep", found);
}

#[test]
fn spelling_is_american_and_one_for_each_word() {
    let british = [
        ("cancelled", "canceled"),
        ("cancelling", "canceling"),
        ("colour", "color"),
        ("colours", "colors"),
        ("behaviour", "behavior"),
        ("licence", "license"),
        ("licences", "licenses"),
        ("initialise", "initialize"),
        ("initialised", "initialized"),
        ("serialise", "serialize"),
        ("serialised", "serialized"),
        ("deserialise", "deserialize"),
        ("normalise", "normalize"),
        ("normalised", "normalized"),
        ("optimise", "optimize"),
        ("optimised", "optimized"),
        ("organise", "organize"),
        ("recognise", "recognize"),
        ("synchronise", "synchronize"),
        ("favour", "favor"),
        ("honour", "honor"),
        ("honours", "honors"),
        ("centre", "center"),
        ("grey", "gray"),
        ("artefact", "artifact"),
        ("neighbour", "neighbor"),
        ("neighbouring", "neighboring"),
    ];
    let found = places(
        |_| true,
        |text, line| {
            words(line).find_map(|word| {
                let (_, right) = british.iter().find(|(wrong, _)| *wrong == word)?;
                (!is_a_name_of_others(text, line, &word)).then(|| format!("`{word}`: write `{right}`"))
            })
        },
    );
    none("spelling", found);
}

/// Words that are somebody else's: methods of libraries, what renderers print.
fn is_a_name_of_others(text: &Text, line: &str, word: &str) -> bool {
    // A cancellation token's.
    let methods = [".cancelled()", "cancelled_owned()", "is_cancelled()", "run_until_cancelled"];
    let method = text.is_rust() && methods.iter().any(|name| line.contains(name));
    let printed = text.path.starts_with("worker/reading/src/rules/");
    (word == "cancelled" && method) || printed
}

#[test]
fn what_is_left_to_do_has_a_number() {
    let found = places(
        |_| true,
        |_, line| {
            let at = ["TODO", "FIXME", "XXX"].iter().find_map(|word| {
                let at = line.find(word)?;
                let apart = |c: Option<char>| c.is_none_or(|c| !c.is_ascii_alphanumeric() && c != '_');
                let alone = apart(line[..at].chars().next_back()) && apart(line[at + word.len()..].chars().next());
                alone.then_some(at)
            })?;
            let numbered =
                line[at..].split('#').nth(1).is_some_and(|rest| rest.starts_with(|c: char| c.is_ascii_digit()));
            (!numbered).then(|| "without the number of an issue".to_owned())
        },
    );
    none("left to do", found);
}

#[test]
fn no_file_knows_the_folders_of_one_machine() {
    let folders = ["/work/", "/root/", "/home/"];
    let found = places(
        |_| true,
        |_, line| {
            let at = folders.iter().find_map(|folder| {
                let at = line.find(folder)?;
                // Part of a longer path (`/usr/work/`) or of an address (`example/home/`) is something else.
                let before = line[..at].chars().next_back();
                before.is_none_or(|c| !c.is_alphanumeric() && !"._-}~".contains(c)).then_some(at)
            })?;
            Some(line[at..].chars().take(40).collect())
        },
    );
    none("folders of a machine", found);
}

#[test]
fn dockerfiles_build_without_fetching_a_frontend() {
    let found = places(
        |text| {
            text.path.starts_with("dockerfiles/")
                || text.path.rsplit('/').next().is_some_and(|name| name.contains("Dockerfile"))
        },
        |_, line| line.trim_start().to_ascii_lowercase().starts_with("# syntax=").then(|| line.to_owned()),
    );
    none("`# syntax=` fetches a frontend from the network at each build", found);
}

#[test]
fn the_rules_use_no_clock_no_files_and_no_network() {
    let banned = ["tokio", "async", "SystemTime", "Instant", "std::fs", "std::net", "std::thread", "std::env"];
    let found = places(
        |text| text.path.starts_with("scheduler/core/src/") && text.is_rust(),
        |_, line| {
            let line = line.trim_start();
            let used = line.starts_with("use ") || line.starts_with("pub use ") || line.starts_with("pub(crate) use ");
            let word = banned.iter().find(|word| used && line.contains(*word));
            word.map(|word| format!("`{word}` in the rules: it comes in as an argument or an event"))
        },
    );
    none("the core stays pure", found);
}

#[test]
fn the_command_line_speaks_rest_except_for_dev() {
    let found = places(
        |text| text.path.starts_with("scheduler/src/bin/framewake/") && text.is_rust(),
        |text, line| {
            let dev =
                text.path.ends_with("/main.rs") && (line.contains("config::DevConfig") || line.contains("dev::run"));
            // Manual pages have the scheduler's arguments in them.
            let man =
                text.path.ends_with("/man.rs") && (line.contains("config::Config") || line.contains("errands::Errand"));
            (line.contains("framewake_scheduler") && !dev && !man)
                .then(|| "asks the scheduler's code, not its REST interface".to_owned())
        },
    );
    none("the command line", found);
}

#[test]
fn links_of_the_documents_lead_somewhere() {
    let mut found = Vec::new();
    let files = tracked();
    for page in files.iter().filter(|file| file.is_page()) {
        for (number, target) in page.lines().flat_map(|(number, line)| links(line).map(move |link| (number, link))) {
            if let Err(why) = follow(&files, page, target) {
                found.push(format!("{}:{number}: `{target}` {why}", page.path));
            }
        }
    }
    none("links", found);
}

/// Targets of `[text](target)`.
fn links(line: &str) -> impl Iterator<Item = &str> {
    line.split("](").skip(1).filter_map(|rest| rest.split_once(')').map(|(target, _)| target))
}

fn follow(files: &[Text], page: &Text, target: &str) -> Result<(), String> {
    if target.contains("://") || target.starts_with("mailto:") {
        return Ok(());
    }
    let (file, heading) = target.split_once('#').map_or((target, None), |(file, heading)| (file, Some(heading)));
    let path = root().join(Path::new(&page.path).parent().expect("a file lies in a folder")).join(file);
    if !file.is_empty() && !path.exists() {
        return Err("is not there".to_owned());
    }
    let Some(heading) = heading else { return Ok(()) };
    let other = if file.is_empty() { Some(page) } else { find(files, &path) };
    let there = other.is_some_and(|other| other.text.lines().any(|line| anchor(line).as_deref() == Some(heading)));
    if there { Ok(()) } else { Err("names a heading that is not there".to_owned()) }
}

fn find<'a>(files: &'a [Text], path: &Path) -> Option<&'a Text> {
    let path = path.canonicalize().ok()?;
    files.iter().find(|file| root().join(&file.path).canonicalize().ok().as_ref() == Some(&path))
}

/// `## The GPU's part` is `the-gpus-part`.
fn anchor(line: &str) -> Option<String> {
    let text = line.strip_prefix('#')?.trim_start_matches('#').strip_prefix(' ')?;
    let kept = text.chars().filter(|c| c.is_alphanumeric() || " -_".contains(*c));
    Some(kept.map(|c| if c == ' ' { '-' } else { c.to_ascii_lowercase() }).collect())
}

/// Tables whose lines are each held by a test: the page, the heading they stand under, and how many tests they name at least.
const HELD_BY_TESTS: [(&str, &str, usize); 2] =
    [("docs/faults.md", "#", 20), ("docs/security.md", "## Threats, and the test for each", 60)];

/// `faults::an_emptied_jetstream_loses_nothing`, or `faults.rs::…`, is a test in a file of that name.
fn is_a_test(files: &[Text], file: &str, function: &str) -> bool {
    let (stem, called) = (format!("{}.rs", file.trim_end_matches(".rs")), format!("fn {function}("));
    let of_that_name = files.iter().filter(|text| text.is_rust() && text.path.rsplit('/').next() == Some(&stem));
    of_that_name.flat_map(|text| text.text.match_indices(&called).map(|(at, _)| &text.text[..at])).any(|before| {
        // Up to the end of what stands before it.
        let attributes = before.rsplit("\n\n").next().unwrap_or_default();
        attributes.contains("#[test]") || attributes.contains("#[tokio::test")
    })
}

#[test]
fn tests_named_in_the_tables_of_faults_and_threats_exist() {
    let files = tracked();
    let mut wrong = Vec::new();
    for (path, heading, least) in HELD_BY_TESTS {
        let page = find(&files, &root().join(path)).unwrap_or_else(|| panic!("{path} is there"));
        let (mut is_below, mut named) = (false, 0);
        for (number, line) in page.lines() {
            if line.starts_with('#') {
                is_below = line.starts_with(heading);
            }
            let codes = line.split('`').skip(1).step_by(2).filter_map(|code| code.split_once("::"));
            let tests: Vec<(&str, &str)> = codes.collect();
            for (file, function) in &tests {
                if !is_a_test(&files, file, function) {
                    wrong.push(format!("{path}:{number}: no test `{file}::{function}`"));
                }
            }
            let is_row = is_below && line.starts_with("| ") && !line.ends_with("| Test |");
            if is_row && path.ends_with("security.md") && tests.is_empty() {
                wrong.push(format!("{path}:{number}: no test is named"));
            }
            named += if is_below { tests.len() } else { 0 };
        }
        assert!(named >= least, "{path} names {named} tests only");
    }
    none("what a table promises has a test that exists", wrong);
    assert!(!is_a_test(&files, "tidy", "is_a_test"), "no function is a test for its name alone");
}

/// Programs whose options are not ours.
const OTHERS: [&str; 8] = ["az ", "docker ", "gcloud ", "helm ", "kubectl ", "oc ", "cosign", "minisign"];

#[test]
fn options_in_the_documents_exist() {
    let files = tracked();
    // Options are fields of structs for clap: `store_setup` is `--store-setup`.
    let mut known: Vec<String> = vec!["help".to_owned(), "version".to_owned()];
    for source in files.iter().filter(|file| file.is_rust() && !file.path.starts_with("tests/")) {
        let fields =
            source.text.lines().filter_map(|line| line.trim_start().trim_start_matches("pub ").split_once(": "));
        known.extend(fields.map(|(name, _)| name.trim_start_matches("pub(crate) ").replace('_', "-")));
        let named = source.text.split("long = \"").skip(1).filter_map(|rest| rest.split('"').next());
        known.extend(named.map(str::to_owned));
    }
    let mut found = Vec::new();
    for page in files.iter().filter(|file| file.is_page()) {
        let mut before = "";
        let mut of_others = false;
        for (number, line) in page.lines() {
            // A command of another program, which may speak of ours, and its further lines.
            of_others = OTHERS.iter().any(|program| line.starts_with(program)) || (of_others && before.ends_with('\\'));
            before = line;
            if of_others || !(line.contains("framewake") || line.contains("| `--")) {
                continue;
            }
            for option in options(line).filter(|option| !known.iter().any(|name| name == option)) {
                found.push(format!("{}:{number}: --{option}", page.path));
            }
        }
    }
    none("options that no program has", found);
}

/// `--name` at the beginning of a word.
fn options(line: &str) -> impl Iterator<Item = &str> {
    line.split([' ', '`', '(', '"', '[', ',']).filter_map(|word| {
        let name = word.strip_prefix("--")?.split(|c: char| !c.is_ascii_lowercase() && c != '-').next()?;
        (!name.is_empty()).then_some(name)
    })
}
