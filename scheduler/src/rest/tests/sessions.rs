//! Sessions of pages over restarts: who stays, who is out, and what is in the database of them.

use super::access::token;
use super::*;
use crate::access::{Person, SESSIONS_OF_ONE_MAX, UNUSED_FOR, make_session, make_token};
use framewake_proto::access::{AuditView, Role, WhoView};
use framewake_proto::api::Page;
use framewake_proto::notify::Secret;
use futures::StreamExt as _;
use sqlx::{ConnectOptions, SqliteConnection};

impl Farm {
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
