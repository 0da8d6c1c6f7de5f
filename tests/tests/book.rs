//! The documents are believed only as far as they were tried: each command in them is run against a real farm, or stands in
//! a short list with what runs it instead; and all of them are ones that the programs know.

#[path = "book/played.rs"]
mod played;

use framewake_tests::farm::TestFarm;
use framewake_tests::parts::{built, path, root};
use framewake_tests::receiver::{Answer, MailServer, Receiver};
use played::{NOT_PLAYED, PLAYED};
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

/// Programs whose commands stand in the documents.
const PROGRAMS: [&str; 3] = ["framewake", "framewake-scheduler", "framewake-worker"];
/// What a shell reads as the end of a command or of its words; what follows is not ours to judge.
const ENDS: [&str; 10] = [" | ", " > ", " < ", " 2>", " && ", " &", "; ", " # ", " …", " is ready on "];
/// Does its work whatever is said after it: only its name can be wrong.
const WITHOUT_HELP: &str = "framewake-worker list-gpus";
/// Made of the programs' own help, and held against it by `references`.
const GENERATED: &str = "docs/cli-reference.md";
/// Whose text is made elsewhere or comes before all else, and what runs their blocks.
const UNMARKED: [(&str, &str); 2] =
    [("README.md", "samples/demo.sh"), ("charts/framewake/README.md", "tests/tests/chart.rs")];
/// Why a block is not run as it stands; beside it stands what tries the same.
const REASONS: [&str; 9] = [
    "it stays",
    "a GPU",
    "a release",
    "a cluster",
    "a registry",
    "Docker",
    "faas-cli",
    "the demo",
    "a test of its own",
];

fn pages() -> Vec<PathBuf> {
    let docs = std::fs::read_dir(root().join("docs")).expect("there are documents").flatten().map(|entry| entry.path());
    let mut pages: Vec<PathBuf> = docs.filter(|path| path.extension().is_some_and(|found| found == "md")).collect();
    pages.push(root().join("README.md"));
    pages.push(root().join("charts/framewake/README.md"));
    pages.sort();
    pages
}

fn read(path: &Path) -> String {
    std::fs::read_to_string(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// A fenced block, and what the line before it says of it.
struct Block<'a> {
    text: &'a str,
    before: &'a str,
}

fn shell_blocks(page: &str) -> Vec<Block<'_>> {
    let pieces: Vec<&str> = page.split("```sh\n").collect();
    let with_before = pieces.windows(2).map(|pair| (pair[0].trim_end().lines().last().unwrap_or_default(), pair[1]));
    with_before.filter_map(|(before, rest)| Some(Block { text: rest.split("```").next()?, before })).collect()
}

/// A command of ours, without what a shell makes of it.
fn command(text: &str) -> Option<String> {
    let text = text.trim();
    if !PROGRAMS.iter().any(|program| text.strip_prefix(program).is_some_and(|rest| rest.starts_with(' '))) {
        return None;
    }
    let end = ENDS.iter().filter_map(|end| text.find(end)).min().unwrap_or(text.len());
    let command = text[..end].trim();
    // `framewake COMMAND …` speaks of all of them.
    (command.contains(' ') && !command.starts_with("framewake COMMAND")).then(|| command.to_owned())
}

/// Commands of ours in fenced blocks, whole lines, and in running text, between backquotes.
fn commands(page: &str) -> Vec<String> {
    let joined = page.replace("\\\n", " ");
    let blocks = shell_blocks(&joined);
    let lines = blocks.iter().flat_map(|block| block.text.lines());
    let inline = joined.lines().flat_map(|line| line.split('`').skip(1).step_by(2));
    // One has no help.
    lines.chain(inline).filter_map(command).filter(|command| command != WITHOUT_HELP).collect()
}

/// What the program says of a command that it does not know; it is not carried out.
fn refusal(command: &str) -> Option<String> {
    let (program, words) = command.split_once(' ').expect("commands have words");
    // Names are checked where they are read, and what stands for one is in capital letters.
    let words = words.replace("NAME", "name");
    let script = format!("exec \"$0\" {words} --help");
    let mut shell = Command::new("sh");
    shell.args(["-fc", &script]).arg(built(program)).stdin(Stdio::null());
    let output = shell.output().expect("there is a shell");
    (!output.status.success()).then(|| String::from_utf8_lossy(&output.stderr).into_owned())
}

#[test]
fn every_command_in_the_documents_is_one_that_the_programs_know() {
    let mut seen = 0;
    let mut unknown = Vec::new();
    // What the web pages say is to be typed stands in quotes of their scripts.
    let scripts = std::fs::read_dir(root().join("scheduler/web")).expect("there are pages").flatten();
    let scripts = scripts.map(|entry| (entry.path(), read(&entry.path()).replace('"', "`")));
    for (page, text) in pages().into_iter().map(|page| (page.clone(), read(&page))).chain(scripts) {
        for command in commands(&text) {
            seen += 1;
            if let Some(said) = refusal(&command) {
                unknown.push(format!("{}: {command}\n    {}", page.display(), said.lines().next().unwrap_or_default()));
            }
        }
    }
    assert!(seen > 150, "only {seen} commands were found");
    assert!(unknown.is_empty(), "commands that no program knows:\n  {}", unknown.join("\n  "));
    for wrong in ["framewake sumbit FILE", "framewake submit FILE --wiat", "framewake-scheduler backup --two monday.db"]
    {
        assert!(refusal(wrong).is_some(), "`{wrong}` would not be noticed");
    }
}

/// What a line before a block says is to be done with it.
#[derive(Debug, PartialEq, Eq)]
enum Mark<'a> {
    Run {
        code: i32,
    },
    /// Once the scheduler has ended.
    RunStopped,
    Not {
        reason: &'a str,
        instead: &'a str,
    },
    /// Programs of others, and nothing here runs them; the page says so.
    Untried,
    None,
}

fn mark(before: &str) -> Mark<'_> {
    let Some(said) = before.strip_prefix("<!-- ").and_then(|rest| rest.strip_suffix(" -->")) else { return Mark::None };
    match said.strip_prefix("not run: ").map(|rest| rest.split_once("; ")) {
        Some(Some((reason, instead))) => return Mark::Not { reason, instead },
        Some(None) => return Mark::None,
        None => {}
    }
    if said.starts_with("not tried: ") {
        return Mark::Untried;
    }
    match said {
        "run" => Mark::Run { code: 0 },
        "run with the scheduler stopped" => Mark::RunStopped,
        _ => match said.strip_prefix("run fails with ").and_then(|code| code.parse().ok()) {
            Some(code) => Mark::Run { code },
            None => Mark::None,
        },
    }
}

/// Lines in blocks that are not marked as commands, and read like some.
fn unmarked_commands(page: &str) -> Vec<&str> {
    let mut language = None;
    let mut found = Vec::new();
    for line in page.lines() {
        if let Some(after) = line.strip_prefix("```") {
            language = if language.is_none() { Some(after) } else { None };
        } else if language.is_some_and(|language| language != "sh") {
            let first = line.split(' ').next().unwrap_or_default();
            // Not what one of them says of itself.
            let is_typed = (first == "make" || PROGRAMS.contains(&first)) && !line.contains(" is ready on ");
            found.extend(is_typed.then_some(line));
        }
    }
    found
}

#[test]
fn commands_stand_in_blocks_that_are_marked_as_such() {
    let found =
        unmarked_commands("```\nframewake-scheduler … --access tokens\n```\nframewake is fine\n```sh\nmake it\n```");
    assert_eq!(found, ["framewake-scheduler … --access tokens"]);
    for page in pages().into_iter().filter(|page| !page.ends_with(GENERATED)) {
        assert_eq!(unmarked_commands(&read(&page)), [""; 0], "{}", page.display());
    }
}

#[test]
fn every_block_of_commands_is_run_or_says_what_runs_it() {
    let (mut run, mut not, mut untried) = (BTreeSet::new(), 0, 0);
    for page in pages() {
        let name = page.strip_prefix(root()).expect("below the root").display().to_string();
        for block in shell_blocks(&read(&page)) {
            let unmarked = UNMARKED.iter().find(|(page, _)| *page == name);
            match mark(block.before) {
                Mark::Run { .. } | Mark::RunStopped => drop(run.insert(name.clone())),
                Mark::Not { reason, instead } => {
                    assert!(REASONS.contains(&reason), "{name}: `{reason}` is no reason");
                    assert!(root().join(instead).is_file(), "{name}: there is no {instead}");
                    not += 1;
                }
                Mark::Untried => {
                    let ours = PROGRAMS.iter().any(|program| block.text.lines().any(|line| line.starts_with(program)));
                    assert!(!ours, "{name}: what is ours is tried:\n{}", block.text);
                    untried += 1;
                }
                Mark::None => {
                    let (_, instead) =
                        unmarked.unwrap_or_else(|| panic!("{name}: nothing says who runs:\n{}", block.text));
                    assert!(root().join(instead).is_file(), "{name}: there is no {instead}");
                }
            }
        }
    }
    let walked: BTreeSet<String> = WALKED.iter().map(|page| format!("docs/{page}.md")).collect();
    assert_eq!(run, walked, "pages with blocks to be run, and those that are walked here");
    assert!(not < 40, "{not} blocks are not run: the list is to stay short");
    assert_eq!(untried, 1, "blocks that nothing tries");
}

/// Pages with blocks that are run, by the tests below.
const WALKED: [&str; 9] =
    ["first-render", "cli", "cost", "notifications", "operations", "releases", "rest", "schedules", "security"];

/// Whoever reads a page and types what stands in it.
struct Reader<'a> {
    folder: &'a Path,
    /// What stands in the documents for what this farm has.
    instead: Vec<(&'a str, String)>,
    environment: Vec<(&'a str, String)>,
    /// What the terminal knows from the blocks before.
    exports: String,
}

impl<'a> Reader<'a> {
    fn of(farm: &'a TestFarm, folder: &'a Path) -> Reader<'a> {
        std::fs::create_dir_all(folder).expect("writable");
        for (name, target) in [(".venv", root().join(".venv")), ("samples", root().join("samples"))] {
            let _ = std::os::unix::fs::symlink(target, folder.join(name));
        }
        let _ = std::os::unix::fs::symlink(farm.data(), folder.join(".framewake"));
        Reader {
            folder,
            instead: vec![("http://127.0.0.1:7700", farm.url())],
            environment: vec![("FRAMEWAKE_URL", farm.url()), ("HOME", folder.display().to_string())],
            exports: String::new(),
        }
    }

    fn types(&self, text: &str) -> Output {
        let mut text = format!("{}{text}", self.exports);
        for (said, meant) in &self.instead {
            text = text.replace(said, meant);
        }
        let mut shell = Command::new("bash");
        shell.args(["-euo", "pipefail", "-c", &text]);
        let programs = built("framewake").parent().expect("a program lies in a folder").to_owned();
        let folders = std::iter::once(programs).chain(std::env::split_paths(&path()).collect::<Vec<_>>());
        shell
            .current_dir(self.folder)
            .stdin(Stdio::null())
            .env("PATH", std::env::join_paths(folders).expect("good names"));
        shell.env("NO_COLOR", "1").env_remove("XDG_CONFIG_HOME");
        shell.envs(self.environment.iter().map(|(name, value)| (name, value)));
        shell.output().expect("there is a shell")
    }

    fn demands(&self, text: &str, code: i32) {
        let Output { status, stdout, stderr } = self.types(text);
        let said = [stdout, stderr].concat();
        assert_eq!(status.code(), Some(code), "{text}\nsaid:\n{}", String::from_utf8_lossy(&said));
    }

    /// Runs the blocks of a page that are to be run now, one after the other; how many.
    fn walk(&mut self, page: &str, stopped: bool) -> usize {
        let page = read(&root().join(format!("docs/{page}.md")));
        let mut walked = 0;
        for block in shell_blocks(&page) {
            match mark(block.before) {
                Mark::Run { code } if !stopped => self.demands(block.text, code),
                Mark::RunStopped if stopped => self.demands(block.text, 0),
                Mark::Run { .. } | Mark::RunStopped | Mark::Not { .. } | Mark::Untried | Mark::None => continue,
            }
            let kept = block.text.lines().filter(|line| line.starts_with("export "));
            self.exports.extend(kept.map(|line| format!("{line}\n")));
            walked += 1;
        }
        walked
    }
}

/// A folder that looks like a checkout after `make demo`.
fn checkout(folder: &Path) {
    let programs = built("framewake").parent().expect("a program lies in a folder").to_owned();
    std::fs::create_dir_all(folder.join("target")).expect("writable");
    std::fs::create_dir_all(folder.join(".demo")).expect("writable");
    std::os::unix::fs::symlink(programs, folder.join("target/debug")).expect("writable");
    let mut scene = Command::new("python3");
    scene.args(["samples/scenes/make_castle.py", ".demo/castle.blend"]).env("PATH", path()).current_dir(folder);
    let output = scene.output().expect("python runs");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}

#[tokio::test(flavor = "multi_thread")]
async fn the_first_render_goes_as_the_page_says() {
    let farm = TestFarm::start(2).await;
    let folder = farm.folder().join("reader");
    let mut reader = Reader::of(&farm, &folder);
    checkout(&folder);
    assert_eq!(tokio::task::block_in_place(|| reader.walk("first-render", false)), 7, "blocks of the page");
    let film = folder.join("my-film/out/film.mp4");
    assert!(std::fs::metadata(&film).is_ok_and(|film| film.len() > 1000), "{}", film.display());
}

/// Who has rendered something, and reads on.
#[tokio::test(flavor = "multi_thread")]
async fn the_pages_about_one_farm_go_as_they_say() {
    let mut farm = TestFarm::start(2).await;
    let hooks = Receiver::start(framewake_tests::parts::free_port(), |_| Answer::Status(204)).await;
    let mails = MailServer::start(framewake_tests::parts::free_port()).await;
    let (smtp, from) = (format!("smtp://127.0.0.1:{}", mails.port), "Farm <farm@example.org>");
    let told = [("FRAMEWAKE_NOTIFY_ALLOW", "127.0.0.1/32"), ("FRAMEWAKE_SMTP", &smtp), ("FRAMEWAKE_SMTP_FROM", from)];
    farm.restart_scheduler_with(&told).await;
    let folder = farm.folder().join("reader");
    tokio::task::block_in_place(|| {
        let mut reader = Reader::of(&farm, &folder);
        reader.instead.push(("https://hooks.example/farm", format!("http://127.0.0.1:{}/farm", hooks.port)));
        for (page, blocks) in
            [("cli", 2), ("releases", 1), ("rest", 2), ("schedules", 1), ("notifications", 1), ("operations", 3)]
        {
            assert_eq!(reader.walk(page, false), blocks, "blocks of {page}");
        }
        play(&reader, PLAYED);
        // Prices and budgets hold jobs, so they come after all else.
        reader.demands(
            "framewake submit samples/jobs/tachyon.yaml --wait && framewake submit samples/jobs/povray.yaml && framewake pause latest",
            0,
        );
        assert_eq!(reader.walk("cost", false), 5, "blocks of cost");
    });
    assert!(!hooks.got().is_empty(), "the try of the page arrives; so does what failed since");
    farm.kill_scheduler();
    tokio::task::block_in_place(|| {
        assert_eq!(Reader::of(&farm, &folder).walk("operations", true), 1, "blocks of operations, stopped");
    });
}

#[tokio::test(flavor = "multi_thread")]
async fn who_is_let_in_goes_as_the_page_says() {
    let mut farm = TestFarm::start(1).await;
    farm.arguments = vec!["--access".to_owned(), "tokens".to_owned()];
    farm.restart_scheduler().await;
    let folder = farm.folder().join("reader");
    tokio::task::block_in_place(|| {
        let mut reader = Reader::of(&farm, &folder);
        reader.instead.push(("/var/lib/framewake", farm.data().display().to_string()));
        reader.instead.push(("https://farm.example", farm.url()));
        // The page logs in to it.
        reader.environment.retain(|(name, _)| *name != "FRAMEWAKE_URL");
        assert_eq!(reader.walk("security", false), 1, "blocks of the page");
    });
}

fn play(reader: &Reader<'_>, commands: &[(&str, &str, i32)]) {
    for (said, typed, code) in commands {
        reader.demands(if typed.is_empty() { said } else { typed }, *code);
    }
}

#[test]
fn every_command_in_running_text_is_played_or_says_what_plays_it() {
    let played: BTreeSet<&str> = PLAYED.iter().map(|(said, ..)| *said).filter(|said| !said.is_empty()).collect();
    let mut blocks = BTreeSet::new();
    let mut wanted = BTreeSet::new();
    for page in pages() {
        let text = read(&page).replace("\\\n", " ");
        for block in shell_blocks(&text) {
            blocks.extend(block.text.lines().filter_map(command));
        }
        if !page.ends_with(GENERATED) {
            let inline = text.lines().flat_map(|line| line.split('`').skip(1).step_by(2)).filter_map(command);
            wanted.extend(inline.map(|command| (command, page.clone())));
        }
    }
    let elsewhere: BTreeSet<&str> = NOT_PLAYED.iter().map(|(said, _)| *said).collect();
    // `framewake functions add` speaks of what is typed with a file.
    let typed = |said: &str| {
        let begins = |whole: &str| whole == said || whole.strip_prefix(said).is_some_and(|rest| rest.starts_with(' '));
        played.iter().chain(&elsewhere).any(|whole| begins(whole)) || blocks.iter().any(|whole: &String| begins(whole))
    };
    let missing: Vec<_> = wanted.iter().filter(|(said, _)| !typed(said)).collect();
    assert!(missing.is_empty(), "commands that are neither played nor in a block: {missing:#?}");
    let stands = |said: &&str| wanted.iter().any(|(wanted, _)| wanted == *said);
    let gone: Vec<_> = played.iter().chain(&elsewhere).filter(|said| !stands(said)).collect();
    assert!(gone.is_empty(), "played, and in no document any more: {gone:?}");
    for (said, instead) in NOT_PLAYED {
        assert!(root().join(instead).is_file(), "{said}: there is no {instead}");
    }
}
