//! The local store, and what a killed worker leaves in it.

use super::*;

fn open(root: &Path, worker: &str) -> Store {
    let url = format!("file://{}", root.display()).parse().expect("any text");
    Store::open(&url, &worker.parse().expect("a name")).expect("opens")
}

fn output(path: &Path) -> Arc<OutputFile> {
    Arc::new(OutputFile::open(path).expect("an ordinary file"))
}

fn files(root: &Path) -> Vec<String> {
    let mut found = Vec::new();
    let mut folders = vec![root.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).expect("a folder").flatten() {
            if entry.path().is_dir() {
                folders.push(entry.path());
            } else {
                found.push(entry.path().strip_prefix(root).expect("inside").display().to_string());
            }
        }
    }
    found.sort();
    found
}

#[tokio::test]
async fn an_object_is_created_once_and_fetched_whole() {
    let folder = tempfile::tempdir().expect("a folder");
    let root = folder.path().join("store");
    let store = open(&root, "w1");
    let source = folder.path().join("frame");
    std::fs::write(&source, b"first").expect("writes");
    let content = Content { size_bytes: 5, sha256: Digest::of(b"first") };
    let created = store.create("jobs/a b/é/1.png", &output(&source), "staging/w1/1.1.0").await.expect("stores");
    assert_eq!(created, Created::Now(content));
    std::fs::write(&source, b"second").expect("writes");
    let again = store.create("jobs/a b/é/1.png", &output(&source), "staging/w1/1.2.0").await.expect("answers");
    assert!(matches!(again, Created::Existed(_)));
    assert_eq!(store.size("jobs/a b/é/1.png").await.expect("answers"), Some(5));
    let back = folder.path().join("back");
    assert_eq!(store.fetch("jobs/a b/é/1.png", &back, 5).await.expect("fetches"), content);
    assert_eq!(std::fs::read(&back).expect("reads"), b"first");
    assert!(matches!(store.fetch("jobs/a b/é/1.png", &back, 4).await, Err(Error::TooLarge { .. })));
    assert!(matches!(store.fetch("jobs/2.png", &back, 4).await, Err(Error::NotFound(_))));
    assert_eq!(files(&root), ["jobs/a b/é/1.png"]);
    drop(store);
    assert!(!root.join("staging/w1").exists());
}

#[tokio::test]
async fn what_a_lost_worker_left_is_swept_and_what_a_living_one_holds_is_not() {
    let folder = tempfile::tempdir().expect("a folder");
    let root = folder.path().join("store");
    let source = folder.path().join("frame");
    std::fs::write(&source, b"whole").expect("writes");
    let living = open(&root, "living");
    living.create("jobs/1", &output(&source), "staging/living/1.1.0").await.expect("stores");
    std::fs::write(root.join("staging/living/1.1.1"), b"half").expect("writes");
    std::fs::create_dir_all(root.join("staging/lost")).expect("makes");
    std::fs::write(root.join("staging/lost/2.1.0"), b"ha").expect("writes");
    let _next = open(&root, "next");
    assert_eq!(files(&root), ["jobs/1", "staging/living/1.1.1"]);
}

#[test]
fn a_url_that_is_no_store_is_refused() {
    let worker: WorkerId = "w".parse().expect("a name");
    for url in ["/data", "ftp://host/x", "s3://", ""] {
        assert!(matches!(Store::open(&url.parse().expect("any"), &worker), Err(OpenError::Malformed(_))), "{url}");
    }
}

#[test]
fn a_store_that_is_away_says_nothing_about_the_task() {
    let failed = |error| Error::Store { key: "k".to_owned(), error };
    let broken = || "connection reset".to_owned().into();
    let away = failed(object_store::Error::Generic { store: "S3", source: broken() });
    assert_eq!(away.verdict(), Verdict::Preempted);
    assert_eq!(Error::CutOff { key: "k".to_owned(), got: 1, size_bytes: 2 }.verdict(), Verdict::Preempted);
    let refused = failed(object_store::Error::PermissionDenied { path: "k".to_owned(), source: broken() });
    assert_eq!(refused.verdict(), Verdict::RetrySame);
    assert_eq!(Error::NotFound("k".to_owned()).verdict(), Verdict::RetrySame);
}

#[tokio::test]
async fn a_file_that_is_written_to_while_it_is_stored_is_not() {
    use std::io::Write;
    let folder = tempfile::tempdir().expect("a folder");
    let root = folder.path().join("store");
    let local = open(&root, "w1");
    // As an S3 server is written to, in one piece and in many.
    let remote = Store { local: None, ..local.clone() };
    for (store, size) in [(&local, 5), (&remote, 5), (&remote, SINGLE_PUT_MAX + 1)] {
        let source = folder.path().join("frame");
        std::fs::File::create(&source).expect("makes").set_len(size).expect("grows");
        let verified = output(&source);
        let mut renderer = std::fs::File::options().append(true).open(&source).expect("opens");
        renderer.write_all(b"one more line").expect("writes");
        let error = store.create("jobs/1", &verified, "staging/w1/1.1.0").await.expect_err("it changed");
        assert_eq!((error.verdict(), error.passes()), (Verdict::OutputBad, false), "{error}");
        assert!(error.to_string().contains("was not through with it"), "{error}");
        assert_eq!(files(&root), [""; 0], "nothing is left of it");
        let again = store.create("jobs/1", &output(&source), "staging/w1/1.1.0").await.expect("stores");
        assert!(matches!(again, Created::Now(content) if content.size_bytes == size + 13));
        std::fs::remove_file(root.join("jobs/1")).expect("removes");
    }
}

#[tokio::test]
async fn what_is_fetched_is_never_written_through_a_link_nor_into_a_fifo() {
    let folder = tempfile::tempdir().expect("a folder");
    let store = open(&folder.path().join("store"), "w1");
    let source = folder.path().join("frame");
    std::fs::write(&source, b"object").expect("writes");
    store.create("jobs/1", &output(&source), "staging/w1/1.1.0").await.expect("stores");
    let kept = folder.path().join("kept");
    std::fs::write(&kept, b"kept").expect("writes");
    let place = |name| folder.path().join(name);
    std::os::unix::fs::symlink(&kept, place("symbolic")).expect("links");
    std::os::unix::fs::symlink(place("made"), place("dangling")).expect("links");
    std::fs::hard_link(&kept, place("hard")).expect("links");
    rustix::fs::mknodat(rustix::fs::CWD, place("fifo"), rustix::fs::FileType::Fifo, 0o600.into(), 0).expect("makes");
    for name in ["symbolic", "dangling", "hard", "fifo"] {
        let to = place(name);
        let fetched = fetch_once(&*store.objects, &store.key("jobs/1").expect("a key"), "jobs/1", &to, 100).await;
        assert!(matches!(fetched, Err(Error::File { .. })), "{name}: {fetched:?}");
    }
    assert_eq!(std::fs::read(&kept).expect("reads"), b"kept");
    assert!(!place("made").exists());
}
