//! The local store, and what a killed worker leaves in it.

use super::*;

fn open(root: &Path, worker: &str) -> Store {
    let url = format!("file://{}", root.display()).parse().expect("any text");
    Store::open(&url, &worker.parse().expect("a name")).expect("opens")
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
    let created = store.create("jobs/a b/é/1.png", &source, "staging/w1/1.1.0").await.expect("stores");
    assert_eq!(created, Created::Now(content));
    std::fs::write(&source, b"second").expect("writes");
    let again = store.create("jobs/a b/é/1.png", &source, "staging/w1/1.2.0").await.expect("answers");
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
    living.create("jobs/1", &source, "staging/living/1.1.0").await.expect("stores");
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
