//! Who one is, and the sessions of pages: a token is given once, and a cookie that no script can read stands for it.

use super::body::{self, Format};
use super::door::{self, cookies};
use super::openapi::Problems;
use super::problem::{Answer, Refusal};
use super::shares::Peer;
use super::{App, RequestId, schema};
use crate::access::{COOKIE, Caller, Held, Oidc, SESSION_FOR, Stands};
use crate::store::{AccessWrite, AuditRow};
use axum::body::Body;
use axum::extract::State;
use axum::http::header::SET_COOKIE;
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use axum::{Extension, Json};
use framewake_proto::access::{Login, WhoView};
use framewake_proto::time::Timestamp;
use std::sync::Arc;
use tokio::time::Instant;

/// Largest body with a token.
const LOGIN_SIZE_MAX: usize = 4096;

/// Say who one is
#[utoipa::path(get, path = "/v1/session", tag = "access", responses((status = 200, body = WhoView), Problems))]
pub(super) async fn show(State(app): State<Arc<App>>, caller: Option<Extension<Caller>>) -> Json<WhoView> {
    Json(WhoView { who: caller.map(|Extension(caller)| caller.view()), ..view(&app) })
}

/// Log a page in
///
/// The cookie of the answer stands for the token, for 12 hours or until the token ends.
#[utoipa::path(post, path = "/v1/session", tag = "access", request_body = Login,
    responses((status = 200, body = WhoView), Problems))]
pub(super) async fn begin(
    State(app): State<Arc<App>>,
    peer: Peer,
    request: Option<Extension<RequestId>>,
    headers: HeaderMap,
    body: Body,
) -> Answer<Response> {
    let format = Format::of(&headers)?;
    let bytes = body::read(&headers, body, LOGIN_SIZE_MAX).await?;
    let Login { token } = body::parse(format, &bytes, &schema::LOGIN)?;
    if !app.access.asks() {
        return Ok(Json(WhoView { who: Some(Caller::local().view()), ..view(&app) }).into_response());
    }
    let now = Timestamp::now();
    let held = door::find(&app, token.reveal().trim(), now).await.map_err(|why| door::turn_away(&app, peer, why))?;
    let cookie = app.access.sessions.begin(Stands::Token(held.token.id), Instant::now());
    let caller = welcome(&app, held, peer, request.map(|Extension(id)| id)).await;
    let set = set_cookie(&cookie, SESSION_FOR.as_secs(), is_encrypted(&headers, app.certificate.is_some()));
    let view = WhoView { who: Some(caller.view()), ..view(&app) };
    Ok(([(SET_COOKIE, set)], Json(view)).into_response())
}

/// What is told of the farm to whoever logs in.
fn view(app: &App) -> WhoView {
    WhoView { tokens: app.access.asks(), login_with: app.access.oidc.as_deref().map(Oidc::name), who: None }
}

/// Notes that somebody has logged in.
pub(super) async fn welcome(app: &App, held: Arc<Held>, peer: Peer, request: Option<RequestId>) -> Caller {
    let caller = Caller::of(held);
    let row = AuditRow {
        bulk: true,
        at: Timestamp::now(),
        who: caller.name.clone(),
        token: caller.token().map_or(String::new(), |id| id.to_string()),
        peer: peer.to_string(),
        action: "session.begin",
        subject: "/v1/session".to_owned(),
        project: caller.project.clone(),
        request: request.map_or(String::new(), |RequestId(id)| id),
        ..AuditRow::default()
    };
    app.handle.tell_access(vec![AccessWrite::Changed(Box::new(row))]).await;
    caller
}

/// Log a page out
#[utoipa::path(delete, path = "/v1/session", tag = "access",
    responses((status = 204, description = "The session is over"), Problems))]
pub(super) async fn end(State(app): State<Arc<App>>, headers: HeaderMap) -> Result<Response, Refusal> {
    for cookie in cookies(&headers) {
        app.access.sessions.end(cookie);
    }
    let set = set_cookie("", 0, is_encrypted(&headers, app.certificate.is_some()));
    Ok((StatusCode::NO_CONTENT, [(SET_COOKIE, set)]).into_response())
}

/// Whether the browser speaks TLS, to us or to a proxy in front. Who lies about it harms their own cookie only.
fn is_encrypted(headers: &HeaderMap, here: bool) -> bool {
    here || headers.get("x-forwarded-proto").is_some_and(|proto| proto == "https")
}

pub(super) fn set_cookie(value: &str, seconds: u64, secure: bool) -> String {
    let secure = if secure { "; Secure" } else { "" };
    format!("{COOKIE}={value}; Path=/; Max-Age={seconds}; HttpOnly; SameSite=Strict{secure}")
}
