//! Which job the user means: an id, the beginning of one, or `latest`.

use crate::failure::BadInput;
use framewake_proto::api::PAGE_SIZE_MAX;
use framewake_proto::client::{Client, JobQuery};
use framewake_proto::ids::JobId;

/// Most pages that are searched for the beginning of an id.
const PAGES_MAX: u32 = 20;
/// Most ids that are named when several fit.
const NAMED_MAX: usize = 5;

pub(crate) async fn job(client: &Client, text: &str) -> anyhow::Result<JobId> {
    if text == "latest" {
        let page = client.jobs(&JobQuery { limit: Some(1), ..JobQuery::default() }).await?;
        let newest = page.items.first().ok_or_else(|| BadInput::new("there is no job yet"))?;
        return Ok(newest.id);
    }
    if let Ok(id) = text.parse() {
        return Ok(id);
    }
    let prefix = text.to_uppercase();
    if prefix.is_empty() || prefix.len() > 26 || !prefix.chars().all(|c| c.is_ascii_alphanumeric()) {
        return Err(
            BadInput::new(format!("`{text}` is neither a job id, nor the beginning of one, nor `latest`")).into()
        );
    }
    let mut found: Vec<JobId> = Vec::new();
    let mut query = JobQuery { limit: Some(PAGE_SIZE_MAX), ..JobQuery::default() };
    for _ in 0..PAGES_MAX {
        let page = client.jobs(&query).await?;
        found.extend(page.items.iter().map(|job| job.id).filter(|id| id.to_string().starts_with(&prefix)));
        query.cursor = page.next;
        if query.cursor.is_none() || found.len() > NAMED_MAX {
            break;
        }
    }
    match found.as_slice() {
        [id] => Ok(*id),
        [] => Err(BadInput::new(format!("no job's id begins with `{text}`"))
            .hint("list them with: framewake jobs")
            .into()),
        several => {
            let named: Vec<String> = several.iter().take(NAMED_MAX).map(JobId::to_string).collect();
            let more = if several.len() > NAMED_MAX { ", …" } else { "" };
            let message = format!("several jobs' ids begin with `{text}`: {}{more}", named.join(", "));
            Err(BadInput::new(message).into())
        }
    }
}
