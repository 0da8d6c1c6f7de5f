//! One farm, one scheduler: how a second is refused, how the first ends, and what a cut connection leaves behind.

use framewake_proto::api::JobState;
use framewake_proto::client::{Client, JobQuery};
use framewake_tests::farm::{SOON, TestFarm, unique};
use framewake_tests::jobs;
use framewake_tests::parts::{Running, free_port, tool};
use framewake_tests::wait::until;
use rustix::process::Signal;
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

/// Another scheduler on the farm's NATS, under the farm's own name.
fn second(farm: &TestFarm, data: &Path, words: &[&str]) -> Running {
    second_at(farm, data, &format!("127.0.0.1:{}", free_port()), words)
}

fn second_at(farm: &TestFarm, data: &Path, address: &str, words: &[&str]) -> Running {
    let mut command = farm.scheduler_command_of("framewake", data, address);
    command.args(words);
    Running::start("the second scheduler", &mut command, &data.with_extension("log"))
}

fn refused(mut scheduler: Running, expected: &[&str]) {
    assert_ne!(scheduler.wait(SOON), 0, "{}", scheduler.log());
    for words in expected {
        assert!(scheduler.log().contains(words), "`{words}` is missing:\n{}", scheduler.log());
    }
}

#[tokio::test]
async fn a_second_scheduler_on_one_folder_or_one_nats_is_refused_by_name_and_the_first_works_on() {
    let mut farm = TestFarm::start(1).await;
    let pid = format!("process {}", farm.scheduler().pid());
    refused(second(&farm, &farm.data(), &[]), &["is used by another scheduler", &pid]);
    let other = farm.folder().join("other");
    let folder = farm.data().display().to_string();
    refused(second(&farm, &other, &[]), &["has another scheduler on this NATS", &pid, &folder, "--farm"]);
    farm.succeed(&jobs::command(&["/bin/true"], "1-3")).await;

    // Gone without a word: its own database may go on at once, another may not.
    farm.kill_scheduler();
    refused(second(&farm, &other, &[]), &["belongs to another database", "--take-streams"]);
    let begin = Instant::now();
    farm.restart_scheduler().await;
    eprintln!("ready {:?} after a kill", begin.elapsed());
    assert!(begin.elapsed() < Duration::from_secs(10));
    farm.succeed(&jobs::command(&["/bin/true"], "1-3")).await;

    // The streams are taken over on demand, and then it is the first that is refused.
    farm.kill_scheduler();
    let address = format!("127.0.0.1:{}", free_port());
    let mut taker = second_at(&farm, &other, &address, &["--take-streams"]);
    let client = Client::new(&format!("http://{address}")).expect("a good address");
    // All of them: killed in between, it would leave one that is nobody's.
    until(SOON, "the streams are taken over", || async {
        client.readiness().await.ok().filter(|readiness| readiness.ready)
    })
    .await;
    assert!(taker.log().contains("is made anew"), "{}", taker.log());
    taker.kill();
    refused(second(&farm, &farm.data(), &[]), &["belongs to another database"]);
}

#[tokio::test]
async fn of_two_that_could_not_hear_each_other_the_later_ends_and_nats_gone_ends_nobody() {
    let mut farm = TestFarm::start(1).await;
    // The same database in another folder: a copy that someone started elsewhere, while NATS was away.
    let (copy, backup) = (farm.folder().join("copy"), farm.folder().join("b.db").display().to_string());
    let mut command = Command::new(framewake_tests::parts::built("framewake-scheduler"));
    assert!(command.args(["backup", "--to", &backup]).arg("--data").arg(farm.data()).status().expect("runs").success());
    let mut command = Command::new(framewake_tests::parts::built("framewake-scheduler"));
    assert!(command.args(["restore", "--from", &backup]).arg("--data").arg(&copy).status().expect("runs").success());
    farm.nats.kill();
    let later = second(&farm, &copy, &[]);
    until(SOON, "it has begun without NATS", || async { later.log().contains("listening on").then_some(()) }).await;
    farm.nats.restart();
    refused(later, &["has another scheduler on this NATS"]);
    farm.ready().await;
    farm.succeed(&jobs::command(&["/bin/true"], "1-3")).await;
    farm.scheduler().assert_alive();
}

/// A request whose answer is never whole: a reader of events, or a body that does not come.
fn open_request(farm: &TestFarm, head: &str) -> TcpStream {
    let address = farm.url().trim_start_matches("http://").to_owned();
    let mut stream = TcpStream::connect(&address).expect("it listens");
    stream.write_all(head.replace("HOST", &address).as_bytes()).expect("it reads");
    stream
}

#[tokio::test]
async fn told_to_stop_it_ends_in_bounded_time_with_one_whole_file_while_readers_follow_events() {
    let mut farm = TestFarm::start(1).await;
    let id = farm.submit(&jobs::command(&["/bin/sh", "-c", "sleep 0.3"], "1-20")).await;
    until(SOON, "some are done", || async { farm.client.job(id).await.ok().filter(|job| job.tasks.done > 0) }).await;
    let mut reader = open_request(&farm, "GET /v1/events HTTP/1.1\r\nhost: HOST\r\naccept: text/event-stream\r\n\r\n");
    let mut begun = [0; 15];
    reader.read_exact(&mut begun).expect("the stream begins");
    let last = farm.submit(&jobs::command(&["/bin/true"], "1")).await;
    let begin = Instant::now();
    farm.scheduler().signal(Signal::TERM);
    assert_eq!(farm.scheduler().wait(SOON), 0, "{}", farm.scheduler_log());
    eprintln!("it ended within {:?}", begin.elapsed());
    assert!(begin.elapsed() < Duration::from_secs(10));
    let wal = std::fs::metadata(farm.data().join("framewake.db-wal")).map_or(0, |file| file.len());
    assert_eq!(wal, 0, "everything is in the one file");
    assert!(!farm.worker_pids().is_empty(), "workers go on");
    farm.restart_scheduler().await;
    assert_eq!(farm.over(last).await.state, JobState::Succeeded, "what was accepted is there");
    assert_eq!(farm.over(id).await.tasks.done, 20);
}

#[tokio::test]
async fn told_twice_it_ends_at_once() {
    let mut farm = TestFarm::start(0).await;
    let id = farm.submit(&jobs::command(&["/bin/true"], "1")).await;
    // It would be waited for.
    let _slow = open_request(
        &farm,
        "POST /v1/jobs HTTP/1.1\r\nhost: HOST\r\ncontent-type: application/json\r\ncontent-length: 1000\r\n\r\n{",
    );
    farm.scheduler().signal(Signal::TERM);
    until(SOON, "it stops", || async { farm.scheduler_log().contains("stopping").then_some(()) }).await;
    let begin = Instant::now();
    farm.scheduler().signal(Signal::TERM);
    assert_eq!(farm.scheduler().wait(SOON), 130);
    assert!(begin.elapsed() < Duration::from_secs(2), "{:?}", begin.elapsed());
    farm.restart_scheduler().await;
    farm.client.job(id).await.expect("what was accepted is there");
}

/// Passes one request on, waits for its answer, and cuts the connection instead of handing it over.
fn cut_after_the_commit(target: String) -> (String, std::thread::JoinHandle<String>) {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let url = format!("http://{}", listener.local_addr().expect("bound"));
    let cut = std::thread::spawn(move || {
        let (mut client, _) = listener.accept().expect("the client comes");
        let mut server = TcpStream::connect(target).expect("it listens");
        let mut back = client.try_clone().expect("a socket can be shared");
        let mut on = server.try_clone().expect("a socket can be shared");
        // Ends when the client's side is closed below.
        let passing = std::thread::spawn(move || drop(std::io::copy(&mut back, &mut on)));
        let mut answer = [0; 12];
        server.read_exact(&mut answer).expect("it answers");
        client.shutdown(std::net::Shutdown::Both).expect("it is open");
        let _ = client.flush();
        passing.join().expect("it passes bytes on");
        String::from_utf8_lossy(&answer).into_owned()
    });
    (url, cut)
}

#[tokio::test]
async fn a_submission_whose_answer_was_cut_off_is_found_by_its_key() {
    let farm = TestFarm::start(0).await;
    let (url, cut) = cut_after_the_commit(farm.url().trim_start_matches("http://").to_owned());
    let cutting = Client::new(&url).expect("a good address");
    let (job, key) = (jobs::command(&["/bin/true"], "1"), unique());
    let error = cutting.submit(&job, &key).await.expect_err("the answer never came");
    assert_eq!(cut.join().expect("it ends"), "HTTP/1.1 201", "it was committed: {error}");
    let again = farm.client.submit(&job, &key).await.expect("the same again is harmless");
    let listed = farm.client.jobs(&JobQuery::default()).await.expect("listed").items;
    assert_eq!(listed.iter().map(|job| job.id).collect::<Vec<_>>(), [again.id], "there is one job");
}

#[tokio::test]
async fn a_farm_that_litestream_follows_goes_on_from_the_replica() {
    let mut farm = TestFarm::start(2).await;
    let replica = format!("file://{}", farm.folder().join("replica").display());
    let database = farm.data().join("framewake.db");
    let mut command = Command::new(tool("litestream"));
    command.arg("replicate").arg(&database).arg(&replica);
    let log = farm.folder().join("litestream.log");
    let mut litestream = Running::start("litestream", &mut command, &log);
    let id = farm.submit(&jobs::command(&["/bin/sh", "-c", "sleep 0.1"], "1-60")).await;
    until(SOON, "some are done", || async { farm.client.job(id).await.ok().filter(|job| job.tasks.done > 5) }).await;
    until(SOON, "the replica has begun", || async { litestream.log().contains("snapshot complete").then_some(()) })
        .await;
    // The machine is gone: both die, and the data folder with them.
    let before = farm.client.job(id).await.expect("there").tasks.done;
    litestream.signal(Signal::TERM);
    litestream.wait(SOON);
    farm.kill_scheduler();
    std::fs::rename(farm.data(), farm.folder().join("gone")).expect("it can be moved");
    let copy = farm.folder().join("copy.db");
    let restored = Command::new(tool("litestream")).args(["restore", "-o"]).arg(&copy).arg(&replica).status();
    assert!(restored.expect("it runs").success(), "{}", litestream.log());
    let mut command = Command::new(framewake_tests::parts::built("framewake-scheduler"));
    let restored = command.args(["restore", "--from"]).arg(&copy).arg("--data").arg(farm.data()).status();
    assert!(restored.expect("it runs").success());
    farm.restart_scheduler().await;
    let view = farm.client.job(id).await.expect("the replica knows the job");
    eprintln!("{before} were done, {} on the replica", view.tasks.done);
    assert_eq!(farm.over(id).await.tasks.done, 60);
}
