//! Outputs that are no ordinary files, or do not stay as they are.

use super::*;
use rustix::fs::{CWD, FileType, mknodat};
use std::io::Write;

#[test]
fn folders_fifos_sockets_and_devices_are_no_outputs_and_are_not_waited_for() {
    let folder = folder();
    let path = |name| folder.path().join(name);
    std::fs::create_dir(path("folder")).expect("makes");
    mknodat(CWD, path("fifo"), FileType::Fifo, 0o600.into(), 0).expect("makes");
    let _listens = std::os::unix::net::UnixListener::bind(path("socket")).expect("binds");
    for path in [path("folder"), path("fifo"), path("socket"), "/dev/zero".into(), "/dev/null".into()] {
        assert!(matches!(check(&path, "bin", &Verify::default()), Err(Bad::Missing)), "{}", path.display());
    }
}

#[test]
fn links_lead_to_no_output_wherever_they_stand_in_the_path() {
    use std::os::unix::fs::symlink;
    let folder = folder();
    let real = folder.path().join("real");
    std::fs::create_dir(&real).expect("makes");
    std::fs::write(real.join("a.bin"), b"x").expect("writes");
    symlink(real.join("a.bin"), folder.path().join("file")).expect("links");
    symlink(&real, folder.path().join("outputs")).expect("links");
    symlink("loop", folder.path().join("loop")).expect("links");
    symlink("nowhere", folder.path().join("dangling")).expect("links");
    for name in ["file", "outputs/a.bin", "loop", "dangling"] {
        let checked = check(&folder.path().join(name), "bin", &Verify::default());
        assert!(matches!(checked, Err(Bad::Missing)), "{name}: {checked:?}");
    }
    // The same bytes under a second name are as good as under the first.
    std::fs::hard_link(real.join("a.bin"), folder.path().join("second")).expect("links");
    check(&folder.path().join("second"), "bin", &Verify::default()).expect("an ordinary file");
}

#[test]
fn a_file_of_a_terabyte_of_nothing_is_refused_unread() {
    let folder = folder();
    let path = folder.path().join("hole");
    std::fs::File::create(&path).expect("makes").set_len(1 << 40).expect("a hole takes no room");
    for extension in ["bin", "png", "jpg", "exr", "mp4"] {
        assert!(matches!(check(&path, extension, &Verify::default()), Err(Bad::TooLong(_))), "{extension}");
    }
}

#[test]
fn an_output_that_is_written_to_after_it_was_opened_tells_so() {
    let folder = folder();
    let path = folder.path().join("a.bin");
    std::fs::write(&path, b"whole").expect("writes");
    let output = OutputFile::open(&path).expect("is good");
    assert!(output.is_unchanged().expect("looks"));
    let mut writer = std::fs::File::options().append(true).open(&path).expect("opens");
    writer.write_all(b" and more").expect("writes");
    assert!(!output.is_unchanged().expect("looks"));
    assert_eq!(output.size_bytes(), 5);
}

#[test]
fn whatever_is_under_the_name_later_what_was_opened_is_read() {
    let folder = folder();
    let path = folder.path().join("a.bin");
    std::fs::write(&path, b"verified").expect("writes");
    let output = OutputFile::open(&path).expect("is good");
    std::fs::remove_file(&path).expect("removes");
    std::os::unix::fs::symlink("/etc/hostname", &path).expect("links");
    for _ in 0..2 {
        let text = std::io::read_to_string(output.from_start().expect("opens")).expect("reads");
        assert_eq!(text, "verified");
    }
}
