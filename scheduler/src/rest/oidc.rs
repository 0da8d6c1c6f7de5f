//! The way to a provider of identities and back: two addresses that browsers are sent to, so what goes wrong is told by the page
//! they end on.

use super::door::cookies;
use super::openapi::Problems;
use super::problem::{Answer, Refusal};
use super::query::Query;
use super::session::{set_cookie, welcome};
use super::shares::Peer;
use super::{App, RequestId};
use crate::access::{LOGIN_WITHIN, LoggedIn, Oidc, OidcError, SESSION_FOR, make_session, make_token};
use axum::Extension;
use axum::extract::State;
use axum::http::header::{CACHE_CONTROL, LOCATION, SET_COOKIE};
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use framewake_proto::chain::Chain;
use framewake_proto::time::Timestamp;
use std::sync::Arc;
use tracing::warn;

/// Longest state or code that is read; ours have 43 signs, and codes of large providers about a thousand.
const WORD_MAX: usize = 4096;

fn provider(app: &App) -> Answer<&Oidc> {
    let none = || Refusal::not_found("this farm knows no provider of identities").hint("log in with a token");
    app.access.oidc.as_deref().ok_or_else(none)
}

/// What the browser keeps of a login that it began, sealed. The provider's page sends people back from another site, so it is `Lax`.
fn kept(app: &App, login: &str, seconds: u64, secure: bool) -> String {
    let (name, secure) = (&app.cookies.login, if secure { "; Secure" } else { "" });
    format!("{name}={login}; Path=/v1/session/oidc; Max-Age={seconds}; HttpOnly; SameSite=Lax{secure}")
}

/// To another address, which the browser asks for by `GET`.
fn send_to(place: &str, cookies: Vec<String>) -> Response {
    let mut response = (StatusCode::SEE_OTHER, [(LOCATION, place), (CACHE_CONTROL, "no-store")]).into_response();
    for cookie in cookies {
        let cookie = cookie.parse().expect("made of signs that headers take");
        response.headers_mut().append(SET_COOKIE, cookie);
    }
    response
}

/// To the page that says so; the log says why.
fn turned_away(error: &OidcError, peer: Peer, cookies: Vec<String>) -> Response {
    warn!("nobody is logged in for {peer}: {}", Chain(error));
    send_to(&format!("/?login={}", error.code()), cookies)
}

/// Log a page in by the provider of identities: leads there
#[utoipa::path(get, path = "/v1/session/oidc", tag = "access",
    params(("to" = Option<String>, Query, description = "Page to go on with, as `/jobs`")),
    responses((status = 303, description = "To the provider, or to the page that says why not"), Problems))]
pub(super) async fn ask_provider(State(app): State<Arc<App>>, peer: Peer, query: Query) -> Answer<Response> {
    let provider = provider(&app)?;
    let query = query.only(&["to"])?;
    Ok(match provider.begin(query.one("to")?.unwrap_or("/")).await {
        Ok(begun) => {
            let cookie = kept(&app, &begun.kept, LOGIN_WITHIN.as_secs(), provider.is_encrypted());
            send_to(begun.address.as_str(), vec![cookie])
        }
        Err(error) => turned_away(&error, peer, Vec::new()),
    })
}

/// Come back from the provider of identities
///
/// The answer's cookie stands for who logged in, for 12 hours or until nobody has used it for two.
#[utoipa::path(get, path = "/v1/session/oidc/callback", tag = "access",
    params(
        ("state" = String, Query, description = "As it was sent to the provider"),
        ("code" = Option<String>, Query, description = "What the provider gives an ID token for"),
        ("error" = Option<String>, Query, description = "Why it gives none"),
    ),
    responses((status = 303, description = "To the page that was wanted, or to the one that says why not"), Problems))]
pub(super) async fn come_back(
    State(app): State<Arc<App>>,
    peer: Peer,
    request: Option<Extension<RequestId>>,
    headers: HeaderMap,
    query: Query,
) -> Answer<Response> {
    let provider = provider(&app)?;
    // Providers add what they like: `iss`, `session_state`.
    let word = |name: &str| query.one(name).map(|word| word.filter(|word| word.len() <= WORD_MAX));
    let code = match (word("code")?, word("error")?) {
        (Some(code), None) => Ok(code.to_owned()),
        (_, Some(error)) => Err(error.chars().filter(|c| !c.is_control()).take(100).collect()),
        (None, None) => Err("it gave no code".to_owned()),
    };
    let state = word("state")?.unwrap_or_default();
    let secure = provider.is_encrypted();
    let forget = kept(&app, "", 0, secure);
    // Two of them are none.
    let mut begun = cookies(&headers, &app.cookies.login);
    let begun = begun.next().filter(|value| !value.is_empty() && begun.next().is_none());
    Ok(match provider.finish(begun, state, &code).await {
        Ok(LoggedIn { person, to, id_token }) => {
            // What it is called where it is taken back or noted: there is no token.
            let (id, _, _) = make_token();
            let (cookie, kept) = make_session(id, Some(person), Some(&id_token), Timestamp::now());
            welcome(&app, kept, peer, request.map(|Extension(id)| id)).await?;
            send_to(&to, vec![forget, set_cookie(&app.cookies.session, &cookie, SESSION_FOR.as_secs(), secure)])
        }
        Err(error) => turned_away(&error, peer, vec![forget]),
    })
}
