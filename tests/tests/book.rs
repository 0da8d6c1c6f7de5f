//! The documents are believed only as far as they were tried: each command in them is one that the programs know, and the
//! first pages are walked as a reader does.

use framewake_tests::farm::TestFarm;
use framewake_tests::parts::{built, path, root};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// Programs whose commands stand in the documents.
const PROGRAMS: [&str; 3] = ["framewake", "framewake-scheduler", "framewake-worker"];
/// What a shell reads as the end of a command or of its words; what follows is not ours to judge.
const ENDS: [&str; 10] = [" | ", " > ", " < ", " 2>", " && ", " &", "; ", " # ", " …", " is ready on "];
/// Does its work whatever is said after it: only its name can be wrong.
const WITHOUT_HELP: &str = "framewake-worker list-gpus";

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

/// Commands of ours in fenced blocks, whole lines, and in running text, between backquotes.
fn commands(page: &str) -> Vec<String> {
    let joined = page.replace("\\\n", " ");
    let lines = shell_blocks(&joined).iter().flat_map(|block| block.text.lines()).collect::<Vec<_>>();
    let inline = joined.lines().flat_map(|line| line.split('`').skip(1).step_by(2));
    let ours = |text: &&str| PROGRAMS.iter().any(|program| text.starts_with(&format!("{program} ")));
    let cut = |text: &str| {
        let end = ENDS.iter().filter_map(|end| text.find(end)).min().unwrap_or(text.len());
        text[..end].trim().to_owned()
    };
    // `framewake COMMAND …` speaks of all of them, and one has no help.
    let told = |command: &String| {
        command.contains(' ') && !command.starts_with("framewake COMMAND") && command != WITHOUT_HELP
    };
    lines.into_iter().map(str::trim).chain(inline).filter(ours).map(cut).filter(told).collect()
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

/// Runs the blocks of a page that a line before them says are to be run, one after the other, as one reader.
fn walk(page: &str, folder: &Path, url: &str) -> usize {
    let mut walked = 0;
    // What a reader's terminal knows from the blocks before.
    let mut exports = String::new();
    for block in shell_blocks(page) {
        let Some(marker) = block.before.strip_prefix("<!-- run").and_then(|rest| rest.strip_suffix("-->")) else {
            continue;
        };
        let expected: i32 = marker.trim().strip_prefix("fails with ").map_or(0, |code| code.parse().expect("a code"));
        let mut shell = Command::new("bash");
        shell
            .args(["-euo", "pipefail", "-c", &format!("{exports}{}", block.text)])
            .current_dir(folder)
            .stdin(Stdio::null());
        shell.env("FRAMEWAKE_URL", url).env("NO_COLOR", "1");
        let output = shell.output().expect("there is a shell");
        let said = [output.stdout, output.stderr].concat();
        let said = String::from_utf8_lossy(&said);
        assert_eq!(output.status.code(), Some(expected), "{}\nsaid:\n{said}", block.text);
        let kept = block.text.lines().filter(|line| line.starts_with("export "));
        exports.extend(kept.map(|line| format!("{line}\n")));
        walked += 1;
    }
    walked
}

/// A folder that looks like a checkout after `make demo`.
fn checkout(folder: &Path) {
    let programs = built("framewake").parent().expect("a program lies in a folder").to_owned();
    std::fs::create_dir_all(folder.join("target")).expect("writable");
    std::fs::create_dir_all(folder.join(".demo")).expect("writable");
    for (name, target) in
        [("target/debug", programs), (".venv", root().join(".venv")), ("samples", root().join("samples"))]
    {
        std::os::unix::fs::symlink(target, folder.join(name)).expect("writable");
    }
    let mut scene = Command::new("python3");
    scene.args(["samples/scenes/make_castle.py", ".demo/castle.blend"]).env("PATH", path()).current_dir(folder);
    let output = scene.output().expect("python runs");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}

#[tokio::test(flavor = "multi_thread")]
async fn the_first_render_goes_as_the_page_says() {
    let farm = TestFarm::start(2).await;
    let folder = farm.folder().join("reader");
    checkout(&folder);
    let page = read(&root().join("docs/first-render.md"));
    let walked = tokio::task::block_in_place(|| walk(&page, &folder, &farm.url()));
    assert_eq!(walked, 7, "blocks of the page");
    let film = folder.join("my-film/out/film.mp4");
    assert!(std::fs::metadata(&film).is_ok_and(|film| film.len() > 1000), "{}", film.display());
}
