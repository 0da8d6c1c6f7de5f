//! Bytes that are too many for memory, piece by piece.

use super::Error;
use bytes::Bytes;
use reqwest::Response;

#[derive(Debug)]
pub struct Download {
    response: Response,
    url: String,
    starts_at: u64,
}

impl Download {
    pub(super) fn new(response: Response, url: String, starts_at: u64) -> Download {
        Download { response, url, starts_at }
    }

    /// Where in the object the first piece lies: what was asked for, or 0.
    pub fn starts_at(&self) -> u64 {
        self.starts_at
    }

    /// The next piece; `None` at the end. May be dropped and called again.
    pub async fn next(&mut self) -> Result<Option<Bytes>, Error> {
        self.response.chunk().await.map_err(|error| Error::lost(&self.url, error))
    }
}
