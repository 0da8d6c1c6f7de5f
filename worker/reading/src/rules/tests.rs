//! Rules against lines that the renderers really printed.

use super::*;
use framewake_proto::function::BUILT_IN_RULES;

fn read(name: &str, line: &str) -> Meaning {
    Rules::new("f", name, &[]).expect("built in").read(line)
}

fn check_progress(name: &str, line: &str, permille: u32) {
    let progress = read(name, line).progress.unwrap_or_else(|| panic!("no progress in {line:?}"));
    assert_eq!(progress.permille, permille, "{line:?}");
}

fn check_verdict(name: &str, line: &str, verdict: Verdict, words: &str) {
    let finding = read(name, line).finding.unwrap_or_else(|| panic!("no verdict for {line:?}"));
    assert_eq!(finding.verdict, verdict, "{line:?}");
    assert!(finding.message.contains(words), "{:?} does not say {words:?}", finding.message);
}

/// The finding that a worker keeps of these lines: the one that knows best, or else the first.
fn check_lines(name: &str, lines: &str, verdict: Verdict, message: &str) {
    let findings = lines.lines().filter_map(|line| read(name, line).finding);
    let finding = findings.min_by_key(|finding| finding.rank).unwrap_or_else(|| panic!("no verdict for {lines:?}"));
    assert_eq!((finding.verdict, finding.message.as_str()), (verdict, message), "{lines:?}");
}

fn check_silent(name: &str, line: &str) {
    assert_eq!(read(name, line).finding, None, "{line:?}");
}

#[test]
fn every_built_in_rule_file_compiles() {
    for name in BUILT_IN_RULES {
        Rules::new("f", name, &[]).expect(name);
    }
    assert!(matches!(Rules::new("f", "bender", &[]), Err(Error::Unknown(_))));
}

#[test]
fn progress_is_read_from_each_renderer() {
    check_progress(
        "blender",
        "Fra:1 Mem:12.20M (Peak 12.20M) | Time:00:00.09 | Remaining:00:00.17 | Mem:2.74M, Peak:2.74M | Scene, ViewLayer | Sample 1/8",
        125,
    );
    check_progress("blender", "Fra:2 Mem:10M | Time:00:01.0 | Rendering 25 / 64 samples", 390);
    check_progress("tachyon", "Rendering Progress:        47% complete            ", 470);
    check_progress("povray", "Rendered 1024 of 2304 pixels (44%)", 444);
    check_progress("mitsuba", "Rendering [==========          ] (1.28s, ETA: 9.18s)", 500);
    check_progress("generic", "working: 12.5% done", 125);
}

#[test]
fn failures_are_told_apart_by_what_helps() {
    use Verdict::{NeedMoreMemory, NeedMoreVram, RetryElsewhere, SceneError};
    check_verdict("blender", "System is out of GPU memory", NeedMoreVram, "GPU ran out");
    check_verdict("blender", "CUDA error at cuCtxCreate: Out of memory", NeedMoreVram, "GPU ran out");
    check_verdict("blender", "Out of memory in CUDA queue copy_to_device (integrator_init)", NeedMoreVram, "GPU");
    check_verdict("blender", "Illegal address in CUDA queue synchronize", RetryElsewhere, "GPU failed");
    check_verdict("blender", "Found no Cycles device of the specified type", RetryElsewhere, "GPU");
    check_verdict("blender", "Error: Build without OpenImageDenoiser", RetryElsewhere, "denoise: false");
    check_verdict("blender", "Failed to denoise, build has no OpenImageDenoise support", RetryElsewhere, "denoise");
    check_verdict("blender", "Error: Cannot render, no camera", SceneError, "camera");
    check_verdict(
        "blender",
        "00:00.500  cycles  | ERROR Image file 'wood.png' does not exist.",
        SceneError,
        "wood.png",
    );
    check_verdict("blender", "Error: Missing DNA block", SceneError, "cannot read");
    check_verdict(
        "blender",
        "terminate called after throwing an instance of 'std::bad_alloc'",
        NeedMoreMemory,
        "memory",
    );
    check_verdict("blender", "ModuleNotFoundError: No module named 'bpy'", RetryElsewhere, "pip install bpy");
    check_verdict("blender", "No module named 'bpy'", RetryElsewhere, "`export PATH=\"$PWD/.venv/bin:$PATH\"`");
    check_verdict("blender", "Image file '/studio/wood.png' does not exist.", SceneError, "Make Paths Relative");
    check_verdict("blender", "EGL Error (0x3009): EGL_BAD_MATCH: Arguments are inconsistent", RetryElsewhere, "Cycles");
    // Software draws after it: what is wrong with the scene is the reason then.
    check_lines(
        "blender",
        "EGL Error (0x3009): EGL_BAD_MATCH: Arguments are inconsistent\nError: Cannot render, no camera",
        SceneError,
        "the scene has no camera; hint: set the scene's camera, or the parameter `camera`",
    );
    check_lines(
        "ffmpeg",
        "[AVFormatContext @ 0x5592] Unable to choose an output format for '/w/film.xyz'; use a standard extension for the \
         filename or specify the format manually.\n[out#0 @ 0x5592] Error initializing the muxer for /w/film.xyz: Invalid argument",
        SceneError,
        "ffmpeg: Unable to choose an output format for '/w/film.xyz'; hint: end the step's `output` as a kind of video that \
         ffmpeg knows: `film.mp4`",
    );
    check_verdict("blender", "Render error (No space left on device) cannot save: '/x/f.png'", RetryElsewhere, "write");
    check_verdict("povray", "Fatal error in parser: Cannot open file.", SceneError, "Cannot open file");
    check_verdict(
        "povray",
        "File 'a.pov' line 3: Parse Error: Expected 'object', } found instead",
        SceneError,
        "Expected",
    );
    check_verdict(
        "povray",
        "File 'b.pov' line 1: Possible Parse Error: Cannot find file 'nope.png', even",
        SceneError,
        "nope.png",
    );
    let critical = "Caught a critical exception: ";
    for (line, words) in [
        ("[parser.cpp:1077] File not found: nofile.xml", "`nofile.xml` is not there"),
        (
            "[parser.cpp:1718] At a.xml (line 1, col 50): failed to instantiate shape plugin of type \"obj\": [OBJMesh] \
             Error while loading OBJ file \"nope.obj\": file not found",
            "`nope.obj`, which is not there",
        ),
        (
            "[parser.cpp:1087] Parsing of XML file \"b.xml\" failed: Start-end tags mismatch (line 1, col 31)",
            "tags mismatch",
        ),
        (
            "[parser.cpp:1718] At c.xml (line 1, col 25): failed to instantiate integrator plugin of type \"nonsense\": \
             [PluginManager] Plugin \"nonsense\" not found!",
            "\"nonsense\" not found",
        ),
    ] {
        check_verdict("mitsuba", &format!("{critical}{line}"), SceneError, words);
    }
    check_verdict(
        "mitsuba",
        "jit_init_thread_state(): the CUDA backend hasn't been initialized",
        RetryElsewhere,
        "CUDA",
    );
    check_verdict("ffmpeg", "[libx264 @ 0x55] width not divisible by 2 (33x17)", SceneError, "(33x17)");
    check_verdict("ffmpeg", "b.xml: Invalid data found when processing input", SceneError, "nothing to encode");
    check_verdict("ffmpeg", "Error splitting the argument list: Option not found", SceneError, "options");
    check_verdict("ffmpeg", "Unknown encoder 'libx265'", RetryElsewhere, "libx265");
    check_verdict("tachyon", "Parser failed due to an input file syntax error.", SceneError, "syntax error");
    check_verdict(
        "generic",
        "terminate called after throwing an instance of 'std::bad_alloc'",
        NeedMoreMemory,
        "memory",
    );
    // Which memory it is decides where the frame is tried again.
    check_verdict("generic", "CUDA error: out of memory in cuMemAlloc", NeedMoreVram, "GPU");
    check_verdict("generic", "kernel: out of memory", NeedMoreMemory, "machine");
}

#[test]
fn what_ffmpeg_means_is_told_and_not_the_general_words_at_its_end() {
    check_lines(
        "ffmpeg",
        "[libx264 @ 0x55d80b81fc80] width not divisible by 2 (65x37)\n\
         [vost#0:0/libx264 @ 0x55d80b819600] Terminating thread with return code -22 (Invalid argument)\n\
         Conversion failed!",
        Verdict::SceneError,
        "the encoder refuses the size: width not divisible by 2 (65x37)",
    );
    check_lines(
        "ffmpeg",
        "[libx264 @ 0x5569fe4d3f80] Unable to parse \"crf\" option value \"abc\"",
        Verdict::SceneError,
        "ffmpeg does not understand its options; hint: look at the words of the function's command and the step's \
         parameters",
    );
}

#[test]
fn what_ffmpeg_says_of_an_input_that_is_not_there_names_it_and_what_to_compare() {
    let names = "hint: compare the pattern in the command with the names of the inputs";
    // A glob that fits nothing, which it also calls a wrong option.
    check_lines(
        "ffmpeg",
        "[in#0/image2 @ 0x55b326fbe900] Could not open file : frames/*.png\n\
         [out#0/mp4 @ 0x55b326fc22c0] Output file does not contain any stream\n\
         Error opening output file out.mp4.\n\
         Error opening output files: Invalid argument",
        Verdict::SceneError,
        "no input matches `frames/*.png`; hint: compare the pattern in the command, or the step's `frames_glob`, with the \
         names of the inputs",
    );
    // A pattern of numbers, of which none is there: of version 9, and of 5.
    let pattern = format!("no input matches `frames/%04d.png`; {names}");
    check_lines(
        "ffmpeg",
        "[in#0 @ 0x55cbd8c6a900] Could find no file or sequence with path 'frames/%04d.png' and index in the range 0-4\n\
         [in#0 @ 0x55cbd8c6a5c0] Error opening input: No such file or directory\n\
         Error opening input file frames/%04d.png.\n\
         Error opening input files: No such file or directory",
        Verdict::SceneError,
        &pattern,
    );
    check_lines(
        "ffmpeg",
        "[image2 @ 0x55d1] Could find no file with path 'frames/%04d.png' and index in the range 0-4\n\
         frames/%04d.png: No such file or directory",
        Verdict::SceneError,
        &pattern,
    );
    // One file: the same two, and one that is there and empty.
    check_lines(
        "ffmpeg",
        "[in#0 @ 0x55dd210a85c0] Error opening input: No such file or directory\n\
         Error opening input file nope.png.\n\
         Error opening input files: No such file or directory",
        Verdict::SceneError,
        &format!("ffmpeg cannot open `nope.png`; {names}, and look whether that file is whole"),
    );
    check_lines(
        "ffmpeg",
        "nope.png: No such file or directory",
        Verdict::SceneError,
        &format!("ffmpeg cannot open `nope.png`; {names}"),
    );
    check_lines(
        "ffmpeg",
        "[in#0 @ 0x5590aee4d5c0] Error opening input: Invalid data found when processing input\n\
         Error opening input file zero.png.\n\
         Error opening input files: Invalid data found when processing input",
        Verdict::SceneError,
        &format!("ffmpeg cannot open `zero.png`; {names}, and look whether that file is whole"),
    );
    // Another machine has more, though the file is named here too.
    check_lines(
        "ffmpeg",
        "[in#0 @ 0x55] Error opening input: Cannot allocate memory\nError opening input file a.png.",
        Verdict::NeedMoreMemory,
        "the machine ran out of memory",
    );
    check_lines(
        "ffmpeg",
        "[h264_nvenc @ 0x55] OpenEncodeSessionEx failed: out of memory (10): (no details)",
        Verdict::RetryElsewhere,
        "the GPU encoder can't be used on this machine",
    );
}

#[test]
fn a_scene_that_blender_can_not_read_is_told_with_what_may_have_saved_it() {
    let other = "Blender cannot read the scene file; hint: a newer Blender than the one that renders may have saved it, then \
                 render with that one; or it is no .blend";
    for (why, message) in [
        (
            "The file was saved by a newer version, open it with Blender 9.99 (sub 85) or later",
            "Blender cannot read the scene file: a newer one saved it; hint: render with Blender 9.99 or a newer one",
        ),
        ("Cannot read blend file '/in/a.blend', incomplete header, may be from a newer version of Blender", other),
        ("Failed to read blend file '/in/a.blend': Missing DNA block", other),
    ] {
        let lines = format!("Error: Loading \"/in/a.blend\" failed: {why}");
        check_lines("blender", &lines, Verdict::SceneError, message);
    }
    let lines = "Error: File format is not supported in file \"/in/a.blend\"";
    check_lines("blender", lines, Verdict::SceneError, other);
}

#[test]
fn ordinary_words_have_no_verdict() {
    for line in [
        "00:00.716  render           | Saved: '/out/bl_0001.png'",
        " Time: 00:00.37 (Saving: 00:00.15)",
        "Fra:1 Mem:10.09M (Peak 10.83M) | Time:00:00.18 | Mem:0.88M, Peak:0.88M | Scene, ViewLayer | Sample 2/2",
        "WARN (bke.cuew) CUEW initialization failed: Error opening the library",
    ] {
        check_silent("blender", line);
    }
    check_silent(
        "povray",
        "povray: cannot open the user configuration file /var/lib/render/.povray/3.7/povray.conf: No such file or directory",
    );
    check_silent("povray", "Possible Parse Warning: something");
    check_silent(
        "mitsuba",
        "2026-11-21 03:13:17 INFO  [SamplingIntegrator] Starting render job (64x36, 8 samples, 3 threads)",
    );
    check_silent("tachyon", "Scene Parsing Time:     0.0001 seconds");
    check_silent("ffmpeg", "frame=10");
    check_silent("generic", "Saved out.png");
}

#[test]
fn a_functions_own_rules_come_first() {
    let own = Rule {
        line: "Out of memory in CUDA queue (?P<what>\\w+)".into(),
        verdict: Some(Verdict::LicenseWait),
        means: "queue $what is full".into(),
        hint: "wait".into(),
    };
    let rules = Rules::new("f", "blender", &[own]).expect("good");
    let finding = rules.read("Out of memory in CUDA queue copy").finding.expect("a verdict");
    assert_eq!((finding.verdict, finding.rank), (Verdict::LicenseWait, 0));
    assert_eq!(finding.message, "queue copy is full; hint: wait");
}

#[test]
fn a_bad_expression_is_named() {
    let own = Rule { line: "(".into(), verdict: None, means: String::new(), hint: String::new() };
    let error = Rules::new("blender", "generic", &[own]).expect_err("bad");
    assert_eq!(error.to_string(), "rule 1 of function `blender` has a bad regular expression");
}
