//! The streams and consumers of a farm, and their settings.

use super::{Look, Queue};
use async_nats::jetstream::consumer::{AckPolicy, pull};
use async_nats::jetstream::context::{CreateStreamError, CreateStreamErrorKind, DeleteStreamError, GetStreamError};
use async_nats::jetstream::stream::{
    Compression, Config, ConsumerError, DiscardPolicy, InfoError, PurgeError, RetentionPolicy, StorageType,
};
use async_nats::jetstream::{Context, ErrorCode};
use framewake_proto::ids::FunctionKey;
use framewake_proto::subjects::{
    LOGS_AGE_MAX, LOGS_BYTES_MAX, ORDER_ACK_WAIT, ORDERS_MAX, REPORTS_BYTES_MAX, Subjects,
};
use framewake_proto::wire::{LOG_BATCH_MAX, MESSAGE_SIZE_MAX};
use std::collections::BTreeSet;
use tracing::warn;

/// Claims take milliseconds, so few orders are ever unacknowledged; at the bound pulls stand still without a word.
const ORDERS_IN_CLAIM_MAX: i64 = 10_000;
/// Workers that wait for orders at once; JetStream's own default is 512.
const WORKERS_WAITING_MAX: i64 = 16_384;

#[derive(Debug, thiserror::Error)]
pub(super) enum Error {
    #[error("cannot make the stream {name}")]
    Create {
        name: String,
        #[source]
        error: CreateStreamError,
    },
    #[error(
        "there is no room for the stream {name}: a farm's streams reserve {} GiB; free NATS' disk, or let it promise more by `max_file_store` in the block `jetstream` of its configuration",
        (REPORTS_BYTES_MAX + LOGS_BYTES_MAX) >> 30
    )]
    NoRoom { name: String },
    #[error("cannot remove the stream {name}")]
    Delete {
        name: String,
        #[source]
        error: DeleteStreamError,
    },
    #[error("cannot look at the stream of orders")]
    Get(#[source] GetStreamError),
    #[error("cannot look at the stream of orders")]
    Info(#[source] InfoError),
    #[error("cannot empty the stream of orders")]
    Purge(#[source] PurgeError),
    #[error("cannot make the consumer {name}")]
    Consumer {
        name: String,
        #[source]
        error: ConsumerError,
    },
}

/// In the metadata of each stream: the id of the database it belongs to.
const FARM: &str = "framewake-farm";

/// Makes what is missing, as ours, and refuses or empties what is another's.
pub(super) async fn take(queue: &Queue) -> Result<(), Look> {
    let (context, ours) = (&queue.context, &queue.owner.farm);
    for mut config in [orders(&queue.subjects), reports(&queue.subjects), logs(&queue.subjects)] {
        let name = config.name.clone();
        let failed = |error| Look::NotReady(cannot_make(name.clone(), error));
        config.metadata.insert(FARM.to_owned(), ours.clone());
        let stream = context.get_or_create_stream(config.clone()).await.map_err(failed)?;
        let found = &stream.cached_info().config;
        match found.metadata.get(FARM) {
            Some(theirs) if theirs == ours => {}
            // From before streams had an owner.
            None => {
                let mut named = found.clone();
                named.metadata.insert(FARM.to_owned(), ours.clone());
                context.update_stream(named).await.map_err(failed)?;
            }
            Some(theirs) if queue.take_streams => {
                warn!("the stream {name} belonged to another database (farm {theirs}) and is made anew");
                let gone = context.delete_stream(&name).await;
                gone.map_err(|error| Look::NotReady(Error::Delete { name: name.clone(), error }))?;
                context.create_stream(config).await.map_err(failed)?;
            }
            Some(theirs) => {
                let (theirs, ours) = (theirs.clone(), ours.clone());
                return Err(Look::Refused(super::Error::Foreign { stream: name, theirs, ours }));
            }
        }
    }
    Ok(())
}

fn cannot_make(name: String, error: CreateStreamError) -> Error {
    let code = match error.kind() {
        CreateStreamErrorKind::JetStream(said) => said.error_code(),
        _ => return Error::Create { name, error },
    };
    // The server's own bound, and the account's.
    if [ErrorCode::STORAGE_RESOURCES_EXCEEDED, ErrorCode::INSUFFICIENT_RESOURCES].contains(&code) {
        return Error::NoRoom { name };
    }
    Error::Create { name, error }
}

/// The streams as they were found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Found {
    /// When the stream of orders was made, which tells one stream from its successor.
    pub(super) created: String,
    /// Orders that wait to be claimed.
    pub(super) orders: u64,
    /// Reports that wait to be counted, once that is known.
    pub(super) reports: Option<u64>,
}

/// Makes the consumers that are missing.
pub(super) async fn prepare(
    context: &Context,
    subjects: &Subjects,
    functions: &BTreeSet<FunctionKey>,
    orders_stale: bool,
) -> Result<Found, Error> {
    let mut stream = context.get_stream(subjects.orders_stream()).await.map_err(Error::Get)?;
    if orders_stale {
        stream.purge().await.map_err(Error::Purge)?;
    }
    for key in functions {
        add_consumer(context, subjects, key).await?;
    }
    let reports = purge_durable(context, subjects).await;
    let info = stream.info().await.map_err(Error::Info)?;
    Ok(Found { created: info.created.to_string(), orders: info.state.messages, reports })
}

/// Reports that the scheduler acknowledged are in SQLite: nobody needs them any more. How many are left.
async fn purge_durable(context: &Context, subjects: &Subjects) -> Option<u64> {
    let stream = context.get_stream(subjects.reports_stream()).await.ok()?;
    let mut consumer = stream.get_consumer::<pull::Config>(&subjects.reports_consumer()).await.ok()?;
    let info = consumer.info().await.ok()?;
    let left = info.num_pending + u64::try_from(info.num_ack_pending).unwrap_or(0);
    if info.ack_floor.stream_sequence > 0 {
        let _ = stream.purge().sequence(info.ack_floor.stream_sequence + 1).await;
    }
    Some(left)
}

/// The consumer that workers of one version of a function share.
pub(super) async fn add_consumer(context: &Context, subjects: &Subjects, key: &FunctionKey) -> Result<(), Error> {
    let name = subjects.orders_consumer(key);
    let stream = context.get_stream(subjects.orders_stream()).await.map_err(Error::Get)?;
    let config = pull::Config {
        durable_name: Some(name.clone()),
        filter_subject: subjects.orders_of(key),
        ack_policy: AckPolicy::Explicit,
        ack_wait: ORDER_ACK_WAIT,
        // Attempts are counted by the rules, not by JetStream.
        max_deliver: -1,
        max_ack_pending: ORDERS_IN_CLAIM_MAX,
        max_waiting: WORKERS_WAITING_MAX,
        ..Default::default()
    };
    let made = stream.get_or_create_consumer(&name, config).await;
    made.map(drop).map_err(|error| Error::Consumer { name, error })
}

fn orders(subjects: &Subjects) -> Config {
    Config {
        name: subjects.orders_stream(),
        subjects: vec![subjects.orders_all()],
        retention: RetentionPolicy::WorkQueue,
        discard: DiscardPolicy::New,
        max_messages: ORDERS_MAX,
        max_message_size: i32::try_from(MESSAGE_SIZE_MAX).unwrap_or(i32::MAX),
        storage: StorageType::File,
        ..Default::default()
    }
}

fn reports(subjects: &Subjects) -> Config {
    Config {
        name: subjects.reports_stream(),
        subjects: vec![subjects.reports_all()],
        // Not `Interest` or `WorkQueue`: the one would drop what comes before the consumer is made, the other wants
        // an acknowledgment for each message. What is durable is purged (see `purge_durable`).
        retention: RetentionPolicy::Limits,
        // Full, it refuses, and workers keep their reports until there is room.
        discard: DiscardPolicy::New,
        max_bytes: REPORTS_BYTES_MAX,
        max_message_size: i32::try_from(2 * MESSAGE_SIZE_MAX).unwrap_or(i32::MAX),
        storage: StorageType::File,
        ..Default::default()
    }
}

fn logs(subjects: &Subjects) -> Config {
    Config {
        name: subjects.logs_stream(),
        subjects: vec![subjects.logs_all()],
        retention: RetentionPolicy::Limits,
        discard: DiscardPolicy::Old,
        max_bytes: LOGS_BYTES_MAX,
        max_age: LOGS_AGE_MAX,
        max_message_size: i32::try_from(2 * LOG_BATCH_MAX).unwrap_or(i32::MAX),
        compression: Some(Compression::S2),
        storage: StorageType::File,
        ..Default::default()
    }
}
