//! The queue against a real nats-server, with a stand-in for the engine.

use super::{Connection, Owner, Queue};
use crate::engine::{Handle, Health, Message, QueueCommand};
use crate::function_table::FunctionTable;
use crate::objects::Objects;
use async_nats::jetstream;
use framewake_core::event::Event;
use framewake_proto::ids::{AttemptId, ChunkId, FunctionKey, JobId, WorkerId};
use framewake_proto::objects::log_key;
use framewake_proto::subjects::Subjects;
use framewake_proto::trace::{SpanId, TraceId, TraceParent};
use framewake_proto::wire;
use futures::StreamExt;
use prost::Message as _;
use rustix::process::{Pid, Signal, kill_process};
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::Duration;
use tempfile::TempDir;
use tokio::sync::{broadcast, mpsc, watch};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

/// Longest wait for anything.
const SOON: Duration = Duration::from_secs(20);

/// Longest since a worker that renders was last heard.
const HEARTBEAT: Duration = Duration::from_secs(2);

/// A nats-server that ends with the test.
struct Nats {
    child: Option<Child>,
    port: u16,
    folder: TempDir,
}

impl Nats {
    fn absent() -> Nats {
        let port = TcpListener::bind("127.0.0.1:0").expect("loopback").local_addr().expect("bound").port();
        Nats { child: None, port, folder: tempfile::tempdir().expect("room for a folder") }
    }

    fn start() -> Nats {
        let mut nats = Nats::absent();
        nats.rise();
        nats
    }

    fn rise(&mut self) {
        let mut command = Command::new(program());
        command.args(["-js", "-a", "127.0.0.1", "-p", &self.port.to_string(), "-sd"]).arg(self.folder.path());
        // Else it has room for no more than three quarters of what is free on the disk.
        let room = self.folder.path().join("nats.conf");
        std::fs::write(&room, "jetstream { max_file_store: 64GiB }\n").expect("writable");
        command.arg("-c").arg(room);
        self.child = Some(command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().expect("nats-server starts"));
    }

    fn kill(&mut self) {
        if let Some(mut child) = self.child.take() {
            child.kill().expect("it is ours");
            child.wait().expect("it is ours");
        }
    }

    fn signal(&self, signal: Signal) {
        let pid = self.child.as_ref().map(Pid::from_child).expect("it runs");
        kill_process(pid, signal).expect("it is ours");
    }

    fn url(&self) -> String {
        format!("nats://127.0.0.1:{}", self.port)
    }

    /// As a worker would be connected.
    async fn client(&self) -> async_nats::Client {
        let options = async_nats::ConnectOptions::new().retry_on_initial_connect();
        let client = options.connect(self.url()).await.expect("a good address");
        let flushed = async { while client.flush().await.is_err() {} };
        tokio::time::timeout(SOON, flushed).await.expect("nats-server answers");
        client
    }
}

impl Drop for Nats {
    fn drop(&mut self) {
        self.kill();
    }
}

fn program() -> PathBuf {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("scheduler/ lies in the root");
    let path = std::env::var_os("PATH").unwrap_or_default();
    let mut folders = vec![root.join(".venv/bin")];
    folders.extend(std::env::split_paths(&path));
    let found = folders.into_iter().map(|folder| folder.join("nats-server")).find(|file| file.is_file());
    found.expect("nats-server is missing: run `make setup`")
}

/// A running queue, seen from where the engine is.
struct Running {
    inbox: mpsc::Receiver<Message>,
    commands: mpsc::UnboundedSender<QueueCommand>,
    health: watch::Receiver<Health>,
    stop: CancellationToken,
    task: JoinHandle<()>,
    queue: Queue,
    objects: Objects,
    _store: TempDir,
}

impl Running {
    async fn start(nats: &Nats) -> Running {
        let store = tempfile::tempdir().expect("room for a folder");
        let address = format!("file://{}", store.path().display()).parse().expect("a good address");
        let objects = Objects::open(&address).expect("a folder is a store");
        let owner = Owner::this("farm", store.path());
        let queue =
            Queue::connect(connection(nats), subjects(), owner, false, Arc::default()).await.expect("a good address");
        let (inbox_in, inbox) = mpsc::channel(1000);
        let (commands, commands_out) = mpsc::unbounded_channel();
        let (health_in, health) = watch::channel(Health { nats: "not yet".to_owned(), ..Health::default() });
        let (_, functions) = watch::channel(Arc::new(FunctionTable::default()));
        let (events, _) = broadcast::channel(16);
        let (_, targets) = watch::channel(Arc::default());
        let (_, deployed) = watch::channel(Arc::default());
        let handle = Handle { inbox: inbox_in, functions, targets, deployed, events, health: health.clone() };
        let stop = CancellationToken::new();
        let run = queue.clone().run(handle, commands_out, objects.clone(), health_in, nats.url(), stop.clone());
        let task = tokio::spawn(async move { run.await.expect("the queue runs until it is stopped") });
        Running { inbox, commands, health, stop, task, queue, objects, _store: store }
    }

    async fn next(&mut self) -> Message {
        tokio::time::timeout(SOON, self.inbox.recv()).await.expect("something arrives").expect("the queue runs")
    }

    /// The next report or drain; other news is passed over.
    async fn news(&mut self) -> News {
        loop {
            match self.next().await {
                Message::Reported(Event::AttemptReported { attempt, .. }, token) => {
                    return News::Report(attempt.chunk.0, token);
                }
                Message::Happened(Event::ReportsDrained) => return News::Drained,
                _ => {}
            }
        }
    }

    async fn healthy(&mut self) {
        let healthy = self.health.wait_for(|health| health.nats.is_empty() && health.drained);
        let ended = tokio::time::timeout(SOON, healthy).await.map(|healthy| healthy.is_ok());
        assert_eq!(ended, Ok(true), "it gets well: {:?}", *self.health.borrow());
    }

    fn ask(&self, command: QueueCommand) {
        self.commands.send(command).expect("the queue runs");
    }

    /// As `kill -9` would: nothing is acknowledged, nothing is said.
    async fn kill(self) {
        self.stop.cancel();
        self.task.await.expect("it ends");
    }
}

fn connection(nats: &Nats) -> Connection<'static> {
    Connection { url: nats.url().leak(), issuer: None, ca: None, signing: None }
}

#[derive(Debug, PartialEq, Eq)]
enum News {
    Report(u64, u64),
    Drained,
}

fn subjects() -> Subjects {
    Subjects::new("test".parse().expect("a good name"))
}

fn worker() -> WorkerId {
    "w1".parse().expect("a good id")
}

fn function() -> FunctionKey {
    "noop@1".parse().expect("a good key")
}

fn job() -> JobId {
    "01M7YBE5W3BJA9VTCNGZ3R5X34".parse().expect("a good id")
}

async fn report(context: &jetstream::Context, chunk: u64) {
    let report = wire::Report { worker: "w1".to_owned(), chunk, attempt: 1, ..wire::Report::default() };
    publish(context, report.encode_to_vec()).await;
}

async fn publish(context: &jetstream::Context, body: Vec<u8>) {
    let stored = context.publish(subjects().report(&worker()), body.into()).await.expect("sent");
    stored.await.expect("stored");
}

/// Looks until `condition` holds.
async fn until<F: Future<Output = bool>>(what: &str, mut condition: impl FnMut() -> F) {
    let looked = async {
        let mut look = tokio::time::interval(Duration::from_millis(20));
        while !condition().await {
            look.tick().await;
        }
    };
    tokio::time::timeout(SOON, looked).await.unwrap_or_else(|_| panic!("waited in vain until {what}"));
}

#[tokio::test]
async fn reports_come_in_order_and_are_acknowledged_once_they_are_durable() {
    let nats = Nats::start();
    let mut running = Running::start(&nats).await;
    running.healthy().await;
    let context = jetstream::new(nats.client().await);
    for chunk in 1..=3 {
        report(&context, chunk).await;
    }
    assert_eq!(running.news().await, News::Drained);
    let mut tokens = Vec::new();
    for chunk in 1..=3 {
        let News::Report(found, token) = running.news().await else { panic!("drained once") };
        assert_eq!(found, chunk);
        tokens.push(token);
    }
    let stream = context.get_stream(subjects().reports_stream()).await.expect("there");
    let mut consumer: jetstream::consumer::PullConsumer =
        stream.get_consumer(&subjects().reports_consumer()).await.expect("there");
    let info = consumer.info().await.expect("there");
    assert_eq!(info.ack_floor.stream_sequence, 0, "nothing is durable yet");
    running.ask(QueueCommand::AckReports(tokens[1]));
    until("two are acknowledged", async || {
        let consumer = stream.consumer_info(subjects().reports_consumer()).await.expect("there");
        consumer.ack_floor.stream_sequence == 2
    })
    .await;
}

#[tokio::test]
async fn a_new_scheduler_gets_at_once_and_in_order_what_the_last_one_did_not_make_durable() {
    let nats = Nats::start();
    let mut first = Running::start(&nats).await;
    first.healthy().await;
    let context = jetstream::new(nats.client().await);
    for chunk in 1..=4 {
        report(&context, chunk).await;
    }
    assert_eq!(first.news().await, News::Drained);
    for _ in 1..=4 {
        let News::Report(chunk, token) = first.news().await else { panic!("drained once") };
        if chunk == 1 {
            first.ask(QueueCommand::AckReports(token));
        }
    }
    let stream = context.get_stream(subjects().reports_stream()).await.expect("there");
    until("the first is acknowledged", async || {
        let consumer = stream.consumer_info(subjects().reports_consumer()).await.expect("there");
        consumer.ack_floor.stream_sequence == 1
    })
    .await;
    first.kill().await;
    for chunk in 5..=6 {
        report(&context, chunk).await;
    }
    let begin = std::time::Instant::now();
    let mut second = Running::start(&nats).await;
    for expected in 2..=6 {
        let News::Report(chunk, _) = second.news().await else { panic!("drained before report {expected}") };
        assert_eq!(chunk, expected);
    }
    assert_eq!(second.news().await, News::Drained);
    assert!(begin.elapsed() < Duration::from_secs(10), "it took {:?}", begin.elapsed());
}

#[tokio::test]
async fn a_report_that_cannot_be_read_is_dropped_and_stops_no_other() {
    let nats = Nats::start();
    let mut running = Running::start(&nats).await;
    running.healthy().await;
    let context = jetstream::new(nats.client().await);
    publish(&context, vec![0xff; 40]).await;
    // In the name of another than its subject.
    let other = wire::Report { worker: "w2".to_owned(), chunk: 6, attempt: 1, ..wire::Report::default() };
    publish(&context, other.encode_to_vec()).await;
    let nameless = wire::Report { worker: "no worker/has this id".to_owned(), ..wire::Report::default() };
    publish(&context, nameless.encode_to_vec()).await;
    report(&context, 7).await;
    assert_eq!(running.news().await, News::Drained);
    assert!(matches!(running.news().await, News::Report(7, _)));
}

#[tokio::test]
async fn without_nats_it_says_so_and_goes_on_once_nats_is_there() {
    let mut nats = Nats::absent();
    let mut running = Running::start(&nats).await;
    let said = running.health.wait_for(|health| health.nats.contains("no connection to NATS at nats://127.0.0.1:"));
    let said = tokio::time::timeout(SOON, said).await.expect("it is said").expect("the queue runs").clone();
    assert!(!said.drained);
    nats.rise();
    running.healthy().await;
    assert_eq!(running.news().await, News::Drained);
}

#[tokio::test]
async fn orders_that_found_no_nats_are_offered_again_when_it_is_back() {
    let mut nats = Nats::start();
    let mut running = Running::start(&nats).await;
    running.healthy().await;
    offered_again(&mut running).await;
    nats.kill();
    let gone = running.health.wait_for(|health| !health.nats.is_empty());
    tokio::time::timeout(SOON, gone).await.expect("it is noticed").expect("the queue runs");
    let attempt = AttemptId { chunk: ChunkId(1), number: 1 };
    running.ask(QueueCommand::PublishOrder { function: function(), job: job(), step: 0, attempt, trace: None });
    nats.rise();
    offered_again(&mut running).await;
}

#[tokio::test]
async fn while_nats_is_away_silence_is_excused_and_afterwards_it_counts_again() {
    let mut nats = Nats::start();
    let mut running = Running::start(&nats).await;
    running.healthy().await;
    assert_eq!(running.news().await, News::Drained);
    nats.kill();
    loop {
        if let Message::Happened(Event::ReportsHeldUp) = running.next().await {
            break;
        }
    }
    assert!(!running.health.borrow().drained);
    nats.rise();
    assert_eq!(running.news().await, News::Drained);
    running.healthy().await;
}

#[tokio::test]
async fn a_nats_that_hangs_is_told_from_silent_workers_within_a_lease() {
    let nats = Nats::start();
    let mut running = Running::start(&nats).await;
    running.healthy().await;
    assert_eq!(running.news().await, News::Drained);
    // Its connections stay open, and nothing comes.
    nats.signal(Signal::STOP);
    let begin = std::time::Instant::now();
    loop {
        if let Message::Happened(Event::ReportsHeldUp) = running.next().await {
            break;
        }
    }
    let lease = framewake_core::values::Settings::default().lease;
    assert!(begin.elapsed() + HEARTBEAT < lease, "a lease ended first: {:?}", begin.elapsed());
    nats.signal(Signal::CONT);
    assert_eq!(running.news().await, News::Drained);
}

#[tokio::test]
async fn a_stream_that_vanished_is_made_again_and_its_orders_are_offered_again() {
    let nats = Nats::start();
    let mut running = Running::start(&nats).await;
    running.ask(QueueCommand::AddFunction(function()));
    running.healthy().await;
    offered_again(&mut running).await;
    let context = jetstream::new(nats.client().await);
    context.delete_stream(subjects().orders_stream()).await.expect("there");
    offered_again(&mut running).await;
    let stream = context.get_stream(subjects().orders_stream()).await.expect("made again");
    stream.consumer_info(subjects().orders_consumer(&function())).await.expect("made again");
}

async fn offered_again(running: &mut Running) {
    loop {
        if let Message::Happened(Event::OrdersLost) = running.next().await {
            return;
        }
    }
}

#[tokio::test]
async fn an_order_reaches_a_worker_of_its_function() {
    let nats = Nats::start();
    let mut running = Running::start(&nats).await;
    running.healthy().await;
    running.ask(QueueCommand::AddFunction(function()));
    let attempt = AttemptId { chunk: ChunkId(9), number: 3 };
    let trace = TraceParent { trace: TraceId(5), span: SpanId(6), sampled: true };
    running.ask(QueueCommand::PublishOrder { function: function(), job: job(), step: 1, attempt, trace: Some(trace) });
    let context = jetstream::new(nats.client().await);
    let stream = context.get_stream(subjects().orders_stream()).await.expect("there");
    let name = subjects().orders_consumer(&function());
    until("the consumer is made", async || stream.consumer_info(&name).await.is_ok()).await;
    let consumer: jetstream::consumer::PullConsumer = stream.get_consumer(&name).await.expect("there");
    let mut orders = consumer.stream().messages().await.expect("there");
    let order = tokio::time::timeout(SOON, orders.next()).await.expect("it arrives").expect("one").expect("good");
    let headers = order.headers.as_ref().expect("it is traced");
    assert_eq!(headers.get("traceparent").map(async_nats::HeaderValue::as_str), Some(trace.to_string().as_str()));
    let order = wire::Order::decode(&*order.payload).expect("an order");
    assert_eq!(order, wire::Order { chunk: 9, attempt: 3, job: job().to_string(), step: 1 });
}

#[tokio::test]
async fn a_claim_is_passed_on_and_its_answer_comes_back() {
    let nats = Nats::start();
    let mut running = Running::start(&nats).await;
    running.healthy().await;
    let client = nats.client().await;
    let claim =
        wire::Claim { worker: "w1".to_owned(), chunk: 5, attempt: 2, want_step: true, confinement: String::new() };
    // What is no claim does not stop the next.
    client.publish(subjects().claim(&function(), &worker()), vec![0xff; 9].into()).await.expect("sent");
    // Nor does what is in the name of another.
    let other = wire::Claim { worker: "w2".to_owned(), ..claim.clone() };
    client.publish(subjects().claim(&function(), &worker()), other.encode_to_vec().into()).await.expect("sent");
    let body = claim.encode_to_vec();
    let subject = subjects().claim(&function(), &worker());
    let asked = tokio::spawn(async move { client.request(subject, body.into()).await });
    let reply = loop {
        if let Message::Claimed { function: of, claim: heard, reply } = running.next().await {
            assert_eq!(of, function());
            assert_eq!(heard, claim);
            break reply;
        }
    };
    running.ask(QueueCommand::Answer { subject: reply, body: b"yes".to_vec() });
    let answer = tokio::time::timeout(SOON, asked).await.expect("soon").expect("no panic").expect("answered");
    assert_eq!(&*answer.payload, b"yes");
}

#[tokio::test]
async fn a_hello_for_an_unknown_function_is_refused_with_the_reason() {
    let nats = Nats::start();
    let mut running = Running::start(&nats).await;
    running.healthy().await;
    let hello = wire::Hello { worker: "w1".to_owned(), function: "ghost".to_owned(), function_version: 3 };
    let client = nats.client().await;
    let ghost = "ghost@3".parse().expect("a good key");
    let asked = client.request(subjects().hello(&ghost, &worker()), hello.encode_to_vec().into());
    let answer = tokio::time::timeout(SOON, asked).await.expect("soon").expect("answered");
    let answer = wire::HelloAnswer::decode(&*answer.payload).expect("an answer");
    assert_eq!(answer.refused, "ghost@3 is not a function of this farm");
}

async fn write_log(context: &jetstream::Context, attempt: AttemptId, offset: u64, text: &str) {
    let batch = wire::LogBatch { offset, text: text.as_bytes().to_vec() };
    let sent =
        context.publish(subjects().log(&worker(), job(), attempt), batch.encode_to_vec().into()).await.expect("sent");
    sent.await.expect("stored");
}

async fn stored_log(objects: &Objects, attempt: AttemptId) -> Option<String> {
    let found = objects.get(&log_key(job(), attempt), None).await.expect("the store answers")?;
    Some(String::from_utf8(found.bytes().await.expect("readable").to_vec()).expect("text"))
}

#[tokio::test]
async fn a_log_is_read_live_then_moved_to_the_store_and_late_words_are_added() {
    let nats = Nats::start();
    let mut running = Running::start(&nats).await;
    running.healthy().await;
    let context = jetstream::new(nats.client().await);
    let attempt = AttemptId { chunk: ChunkId(4), number: 2 };
    write_log(&context, attempt, 0, "loading\n").await;
    write_log(&context, attempt, 8, "saved\n").await;
    let live = running.queue.live_log(&worker(), job(), attempt, false).await.expect("readable");
    let pieces: Vec<bytes::Bytes> = tokio::time::timeout(SOON, live.collect()).await.expect("it has an end");
    assert_eq!(pieces.concat(), b"loading\nsaved\n");

    running.ask(QueueCommand::ArchiveLog { job: job(), attempt, worker: worker() });
    let objects = running.objects.clone();
    until("it is stored", async || stored_log(&objects, attempt).await.is_some_and(|text| text.ends_with("saved\n")))
        .await;
    let stream = context.get_stream(subjects().logs_stream()).await.expect("there");
    until("the stream is empty", async || stream.get_info().await.is_ok_and(|info| info.state.messages == 0)).await;

    write_log(&context, attempt, 14, "still here\n").await;
    running.ask(QueueCommand::ArchiveLog { job: job(), attempt, worker: worker() });
    let whole = "loading\nsaved\nstill here\n";
    until("it is whole", async || stored_log(&objects, attempt).await.is_some_and(|text| text == whole)).await;
}

#[tokio::test]
async fn logs_that_were_not_moved_before_a_restart_are_found() {
    let nats = Nats::start();
    let first = {
        let mut running = Running::start(&nats).await;
        running.healthy().await;
        running
    };
    let context = jetstream::new(nats.client().await);
    let attempt = AttemptId { chunk: ChunkId(4), number: 2 };
    write_log(&context, attempt, 0, "the end\n").await;
    first.kill().await;
    let mut second = Running::start(&nats).await;
    let found = loop {
        if let Message::FoundLogs(found) = second.next().await {
            break found;
        }
    };
    assert_eq!(found, [(worker(), job(), attempt)]);
}
