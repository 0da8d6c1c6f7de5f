//! Tokens: make, list, revoke. A secret is in one answer and nowhere else.

use super::audit::{NotedAs, OfProject};
use super::body;
use super::openapi::Problems;
use super::problem::{Answer, Code, Refusal};
use super::query::{Query, clip};
use super::{App, door, jobs, schema};
use crate::access::{Caller, Token, TokenId, make_token, name_fault};
use crate::store::AccessWrite;
use axum::body::Body;
use axum::extract::{Path, State};
use axum::http::header::{CACHE_CONTROL, LOCATION};
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use axum::{Extension, Json};
use framewake_proto::access::{TOKENS_MAX, TokenAdd, TokenMade, TokenView};
use framewake_proto::api::Page;
use framewake_proto::duration::Span;
use framewake_proto::job::{Fault, JOB_SIZE_MAX};
use framewake_proto::time::Timestamp;
use serde_json::json;
use std::sync::Arc;

/// List tokens, by id; never their secrets
#[utoipa::path(get, path = "/v1/tokens", tag = "tokens",
    params(
        ("cursor" = Option<String>, Query, description = "`next` of the page before"),
        ("limit" = Option<u32>, Query, description = "1 to 1000, else 100"),
    ),
    responses((status = 200, body = Page<TokenView>), Problems))]
pub(super) async fn list(State(app): State<Arc<App>>, caller: Caller, query: Query) -> Answer<Json<Page<TokenView>>> {
    let query = query.only(&["cursor", "limit"])?;
    let after: Option<TokenId> = query.cursor(|text| text.parse().ok())?;
    let limit = query.limit()? as usize;
    let mut tokens = app.access.tokens.list();
    tokens.retain(|token| after.is_none_or(|after| token.id > after) && is_of(&caller, token));
    let next = (tokens.len() > limit).then(|| tokens[limit - 1].id.to_string());
    tokens.truncate(limit);
    Ok(Json(Page { items: tokens.iter().map(Token::view).collect(), next }))
}

/// An admin of one project knows of that one's tokens.
pub(super) fn is_of(caller: &Caller, token: &Token) -> bool {
    caller.only().is_none_or(|only| token.project.as_ref() == Some(only))
}

/// Make a token
///
/// Its secret is in this answer and nowhere else: what is stored is its digest.
#[utoipa::path(post, path = "/v1/tokens", tag = "tokens", request_body = TokenAdd,
    responses((status = 201, description = "Stored and durable", body = TokenMade), Problems))]
pub(super) async fn add(
    State(app): State<Arc<App>>,
    caller: Caller,
    headers: HeaderMap,
    body: Body,
) -> Answer<Response> {
    let TokenAdd { name, role, project, lasts } = body::take(&headers, body, JOB_SIZE_MAX, &schema::TOKEN_ADD).await?;
    if lasts.is_some_and(|Span(lasts)| lasts.is_zero()) {
        return Err(Refusal::faults(vec![Fault::new("/lasts", "must be more than 0")]));
    }
    if let Some(fault) = name_fault(&name) {
        return Err(Refusal::faults(vec![Fault::new("/name", fault)]));
    }
    if caller.only().is_some() && project.as_ref() != caller.only() {
        let own = caller.only().map(ToString::to_string).unwrap_or_default();
        let detail = format!("an admin of project `{own}` makes tokens for that project only");
        return Err(Refusal::new(Code::Forbidden, detail).hint(format!("give it `\"project\": \"{own}\"`")));
    }
    let _one_at_a_time = app.access.changing.lock().await;
    if caller.held.as_ref().is_some_and(|held| held.is_over(Timestamp::now())) {
        // It was revoked while this waited for its turn.
        return Err(door::ended());
    }
    if app.access.tokens.len() >= TOKENS_MAX {
        let detail = format!("there are {TOKENS_MAX} tokens, the most there may be");
        return Err(Refusal::new(Code::WrongState, detail).hint("revoke those that nobody uses"));
    }
    let (id, secret, sha256) = make_token();
    let now = Timestamp::now();
    let expires_at =
        lasts.map(|Span(lasts)| Timestamp(now.0.saturating_add(i64::try_from(lasts.as_millis()).unwrap_or(i64::MAX))));
    let made_by = caller.name.clone();
    let token = Token { id, sha256, name, role, project, made_at: now, made_by, expires_at, used_at: None };
    let view = token.view();
    app.handle
        .write_access(vec![AccessWrite::TokenMade(token.clone())])
        .await
        .map_err(|error| jobs::refused(&error, None))?;
    app.access.tokens.insert(token);
    let head = [(LOCATION, format!("/v1/tokens/{id}")), (CACHE_CONTROL, "no-store".to_owned())];
    let noted = Extension(NotedAs(json!(view)));
    let of = view.project.clone().map(|project| Extension(OfProject(project)));
    let answer = (StatusCode::CREATED, head, noted, Json(TokenMade { token: view, secret })).into_response();
    Ok(match of {
        Some(of) => (of, answer).into_response(),
        None => answer,
    })
}

/// Revoke a token: it opens nothing from now on, and what it holds open ends
///
/// Or end the session of somebody who logged in by a provider of identities, as `DELETE /v1/sessions/{id}` does.
#[utoipa::path(delete, path = "/v1/tokens/{id}", tag = "tokens",
    params(("id" = String, Path, description = "The middle of the token: `fw_<id>_…`")),
    responses((status = 204, description = "It opens nothing any more"), Problems))]
pub(super) async fn revoke(State(app): State<Arc<App>>, caller: Caller, Path(id): Path<String>) -> Answer<Response> {
    let none = || Refusal::not_found(format!("there is no token `{}`", clip(&id))).hint("GET /v1/tokens lists them");
    let token: TokenId = id.parse().map_err(|_| none())?;
    let _one_at_a_time = app.access.changing.lock().await;
    let found = app.access.tokens.of(token).or_else(|| app.access.sessions.of_person(token));
    let held = found.filter(|held| is_of(&caller, &held.token)).ok_or_else(none)?;
    let write = app.handle.write_access(vec![AccessWrite::TokenRevoked(token)]).await;
    write.map_err(|error| jobs::refused(&error, None))?;
    app.access.tokens.remove(token);
    app.access.sessions.end_of(token);
    let noted = Extension(NotedAs(json!({"revoked": held.token.view()})));
    Ok((StatusCode::NO_CONTENT, noted).into_response())
}
