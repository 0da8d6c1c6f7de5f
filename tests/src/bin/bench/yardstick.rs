//! What the parts underneath do alone.

use async_nats::jetstream::{self, consumer, stream};
use futures::StreamExt;
use sqlx::sqlite::{SqliteConnectOptions, SqliteJournalMode, SqliteSynchronous};
use sqlx::{ConnectOptions, Connection};
use std::time::{Duration, Instant};

/// Durable transactions a second: one row each, WAL, `synchronous=FULL`.
pub(crate) async fn sqlite_transactions() -> f64 {
    const COUNT: u32 = 500;
    let folder = tempfile::tempdir().expect("there is room for a folder");
    let options = SqliteConnectOptions::new()
        .filename(folder.path().join("yardstick.db"))
        .create_if_missing(true)
        .journal_mode(SqliteJournalMode::Wal)
        .synchronous(SqliteSynchronous::Full);
    let mut connection = options.connect().await.expect("a new database");
    sqlx::query("CREATE TABLE t (id INTEGER PRIMARY KEY, body TEXT)").execute(&mut connection).await.expect("created");
    let body = "x".repeat(300);
    let begin = Instant::now();
    for _ in 0..COUNT {
        sqlx::query("INSERT INTO t (body) VALUES (?)").bind(&body).execute(&mut connection).await.expect("inserted");
    }
    let rate = f64::from(COUNT) / begin.elapsed().as_secs_f64();
    let _ = connection.close().await;
    rate
}

/// Messages a second through a work queue: published with acknowledgment, pulled one by one, acked.
pub(crate) async fn jetstream_messages(url: &str, pullers: usize) -> f64 {
    const COUNT: usize = 20_000;
    let context = jetstream::new(async_nats::connect(url).await.expect("NATS is there"));
    let config = stream::Config {
        name: "YARDSTICK".to_owned(),
        subjects: vec!["yardstick".to_owned()],
        retention: stream::RetentionPolicy::WorkQueue,
        ..Default::default()
    };
    let stream = context.create_stream(config).await.expect("created");
    let config =
        consumer::pull::Config { durable_name: Some("all".to_owned()), max_ack_pending: 10_000, ..Default::default() };
    let consumer = stream.create_consumer(config).await.expect("created");
    let begin = Instant::now();
    let left = std::sync::Arc::new(std::sync::atomic::AtomicUsize::new(COUNT));
    let mut tasks = tokio::task::JoinSet::new();
    for _ in 0..pullers {
        let (consumer, left) = (consumer.clone(), left.clone());
        tasks.spawn(async move {
            while left.load(std::sync::atomic::Ordering::Relaxed) > 0 {
                let batch = consumer.batch().max_messages(1).expires(Duration::from_secs(1)).messages().await;
                let Ok(mut batch) = batch else { continue };
                while let Some(Ok(message)) = batch.next().await {
                    let _ = message.double_ack().await;
                    left.fetch_sub(1, std::sync::atomic::Ordering::Relaxed);
                }
            }
        });
    }
    let mut waiting = futures::stream::FuturesUnordered::new();
    for _ in 0..COUNT {
        let sent = context.publish("yardstick", "x".repeat(64).into()).await.expect("sent");
        waiting.push(sent.into_future());
        if waiting.len() >= 64 {
            waiting.next().await;
        }
    }
    while waiting.next().await.is_some() {}
    while left.load(std::sync::atomic::Ordering::Relaxed) > 0 && !tasks.is_empty() {
        tasks.join_next().await;
    }
    let rate = COUNT as f64 / begin.elapsed().as_secs_f64();
    let _ = context.delete_stream("YARDSTICK").await;
    rate
}
