//! The door: who asks, whether they may, and whose it is that they ask about. Everything behind it looks only at the
//! [`Caller`].
//!
//! A token of one project is answered about others' things as about what was never there, before anything else of the
//! request is looked at, so that no answer tells the two apart.

use super::problem::{Answer, Code, Refusal};
use super::query::{clip, invalid};
use super::shares::{Peer, peer_of};
use super::{App, audit, jobs};
use crate::access::rules::{Kind, Of, Rule, rule, rules_of};
use crate::access::{Caller, Held, Session, Tries, Why};
use axum::body::{Body, HttpBody as _};
use axum::extract::{FromRequestParts, MatchedPath, RawPathParams, Request, State};
use axum::http::header::{AUTHORIZATION, COOKIE as COOKIES, HOST, ORIGIN, WWW_AUTHENTICATE};
use axum::http::request::Parts;
use axum::http::{HeaderMap, HeaderValue, Method};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use framewake_proto::ids::{JobId, Name};
use framewake_proto::time::Timestamp;
use futures::StreamExt;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::Instant;
use tracing::warn;

/// Most names in one address.
const NAMES_MAX: usize = 8;

/// What is asked of a handler beside its arguments: who asks.
impl<S: Sync> FromRequestParts<S> for Caller {
    type Rejection = Refusal;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Caller, Refusal> {
        parts.extensions.get::<Caller>().cloned().ok_or_else(unknown)
    }
}

/// Names in the address, by what they stand for.
pub(super) type Names = Vec<(String, String)>;

/// Lets in who may, notes what they change, and ends what they follow when their token ends.
pub(super) async fn pass(State(app): State<Arc<App>>, request: Request, next: Next) -> Response {
    let (mut parts, body) = request.into_parts();
    let Some(route) = parts.extensions.get::<MatchedPath>().map(|path| path.as_str().to_owned()) else {
        // Nothing is there, which everybody may know.
        return next.run(Request::from_parts(parts, body)).await;
    };
    let Some(rule) = rule(&parts.method, &route) else {
        if app.access.asks() && (rules_of(&route).is_empty() || is_described(&parts.method, &route)) {
            let detail = format!("nobody may ask this: `{} {route}` has no line in the table of access", parts.method);
            return Refusal::new(Code::Forbidden, detail).into_response();
        }
        return next.run(Request::from_parts(parts, body)).await;
    };
    let (caller, names) = match admit(&app, rule, &mut parts).await {
        Ok(admitted) => admitted,
        Err(refusal) => return refusal.into_response(),
    };
    let (held, session) =
        caller.as_ref().map(|caller| (caller.held.clone(), caller.session.clone())).unwrap_or_default();
    let body = match &held {
        Some(held) if !body.is_end_stream() => while_good(held.clone(), body),
        _ => body,
    };
    let noting = match &caller {
        Some(caller) if !rule.action.is_empty() => Some(audit::Noting::begin(&app, rule, caller, &parts, &names).await),
        _ => None,
    };
    parts.extensions.extend(
        caller
            .map(|caller| {
                let mut extensions = axum::http::Extensions::new();
                extensions.insert(caller);
                extensions
            })
            .unwrap_or_default(),
    );
    let answer = next.run(Request::from_parts(parts, body));
    let answer = match noting {
        Some(noting) => noting.follow(&app, answer).await,
        None => answer.await,
    };
    match held {
        Some(held) if answer.status().is_client_error() && held.is_over(Timestamp::now()) => ended().into_response(),
        Some(held) if rule.kind == Kind::Stream => ending_with(held, session, answer),
        _ => answer,
    }
}

/// A token that ended while a request by it was on its way.
pub(super) fn ended() -> Refusal {
    Refusal::new(Code::Unauthorized, "the token was revoked or expired before the request had come whole")
        .hint("nothing was changed; ask for a new one: `framewake tokens add`")
        .header(WWW_AUTHENTICATE, CHALLENGE)
}

/// What is sent, as long as the token is good: a body may take a minute to come, and a change that is asked for by a token
/// must not be made once it is revoked.
fn while_good(held: Arc<Held>, body: Body) -> Body {
    let pieces = futures::stream::unfold(Some((held, body.into_data_stream())), async |state| {
        let (held, mut pieces) = state?;
        let piece = tokio::select! {
            piece = pieces.next() => piece,
            () = held.gone.cancelled() => None,
        };
        if held.is_over(Timestamp::now()) {
            return Some((Err(axum::Error::new(ended().detail().to_owned())), None));
        }
        let piece = piece?;
        let more = piece.is_ok().then_some((held, pieces));
        Some((piece, more))
    });
    Body::from_stream(pieces)
}

/// Whether the interface's own description has it, though the table has not.
fn is_described(method: &Method, route: &str) -> bool {
    super::openapi::methods(route).any(|described| described.eq_ignore_ascii_case(method.as_str()))
}

/// Who asks, and the names in the address; a refusal if they may not.
async fn admit(app: &Arc<App>, rule: &Rule, parts: &mut Parts) -> Answer<(Option<Caller>, Names)> {
    if !app.access.asks() {
        return Ok((Some(Caller::local()), if rule.action.is_empty() { Names::new() } else { names(parts).await? }));
    }
    let peer = peer_of(&parts.extensions);
    let found = identify(app, &parts.headers, peer, &parts.method).await;
    let Some(role) = rule.role else { return Ok((found.ok(), Names::new())) };
    let caller = found?;
    if caller.role < role {
        let detail = format!("`{}` is {}, and this needs {}", caller.name, a(caller.role.as_str()), a(role.as_str()));
        return Err(Refusal::new(Code::Forbidden, detail).hint(MORE_ROLE));
    }
    let Some(only) = caller.only().cloned() else {
        let names = if rule.action.is_empty() { Names::new() } else { names(parts).await? };
        return Ok((Some(caller), names));
    };
    let names = names(parts).await?;
    own(app, rule, &only, &names).await?;
    Ok((Some(caller), names))
}

const MORE_ROLE: &str = "ask whoever looks after the farm for a token with more rights: `framewake tokens add`";

fn a(role: &str) -> String {
    format!("{} {role}", if role.starts_with(['a', 'o']) { "an" } else { "a" })
}

async fn names(parts: &mut Parts) -> Answer<Names> {
    let params = RawPathParams::from_request_parts(parts, &()).await;
    let params = params.map_err(|_| invalid("the request's address can't be read"))?;
    Ok(params.iter().take(NAMES_MAX).map(|(name, value)| (name.to_owned(), value.to_owned())).collect())
}

pub(super) fn named<'a>(names: &'a Names, name: &str) -> &'a str {
    names.iter().find(|(key, _)| key == name).map_or("", |(_, value)| value)
}

/// Whether what the address names is of the one project that is seen.
async fn own(app: &App, rule: &Rule, only: &Name, names: &Names) -> Answer<()> {
    match rule.of {
        // Handlers narrow these.
        Of::Nobody | Of::Own | Of::Shared => Ok(()),
        Of::Farm => {
            let detail = format!("this token is for project `{only}`, and this is about all projects");
            Err(Refusal::new(Code::Forbidden, detail).hint("it needs a token of all projects"))
        }
        Of::Job => {
            // What is no id is answered by the handler, to everybody alike.
            let Ok(id) = named(names, "id").parse::<JobId>() else { return Ok(()) };
            if is_of(app, id, only).await? { Ok(()) } else { Err(jobs::no_such_job(id)) }
        }
        Of::Project => {
            let wanted = named(names, "name");
            if wanted == only.as_str() {
                return Ok(());
            }
            Err(Refusal::not_found(format!("there is no project `{}`", clip(wanted))))
        }
        Of::Schedule => {
            let Ok(name) = named(names, "name").parse::<Name>() else { return Ok(()) };
            let found = app.handle.schedule(name.clone()).await.map_err(|error| jobs::refused(&error, None))?;
            match found {
                Some(schedule) if schedule.spec.job.project != *only && rule.method == "PUT" => Err(taken(&name)),
                Some(schedule) if schedule.spec.job.project != *only => Err(super::schedules::no_such(&name)),
                Some(_) | None => Ok(()),
            }
        }
        Of::Target => {
            let Ok(name) = named(names, "name").parse::<Name>() else { return Ok(()) };
            let others =
                app.handle.targets().get(&name).is_some_and(|target| target.spec.project.as_ref() != Some(only));
            match (others, rule.method) {
                (false, _) => Ok(()),
                (true, "PUT") => Err(taken(&name)),
                (true, _) => Err(jobs::refused(&crate::engine::Refused::NoTarget(name), None)),
            }
        }
    }
}

/// Names of schedules and targets are the farm's: that one is taken can't be hidden from who wants it.
pub(super) fn taken(name: &Name) -> Refusal {
    Refusal::new(Code::WrongState, format!("the name `{name}` is taken")).hint("choose another name")
}

/// Whether the job is of this project.
pub(super) async fn is_of(app: &App, job: JobId, only: &Name) -> Answer<bool> {
    if let Some(project) = app.access.project_of(job) {
        return Ok(project == *only);
    }
    let Some(project) = app.reader.project_of(job).await? else { return Ok(false) };
    let own = project == *only;
    app.access.remember(job, project);
    Ok(own)
}

/// Who asks. Counts those who bring something that opens nothing.
async fn identify(app: &Arc<App>, headers: &HeaderMap, peer: Peer, method: &Method) -> Answer<Caller> {
    let now = Timestamp::now();
    let found = match credentials(headers, &app.cookies.session)? {
        Credentials::None => return Err(unknown()),
        Credentials::Token(text) => find(app, text, now).await,
        Credentials::Session(cookie) => {
            check_page(headers, method)?;
            let found = app.access.sessions.find(cookie, now).and_then(|session| {
                let held = app.access.behind(&session)?;
                (!held.is_over(now)).then(|| {
                    held.use_now(now);
                    Caller { session: Some(session), ..Caller::of(held) }
                })
            });
            return match found {
                Some(caller) => Ok(caller),
                None => Err(Refusal::new(Code::Unauthorized, "this page's session is over")
                    .hint("log in again")
                    .header(WWW_AUTHENTICATE, CHALLENGE)),
            };
        }
    };
    found.map(Caller::of).map_err(|why| turn_away(app, peer, why))
}

/// The token of a text that may be one.
pub(super) async fn find(app: &Arc<App>, text: &str, now: Timestamp) -> Result<Arc<Held>, Why> {
    match app.access.tokens.find(text, now) {
        Err(Why::Unknown) if app.look_for_tokens(text).await => app.access.tokens.find(text, now),
        found => found,
    }
}

/// Says that it opens nothing; counted for the address it came from.
pub(super) fn turn_away(app: &App, peer: Peer, why: Why) -> Refusal {
    let tries = app.access.wrong.note(peer, Instant::now());
    if tries == Tries::JustTooMany {
        warn!(
            "more wrong tokens from {peer} within a minute than anybody mistypes: they are refused shortly from now on"
        );
    }
    match (tries, why) {
        (Tries::TooMany | Tries::JustTooMany, _) => {
            Refusal::new(Code::TooMany, "too many wrong tokens came from this address")
                .hint("a good one is let in at any time")
        }
        (Tries::Few, Why::Expired) => Refusal::new(Code::Unauthorized, "the token has expired")
            .hint("ask for a new one: `framewake tokens add`")
            .header(WWW_AUTHENTICATE, CHALLENGE),
        (Tries::Few, Why::Unknown) => Refusal::new(Code::Unauthorized, "the token opens nothing here")
            .hint("it was revoked, is of another farm, or was not copied whole: `framewake login` stores another")
            .header(WWW_AUTHENTICATE, CHALLENGE),
    }
}

const CHALLENGE: HeaderValue = HeaderValue::from_static("Bearer");

fn unknown() -> Refusal {
    Refusal::new(Code::Unauthorized, "this scheduler asks who you are")
        .hint("`framewake login` stores a token, or set FRAMEWAKE_TOKEN; over REST send `authorization: Bearer fw_…`")
        .header(WWW_AUTHENTICATE, CHALLENGE)
}

enum Credentials<'a> {
    None,
    Token(&'a str),
    Session(&'a str),
}

/// One of them, said once: whoever says two things means one of them for somebody else.
fn credentials<'a>(headers: &'a HeaderMap, cookie: &str) -> Answer<Credentials<'a>> {
    let unclear = |what: &str| {
        Refusal::new(Code::Unauthorized, format!("the request has {what}: nobody can say whose it is"))
            .hint("send one `authorization: Bearer fw_…`, or the cookie of one session")
            .header(WWW_AUTHENTICATE, CHALLENGE)
    };
    let mut given = headers.get_all(AUTHORIZATION).iter();
    match (given.next(), given.next()) {
        (None, _) => {}
        (Some(_), Some(_)) => return Err(unclear("two `authorization` headers")),
        (Some(value), None) => {
            let words = value.to_str().ok().and_then(|text| text.split_once(' '));
            let token =
                words.filter(|(scheme, _)| scheme.eq_ignore_ascii_case("bearer")).map(|(_, token)| token.trim());
            return token
                .map(Credentials::Token)
                .ok_or_else(|| unclear("an `authorization` that is not `Bearer fw_…`"));
        }
    }
    let mut found = cookies(headers, cookie);
    match (found.next(), found.next()) {
        (None, _) => Ok(Credentials::None),
        (Some(cookie), None) => Ok(Credentials::Session(cookie)),
        (Some(_), Some(_)) => Err(unclear("two sessions")),
    }
}

/// Cookies of this name.
pub(super) fn cookies<'a>(headers: &'a HeaderMap, name: &str) -> impl Iterator<Item = &'a str> {
    let lines = headers.get_all(COOKIES).iter().filter_map(|line| line.to_str().ok());
    let pairs = lines.flat_map(|line| line.split(';')).filter_map(|pair| pair.trim().split_once('='));
    pairs.filter(move |(given, _)| *given == name).map(|(_, value)| value)
}

/// A change that comes with a cookie must say that a page of ours sent it: all browsers do, and another site's page is refused
/// by what it says (`CsrfLayer`).
fn check_page(headers: &HeaderMap, method: &Method) -> Answer<()> {
    if method == Method::GET
        || method == Method::HEAD
        || headers.contains_key(ORIGIN)
        || headers.contains_key("sec-fetch-site")
    {
        return Ok(());
    }
    let host = headers.get(HOST).and_then(|host| host.to_str().ok()).unwrap_or_default();
    Err(Refusal::new(Code::CrossOrigin, format!("a change by cookie must come from a page of `{}`", clip(host)))
        .hint("programs send `authorization: Bearer fw_…` instead of a cookie"))
}

/// The answer until the token is revoked or expires, or the session of the page ends.
fn ending_with(held: Arc<Held>, session: Option<Arc<Session>>, response: Response) -> Response {
    let (parts, body) = response.into_parts();
    let following = session.as_ref().map(Session::follow);
    let ended = async move {
        let _following = following;
        let ends = session.as_ref().map(|session| session.ends_at()).into_iter().chain(held.token.expires_at).min();
        let left = ends.map(|at| {
            let left = at.0.saturating_sub(Timestamp::now().0);
            Duration::from_millis(u64::try_from(left).unwrap_or(0))
        });
        let gone = session.map(|session| session.gone.clone()).unwrap_or_default();
        tokio::select! {
            () = held.gone.cancelled() => {}
            () = gone.cancelled() => {}
            () = tokio::time::sleep(left.unwrap_or_default()), if left.is_some() => {}
        }
    };
    let body = Body::from_stream(body.into_data_stream().take_until(Box::pin(ended)));
    Response::from_parts(parts, body)
}
