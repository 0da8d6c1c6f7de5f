//! Who may do what: every address with every role, of the own project, of another, and of none.

use super::super::{answering, guarded};
use super::*;
use crate::access::make_token;
use crate::access::rules::{Kind, Of, RULES, Rule, table};
use axum::http::header::AUTHORIZATION;
use axum::http::request::Builder;
use axum::routing::get;
use framewake_proto::access::{AuditView, Role, TokenMade, TokenView, WhoView};
use framewake_proto::api::{EventView, Page};
use framewake_proto::notify::Secret;
use framewake_proto::objects::{Digest, Picture, log_key, picture_key};
use futures::StreamExt;
use sqlx::ConnectOptions;
use std::path::Path;

/// The project that everything named is of, and another.
pub(super) const OWN: &str = "film";
pub(super) const OTHER: &str = "other";

/// Somebody who asks.
#[derive(Debug, Clone)]
pub(super) struct Asker {
    role: Role,
    project: Option<&'static str>,
    secret: Secret,
}

pub(super) fn token(name: &str, role: Role, project: Option<&str>) -> (Token, Secret) {
    let (id, secret, sha256) = make_token();
    let token = Token {
        id,
        sha256,
        name: name.parse().expect("a name"),
        role,
        project: project.map(|project| project.parse().expect("a name")),
        made_at: Timestamp::now(),
        made_by: "test".to_owned(),
        expires_at: None,
        used_at: None,
    };
    (token, secret)
}

pub(super) fn bearer(request: Builder, secret: &Secret) -> Builder {
    request.header(AUTHORIZATION, format!("Bearer {}", secret.reveal()))
}

impl Farm {
    pub(super) async fn as_who(&self, secret: &Secret, method: &str, path: &str, body: Option<&Value>) -> Reply {
        let mut request = bearer(Request::builder().method(method).uri(path), secret);
        if body.is_some() {
            request = request.header("content-type", "application/json");
        }
        let body = body.map_or(Body::empty(), |body| Body::from(body.to_string()));
        self.send(request.body(body).expect("a request")).await
    }

    pub(super) async fn read_as<T: DeserializeOwned>(&self, secret: &Secret, path: &str) -> T {
        let reply = self.as_who(secret, "GET", path, None).await;
        assert_eq!(reply.status, StatusCode::OK, "{path}: {}", reply.text());
        reply.json()
    }

    /// The head of an answer, and its body if it is a problem: streams have no end.
    async fn head(&self, request: Request<Body>) -> (StatusCode, Option<Problem>) {
        let response = self.router.clone().oneshot(request).await.expect("a router answers");
        let (parts, body) = response.into_parts();
        let is_problem = parts.headers.get("content-type").is_some_and(|kind| kind == "application/problem+json");
        if !is_problem {
            return (parts.status, None);
        }
        let bytes = axum::body::to_bytes(body, usize::MAX).await.expect("a body");
        (parts.status, Some(serde_json::from_slice(&bytes).expect("a problem")))
    }
}

pub(super) fn of_project(mut job: Value, project: &str) -> Value {
    job["project"] = json!(project);
    job
}

pub(super) fn schedule(name: &str, project: &str) -> Value {
    json!({"name": name, "cron": "30 2 * * *", "zone": "UTC", "job": of_project(job("night", 2), project)})
}

pub(super) fn target(name: &str, project: Option<&str>) -> Value {
    json!({"name": name, "on": ["failed"], "project": project, "way": {"kind": "nats"}})
}

/// A job of this project whose only frame is done, with its output, pictures and log in the store.
async fn finished(farm: &Farm, project: &str, chunk: u64) -> JobId {
    let id = farm.submit(&of_project(job("shot", 1), project)).await;
    farm.claim(chunk).await;
    let key = format!("{id}/0.png");
    farm.report(chunk, vec![done(0, &key, b"pixels")], Vec::new()).await;
    farm.wait(id, |job| job.state.is_over()).await;
    farm.app.objects.put(&key, "pixels".into()).await.expect("stored");
    farm.app.objects.put(&log_key(id, attempt(chunk)), "hello".into()).await.expect("stored");
    for picture in Picture::ALL {
        let key = picture_key(id, &Digest::of(b"pixels"), picture);
        farm.app.objects.put(&key, "small".into()).await.expect("stored");
    }
    id
}

/// A farm in which there is something of both projects, and somebody of each kind.
pub(super) async fn crowded() -> (Farm, Vec<Asker>, JobId, JobId) {
    let farm = Farm::start().await;
    let theirs = finished(&farm, OTHER, 1).await;
    let ours = finished(&farm, OWN, 2).await;
    for (name, project) in [("nightly", OWN), ("theirs", OTHER)] {
        assert_eq!(farm.post("/v1/schedules", &schedule(name, project)).await.status, StatusCode::CREATED);
        let to = target(name, Some(project));
        assert_eq!(farm.post("/v1/notifications/targets", &to).await.status, StatusCode::CREATED);
        let budget = json_request("PUT", &format!("/v1/budgets/{project}/month"), &json!({"limit": "5USD"}));
        assert_eq!(farm.send(budget).await.status, StatusCode::OK);
    }
    assert_eq!(farm.post("/v1/notifications/targets", &target("all", None)).await.status, StatusCode::CREATED);
    let (mut tokens, mut askers) = (Vec::new(), Vec::new());
    for role in Role::ALL {
        for project in [None, Some(OWN), Some(OTHER)] {
            let name = format!("{role}-{}", project.unwrap_or("all"));
            let (made, secret) = token(&name, role, project);
            tokens.push(made);
            askers.push(Asker { role, project, secret });
        }
    }
    (farm.guarded(tokens).await, askers, ours, theirs)
}

pub(super) fn who(askers: &[Asker], role: Role, project: Option<&str>) -> Secret {
    let found = askers.iter().find(|asker| asker.role == role && asker.project == project);
    found.expect("there is one of each").secret.clone()
}

/// What the table promises.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Promised {
    In,
    Refused,
    Absent,
    /// A name that is taken can't be hidden from who wants it.
    Taken,
}

fn promised(rule: &Rule, asker: &Asker) -> Promised {
    match (rule.of, asker.project) {
        _ if rule.role.is_some_and(|role| asker.role < role) => Promised::Refused,
        (Of::Farm, Some(_)) => Promised::Refused,
        (Of::Nobody | Of::Own | Of::Shared, _) | (_, None | Some(OWN)) => Promised::In,
        (Of::Schedule | Of::Target, Some(_)) if rule.method == "PUT" => Promised::Taken,
        (_, Some(_)) => Promised::Absent,
    }
}

/// An address of this kind, about something of the own project, or about nothing.
fn address(rule: &Rule, job: &str, victim: &str, named: &str) -> String {
    let id = if rule.of == Of::Own { victim } else { job };
    let project = if named == "nightly" { OWN } else { named };
    let name = if rule.of == Of::Project { project } else { named };
    let name = if rule.route.starts_with("/v1/functions/") { "paint" } else { name };
    let filled = rule.route.replace("{name}", name).replace("{id}", id).replace("{attempt}", "2.1");
    let filled = filled.replace("{step}", "render").replace("{task}", "0").replace("{period}", "month");
    let filled = filled.replace("{picture}", "thumbnail");
    filled.replace("{project}", project).replace("{what}", "any").replace("{digest}", &"0".repeat(64))
}

#[tokio::test]
async fn every_role_meets_every_address_as_the_table_says() {
    let (farm, askers, ours, _) = crowded().await;
    let admin = who(&askers, Role::Admin, None);
    let nothing = JobId(ulid::Ulid::from_parts(1, 1)).to_string();
    let mut asked = 0;
    for rule in RULES {
        // Nobody, and somebody with what is no token.
        let path = address(rule, &ours.to_string(), "aaaaaaaaaaaa", "nightly");
        for header in [None, Some("Bearer fw_000000000000_00"), Some("Basic YTpi")] {
            let mut request = Request::builder().method(rule.method).uri(&path);
            if let Some(header) = header {
                request = request.header(AUTHORIZATION, header);
            }
            let (status, problem) = farm.head(request.body(Body::empty()).expect("a request")).await;
            // After some wrong ones it is told so; open doors are open to everybody.
            let refused = [StatusCode::UNAUTHORIZED, StatusCode::TOO_MANY_REQUESTS].contains(&status);
            let expected = rule.role.is_some() || (rule.route == "/v1/session" && rule.method == "POST");
            assert!(
                refused == expected || status == StatusCode::UNSUPPORTED_MEDIA_TYPE,
                "{rule:?} {header:?} {status}"
            );
            assert!(
                !refused || problem.is_some_and(|problem| problem.hint.is_some()),
                "{rule:?}: every 401 says what to do"
            );
        }
        for asker in &askers {
            // What an earlier one removed is put back.
            for (path, body) in [
                ("/v1/schedules/nightly", schedule("nightly", OWN)),
                ("/v1/notifications/targets/nightly", target("nightly", Some(OWN))),
                ("/v1/budgets/film/month", json!({"limit": "5USD"})),
            ] {
                if rule.method == "DELETE" {
                    assert!(farm.as_who(&admin, "PUT", path, Some(&body)).await.status.is_success(), "{path}");
                }
            }
            let victim = farm.victim(rule.route, &admin).await;
            let request = |path: &str| {
                let request =
                    Request::builder().method(rule.method).uri(path).header("content-type", "application/json");
                bearer(request, &asker.secret).body(Body::from("{}")).expect("a request")
            };
            let path = address(rule, &ours.to_string(), &victim, "nightly");
            let (status, problem) = farm.head(request(&path)).await;
            asked += 1;
            let hint = problem.as_ref().and_then(|problem| problem.hint.clone());
            let mut promised = promised(rule, asker);
            let of_victim = ["/v1/tokens/{id}", "/v1/sessions/{id}"].contains(&rule.route);
            if of_victim && asker.role == Role::Admin && asker.project == Some(OTHER) {
                promised = Promised::Absent;
            }
            let said = format!("{} {path} by {} of {:?}: {status} {problem:?}", rule.method, asker.role, asker.project);
            match promised {
                Promised::Refused => {
                    assert_eq!(status, StatusCode::FORBIDDEN, "{said}");
                    assert!(hint.is_some(), "every 403 says what to do: {said}");
                }
                Promised::Absent => {
                    assert_eq!(status, StatusCode::NOT_FOUND, "{said}");
                    let absent = address(rule, &nothing, "bbbbbbbbbbbb", "unheard-of");
                    let (_, other) = farm.head(request(&absent)).await;
                    let (mut one, mut other) = (problem.expect("a problem"), other.expect("a problem"));
                    for (problem, ids) in [
                        (&mut one, [ours.to_string(), victim.clone(), "nightly".to_owned(), OWN.to_owned()]),
                        (
                            &mut other,
                            [nothing.clone(), "bbbbbbbbbbbb".to_owned(), "unheard-of".to_owned(), String::new()],
                        ),
                    ] {
                        problem.request_id.clear();
                        for id in ids.iter().filter(|id| !id.is_empty()) {
                            problem.detail = problem.detail.replace(id.as_str(), "X");
                        }
                    }
                    assert_eq!(one, other, "others' things are as if they were not there: {said}");
                }
                Promised::Taken => assert_eq!(status, StatusCode::CONFLICT, "{said}"),
                Promised::In => {
                    assert!(![StatusCode::UNAUTHORIZED, StatusCode::FORBIDDEN].contains(&status), "{said}");
                    let there = (of_victim || matches!(rule.of, Of::Job | Of::Project | Of::Schedule | Of::Target))
                        && asker.project != Some(OTHER);
                    assert!(!there || status != StatusCode::NOT_FOUND, "{said}");
                }
            }
        }
    }
    assert_eq!(asked, RULES.len() * Role::ALL.len() * 3);
}

#[tokio::test]
async fn each_address_that_is_answered_has_its_line_and_each_line_its_address() {
    let description: Value = serde_json::from_str(super::super::openapi()).expect("JSON");
    let mut answered: Vec<(String, String)> =
        crate::web::PAGES.iter().map(|page| ("GET".to_owned(), (*page).to_owned())).collect();
    answered.push(("GET".to_owned(), "/web/{name}".to_owned()));
    for (path, item) in description["paths"].as_object().expect("paths") {
        answered.extend(item.as_object().expect("methods").keys().map(|method| (method.to_uppercase(), path.clone())));
    }
    let mut lines: Vec<(String, String)> =
        RULES.iter().map(|rule| (rule.method.to_owned(), rule.route.to_owned())).collect();
    answered.sort();
    lines.sort();
    assert_eq!(answered, lines);
    // What somebody adds and forgets is refused, whoever asks.
    let (farm, askers, ..) = crowded().await;
    let forgotten =
        guarded(answering(&farm.app).route("/v1/forgotten", get(async || "the secret is 42")), farm.app.clone());
    let farm = Farm { router: forgotten, ..farm };
    let reply = farm.as_who(&who(&askers, Role::Admin, None), "GET", "/v1/forgotten", None).await;
    reply.problem(403, "forbidden");
    // Numbers may be in the id of any request.
    assert!(!reply.text().contains("the secret"));
    farm.as_who(&who(&askers, Role::Admin, None), "DELETE", "/v1/jobs", None).await.problem(405, "method-not-allowed");
}

#[test]
fn the_documents_have_the_tables() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/security.md");
    let text = std::fs::read_to_string(&path).expect("the docs");
    let made = [
        ("<!-- made from the table -->\n", table()),
        ("<!-- made from the table of OpenFaaS' clients -->\n", crate::openfaas::rules::table()),
    ];
    let mut fresh = text.clone();
    for (begin, table) in made {
        let (before, rest) = fresh.split_once(begin).expect("a place for the table");
        let (_, after) = rest.split_once("<!-- until here -->").expect("the end of the table");
        fresh = format!("{before}{begin}{table}<!-- until here -->{after}");
    }
    #[allow(clippy::disallowed_methods)] // A switch of this test alone.
    if std::env::var_os("FRAMEWAKE_WRITE_COPIES").is_some() {
        std::fs::write(&path, &fresh).expect("written");
        return;
    }
    assert!(
        text == fresh,
        "docs/security.md is not fresh: run `FRAMEWAKE_WRITE_COPIES=1 cargo test -p framewake-scheduler table`"
    );
}

/// Names and ids in every list that is narrowed.
#[tokio::test]
async fn lists_have_only_what_is_of_the_own_project() {
    let (farm, askers, ours, theirs) = crowded().await;
    let own = who(&askers, Role::Admin, Some(OWN));
    let lists = [
        "/v1/jobs",
        "/v1/schedules",
        "/v1/notifications/targets",
        "/v1/projects",
        "/v1/budgets",
        "/v1/tokens",
        "/v1/audit",
        "/v1/costs?from=2020-01-01&to=2030-01-01&by=project",
        "/v1/workers",
        "/v1/places",
    ];
    for path in lists {
        let all = farm.as_who(&who(&askers, Role::Admin, None), "GET", path, None).await.text();
        let mine = farm.as_who(&own, "GET", path, None).await;
        assert_eq!(mine.status, StatusCode::OK, "{path}: {}", mine.text());
        let mine = mine.text();
        for others in [OTHER, "theirs", &theirs.to_string()] {
            assert!(!mine.contains(others), "{path} tells of `{others}`: {mine}");
        }
        let told = [OWN, "nightly", &ours.to_string()].iter().any(|word| mine.contains(word));
        let empty = ["/v1/workers", "/v1/places", "/v1/audit"].contains(&path);
        assert!(told || empty || !all.contains(OWN), "{path} lacks the own: {mine}");
    }
    for path in ["/v1/jobs?project=other", "/v1/costs?from=2020-01-01&to=2030-01-01&project=other&by=project"] {
        let asked = farm.as_who(&own, "GET", path, None).await.text();
        assert!(!asked.contains("\"other\"") && !asked.contains(&theirs.to_string()), "{path}: {asked}");
    }
    // Sums over all are nobody's who sees one.
    farm.as_who(&own, "GET", "/metrics", None).await.problem(403, "forbidden");
}

#[tokio::test]
async fn events_of_others_are_not_heard_and_the_stream_ends_with_its_token() {
    let (farm, askers, ours, theirs) = crowded().await;
    let admin = who(&askers, Role::Admin, None);
    let own = who(&askers, Role::Viewer, Some(OWN));
    let request = bearer(Request::get("/v1/events?after=1"), &own).body(Body::empty()).expect("a request");
    let response = farm.router.clone().oneshot(request).await.expect("an answer");
    assert_eq!(response.status(), StatusCode::OK);
    let mut body = response.into_body().into_data_stream();
    let (mut text, mut heard) = (String::new(), Vec::new());
    // Theirs were before ours: what comes until ours are over would have them.
    while !heard.iter().any(|event: &EventView| matches!(event.what, framewake_proto::api::Happening::JobState { state } if state.is_over())) {
        let piece = tokio::time::timeout(PATIENCE, body.next()).await.expect("in time").expect("a piece");
        text += std::str::from_utf8(&piece.expect("a piece")).expect("text");
        heard = text.lines().filter_map(|line| line.strip_prefix("data: ")).filter_map(|data| serde_json::from_str(data).ok()).collect();
    }
    assert!(heard.iter().all(|event| event.job == ours), "{text}");
    // Live ones too: theirs comes first, and only ours is heard.
    let live =
        farm.as_who(&admin, "POST", "/v1/jobs", Some(&of_project(job("live", 1), OTHER))).await.json::<Submitted>();
    let mine =
        farm.as_who(&admin, "POST", "/v1/jobs", Some(&of_project(job("live", 1), OWN))).await.json::<Submitted>();
    while !text.contains(&mine.id.to_string()) {
        let piece = tokio::time::timeout(PATIENCE, body.next()).await.expect("in time").expect("a piece");
        text += std::str::from_utf8(&piece.expect("a piece")).expect("text");
    }
    assert!(!text.contains(&live.id.to_string()) && !text.contains(&theirs.to_string()), "{text}");
    let id = farm.read_as::<WhoView>(&own, "/v1/session").await.who.expect("somebody").token.expect("a token");
    let revoked = farm.as_who(&admin, "DELETE", &format!("/v1/tokens/{id}"), None).await;
    assert_eq!(revoked.status, StatusCode::NO_CONTENT, "{}", revoked.text());
    let rest = async { while body.next().await.is_some() {} };
    tokio::time::timeout(PATIENCE, rest).await.expect("the stream ends with its token");
    farm.as_who(&own, "GET", "/v1/jobs", None).await.problem(401, "unauthorized");
    let reply = farm.as_who(&own, "GET", "/v1/session", None).await;
    assert!(reply.json::<WhoView>().who.is_none());
}

#[tokio::test]
async fn what_is_made_is_of_the_own_project_and_digests_and_keys_of_others_open_nothing() {
    let (farm, askers, _, theirs) = crowded().await;
    let (film, other) = (who(&askers, Role::Artist, Some(OWN)), who(&askers, Role::Artist, Some(OTHER)));
    let refused = farm.as_who(&film, "POST", "/v1/jobs", Some(&of_project(job("shot", 1), OTHER))).await;
    assert!(refused.problem(403, "forbidden").detail.contains("project `film`"));
    let made = farm.as_who(&film, "POST", "/v1/jobs", Some(&job("shot", 1))).await.json::<Submitted>();
    let view = farm.read_as::<JobView>(&film, &format!("/v1/jobs/{}", made.id)).await;
    assert_eq!((view.project.as_str(), view.submitted_by.as_deref()), (OWN, Some("artist-film")));
    let by = async |name: &str| farm.read_as::<Page<JobView>>(&film, &format!("/v1/jobs?by={name}")).await.items;
    assert_eq!(by("artist-film").await, [view]);
    assert!(by("local").await.iter().all(|job| job.project.as_str() == OWN), "whoever it was, only the own");
    assert_eq!(by("artist").await, [], "it is a whole name");
    farm.as_who(&other, "GET", &format!("/v1/jobs/{}", made.id), None).await.problem(404, "not-found");
    // A key that another project used says nothing of it.
    let keyed = async |secret: &Secret, name: &str| {
        let request = bearer(Request::post("/v1/jobs"), secret).header("content-type", "application/json");
        let body = Body::from(job(name, 1).to_string());
        farm.send(request.header("idempotency-key", "same").body(body).expect("a request")).await
    };
    let first = keyed(&film, "one").await.json::<Submitted>();
    let second = keyed(&other, "two").await;
    assert_eq!(second.status, StatusCode::CREATED, "{}", second.text());
    assert!(keyed(&film, "one").await.json::<Submitted>().id == first.id, "and to its own it is the same job");
    // Whoever knows a digest need not have the file.
    let bytes = b"the scene of film".as_slice();
    let digest = Digest::of(bytes);
    let at = format!("/v1/inputs/{digest}");
    let send = async |secret: &Secret| {
        let request = bearer(Request::patch(format!("{at}?offset=0&size={}", bytes.len())), secret);
        farm.send(request.body(Body::from(bytes)).expect("a request")).await
    };
    assert_eq!(send(&film).await.json::<Value>()["complete"], true);
    assert_eq!(farm.read_as::<Value>(&film, &at).await["complete"], true);
    assert_eq!(farm.read_as::<Value>(&other, &at).await["complete"], false);
    let mut thief = job("stolen", 1);
    thief["steps"][0]["inputs"] = json!([{"digest": digest.to_string(), "as": "scene.dat"}]);
    farm.as_who(&other, "POST", "/v1/jobs", Some(&thief)).await.problem(422, "invalid-body");
    assert_eq!(farm.as_who(&film, "POST", "/v1/jobs", Some(&thief)).await.status, StatusCode::CREATED);
    assert_eq!(send(&other).await.json::<Value>()["complete"], true, "who has the bytes may use them");
    assert_eq!(farm.as_who(&other, "POST", "/v1/jobs", Some(&thief)).await.status, StatusCode::CREATED);
    // Targets of others can't be named, nor told from those that are not there.
    let asking = async |target: &str| {
        let mut job = job("loud", 1);
        job["notify"] = json!([{"target": target, "on": ["failed"]}]);
        farm.as_who(&film, "POST", "/v1/jobs", Some(&job)).await
    };
    let detail = |reply: Reply, name: &str| reply.problem(422, "invalid-body").detail.replace(name, "X");
    assert_eq!(detail(asking("theirs").await, "theirs"), detail(asking("unheard-of").await, "unheard-of"));
    assert_eq!(asking("nightly").await.status, StatusCode::CREATED);
    // An admin of one project makes no token for another.
    let admin = who(&askers, Role::Admin, Some(OWN));
    for project in [json!(null), json!(OTHER)] {
        let body = json!({"name": "more", "role": "viewer", "project": project});
        farm.as_who(&admin, "POST", "/v1/tokens", Some(&body)).await.problem(403, "forbidden");
    }
    assert!(
        farm.read_as::<Page<TokenView>>(&admin, "/v1/tokens")
            .await
            .items
            .iter()
            .all(|token| token.project.as_ref().is_some_and(|project| project.as_str() == OWN))
    );
    farm.as_who(&film, "GET", &format!("/v1/jobs/{theirs}/outputs/render/0"), None).await.problem(404, "not-found");
}

#[tokio::test]
async fn tokens_that_open_nothing_cost_little_and_shut_nobody_out() {
    let (farm, askers, ..) = crowded().await;
    let good = who(&askers, Role::Viewer, None);
    let wrong = make_token().1;
    let ask = async |header: String| {
        let request = Request::get("/v1/jobs").header(AUTHORIZATION, header).body(Body::empty()).expect("a request");
        farm.send(request).await.status.as_u16()
    };
    let huge = format!("Bearer fw_{}", "a".repeat(60_000));
    for strange in ["Bearer", "Bearer ", "bearer x", "Basic YTpi", huge.as_str(), "Token fw_a_b"] {
        assert_eq!(ask(strange.to_owned()).await, 401, "{}", strange.len());
    }
    let begin = std::time::Instant::now();
    let mut answers = BTreeMap::new();
    for _ in 0..1000 {
        *answers.entry(ask(format!("Bearer {}", wrong.reveal())).await).or_insert(0_u32) += 1;
    }
    let took = begin.elapsed();
    assert!(answers[&429] > 950 && answers.len() == 2, "{answers:?}");
    assert!(took < Duration::from_secs(2), "a thousand wrong tokens took {took:?}");
    assert_eq!(farm.as_who(&good, "GET", "/v1/jobs", None).await.status, StatusCode::OK, "a good one is let in");
    let before = farm.app.metrics.text(Timestamp::now());
    assert!(before.contains("framewake_problems_total{code=\"unauthorized\"}"), "refusals are counted");
    // Said twice, it is said by somebody else.
    let request = bearer(bearer(Request::get("/v1/jobs"), &good), &wrong).body(Body::empty()).expect("a request");
    farm.send(request).await.problem(401, "unauthorized");
    // In an address it would be in every log on the way.
    let path = format!("/v1/jobs?token={}", good.reveal());
    farm.send(Request::get(path).body(Body::empty()).expect("a request")).await.problem(401, "unauthorized");
}

#[tokio::test]
async fn a_page_logs_in_is_no_one_elses_and_logs_out() {
    let (farm, askers, ours, _) = crowded().await;
    let secret = who(&askers, Role::Artist, Some(OWN));
    let login = farm.post("/v1/session", &json!({"token": secret.reveal()})).await;
    assert_eq!(login.status, StatusCode::OK, "{}", login.text());
    let set = login.headers["set-cookie"].to_str().expect("text").to_owned();
    assert!(["HttpOnly", "SameSite=Strict", "Path=/", "Max-Age=43200"].iter().all(|word| set.contains(word)), "{set}");
    assert!(!set.contains("Secure") && !set.contains("fw_"), "{set}");
    assert!(!login.text().contains("fw_"));
    let cookie = set.split(';').next().expect("a value").to_owned();
    let with = async |request: Builder| {
        farm.send(
            request
                .header("cookie", format!("theme=dark; {cookie}"))
                .header("host", "farm")
                .body(Body::empty())
                .expect("a request"),
        )
        .await
    };
    assert_eq!(with(Request::get("/v1/jobs")).await.status, StatusCode::OK);
    let path = format!("/v1/jobs/{ours}/cancel");
    // A change must come from a page of this scheduler.
    with(Request::post(&path)).await.problem(403, "cross-origin");
    with(Request::post(&path).header("origin", "https://evil.example")).await.problem(403, "cross-origin");
    with(Request::post(&path).header("sec-fetch-site", "cross-site")).await.problem(403, "cross-origin");
    with(Request::post(&path).header("origin", "http://farm")).await.problem(409, "wrong-state");
    let two = farm.send(
        Request::get("/v1/jobs")
            .header("cookie", format!("{cookie}; {}=00", farm.app.cookies.session))
            .body(Body::empty())
            .expect("a request"),
    );
    two.await.problem(401, "unauthorized");
    let secure = farm
        .send(json_request_with("/v1/session", &json!({"token": secret.reveal()}), "x-forwarded-proto", "https"))
        .await;
    assert!(secure.headers["set-cookie"].to_str().expect("text").ends_with("; Secure"));
    let out = with(Request::delete("/v1/session").header("origin", "http://farm")).await;
    // Who sits down at the browser next finds no pictures in it. Where no session ended, nobody's cache is emptied.
    assert_eq!((out.status, out.headers["clear-site-data"].to_str().ok()), (StatusCode::NO_CONTENT, Some("\"cache\"")));
    let again = with(Request::delete("/v1/session").header("origin", "http://farm")).await;
    assert!(again.status == StatusCode::NO_CONTENT && !again.headers.contains_key("clear-site-data"));
    assert!(with(Request::get("/v1/jobs")).await.problem(401, "unauthorized").hint.expect("a hint").contains("log in"));
}

fn json_request_with(path: &str, body: &Value, name: &'static str, value: &'static str) -> Request<Body> {
    let mut request = json_request("POST", path, body);
    request.headers_mut().insert(name, value.parse().expect("a header"));
    request
}

#[tokio::test]
async fn changes_are_noted_with_what_was_before_and_without_secrets() {
    let (farm, askers, ..) = crowded().await;
    let admin = who(&askers, Role::Admin, None);
    let artist = who(&askers, Role::Artist, Some(OWN));
    let id = farm.as_who(&artist, "POST", "/v1/jobs", Some(&job("noted", 3))).await.json::<Submitted>().id;
    let change = json!({"priority": 77});
    assert_eq!(farm.as_who(&artist, "PATCH", &format!("/v1/jobs/{id}"), Some(&change)).await.status, StatusCode::OK);
    assert_eq!(
        farm.as_who(&admin, "PUT", "/v1/projects/film", Some(&json!({"weight": 3}))).await.status,
        StatusCode::OK
    );
    assert_eq!(
        farm.as_who(&admin, "PUT", "/v1/projects/film", Some(&json!({"weight": 5}))).await.status,
        StatusCode::OK
    );
    let made = farm
        .as_who(&admin, "POST", "/v1/tokens", Some(&json!({"name": "jane", "role": "viewer", "lasts": "30d"})))
        .await;
    assert_eq!(made.headers["cache-control"], "no-store");
    let made: TokenMade = made.json();
    farm.as_who(&artist, "POST", &format!("/v1/jobs/{id}/cancel"), None).await;
    // Refused: nothing was changed, and nothing is noted.
    farm.as_who(&artist, "PUT", "/v1/projects/film", Some(&json!({"weight": 9}))).await.problem(403, "forbidden");
    let noted: Page<AuditView> = farm.read_as(&admin, "/v1/audit").await;
    let by = |action: &str| {
        noted.items.iter().filter(|change| change.action == action && change.who != "local").collect::<Vec<_>>()
    };
    let [changed] = by("job.change")[..] else { panic!("{noted:?}") };
    assert_eq!((changed.who.as_str(), changed.project.as_ref().map(Name::as_str)), ("artist-film", Some(OWN)));
    assert!(changed.before.contains("\"priority\":50") && changed.after.contains("\"priority\":77"), "{changed:?}");
    assert!(changed.subject.contains(&id.to_string()) && !changed.request_id.is_empty() && changed.from == "0.0.0.0");
    assert_eq!(by("project.weigh").len(), 2);
    assert!(by("project.weigh")[0].before.contains('3') && by("project.weigh")[0].after.contains('5'));
    let [submitted] = by("job.submit")[..] else { panic!("{noted:?}") };
    assert_eq!(submitted.subject, format!("/v1/jobs/{id}"));
    assert!(by("job.cancel")[0].after.contains("canceled"));
    let [token] = by("token.add")[..] else { panic!("{noted:?}") };
    assert!(token.after.contains("jane") && token.after.contains(&made.token.id));
    let text = serde_json::to_string(&noted).expect("JSON");
    assert!(!text.contains(made.secret.reveal()) && !text.contains("fw_"), "{text}");
    // The next page goes on, and one project sees its own.
    let first: Page<AuditView> = farm.read_as(&admin, "/v1/audit?limit=2").await;
    let next: Page<AuditView> =
        farm.read_as(&admin, &format!("/v1/audit?limit=2&cursor={}", first.next.expect("more"))).await;
    assert!(next.items[0].seq < first.items[1].seq);
    let of = |page: &Page<AuditView>, project: &str| {
        page.items.iter().all(|change| change.project.as_ref().is_some_and(|own| own.as_str() == project))
    };
    let operator = |project| who(&askers, Role::Operator, Some(project));
    let own: Page<AuditView> = farm.read_as(&operator(OWN), "/v1/audit?action=job.&who=artist-film").await;
    assert!(own.items.len() == 3 && of(&own, OWN), "{own:?}");
    let others: Page<AuditView> = farm.read_as(&operator(OTHER), "/v1/audit").await;
    assert!(!others.items.is_empty() && of(&others, OTHER), "{others:?}");
}

#[tokio::test]
async fn without_a_token_health_is_told_and_nothing_of_the_farm() {
    let (farm, askers, ..) = crowded().await;
    assert_eq!(farm.get("/healthz").await.status, StatusCode::OK);
    let ready = farm.get("/readyz").await.json::<Value>();
    let reasons = ready["parts"].as_object().expect("parts").values().filter_map(Value::as_str);
    let told = reasons.filter(|said| !said.is_empty()).collect::<Vec<_>>();
    // Of the reports and of all pools; which there are is not said.
    assert!(ready["store"] == "" && told == ["not well; why, is told with a token"; 2], "{ready}");
    assert!(!ready.to_string().contains("cloud") && ready["parts"]["pools"] != "", "{ready}");
    let told = farm.as_who(&who(&askers, Role::Viewer, None), "GET", "/readyz", None).await.json::<Value>();
    assert!(told["store"].as_str().is_some_and(|store| store.starts_with("file://")), "{told}");
    assert_eq!(told["parts"]["pool cloud"], "192.0.2.7 does not answer", "{told}");
    assert_eq!(farm.get("/").await.status, StatusCode::OK, "pages have nothing in them");
    farm.get("/metrics").await.problem(401, "unauthorized");
    let streams = RULES.iter().filter(|rule| rule.kind == Kind::Stream);
    assert_eq!(streams.count(), 4);
}

#[tokio::test]
async fn pages_of_allowed_origins_may_ask_with_a_token_and_with_nothing_else() {
    let (farm, askers, ours, _) = crowded().await;
    let Farm { app, .. } = &farm;
    let (tokens, origin) = (app.reader.tokens().await.expect("they are read"), "https://tools.example");
    let uploads = Uploads::open(farm.folder.path().join("uploads"), UploadLimits::default()).expect("a folder");
    let (handle, reader, objects) = (app.handle.clone(), app.reader.clone(), app.objects.clone());
    let allowing = App::new(handle, reader, objects, uploads, app.metrics.clone(), app.urls.clone(), ways())
        .with_access(Access::new(Mode::Tokens, tokens))
        .with_origins(vec![origin.parse().expect("an origin")]);
    let farm = Farm { router: super::super::router(Arc::new(allowing)), ..farm };
    let secret = who(&askers, Role::Artist, Some(OWN));
    let path = format!("/v1/jobs/{ours}/pause");
    let before = |origin: &str| {
        let request = Request::builder().method("OPTIONS").uri(&path).header("origin", origin);
        farm.send(request.header("access-control-request-method", "POST").body(Body::empty()).expect("a request"))
    };
    let allowed = before(origin).await;
    assert_eq!(
        (allowed.status, &allowed.headers["access-control-allow-origin"]),
        (StatusCode::NO_CONTENT, &origin.parse().expect("a header"))
    );
    assert!(!allowed.headers.contains_key("access-control-allow-credentials"), "no cookies");
    for other in ["https://evil.example", "https://tools.example.evil.example", "null"] {
        assert!(!before(other).await.headers.contains_key("access-control-allow-origin"), "{other}");
    }
    let asked = bearer(Request::post(&path), &secret).header("origin", origin).header("host", "farm");
    let asked = farm.send(asked.body(Body::empty()).expect("a request")).await;
    asked.problem(409, "wrong-state");
    assert_eq!(asked.headers["access-control-allow-origin"], origin);
    // A session is for pages of ours.
    let login = farm.post("/v1/session", &json!({"token": secret.reveal()})).await;
    let cookie = login.headers["set-cookie"].to_str().expect("text").split(';').next().expect("a value").to_owned();
    let ridden = Request::get("/v1/jobs").header("origin", origin).header("cookie", cookie);
    farm.send(ridden.body(Body::empty()).expect("a request")).await.problem(401, "unauthorized");
}

/// A change is there with its note, or not at all: where notes can't be written, nothing is changed.
#[tokio::test]
async fn a_change_and_its_note_are_one_transaction() {
    let changes: [(&str, &str, Value, &str); 8] = [
        ("POST", "/v1/jobs", of_project(job("noted", 3), OWN), "SELECT count(*) FROM jobs"),
        ("PUT", "/v1/projects/film", json!({"weight": 7}), "SELECT coalesce(max(weight), 0) FROM projects"),
        (
            "POST",
            "/v1/functions",
            json!({"name": "other", "driver": {"kind": "command", "command": ["x"]}}),
            "SELECT count(*) FROM functions",
        ),
        ("POST", "/v1/tokens", json!({"name": "jane", "role": "viewer"}), "SELECT count(*) FROM tokens"),
        ("POST", "/v1/schedules", schedule("nightly", OWN), "SELECT count(*) FROM schedules"),
        ("POST", "/v1/notifications/targets", target("ops", None), "SELECT count(*) FROM notify_targets"),
        ("PUT", "/v1/budgets/film/month", json!({"limit": "5USD"}), "SELECT count(*) FROM budgets"),
        (
            "POST",
            "/v1/prices",
            json!({"rows": [{"provider": "aws", "market": "spot", "an_hour": "1USD", "as_of": "2026-11-01"}]}),
            "SELECT count(*) FROM prices",
        ),
    ];
    for (method, path, body, counted) in changes {
        for refused in [false, true] {
            let (admin, secret) = token("root", Role::Admin, None);
            let farm = Farm::start().await.guarded(vec![admin]).await;
            let file = farm.folder.path().join("framewake.db");
            let mut beside = sqlx::sqlite::SqliteConnectOptions::new().filename(&file).connect().await.expect("opened");
            let before: i64 = sqlx::query_scalar(counted).fetch_one(&mut beside).await.expect("counted");
            sqlx::query("DELETE FROM audit").execute(&mut beside).await.expect("emptied");
            if refused {
                let trigger =
                    "CREATE TRIGGER refused BEFORE INSERT ON audit BEGIN SELECT raise(ABORT, 'no notes'); END";
                sqlx::query(trigger).execute(&mut beside).await.expect("made");
            }
            let status = farm.as_who(&secret, method, path, Some(&body)).await.status;
            let after: i64 = sqlx::query_scalar(counted).fetch_one(&mut beside).await.expect("counted");
            let noted: i64 =
                sqlx::query_scalar("SELECT count(*) FROM audit").fetch_one(&mut beside).await.expect("counted");
            assert_eq!(status.is_success(), !refused, "{method} {path}: {status}");
            assert_eq!(
                (after > before, noted),
                (!refused, i64::from(!refused)),
                "{method} {path}, notes refused: {refused}"
            );
        }
    }
}
