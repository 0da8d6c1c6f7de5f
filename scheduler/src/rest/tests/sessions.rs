//! Sessions of pages over restarts: who stays, who is out, and what is in the database of them.

use super::access::{OWN, token};
use super::*;
use crate::access::{Person, SESSIONS_OF_ONE_MAX, UNUSED_FOR, make_session, make_token};
use framewake_proto::access::{AuditView, Role, SessionView, TokenMade, WhoView};
use framewake_proto::api::Page;
use framewake_proto::notify::Secret;
use futures::StreamExt as _;
use sqlx::{ConnectOptions, SqliteConnection};

impl Farm {
    /// What somebody of the own project may lose, where an address names that.
    pub(super) async fn victim(&self, route: &str, admin: &Secret) -> String {
        if !["/v1/tokens/{id}", "/v1/sessions/{id}"].contains(&route) {
            return "aaaaaaaaaaaa".to_owned();
        }
        let body = json!({"name": "victim", "role": "viewer", "project": OWN});
        let made: TokenMade = self.as_who(admin, "POST", "/v1/tokens", Some(&body)).await.json();
        if route == "/v1/tokens/{id}" {
            return made.token.id;
        }
        self.log_in(&made.secret).await;
        let sessions: Page<SessionView> = self.read_as(admin, "/v1/sessions?limit=1").await;
        sessions.items[0].id.clone()
    }

    /// Its cookie.
    async fn log_in(&self, secret: &Secret) -> String {
        let login = self.post("/v1/session", &json!({"token": secret.reveal()})).await;
        assert_eq!(login.status, StatusCode::OK, "{}", login.text());
        let set = login.headers["set-cookie"].to_str().expect("text");
        set.split(';').next().and_then(|pair| pair.split_once('=')).expect("a cookie").1.to_owned()
    }

    async fn who(&self, cookie: &str) -> Option<String> {
        let request = Request::get("/v1/session").header("cookie", format!("{}={cookie}", self.app.cookies.session));
        let view: WhoView = self.send(request.body(Body::empty()).expect("a request")).await.json();
        view.who.map(|who| who.name)
    }

    async fn log_out(&self, cookie: &str) -> StatusCode {
        let request = Request::delete("/v1/session").header("cookie", format!("{}={cookie}", self.app.cookies.session));
        let request = request.header("origin", "http://farm").header("host", "farm");
        self.send(request.body(Body::empty()).expect("a request")).await.status
    }

    pub(super) async fn database(&self) -> SqliteConnection {
        let file = self.folder.path().join("framewake.db");
        sqlx::sqlite::SqliteConnectOptions::new().filename(file).connect().await.expect("opened")
    }
}

async fn count(database: &mut SqliteConnection, text: &'static str) -> i64 {
    sqlx::query_scalar(text).fetch_one(database).await.expect("counted")
}

#[tokio::test]
async fn a_restart_ends_no_session_and_a_logout_or_a_revoked_token_ends_it_for_good() {
    let (jane, hers) = token("jane", Role::Artist, Some("film"));
    let (root, roots) = token("root", Role::Admin, None);
    let farm = Farm::start().await.guarded(vec![jane.clone(), root]).await;
    let [one, two] = [farm.log_in(&hers).await, farm.log_in(&hers).await];
    let admin = farm.log_in(&roots).await;
    let mut database = farm.database().await;
    let kept: Vec<(Vec<u8>, String)> =
        sqlx::query_as("SELECT sha256, token FROM sessions").fetch_all(&mut database).await.expect("read");
    assert_eq!(kept.len(), 3);
    assert!(kept.iter().all(|(sha256, _)| hex::encode(sha256) != one && sha256.len() == 32), "digests alone");
    let farm = farm.guarded_anew().await;
    assert_eq!(farm.who(&one).await.as_deref(), Some("jane"));
    // Out is out, and so it stays.
    assert_eq!(farm.log_out(&one).await, StatusCode::NO_CONTENT);
    assert_eq!((farm.who(&one).await, farm.who(&two).await.as_deref()), (None, Some("jane")));
    let farm = farm.guarded_anew().await;
    assert_eq!((farm.who(&one).await, farm.who(&two).await.as_deref()), (None, Some("jane")));
    // With the token go its sessions.
    let revoke = Request::delete(format!("/v1/tokens/{}", jane.id))
        .header("cookie", format!("{}={admin}", farm.app.cookies.session));
    let revoke = revoke.header("origin", "http://farm").header("host", "farm").body(Body::empty()).expect("a request");
    assert_eq!(farm.send(revoke).await.status, StatusCode::NO_CONTENT);
    assert_eq!(farm.who(&two).await, None);
    assert_eq!(count(&mut database, "SELECT count(*) FROM sessions").await, 1);
    let farm = farm.guarded_anew().await;
    assert_eq!((farm.who(&two).await, farm.who(&admin).await.as_deref()), (None, Some("root")));
    // Both ends of each are noted.
    let request =
        Request::get("/v1/audit?action=session.").header("cookie", format!("{}={admin}", farm.app.cookies.session));
    let audit: Page<AuditView> = farm.send(request.body(Body::empty()).expect("a request")).await.json();
    let noted: Vec<(&str, &str)> =
        audit.items.iter().rev().map(|row| (row.action.as_str(), row.who.as_str())).collect();
    assert_eq!(
        noted,
        [("session.begin", "jane"), ("session.begin", "jane"), ("session.begin", "root"), ("session.end", "jane")]
    );
}

#[tokio::test]
async fn a_session_that_nobody_used_for_long_is_over_after_a_restart_too_and_forgotten() {
    let (jane, hers) = token("jane", Role::Artist, None);
    let farm = Farm::start().await.guarded(vec![jane]).await;
    let [old, fresh] = [farm.log_in(&hers).await, farm.log_in(&hers).await];
    let mut database = farm.database().await;
    let long_ago = Timestamp::now().0 - i64::try_from(UNUSED_FOR.as_millis()).expect("it is short");
    let key: [u8; 32] = sha2::Digest::finalize(<sha2::Sha256 as sha2::Digest>::new_with_prefix(&old)).into();
    let text = "UPDATE sessions SET used_at = ? WHERE sha256 = ?";
    let aged = sqlx::query(text).bind(long_ago).bind(&key[..]).execute(&mut database).await.expect("aged");
    assert_eq!(aged.rows_affected(), 1);
    let farm = farm.guarded_anew().await;
    assert_eq!((farm.who(&old).await, farm.who(&fresh).await.as_deref()), (None, Some("jane")));
    assert_eq!(count(&mut database, "SELECT count(*) FROM sessions").await, 1);
}

#[tokio::test]
async fn the_session_of_somebody_without_a_token_is_ended_by_its_id() {
    let (root, roots) = token("root", Role::Admin, None);
    let (other, others) = token("other", Role::Admin, Some("other"));
    let farm = Farm::start().await.guarded(vec![root, other]).await;
    let person = Person {
        name: "oidc-jane".parse().expect("a name"),
        called: "jane".to_owned(),
        subject: "1".to_owned(),
        role: Role::Artist,
        project: Some("film".parse().expect("a name")),
        issuer: "https://login.example".to_owned(),
        group: "lighting".to_owned(),
    };
    let (now, id) = (Timestamp::now(), make_token().0);
    let (cookie, kept) = make_session(id, Some(person), None, now);
    farm.handle.write_access(vec![AccessWrite::SessionBegun(kept.clone())]).await.expect("written");
    farm.app.access.sessions.insert(kept, now);
    assert_eq!(farm.who(&cookie).await.as_deref(), Some("oidc-jane"));
    let path = format!("/v1/tokens/{id}");
    // Of another project she is nobody.
    farm.as_who(&others, "DELETE", &path, None).await.problem(404, "not-found");
    assert_eq!(farm.who(&cookie).await.as_deref(), Some("oidc-jane"));
    let ended = farm.as_who(&roots, "DELETE", &path, None).await;
    assert_eq!(ended.status, StatusCode::NO_CONTENT, "{}", ended.text());
    assert_eq!(farm.who(&cookie).await, None, "at once");
    assert_eq!(count(&mut farm.database().await, "SELECT count(*) FROM sessions").await, 0, "and for good");
    farm.as_who(&roots, "DELETE", &path, None).await.problem(404, "not-found");
}

/// A login is there with its note, or not at all.
#[tokio::test]
async fn where_a_login_can_not_be_noted_nobody_is_logged_in() {
    let (jane, hers) = token("jane", Role::Artist, None);
    let farm = Farm::start().await.guarded(vec![jane]).await;
    let mut database = farm.database().await;
    let trigger = "CREATE TRIGGER refused BEFORE INSERT ON audit BEGIN SELECT raise(ABORT, 'no notes'); END";
    sqlx::query(trigger).execute(&mut database).await.expect("made");
    let login = farm.post("/v1/session", &json!({"token": hers.reveal()})).await;
    assert!(!login.status.is_success() && !login.headers.contains_key("set-cookie"), "{}", login.text());
    assert_eq!(count(&mut database, "SELECT count(*) FROM sessions").await, 0);
}

/// Whoever has a token may log in as often as they like.
#[tokio::test]
async fn who_logs_in_again_and_again_logs_nobody_else_out() {
    let ((jane, hers), (eve, secret)) = (token("jane", Role::Artist, None), token("eve", Role::Viewer, Some("film")));
    let farm = Farm::start().await.guarded(vec![jane, eve]).await;
    let (janes, first) = (farm.log_in(&hers).await, farm.log_in(&secret).await);
    let more = futures::stream::iter(0..SESSIONS_OF_ONE_MAX).map(|_| farm.log_in(&secret));
    let more: Vec<String> = more.buffer_unordered(8).collect().await;
    assert_eq!(farm.who(&first).await, None, "their own oldest");
    let all = async |farm: &Farm| {
        let mut names = Vec::new();
        for cookie in more.iter().chain([&janes]) {
            names.extend(farm.who(cookie).await);
        }
        (names.iter().filter(|name| *name == "eve").count(), names.contains(&"jane".to_owned()))
    };
    assert_eq!(all(&farm).await, (SESSIONS_OF_ONE_MAX, true));
    // It stays so over a restart, and what ended is forgotten.
    let mut database = farm.database().await;
    let farm = farm.guarded_anew().await;
    assert_eq!((farm.who(&first).await, all(&farm).await), (None, (SESSIONS_OF_ONE_MAX, true)));
    let kept = count(&mut database, "SELECT count(*) FROM sessions").await;
    assert_eq!(usize::try_from(kept).expect("a count"), SESSIONS_OF_ONE_MAX + 1);
}

#[tokio::test]
async fn an_admin_sees_who_is_logged_in_and_ends_a_session() {
    let (root, roots) = token("root", Role::Admin, None);
    let (lead, leads) = token("lead", Role::Admin, Some(OWN));
    let (mut jane, hers) = token("jane", Role::Artist, Some(OWN));
    let soon = Timestamp(Timestamp::now().0 + 60_000);
    jane.expires_at = Some(soon);
    let (other, others) = token("other", Role::Viewer, Some("other"));
    let farm = Farm::start().await.guarded(vec![root, lead, jane.clone(), other]).await;
    let before = Timestamp::now();
    let one = farm.log_in(&hers).await;
    let two = farm.log_in(&hers).await;
    farm.log_in(&others).await;
    let admins = farm.log_in(&roots).await;
    let all: Page<SessionView> = farm.read_as(&roots, "/v1/sessions").await;
    let names = |page: &Page<SessionView>| page.items.iter().map(|one| one.name.to_string()).collect::<Vec<_>>();
    let mut sorted = names(&all);
    sorted.sort();
    assert_eq!((sorted, &all.next), (["jane", "jane", "other", "root"].map(str::to_owned).into(), &None));
    assert!(all.items.is_sorted_by_key(|one| std::cmp::Reverse(one.begun_at)), "{all:?}");
    let hers: Vec<&SessionView> = all.items.iter().filter(|one| one.name.as_str() == "jane").collect();
    for view in &hers {
        assert_eq!((view.role, view.project.as_ref().map(Name::as_str)), (Role::Artist, Some(OWN)));
        assert_eq!((view.token.clone(), view.expires_at), (Some(jane.id.to_string()), soon));
        assert!(view.begun_at >= before && view.used_at >= view.begun_at && !view.own);
    }
    // One page after the other there are the same ones; and that of a page that asks is told apart.
    let ask = async |path: String| {
        let request = Request::get(path).header("cookie", format!("{}={admins}", farm.app.cookies.session));
        farm.send(request.body(Body::empty()).expect("a request")).await
    };
    let (mut paged, mut next) = (Vec::new(), String::new());
    loop {
        let page: Page<SessionView> = ask(format!("/v1/sessions?limit=1{next}")).await.json();
        assert_eq!(page.items.len(), 1);
        paged.extend(page.items);
        let Some(cursor) = page.next else { break };
        next = format!("&cursor={cursor}");
    }
    let ids = |items: &[SessionView]| items.iter().map(|one| one.id.clone()).collect::<Vec<_>>();
    assert_eq!(ids(&paged), ids(&all.items));
    let own: Vec<&str> = paged.iter().filter(|one| one.own).map(|one| one.name.as_str()).collect();
    assert_eq!(own, ["root"]);
    ask("/v1/sessions?cursor=1".to_owned()).await.problem(400, "invalid-query");
    // An admin of one project knows of that one's, and ends no other.
    let seen: Page<SessionView> = farm.read_as(&leads, "/v1/sessions").await;
    assert_eq!(names(&seen), ["jane", "jane"]);
    let theirs = &all.items.iter().find(|one| one.name.as_str() == "other").expect("there").id;
    farm.as_who(&leads, "DELETE", &format!("/v1/sessions/{theirs}"), None).await.problem(404, "not-found");
    // The one that is ended opens nothing, now and after a restart; the other of the same token goes on.
    let path = format!("/v1/sessions/{}", hers[0].id);
    assert_eq!(farm.as_who(&leads, "DELETE", &path, None).await.status, StatusCode::NO_CONTENT);
    farm.as_who(&leads, "DELETE", &path, None).await.problem(404, "not-found");
    let still = async |farm: &Farm| [farm.who(&one).await.is_some(), farm.who(&two).await.is_some()];
    let goes_on = still(&farm).await;
    assert!(goes_on[0] != goes_on[1], "{goes_on:?}");
    let notes: Page<AuditView> = farm.read_as(&roots, "/v1/audit?action=session.end").await;
    let [note] = &notes.items[..] else { panic!("one note: {notes:?}") };
    assert_eq!((note.who.as_str(), &note.subject, note.project.as_ref().map(Name::as_str)), ("lead", &path, Some(OWN)));
    assert!(note.after.contains("\"jane\""), "{note:?}");
    let farm = farm.guarded_anew().await;
    assert_eq!(still(&farm).await, goes_on);
}
