//! Sessions of pages: who is logged in, and ending one of them. Not here: one's own (`session.rs`).

use super::App;
use super::audit::{NotedAs, OfProject};
use super::jobs;
use super::openapi::Problems;
use super::problem::{Answer, Refusal};
use super::query::{Query, clip};
use super::tokens::is_of;
use crate::access::{Caller, Held, Session, TokenId};
use crate::store::AccessWrite;
use axum::extract::{Path, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use axum::{Extension, Json};
use framewake_proto::access::SessionView;
use framewake_proto::api::Page;
use framewake_proto::time::Timestamp;
use serde_json::json;
use std::cmp::Reverse;
use std::sync::Arc;

/// List the sessions of pages, newest first; never their cookies
#[utoipa::path(get, path = "/v1/sessions", tag = "sessions",
    params(
        ("cursor" = Option<String>, Query, description = "`next` of the page before"),
        ("limit" = Option<u32>, Query, description = "1 to 1000, else 100"),
    ),
    responses((status = 200, body = Page<SessionView>), Problems))]
pub(super) async fn list(State(app): State<Arc<App>>, caller: Caller, query: Query) -> Answer<Json<Page<SessionView>>> {
    let query = query.only(&["cursor", "limit"])?;
    let before = query.cursor(|text| {
        let (begun, id) = text.split_once('-')?;
        Some((Timestamp(begun.parse().ok()?), id.parse::<TokenId>().ok()?))
    })?;
    let limit = query.limit()? as usize;
    let now = Timestamp::now();
    let mut found = seen(&app, &caller, now);
    found.retain(|(session, _)| before.is_none_or(|before| place(session) < before));
    found.sort_unstable_by_key(|(session, _)| Reverse(place(session)));
    let next = (found.len() > limit).then(|| {
        let (Timestamp(begun), id) = place(&found[limit - 1].0);
        format!("{begun}-{id}")
    });
    found.truncate(limit);
    let items = found.iter().map(|(session, held)| view(&caller, session, held, now)).collect();
    Ok(Json(Page { items, next }))
}

/// End a session of pages: it opens nothing from now on, and the streams that its pages follow end
#[utoipa::path(delete, path = "/v1/sessions/{id}", tag = "sessions",
    params(("id" = String, Path, description = "As the list has it")),
    responses((status = 204, description = "It opens nothing any more"), Problems))]
pub(super) async fn end(State(app): State<Arc<App>>, caller: Caller, Path(id): Path<String>) -> Answer<Response> {
    let none =
        || Refusal::not_found(format!("there is no session `{}`", clip(&id))).hint("GET /v1/sessions lists them");
    let wanted: TokenId = id.parse().map_err(|_| none())?;
    let now = Timestamp::now();
    let found = seen(&app, &caller, now).into_iter().find(|(session, _)| session.id() == wanted);
    let (session, held) = found.ok_or_else(none)?;
    let write = app.handle.write_access(vec![AccessWrite::SessionEnded(session.key())]).await;
    write.map_err(|error| jobs::refused(&error, None))?;
    app.access.sessions.end_this(&session);
    let noted = Extension(NotedAs(json!({"ended": view(&caller, &session, &held, now)})));
    let answer = (StatusCode::NO_CONTENT, noted).into_response();
    Ok(match held.token.project.clone() {
        Some(project) => (Extension(OfProject(project)), answer).into_response(),
        None => answer,
    })
}

/// Those that go on and the caller may know of, and what each stands for.
fn seen(app: &App, caller: &Caller, now: Timestamp) -> Vec<(Arc<Session>, Arc<Held>)> {
    let with_held = |session: Arc<Session>| Some((app.access.behind(&session)?, session));
    let found = app.access.sessions.list(now).into_iter().filter_map(with_held);
    let found = found.filter(|(held, _)| !held.is_over(now) && is_of(caller, &held.token));
    found.map(|(held, session)| (session, held)).collect()
}

/// In the list: no two begin at once with one id.
fn place(session: &Session) -> (Timestamp, TokenId) {
    (session.begun_at(), session.id())
}

fn view(caller: &Caller, session: &Session, held: &Held, now: Timestamp) -> SessionView {
    let token = &held.token;
    let ends = session.ends_at();
    SessionView {
        id: session.id().to_string(),
        name: token.name.clone(),
        role: token.role,
        project: token.project.clone(),
        token: session.person().is_none().then(|| token.id.to_string()),
        called: session.called().map(str::to_owned),
        begun_at: session.begun_at(),
        used_at: session.used_at(now),
        expires_at: token.expires_at.map_or(ends, |end| end.min(ends)),
        own: caller.session.as_ref().is_some_and(|own| own.key() == session.key()),
    }
}
