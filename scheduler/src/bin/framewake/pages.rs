//! Lists that come page by page, as a whole.

use framewake_proto::api::Page;
use framewake_proto::client::Error;

/// Everything that a list has, asked for with the cursor of the page before.
pub(crate) async fn all<T>(page: impl AsyncFn(Option<&str>) -> Result<Page<T>, Error>) -> Result<Vec<T>, Error> {
    let mut items = Vec::new();
    let mut cursor: Option<String> = None;
    loop {
        let page = page(cursor.as_deref()).await?;
        items.extend(page.items);
        cursor = page.next;
        if cursor.is_none() {
            return Ok(items);
        }
    }
}
