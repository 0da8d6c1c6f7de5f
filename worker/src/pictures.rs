//! Keeps smaller pictures beside an output, before it is reported, so that who hears of the output finds them. They are
//! for people: whatever goes wrong with one is a line in the debug log, never the output's fault.

use crate::store::Store;
use framewake_proto::chain::Chain;
use framewake_proto::ids::JobId;
use framewake_proto::objects::{Digest, Picture, picture_key};
use framewake_reading::pictures::{self, Pictures, Seen};
use std::time::Duration;

/// How long a frame is held up for its pictures. The store has just taken the output itself.
const KEEP_TIME_MAX: Duration = Duration::from_secs(5);

/// Makes the pictures, away from the runtime's own threads. `None`: there are none.
pub(crate) async fn make(seen: Seen) -> Option<Pictures> {
    match tokio::task::spawn_blocking(move || pictures::make(seen)).await {
        Ok(Ok(made)) => Some(made),
        Ok(Err(reason)) => {
            tracing::debug!("an output has no pictures: {}", Chain(&reason));
            None
        }
        Err(_) => {
            tracing::debug!("an output has no pictures: making them gave up");
            None
        }
    }
}

/// Stores the pictures of the output with this digest.
pub(crate) async fn keep(store: &Store, job: JobId, output: Digest, made: Option<Pictures>) {
    let Some(Pictures { thumbnail, preview }) = made else { return };
    let put = async |picture, bytes: Vec<u8>| {
        let key = picture_key(job, &output, picture);
        if let Err(error) = store.put_small(&key, bytes).await {
            tracing::debug!(key, "a picture is not kept: {}", Chain(&error));
        }
    };
    let both = async {
        let preview = async {
            if let Some(preview) = preview {
                put(Picture::Preview, preview).await;
            }
        };
        tokio::join!(put(Picture::Thumbnail, thumbnail), preview);
    };
    if tokio::time::timeout(KEEP_TIME_MAX, both).await.is_err() {
        tracing::debug!(%output, "pictures are not kept: the store took longer than {} s", KEEP_TIME_MAX.as_secs());
    }
}
