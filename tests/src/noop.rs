//! Workers that render nothing: they pull, claim, and report every task done at once. What is left is
//! the scheduler, NATS and `SQLite`.

use async_nats::jetstream::{self, consumer::PullConsumer};
use framewake_proto::ids::{FunctionKey, WorkerId};
use framewake_proto::subjects::Subjects;
use framewake_proto::wire;
use futures::StreamExt;
use prost::Message;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;
use tokio::task::JoinSet;

/// What a worker says of a task that it did not render.
type Says = Arc<dyn Fn(u32) -> wire::TaskDone + Send + Sync>;

/// Runs no-op workers until dropped.
#[derive(Debug)]
pub struct Workers {
    _tasks: JoinSet<()>,
    pub chunks: Arc<AtomicU64>,
}

impl Workers {
    pub async fn start(nats: &str, function: &FunctionKey, count: usize) -> Workers {
        let result = |task| wire::TaskDone { task, sha256: vec![0; 32], ..Default::default() };
        Workers::start_with(nats, function, count, result).await
    }

    /// Workers that say this of each task.
    pub async fn start_with(
        nats: &str,
        function: &FunctionKey,
        count: usize,
        result: impl Fn(u32) -> wire::TaskDone + Send + Sync + 'static,
    ) -> Workers {
        let result: Says = Arc::new(result);
        let chunks = Arc::new(AtomicU64::new(0));
        let mut tasks = JoinSet::new();
        // A worker is a process with a connection of its own; four connections are enough to not be the limit.
        for connection in 0..4 {
            let client = async_nats::connect(nats).await.expect("NATS is there");
            for at in 0..count.div_ceil(4) {
                let id: WorkerId = format!("noop-{connection}-{at}").parse().expect("good");
                tasks.spawn(work(client.clone(), function.clone(), id, Arc::clone(&result), Arc::clone(&chunks)));
            }
        }
        Workers { _tasks: tasks, chunks }
    }
}

async fn work(client: async_nats::Client, function: FunctionKey, id: WorkerId, result: Says, chunks: Arc<AtomicU64>) {
    let subjects = Subjects::new("framewake".parse().expect("good"));
    let context = jetstream::new(client.clone());
    let stream = context.get_stream(subjects.orders_stream()).await.expect("the scheduler made it");
    let consumer: PullConsumer =
        stream.get_consumer(&subjects.orders_consumer(&function)).await.expect("made with the function");
    beat(&client, &subjects, &function, &id).await;
    tokio::spawn({
        let (client, subjects, function, id) = (client.clone(), subjects.clone(), function.clone(), id.clone());
        async move {
            let mut tick = tokio::time::interval(Duration::from_secs(5));
            loop {
                tick.tick().await;
                beat(&client, &subjects, &function, &id).await;
            }
        }
    });
    loop {
        let Ok(mut batch) = consumer.batch().max_messages(1).expires(Duration::from_secs(5)).messages().await else {
            continue;
        };
        while let Some(Ok(message)) = batch.next().await {
            let order = wire::Order::decode(&*message.payload).expect("an order");
            let claim = wire::Claim {
                worker: id.to_string(),
                chunk: order.chunk,
                attempt: order.attempt,
                want_step: false,
                ..Default::default()
            };
            let answer = client.request(subjects.claim(&function, &id), claim.encode_to_vec().into()).await;
            let _ = message.ack().await;
            let Ok(answer) = answer.map(|answer| wire::ClaimAnswer::decode(answer.payload).expect("an answer")) else {
                continue;
            };
            if !answer.refused.is_empty() {
                continue;
            }
            let results: Vec<_> = wire::task_set(&answer.tasks).iter().map(|task| result(task)).collect();
            for done in results.chunks(wire::REPORT_TASKS_MAX) {
                send(&context, &subjects, &id, &order, done.to_vec(), wire::AttemptEnd::None).await;
            }
            send(&context, &subjects, &id, &order, Vec::new(), wire::AttemptEnd::Finished).await;
            chunks.fetch_add(1, Ordering::Relaxed);
        }
    }
}

async fn send(
    context: &jetstream::Context,
    subjects: &Subjects,
    id: &WorkerId,
    order: &wire::Order,
    done: Vec<wire::TaskDone>,
    end: wire::AttemptEnd,
) {
    if done.is_empty() && end == wire::AttemptEnd::None {
        return;
    }
    let (chunk, attempt) = (order.chunk, order.attempt);
    let report = wire::Report { worker: id.to_string(), chunk, attempt, done, end: end.into(), ..Default::default() };
    let sent = context.publish(subjects.report(id), report.encode_to_vec().into()).await.expect("NATS takes it");
    sent.await.expect("stored");
}

async fn beat(client: &async_nats::Client, subjects: &Subjects, function: &FunctionKey, id: &WorkerId) {
    let heartbeat = wire::Heartbeat {
        worker: id.to_string(),
        function: function.name.to_string(),
        function_version: function.version,
        ..Default::default()
    };
    let _ = client.request(subjects.heartbeat(function, id), heartbeat.encode_to_vec().into()).await;
}
