//! The good-bye of a worker is the last that is heard of it: after it, the farm counts the worker no more.

use clap::Parser;
use framewake_proto::ids::WorkerId;
use framewake_proto::wire::Heartbeat;
use framewake_worker::config::Config;
use framewake_worker::figures::Figures;
use framewake_worker::gpu::Gpus;
use framewake_worker::queue::{Heartbeats, Queue};
use prost::Message;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;
use tokio::time::Instant;

/// At once, each with a connection: two files of the 1024 that a process may have open in many places.
const WORKERS: usize = 400;
const ROUNDS: usize = 2;
const BEAT: Duration = Duration::from_millis(4);
/// All heartbeats, in their order.
type Heard = Arc<Mutex<Vec<Heartbeat>>>;

const INFO: &str = r#"INFO {"server_id":"T","version":"2.10.0","max_payload":1048576,"headers":true,"proto":1}"#;

/// As much of NATS as heartbeats need (<https://docs.nats.io/reference/reference-protocols/nats-protocol>): requests are
/// answered with nothing, and kept.
async fn serve(stream: TcpStream, heard: Heard) -> std::io::Result<()> {
    let mut stream = BufReader::new(stream);
    stream.write_all(format!("{INFO}\r\n").as_bytes()).await?;
    let (mut line, mut inbox) = (String::new(), String::new());
    loop {
        line.clear();
        if stream.read_line(&mut line).await? == 0 {
            return Ok(());
        }
        let words: Vec<&str> = line.split_whitespace().collect();
        match words.as_slice() {
            ["PING"] => stream.write_all(b"PONG\r\n").await?,
            ["SUB", subject, id] if subject.contains(".inbox.") => (*id).clone_into(&mut inbox),
            ["PUB", _, reply, size] => {
                let mut payload = vec![0; size.parse::<usize>().expect("a size") + 2];
                stream.read_exact(&mut payload).await?;
                let heartbeat = Heartbeat::decode(&payload[..payload.len() - 2]).expect("a heartbeat");
                heard.lock().unwrap_or_else(PoisonError::into_inner).push(heartbeat);
                stream.write_all(format!("MSG {reply} {inbox} 0\r\n\r\n").as_bytes()).await?;
            }
            _ => {} // CONNECT, and subscriptions to which nobody publishes.
        }
    }
}

/// Says good-bye while a heartbeat may be on its way: a change is told at once, as it is when a worker goes.
async fn come_and_go(config: Config, worker: WorkerId, after: Duration) {
    let queue = Queue::connect(&config, &worker, Instant::now()).await.expect("it is there");
    let beats = Heartbeats::start(queue, BEAT, Gpus::none(), Figures::default());
    // Between the second heartbeat and the third.
    let mut middle = tokio::time::interval(3 * BEAT / 2);
    middle.tick().await;
    middle.tick().await;
    beats.state.send_modify(|state| state.draining = true);
    let told = std::time::Instant::now();
    while told.elapsed() < after {
        std::hint::spin_loop();
    }
    beats.leave("idle").await;
}

fn of(worker: &WorkerId, heard: &Heard) -> Vec<Heartbeat> {
    let heard = heard.lock().unwrap_or_else(PoisonError::into_inner);
    heard.iter().filter(|beat| beat.worker == worker.as_str()).cloned().collect()
}

/// With more threads than processors, so that one is now and then held up in the middle.
#[tokio::test(flavor = "multi_thread", worker_threads = 16)]
async fn a_good_bye_is_the_last_heartbeat() {
    let heard = Heard::default();
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let url = format!("nats://{}", listener.local_addr().expect("bound"));
    let known = Arc::clone(&heard);
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            tokio::spawn(serve(stream, Arc::clone(&known)));
        }
    });
    let words = ["framewake-worker", "--nats-url", &url, "--store", "file:///nowhere", "--function", "toon@1"];
    let config = Config::try_parse_from(words).expect("good options");
    let ids: Vec<WorkerId> =
        (0..ROUNDS * WORKERS).map(|number| format!("w{number}").parse().expect("a good id")).collect();
    for ids in ids.chunks(WORKERS) {
        let mut workers = JoinSet::new();
        for (number, id) in ids.iter().enumerate() {
            let after = Duration::from_micros(number as u64 % 50);
            workers.spawn(come_and_go(config.clone(), id.clone(), after));
        }
        workers.join_all().await;
    }
    for id in &ids {
        let heard = of(id, &heard);
        let words: Vec<&str> = heard.iter().rev().take(3).map(|beat| beat.leaving.as_str()).collect();
        assert_eq!(words.first(), Some(&"idle"), "of {id}, {} heartbeats, last ones first: {words:?}", heard.len());
    }
}
