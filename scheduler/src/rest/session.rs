//! Who one is, and the sessions of pages: a token is given once, and a cookie that no script can read stands for it.

use super::body;
use super::door::{self, cookies};
use super::openapi::Problems;
use super::problem::Answer;
use super::shares::Peer;
use super::{App, RequestId, jobs, schema};
use crate::access::{Caller, KeptSession, Oidc, Person, SESSION_FOR, Session, Why, make_session};
use crate::store::{AccessWrite, AuditRow, Share};
use axum::body::Body;
use axum::extract::State;
use axum::http::header::SET_COOKIE;
use axum::http::{HeaderMap, HeaderName, HeaderValue, StatusCode};
use axum::response::{IntoResponse, Response};
use axum::{Extension, Json};
use framewake_proto::access::{LoggedOut, Login, WhoView};
use framewake_proto::chain::Chain;
use framewake_proto::time::Timestamp;
use serde_json::json;
use std::sync::Arc;
use tracing::warn;

/// Pictures may be kept for ever, and are not for who sits down at the browser next. Browsers heed it over TLS and from this
/// machine alone.
const FORGET_PICTURES: (HeaderName, HeaderValue) =
    (HeaderName::from_static("clear-site-data"), HeaderValue::from_static("\"cache\""));

/// Largest body with a token.
const LOGIN_SIZE_MAX: usize = 4096;

/// Say who one is
#[utoipa::path(get, path = "/v1/session", tag = "access", responses((status = 200, body = WhoView), Problems))]
pub(super) async fn show(State(app): State<Arc<App>>, caller: Option<Extension<Caller>>) -> Json<WhoView> {
    Json(WhoView { who: caller.map(|Extension(caller)| caller.view()), ..view(&app) })
}

/// Log a page in
///
/// The cookie of the answer stands for the token, for 12 hours, until nobody has used it for two, or until the token ends.
#[utoipa::path(post, path = "/v1/session", tag = "access", request_body = Login,
    responses((status = 200, body = WhoView), Problems))]
pub(super) async fn begin(
    State(app): State<Arc<App>>,
    peer: Peer,
    request: Option<Extension<RequestId>>,
    headers: HeaderMap,
    body: Body,
) -> Answer<Response> {
    let Login { token } = body::take(&headers, body, LOGIN_SIZE_MAX, &schema::LOGIN).await?;
    if !app.access.asks() {
        return Ok(Json(WhoView { who: Some(Caller::local().view()), ..view(&app) }).into_response());
    }
    let now = Timestamp::now();
    let held = door::find(&app, token.reveal().trim(), now).await.map_err(|why| door::turn_away(&app, peer, why))?;
    let (cookie, kept) = make_session(held.token.id, None, None, now);
    let caller = welcome(&app, kept, peer, request.map(|Extension(id)| id)).await?;
    let secure = is_encrypted(&headers, app.certificate.is_some());
    let set = set_cookie(&app.cookies.session, &cookie, SESSION_FOR.as_secs(), secure);
    let view = WhoView { who: Some(caller.view()), ..view(&app) };
    Ok(([(SET_COOKIE, set)], Json(view)).into_response())
}

/// What is told of the farm to whoever logs in.
fn view(app: &App) -> WhoView {
    WhoView { tokens: app.access.asks(), login_with: app.access.oidc.as_deref().map(Oidc::name), who: None }
}

/// Somebody has logged in: from now on the session's cookie opens what they may do. It is durable with its note, or not begun.
pub(super) async fn welcome(app: &App, kept: KeptSession, peer: Peer, request: Option<RequestId>) -> Answer<Caller> {
    let session = Session::of(kept.clone());
    // A token may have been revoked in this very moment.
    let held = app.access.behind(&session).ok_or_else(|| door::turn_away(app, peer, Why::Unknown))?;
    let caller = Caller::of(held);
    let mut after = json!({"role": caller.role, "project": caller.project, "session": session.id().to_string()});
    if let Some(Person { called, subject, issuer, group, .. }) = &kept.person {
        after["group"] = json!(group);
        after["called"] = json!(called);
        after["subject"] = json!(subject);
        after["issuer"] = json!(issuer);
    }
    let after = after.to_string();
    let row = AuditRow { action: "session.begin", after, ..row(&caller, peer, request) };
    let writes = vec![AccessWrite::SessionBegun(kept.clone()), AccessWrite::Changed(Box::new(row))];
    app.handle.write_access(writes).await.map_err(|error| jobs::refused(&error, None))?;
    let ended = app.access.sessions.insert(kept, Timestamp::now());
    app.handle.tell_access(ended.into_iter().map(AccessWrite::SessionEnded).collect()).await;
    Ok(caller)
}

fn row(caller: &Caller, peer: Peer, request: Option<RequestId>) -> AuditRow {
    let token = caller.token().map_or(String::new(), |id| id.to_string());
    AuditRow {
        share: Share::Logins,
        at: Timestamp::now(),
        who: caller.name.clone(),
        peer: peer.to_string(),
        // Where the session is taken back.
        subject: format!("/v1/tokens/{token}"),
        token,
        project: caller.project.clone(),
        request: request.map_or(String::new(), |RequestId(id)| id),
        ..AuditRow::default()
    }
}

/// Log a page out
///
/// Who logged in by a provider of identities is to be logged out there too, where the provider has an address for that.
#[utoipa::path(delete, path = "/v1/session", tag = "access",
    responses((status = 204, description = "The session is over"),
        (status = 200, description = "The session is over here, and goes on at the provider", body = LoggedOut), Problems))]
pub(super) async fn end(
    State(app): State<Arc<App>>,
    peer: Peer,
    request: Option<Extension<RequestId>>,
    headers: HeaderMap,
) -> Answer<Response> {
    let (mut go_on_at, mut ended) = (None, false);
    let request = request.map(|Extension(id)| id);
    for cookie in cookies(&headers, &app.cookies.session) {
        // At once, and then for good.
        let Some(session) = app.access.sessions.end(cookie) else { continue };
        let mut writes = vec![AccessWrite::SessionEnded(session.key())];
        if let Some(held) = app.access.behind(&session) {
            let row = AuditRow { action: "session.end", ..row(&Caller::of(held), peer, request.clone()) };
            writes.push(AccessWrite::Changed(Box::new(row)));
        }
        app.handle.write_access(writes).await.map_err(|error| jobs::refused(&error, None))?;
        ended = true;
        if let (Some(oidc), Some(_)) = (&app.access.oidc, session.person()) {
            match oidc.end(session.hint(cookie).as_deref()).await {
                Ok(address) => go_on_at = address,
                Err(error) => warn!("somebody is logged out here and not at the provider: {}", Chain(&error)),
            }
        }
    }
    let secure = is_encrypted(&headers, app.certificate.is_some());
    let forget = [(SET_COOKIE, set_cookie(&app.cookies.session, "", 0, secure))];
    let mut answer = match go_on_at {
        Some(address) => (forget, Json(LoggedOut { go_on_at: address.into() })).into_response(),
        None => (StatusCode::NO_CONTENT, forget).into_response(),
    };
    if ended {
        let (name, pictures) = FORGET_PICTURES;
        answer.headers_mut().insert(name, pictures);
    }
    Ok(answer)
}

/// Whether the browser speaks TLS, to us or to a proxy in front. Who lies about it harms their own cookie only.
fn is_encrypted(headers: &HeaderMap, here: bool) -> bool {
    here || headers.get("x-forwarded-proto").is_some_and(|proto| proto == "https")
}

pub(super) fn set_cookie(name: &str, value: &str, seconds: u64, secure: bool) -> String {
    let secure = if secure { "; Secure" } else { "" };
    format!("{name}={value}; Path=/; Max-Age={seconds}; HttpOnly; SameSite=Strict{secure}")
}
