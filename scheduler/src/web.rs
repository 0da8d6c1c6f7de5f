//! The web pages: files that are part of the program. They show what REST tells and do what REST allows, so nothing here
//! knows of jobs.

use axum::Router;
use axum::extract::Path;
use axum::http::header::{
    CACHE_CONTROL, CONTENT_SECURITY_POLICY, CONTENT_TYPE, ETAG, IF_NONE_MATCH, REFERRER_POLICY, X_FRAME_OPTIONS,
};
use axum::http::{HeaderMap, HeaderName, StatusCode};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use sha2::{Digest, Sha256};
use std::sync::LazyLock;

/// Scripts, styles and pictures come from here and nowhere else, nothing runs that stands in a page, and no page of
/// others may hold one of these in a frame.
const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' blob:; media-src 'self'; \
                      connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'";

/// Addresses of pages; what they show, the script in them decides.
pub(crate) const PAGES: [&str; 11] = [
    "/",
    "/jobs",
    "/jobs/{id}",
    "/submit",
    "/workers",
    "/functions",
    "/schedules",
    "/cost",
    "/events",
    "/settings",
    "/api",
];

struct File {
    name: &'static str,
    kind: &'static str,
    bytes: &'static [u8],
}

macro_rules! files {
    ($($name:literal: $kind:literal),* $(,)?) => {
        [$(File { name: $name, kind: $kind, bytes: include_bytes!(concat!("../web/", $name)) }),*]
    };
}

static FILES: [File; 32] = files![
    "index.html": "text/html; charset=utf-8",
    "style.css": "text/css; charset=utf-8",
    "viewer.css": "text/css; charset=utf-8",
    "icon.svg": "image/svg+xml",
    "main.js": "text/javascript; charset=utf-8",
    "lib.js": "text/javascript; charset=utf-8",
    "hold.js": "text/javascript; charset=utf-8",
    "overview.js": "text/javascript; charset=utf-8",
    "jobs.js": "text/javascript; charset=utf-8",
    "job.js": "text/javascript; charset=utf-8",
    "strip.js": "text/javascript; charset=utf-8",
    "viewer.js": "text/javascript; charset=utf-8",
    "picture.js": "text/javascript; charset=utf-8",
    "reel.js": "text/javascript; charset=utf-8",
    "thumbs.js": "text/javascript; charset=utf-8",
    "log.js": "text/javascript; charset=utf-8",
    "submit.js": "text/javascript; charset=utf-8",
    "workers.js": "text/javascript; charset=utf-8",
    "functions.js": "text/javascript; charset=utf-8",
    "schedules.js": "text/javascript; charset=utf-8",
    "cost.js": "text/javascript; charset=utf-8",
    "calendar.js": "text/javascript; charset=utf-8",
    "pace.js": "text/javascript; charset=utf-8",
    "yaml.js": "text/javascript; charset=utf-8",
    "outputs.js": "text/javascript; charset=utf-8",
    "events.js": "text/javascript; charset=utf-8",
    "settings.js": "text/javascript; charset=utf-8",
    "sessions.js": "text/javascript; charset=utf-8",
    "tokens.js": "text/javascript; charset=utf-8",
    "attempts.js": "text/javascript; charset=utf-8",
    "api.js": "text/javascript; charset=utf-8",
    "login.js": "text/javascript; charset=utf-8",
];

/// The entity tag of all files: they change together, with the program.
static TAG: LazyLock<String> = LazyLock::new(|| {
    let mut hash = Sha256::new();
    for file in &FILES {
        hash.update(file.bytes);
    }
    format!("\"{}\"", &hex::encode(hash.finalize())[..16])
});

/// The pages and their files, to be merged with the interface that they use.
pub(crate) fn router<S: Clone + Send + Sync + 'static>() -> Router<S> {
    let pages = PAGES.iter().fold(Router::new(), |router, page| {
        router.route(page, get(|headers: HeaderMap| async move { send(&FILES[0], &headers) }))
    });
    pages.route("/web/{name}", get(file))
}

async fn file(Path(name): Path<String>, headers: HeaderMap) -> Response {
    match FILES.iter().find(|file| file.name == name) {
        Some(file) => send(file, &headers),
        None => (StatusCode::NOT_FOUND, "there is no such file\n").into_response(),
    }
}

fn send(file: &'static File, headers: &HeaderMap) -> Response {
    let known = headers.get(IF_NONE_MATCH).and_then(|value| value.to_str().ok());
    let head: [(HeaderName, &str); 6] = [
        (CONTENT_TYPE, file.kind),
        (ETAG, &TAG),
        // Asked for each time and seldom sent: a page of yesterday's program would speak to today's.
        (CACHE_CONTROL, "no-cache"),
        (CONTENT_SECURITY_POLICY, POLICY),
        (REFERRER_POLICY, "no-referrer"),
        (X_FRAME_OPTIONS, "DENY"),
    ];
    if known.is_some_and(|tags| tags.contains(TAG.as_str())) {
        return (StatusCode::NOT_MODIFIED, head).into_response();
    }
    (head, file.bytes).into_response()
}

#[cfg(test)]
mod tests {
    use super::*;
    use axum::body::{Body, to_bytes};
    use axum::http::Request;
    use tower::ServiceExt;

    async fn ask(path: &str, tag: Option<&str>) -> (StatusCode, HeaderMap, String) {
        let mut request = Request::get(path);
        if let Some(tag) = tag {
            request = request.header(IF_NONE_MATCH, tag);
        }
        let request = request.body(Body::empty()).expect("a request");
        let answer = router::<()>().oneshot(request).await.expect("an answer");
        let (head, body) = answer.into_parts();
        let body = to_bytes(body, usize::MAX).await.expect("a body");
        (head.status, head.headers, String::from_utf8_lossy(&body).into_owned())
    }

    /// Every file that a file speaks of is there: `from "./lib.js"`, `src="/web/main.js"`.
    #[tokio::test]
    async fn files_that_pages_ask_for_are_there() {
        let (_, _, page) = ask("/", None).await;
        let mut wanted: Vec<String> =
            page.split('"').filter(|word| word.starts_with("/web/")).map(str::to_owned).collect();
        for file in FILES.iter().filter(|file| file.kind.starts_with("text/javascript")) {
            let text = std::str::from_utf8(file.bytes).expect("text");
            wanted
                .extend(text.split('"').filter_map(|word| word.strip_prefix("./")).map(|name| format!("/web/{name}")));
        }
        assert!(wanted.len() > FILES.len(), "{wanted:?}");
        for path in wanted {
            let (status, _, _) = ask(&path, None).await;
            assert_eq!(status, StatusCode::OK, "{path}");
        }
        assert_eq!(ask("/web/..%2Fsrc%2Fweb.rs", None).await.0, StatusCode::NOT_FOUND);
    }

    #[tokio::test]
    async fn pages_run_nothing_but_their_own_scripts_stand_in_no_frame_and_are_sent_once() {
        for page in PAGES {
            let (status, head, body) = ask(&page.replace("{id}", "x"), None).await;
            assert_eq!(status, StatusCode::OK, "{page}");
            let policy = head[CONTENT_SECURITY_POLICY].to_str().expect("text");
            assert!(policy.starts_with("default-src 'none'") && !policy.contains("unsafe"), "{policy}");
            assert!(policy.contains("frame-ancestors 'none'") && head[X_FRAME_OPTIONS] == "DENY", "{head:?}");
            assert!(!body.contains("<script>") && !body.contains(" style="), "the policy would refuse it");
        }
        let (status, head, body) = ask("/web/main.js", Some(&TAG)).await;
        assert_eq!((status, body.as_str()), (StatusCode::NOT_MODIFIED, ""));
        assert_eq!(head[ETAG].to_str().expect("text"), TAG.as_str());
    }
}
