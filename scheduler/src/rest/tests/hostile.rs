//! Whoever may come in, and means harm: requests that take their time, names that are another's, and room that is for all.

use super::access::{OTHER, OWN, bearer, crowded, of_project, schedule, target, who};
use super::*;
use crate::rest::inputs::UPLOADS_MAX;
use crate::rest::shares::{CHANGES_MAX, PARTS, Peer};
use axum::http::request::Builder;
use framewake_proto::access::{AuditView, Role, TokenView, WhoView};
use framewake_proto::api::Page;
use framewake_proto::estimate::EstimateView;
use framewake_proto::notify::Secret;
use framewake_proto::objects::Digest;
use framewake_proto::time::Timestamp;
use futures::{StreamExt, stream};
use std::convert::Infallible;
use std::net::IpAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::Poll;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;

/// A request whose body ends when the test wants it to.
struct Slow {
    answer: JoinHandle<Reply>,
    rest: oneshot::Sender<()>,
    /// 1 once its beginning was read, 2 once all of it was.
    read: Arc<AtomicUsize>,
}

impl Slow {
    async fn until_read(&self, how_far: usize) {
        let read = async {
            while self.read.load(Ordering::SeqCst) < how_far {
                tokio::task::yield_now().await;
            }
        };
        tokio::time::timeout(PATIENCE, read).await.expect("it is read");
    }

    async fn finish(self) -> Reply {
        let _given_up = self.rest.send(());
        tokio::time::timeout(PATIENCE, self.answer).await.expect("in time").expect("no panic")
    }
}

fn slow_body(text: &str, rest: oneshot::Receiver<()>, read: &Arc<AtomicUsize>) -> Body {
    let (first, second) = (text[..1].to_owned(), text[1..].to_owned());
    let (half, whole) = (read.clone(), read.clone());
    let second = async move {
        half.store(1, Ordering::SeqCst);
        let _ = rest.await;
        second
    };
    let end = stream::poll_fn(move |_| {
        whole.store(2, Ordering::SeqCst);
        Poll::Ready(None)
    });
    let pieces = stream::once(async { first }).chain(stream::once(second)).chain(end);
    Body::from_stream(pieces.map(Ok::<_, Infallible>))
}

impl Farm {
    /// Sends the beginning of it.
    async fn begin(&self, request: Builder, body: &Value) -> Slow {
        let (rest, wanted) = oneshot::channel();
        let read = Arc::default();
        let body = slow_body(&body.to_string(), wanted, &read);
        let request = request.header("content-type", "application/json").body(body).expect("a request");
        let router = self.router.clone();
        let answer = tokio::spawn(async move {
            let (parts, body) = router.oneshot(request).await.expect("a router answers").into_parts();
            let body = axum::body::to_bytes(body, usize::MAX).await.expect("a whole body").to_vec();
            Reply { status: parts.status, headers: parts.headers, body }
        });
        let slow = Slow { answer, rest, read };
        slow.until_read(1).await;
        slow
    }

    async fn id_of(&self, secret: &Secret) -> String {
        self.read_as::<WhoView>(secret, "/v1/session").await.who.expect("somebody").token.expect("a token")
    }

    async fn revoke(&self, admin: &Secret, id: &str) {
        let revoked = self.as_who(admin, "DELETE", &format!("/v1/tokens/{id}"), None).await;
        assert_eq!(revoked.status, StatusCode::NO_CONTENT, "{}", revoked.text());
    }

    /// Nothing is paid yet, so a project with a budget would be held.
    async fn without_budget(&self, root: &Secret) {
        let removed = self.as_who(root, "DELETE", &format!("/v1/budgets/{OWN}/month"), None).await;
        assert!(removed.status.is_success(), "{}", removed.text());
    }

    async fn notes(&self, admin: &Secret, action: &str) -> Vec<AuditView> {
        self.read_as::<Page<AuditView>>(admin, &format!("/v1/audit?action={action}")).await.items
    }
}

#[tokio::test]
async fn what_a_token_asked_for_is_not_done_once_it_is_revoked() {
    let (farm, askers, ..) = crowded().await;
    let root = who(&askers, Role::Admin, None);
    let (artist, admin) = (who(&askers, Role::Artist, Some(OWN)), who(&askers, Role::Admin, Some(OWN)));
    let jobs = async || farm.read_as::<Value>(&root, "/v1/jobs").await["items"].as_array().expect("a list").len();
    let before = jobs().await;
    let tokens = farm.app.access.tokens.len();
    let token = json!({"name": "back-door", "role": "admin", "project": OWN});
    let submitted = farm.begin(bearer(Request::post("/v1/jobs"), &artist), &job("late", 1)).await;
    let never_ends = farm.begin(bearer(Request::post("/v1/jobs"), &artist), &job("late", 1)).await;
    let made = farm.begin(bearer(Request::post("/v1/tokens"), &admin), &token).await;
    for secret in [&artist, &admin] {
        farm.revoke(&root, &farm.id_of(secret).await).await;
    }
    // Nobody waits for the rest of it.
    let ended = tokio::time::timeout(PATIENCE, never_ends.answer).await.expect("at once").expect("no panic");
    for reply in [submitted.finish().await, made.finish().await, ended] {
        let problem = reply.problem(401, "unauthorized");
        assert!(problem.detail.contains("revoked") && problem.hint.is_some(), "{problem:?}");
    }
    assert_eq!((jobs().await, farm.app.access.tokens.len()), (before, tokens - 2));
}

#[tokio::test]
async fn an_admin_who_is_shut_out_while_they_wait_makes_no_token() {
    let (farm, askers, ..) = crowded().await;
    let root = who(&askers, Role::Admin, None);
    let admin = who(&askers, Role::Admin, Some(OWN));
    let id = farm.id_of(&admin).await;
    // Somebody else is making or revoking one.
    let turn = farm.app.access.changing.lock().await;
    let body = json!({"name": "back-door", "role": "admin", "project": OWN});
    let making = farm.begin(bearer(Request::post("/v1/tokens"), &admin), &body).await;
    let Slow { answer, rest, read } = making;
    rest.send(()).expect("it is wanted");
    let making = Slow { answer, rest: oneshot::channel().0, read };
    making.until_read(2).await;
    farm.app.access.tokens.remove(id.parse().expect("an id"));
    drop(turn);
    making.finish().await.problem(401, "unauthorized");
    let tokens: Page<TokenView> = farm.read_as(&root, "/v1/tokens").await;
    assert!(tokens.items.iter().all(|token| token.name.as_str() != "back-door"), "{tokens:?}");
}

#[tokio::test]
async fn an_output_on_its_way_ends_with_the_token() {
    let (farm, askers, ours, _) = crowded().await;
    let (root, viewer) = (who(&askers, Role::Admin, None), who(&askers, Role::Viewer, Some(OWN)));
    farm.without_budget(&root).await;
    let size = 8 << 20;
    let id =
        farm.as_who(&root, "POST", "/v1/jobs", Some(&of_project(job("large", 1), OWN))).await.json::<Submitted>().id;
    farm.claim(3).await;
    let bytes = vec![7; size];
    let key = format!("{id}/large.bin");
    farm.app.objects.put(&key, bytes.clone().into()).await.expect("stored");
    farm.report(3, vec![done(0, &key, &bytes)], Vec::new()).await;
    let path = format!("/v1/jobs/{id}/outputs/render/0");
    let asked = async || bearer(Request::get(&path), &viewer).body(Body::empty()).expect("a request");
    let response = tokio::time::timeout(PATIENCE, async {
        loop {
            let response = farm.router.clone().oneshot(asked().await).await.expect("an answer");
            if response.status() == StatusCode::OK {
                return response;
            }
            tokio::task::yield_now().await;
        }
    });
    let mut body = response.await.expect("it is reported").into_body().into_data_stream();
    let mut came = body.next().await.expect("a piece").expect("a piece").len();
    farm.revoke(&root, &farm.id_of(&viewer).await).await;
    while let Some(Ok(piece)) = body.next().await {
        came += piece.len();
    }
    assert!(came < size, "{came} bytes came");
    farm.as_who(&viewer, "GET", &format!("/v1/jobs/{ours}"), None).await.problem(401, "unauthorized");
}

#[tokio::test]
async fn what_another_project_made_meanwhile_is_not_written_over() {
    let (farm, askers, ..) = crowded().await;
    let operator = |project| who(&askers, Role::Operator, Some(project));
    let of = |project: &str, name: &str, list: &str| match list {
        "schedules" => schedule(name, project),
        _ => target(name, Some(project)),
    };
    for (list, pointer) in [("schedules", "/spec/job/project"), ("notifications/targets", "/project")] {
        // Nothing of that name is there when it begins.
        let request = bearer(Request::put(format!("/v1/{list}/fresh")), &operator(OWN));
        let putting = farm.begin(request, &of(OWN, "fresh", list)).await;
        let theirs = of(OTHER, "fresh", list);
        let made = farm.as_who(&operator(OTHER), "POST", &format!("/v1/{list}"), Some(&theirs)).await;
        assert_eq!(made.status, StatusCode::CREATED, "{}", made.text());
        let refused = putting.finish().await.problem(409, "wrong-state");
        assert!(refused.detail.contains("is taken") && !refused.detail.contains(OTHER), "{refused:?}");
        let there: Value = farm.read_as(&operator(OTHER), &format!("/v1/{list}/fresh")).await;
        let project = there.pointer(pointer).or_else(|| there.pointer("/job/project"));
        assert_eq!(project, Some(&json!(OTHER)), "{there}");
        // One's own is, and who sees all projects may.
        for asker in [operator(OTHER), who(&askers, Role::Operator, None)] {
            let put = farm.as_who(&asker, "PUT", &format!("/v1/{list}/fresh"), Some(&theirs)).await;
            assert_eq!(put.status, StatusCode::OK, "{}", put.text());
        }
    }
}

#[tokio::test]
async fn a_request_that_is_named_like_another_rewrites_no_note() {
    let (farm, askers, ..) = crowded().await;
    let (root, artist) = (who(&askers, Role::Admin, None), who(&askers, Role::Artist, Some(OWN)));
    let run = async |name: &str| {
        let request = bearer(Request::post("/v1/schedules/nightly/run"), &artist);
        let request = request.header("idempotency-key", "once").header("x-request-id", name);
        farm.send(request.body(Body::empty()).expect("a request")).await.status
    };
    assert_eq!(run("first").await, StatusCode::CREATED);
    let weigh = bearer(Request::put("/v1/projects/film"), &root).header("x-request-id", "of-root");
    let weigh = weigh.header("content-type", "application/json").body(Body::from(r#"{"weight":7}"#));
    assert_eq!(farm.send(weigh.expect("a request")).await.status, StatusCode::OK);
    let own = farm.as_who(&artist, "POST", "/v1/jobs", Some(&job("mine", 1))).await.json::<Submitted>().id;
    let cancel = bearer(Request::post(format!("/v1/jobs/{own}/cancel")), &artist).header("x-request-id", "regretted");
    assert_eq!(farm.send(cancel.body(Body::empty()).expect("a request")).await.status, StatusCode::OK);
    let before = farm.notes(&root, "").await;
    // What was asked for before is there already: nothing is changed, and nothing is to be noted.
    for name in ["of-root", "regretted", "first", "unheard-of"] {
        assert_eq!(run(name).await, StatusCode::OK);
        assert_eq!(farm.notes(&root, "").await, before, "{name}");
    }
    let now = Timestamp::now();
    assert!(before.iter().all(|note| now.0 - note.at.0 < 3_600_000), "each says when: {before:?}");
    let made = json!({"name": "jane", "role": "viewer"});
    assert_eq!(farm.as_who(&root, "POST", "/v1/tokens", Some(&made)).await.status, StatusCode::CREATED);
    let [token] = &farm.notes(&root, "token.add").await[..] else { panic!("one note") };
    assert!(now.0 - token.at.0 < 3_600_000, "{token:?}");
}

#[tokio::test]
async fn logins_that_take_for_ever_keep_nobody_from_working() {
    let (farm, askers, ..) = crowded().await;
    let artist = who(&askers, Role::Artist, Some(OWN));
    let from = |client: u8, mut request: Request<Body>| {
        request.extensions_mut().insert(Peer::from(IpAddr::from([10, 0, 0, client])));
        let router = farm.router.clone();
        async move { router.oneshot(request).await.expect("an answer").status() }
    };
    let mut waiting = Vec::new();
    for client in 0..2 {
        for _ in 0..CHANGES_MAX / PARTS {
            let body = Body::from_stream(stream::pending::<Result<String, Infallible>>());
            let request = Request::post("/v1/session").header("content-type", "application/json").body(body);
            waiting.push(tokio::spawn(from(client, request.expect("a request"))));
        }
    }
    // Those that find no room are answered.
    let refused = async {
        while !waiting.iter().any(JoinHandle::is_finished) {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(PATIENCE, refused).await.expect("they are bounded");
    let submit = bearer(json_builder("/v1/jobs"), &artist).body(Body::from(job("work", 1).to_string()));
    assert_eq!(from(9, submit.expect("a request")).await, StatusCode::CREATED);
    for task in waiting {
        task.abort();
    }
}

fn json_builder(path: &str) -> Builder {
    Request::post(path).header("content-type", "application/json")
}

#[tokio::test]
async fn a_project_that_fills_the_room_for_uploads_leaves_half_of_it_to_others() {
    let (farm, askers, ..) = crowded().await;
    let (film, other) = (who(&askers, Role::Artist, Some(OWN)), who(&askers, Role::Artist, Some(OTHER)));
    let folder = farm.folder.path().join("uploads");
    let send = async |secret: &Secret, digest: Digest, offset: u64| {
        let path = format!("/v1/inputs/{digest}?offset={offset}&size=100");
        farm.send(bearer(Request::patch(path), secret).body(Body::from("piece")).expect("a request")).await
    };
    let begun = Digest::of(b"begun before");
    assert_eq!(send(&film, begun, 0).await.status, StatusCode::OK);
    let (many, large) = (Digest::of(b"many"), Digest::of(b"large"));
    // In number.
    for number in 1..UPLOADS_MAX / PARTS {
        let digest = Digest::of(number.to_string().as_bytes());
        std::fs::File::create(folder.join(format!("{digest}.{OWN}"))).expect("made");
    }
    let refused = send(&film, many, 0).await.problem(507, "storage-full");
    assert!(refused.detail.contains("of this project"), "{refused:?}");
    assert_eq!(send(&film, begun, 5).await.status, StatusCode::OK, "what was begun goes on");
    assert_eq!(send(&other, many, 0).await.status, StatusCode::OK, "others have room");
    // In size.
    for number in 1..UPLOADS_MAX / PARTS {
        let digest = Digest::of(number.to_string().as_bytes());
        std::fs::remove_file(folder.join(format!("{digest}.{OWN}"))).expect("removed");
    }
    let file = std::fs::File::create(folder.join(format!("{large}.{OWN}"))).expect("made");
    // Of zeros that take no room.
    file.set_len(UploadLimits::default().size_bytes_max / PARTS as u64 - 50).expect("made");
    let refused = send(&film, many, 0).await.problem(507, "storage-full");
    assert!(refused.detail.contains("of this project"), "{refused:?}");
    assert_eq!(send(&other, large, 0).await.status, StatusCode::OK, "others have room");
}

#[tokio::test]
async fn an_estimate_tells_of_a_scene_only_who_has_its_inputs() {
    let (farm, askers, ..) = crowded().await;
    let (film, other) = (who(&askers, Role::Artist, Some(OWN)), who(&askers, Role::Artist, Some(OTHER)));
    let bytes = b"the scene of film".as_slice();
    let digest = Digest::of(bytes);
    let send = async |secret: &Secret| {
        let path = format!("/v1/inputs/{digest}?offset=0&size={}", bytes.len());
        farm.send(bearer(Request::patch(path), secret).body(Body::from(bytes)).expect("a request")).await.status
    };
    let mut scene = job("scene", 1);
    scene["steps"][0]["inputs"] = json!([{"digest": digest.to_string(), "as": "scene.dat"}]);
    let unknown = async |secret: &Secret| {
        let reply = farm.as_who(secret, "POST", "/v1/estimates", Some(&scene)).await;
        reply.json::<EstimateView>().unknown_steps.len()
    };
    farm.without_budget(&who(&askers, Role::Admin, None)).await;
    assert_eq!(send(&film).await, StatusCode::OK);
    assert_eq!(unknown(&film).await, 1, "nobody has rendered it");
    let made = farm.as_who(&film, "POST", "/v1/jobs", Some(&scene)).await.json::<Submitted>();
    farm.claim(3).await;
    farm.report(3, vec![done(0, &format!("{}/0.png", made.id), b"pixels")], Vec::new()).await;
    let measured = async {
        while unknown(&film).await > 0 {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(PATIENCE, measured).await.expect("it is measured");
    assert_eq!(unknown(&other).await, 1, "a digest is not the file");
    assert_eq!(unknown(&who(&askers, Role::Artist, None)).await, 0);
    assert_eq!(send(&other).await, StatusCode::OK);
    assert_eq!(unknown(&other).await, 0, "who has the file may know");
}

#[tokio::test]
async fn a_token_is_used_by_the_page_that_it_logged_in() {
    let (farm, askers, ..) = crowded().await;
    let (root, viewer) = (who(&askers, Role::Admin, None), who(&askers, Role::Viewer, Some(OWN)));
    let login = farm.post("/v1/session", &json!({"token": viewer.reveal()})).await;
    let cookie = login.headers["set-cookie"].to_str().expect("text").split(';').next().expect("a value").to_owned();
    let id = login.json::<WhoView>().who.expect("somebody").token.expect("a token");
    let used = async || {
        let tokens: Page<TokenView> = farm.read_as(&root, "/v1/tokens").await;
        tokens.items.into_iter().find(|token| token.id == id).expect("it is there").used_at.expect("it was used")
    };
    let before = used().await;
    while Timestamp::now() <= before {
        tokio::task::yield_now().await;
    }
    let look = Request::get("/v1/jobs").header("cookie", &cookie).body(Body::empty()).expect("a request");
    assert_eq!(farm.send(look).await.status, StatusCode::OK);
    assert!(used().await > before, "whoever looks for tokens that nobody uses must not find it");
}
