//! People who log in by a provider of identities: a real one over HTTP, honest and hostile.

use framewake_proto::access::{LoggedOut, Role, WhoView};
use framewake_tests::farm::{SOON, TestFarm};
use framewake_tests::parts::free_port;
use framewake_tests::provider::{Algorithm, CLIENT, Draft, Provider, Signed};
use framewake_tests::wait::until;
use futures::StreamExt as _;
use reqwest::header::{COOKIE, LOCATION, SET_COOKIE};
use reqwest::redirect::Policy;
use reqwest::{Client, Response, Url};
use serde_json::{Value, json};

type Lie = Box<dyn Fn(&mut Draft) + Send + Sync>;

struct Studio {
    farm: TestFarm,
    provider: Provider,
    client: Client,
}

/// A browser on its way: what it keeps.
#[derive(Debug, Clone, Default)]
struct Browser {
    cookies: Vec<(String, String)>,
}

impl Browser {
    fn keep(&mut self, answer: &Response) {
        for line in answer.headers().get_all(SET_COOKIE) {
            let line = line.to_str().expect("text");
            assert!(line.contains("HttpOnly") && line.contains("SameSite="), "{line}");
            let (name, value) = line.split(';').next().and_then(|pair| pair.split_once('=')).expect("a cookie");
            self.cookies.retain(|(kept, _)| kept != name);
            if !value.is_empty() {
                self.cookies.push((name.to_owned(), value.to_owned()));
            }
        }
    }

    fn header(&self) -> String {
        self.cookies.iter().map(|(name, value)| format!("{name}={value}")).collect::<Vec<_>>().join("; ")
    }
}

impl Studio {
    async fn start() -> Studio {
        let provider = Provider::start(free_port()).await;
        let mut farm = TestFarm::start(1).await;
        farm.arguments = provider.arguments(&farm, &farm.url(), "lighting=artist:film,pipeline=operator");
        farm.restart_scheduler().await;
        let client = Client::builder().redirect(Policy::none()).build().expect("a client");
        Studio { farm, provider, client }
    }

    async fn get(&self, browser: &mut Browser, address: &str) -> Response {
        let answer = self.client.get(address).header(COOKIE, browser.header()).send().await.expect("an answer");
        if address.starts_with(&self.farm.url()) {
            browser.keep(&answer);
        }
        answer
    }

    /// Where it is sent.
    async fn sent(&self, browser: &mut Browser, address: &str) -> String {
        let answer = self.get(browser, address).await;
        assert!(answer.status().is_redirection(), "{address}: {}", answer.status());
        let to = answer.headers()[LOCATION].to_str().expect("text").to_owned();
        if to.starts_with('/') { format!("{}{to}", self.farm.url()) } else { to }
    }

    /// The whole way; the page it ends on.
    async fn log_in(&self, browser: &mut Browser, to: &str) -> String {
        let callback = self.way_to_callback(browser, to).await;
        let page = self.sent(browser, &callback).await;
        page.strip_prefix(&self.farm.url()).expect("a page of the farm").to_owned()
    }

    async fn way_to_callback(&self, browser: &mut Browser, to: &str) -> String {
        let begin =
            Url::parse_with_params(&format!("{}/v1/session/oidc", self.farm.url()), [("to", to)]).expect("a URL");
        let at_provider = self.sent(browser, begin.as_str()).await;
        assert!(at_provider.starts_with("http://127.0.0.1"), "{at_provider}");
        self.sent(browser, &at_provider).await
    }

    /// Logs out here; where the browser is to go on with that.
    async fn log_out(&self, browser: &mut Browser) -> Option<String> {
        let url = self.farm.url();
        let out =
            self.client.delete(format!("{url}/v1/session")).header(COOKIE, browser.header()).header("origin", &url);
        let out = out.send().await.expect("an answer");
        assert!(out.status().is_success(), "{}", out.status());
        browser.keep(&out);
        let body = out.text().await.expect("a body");
        let go_on: Option<LoggedOut> = (!body.is_empty()).then(|| serde_json::from_str(&body).expect("where to"));
        go_on.map(|further| further.go_on_at)
    }

    async fn who(&self, browser: &Browser) -> WhoView {
        let answer = self.get(&mut browser.clone(), &format!("{}/v1/session", self.farm.url())).await;
        answer.json().await.expect("who one is")
    }
}

#[tokio::test]
async fn people_log_in_are_what_their_groups_make_of_them_and_log_out() {
    let studio = Studio::start().await;
    let mut browser = Browser::default();
    let nobody = studio.who(&browser).await;
    assert_eq!((nobody.tokens, nobody.login_with.as_deref(), nobody.who), (true, Some("127.0.0.1"), None));
    assert_eq!(studio.log_in(&mut browser, "/jobs?state=failed").await, "/jobs?state=failed");
    let names: Vec<&str> = browser.cookies.iter().map(|(name, _)| name.as_str()).collect();
    assert!(names.len() == 1 && names[0].starts_with("framewake_session_"), "what the login kept is gone: {names:?}");
    let who = studio.who(&browser).await.who.expect("logged in");
    let jane = who.name.clone();
    assert!(jane.starts_with("oidc-jane-doe-"), "{jane}");
    let project = who.project.as_ref().map(framewake_proto::ids::Name::as_str);
    assert_eq!((who.role, project), (Role::Artist, Some("film")));
    let jobs = format!("{}/v1/jobs", studio.farm.url());
    assert_eq!(studio.get(&mut browser, &jobs).await.status(), 200);
    assert_eq!(studio.get(&mut Browser::default(), &jobs).await.status(), 401);
    let mut other = Browser::default();
    studio.provider.says(json!({ "sub": "2", "email": "td@studio.example", "groups": ["pipeline", "lighting"] }));
    assert_eq!(studio.log_in(&mut other, "/").await, "/");
    let who = studio.who(&other).await.who.expect("logged in");
    assert!(who.name.starts_with("oidc-td-studio-example-"), "{}", who.name);
    assert_eq!((who.role, who.project), (Role::Operator, None));
    // Another who is called nearly so is somebody else, in the audit too.
    let mut namesake = Browser::default();
    let claims = json!({ "sub": "another", "preferred_username": "Jane-Doe", "groups": ["lighting"] });
    studio.provider.says(claims);
    studio.log_in(&mut namesake, "/").await;
    let hers = studio.who(&namesake).await.who.expect("logged in").name;
    assert!(hers != jane && hers.starts_with("oidc-jane-doe-"), "{hers}");
    // Noted, as logins by token are.
    let address = format!("{}/v1/audit?action=session.", studio.farm.url());
    until(SOON, "the login is noted", || async {
        let audit = studio.client.get(&address).header(COOKIE, other.header()).send().await.ok()?;
        let audit: Value = audit.json().await.ok()?;
        let of = |who: &str| audit["items"].as_array()?.iter().find(|note| note["who"] == who).cloned();
        let after: Value = serde_json::from_str(of(&hers)?["after"].as_str()?).ok()?;
        let issuer = studio.provider.url();
        assert_eq!(
            [&after["called"], &after["subject"], &after["issuer"]],
            [&json!("Jane-Doe"), &json!("another"), &json!(issuer)]
        );
        of(&jane).map(drop)
    })
    .await;
    // Out again: the cookie that was copied opens nothing either.
    let copied = other.clone();
    let out = studio
        .client
        .delete(format!("{}/v1/session", studio.farm.url()))
        .header(COOKIE, other.header())
        .header("origin", studio.farm.url());
    let out = out.send().await.expect("an answer");
    assert_eq!(out.status(), 204);
    other.keep(&out);
    assert_eq!(studio.who(&copied).await.who, None);
    // Who is in no group does not come in.
    studio.provider.says(json!({ "sub": "3", "preferred_username": "guest", "groups": ["guests"] }));
    assert_eq!(studio.log_in(&mut other, "/").await, "/?login=group");
    assert_eq!(studio.who(&other).await.who, None);
    until(SOON, "the log says who", || async {
        studio.farm.scheduler_log().contains("`guest` is in no group").then_some(())
    })
    .await;
}

fn leave_out(draft: &mut Draft, claim: &str) {
    draft.claims.as_object_mut().expect("claims").remove(claim);
}

#[tokio::test]
async fn a_token_that_lies_in_any_way_logs_nobody_in() {
    let studio = Studio::start().await;
    let now = framewake_proto::time::Timestamp::now().0 / 1000;
    // What is wrong, and what the log says of it.
    let lies: Vec<(&str, &str, Lie)> = vec![
        (
            "another issuer",
            "its issuer is another",
            Box::new(|draft| draft.claims["iss"] = "https://evil.example".into()),
        ),
        ("no issuer", "missing field `iss`", Box::new(|draft| leave_out(draft, "iss"))),
        ("another audience", "its audience is another", Box::new(|draft| draft.claims["aud"] = "another farm".into())),
        ("no audience", "missing field `aud`", Box::new(|draft| leave_out(draft, "aud"))),
        (
            "several audiences, given to another",
            "it was given to another client",
            Box::new(|draft| {
                draft.claims["aud"] = json!([CLIENT, "other"]);
                draft.claims["azp"] = "other".into();
            }),
        ),
        (
            "several audiences, given to nobody",
            "does not say to whom it was given",
            Box::new(|draft| draft.claims["aud"] = json!([CLIENT, "other"])),
        ),
        ("expired", "it has expired", Box::new(move |draft| draft.claims["exp"] = (now - 120).into())),
        ("never expires", "missing field `exp`", Box::new(|draft| leave_out(draft, "exp"))),
        ("not yet good", "it is not good yet", Box::new(move |draft| draft.claims["nbf"] = (now + 600).into())),
        ("another nonce", "its nonce is another", Box::new(|draft| draft.claims["nonce"] = "other".into())),
        ("no nonce", "its nonce is another", Box::new(|draft| leave_out(draft, "nonce"))),
        ("nobody", "missing field `sub`", Box::new(|draft| leave_out(draft, "sub"))),
        (
            "unsigned",
            "it is signed by `none`, which is not taken",
            Box::new(|draft| {
                draft.header["alg"] = "none".into();
                draft.signed = Signed::Not;
            }),
        ),
        ("signature left out", "its signature is not the provider's", Box::new(|draft| draft.signed = Signed::Not)),
        (
            "by the public key as if it were a secret of both",
            "it is signed by `HS256`, which is not taken",
            Box::new(|draft| {
                draft.header["alg"] = "HS256".into();
                draft.signed = Signed::ByThePublicKey;
            }),
        ),
        (
            "that, and called what the key is for",
            "its signature is not the provider's",
            Box::new(|draft| draft.signed = Signed::ByThePublicKey),
        ),
        (
            "another kind of signature",
            "it names a key that the provider does not have",
            Box::new(|draft| draft.header["alg"] = "ES256".into()),
        ),
        (
            "signed by another with the same name",
            "its signature is not the provider's",
            Box::new(|draft| draft.signed = Signed::ByAnother),
        ),
        (
            "a key that nobody has",
            "it names a key that the provider does not have",
            Box::new(|draft| draft.header["kid"] = "nobody's".into()),
        ),
    ];
    for (what, said, lie) in lies {
        studio.provider.lies(lie);
        let mut browser = Browser::default();
        let before = studio.farm.scheduler_log().len();
        assert_eq!(studio.log_in(&mut browser, "/").await, "/?login=token", "{what}");
        assert_eq!(browser.cookies, [], "{what}");
        until(SOON, what, async || studio.farm.scheduler_log()[before..].contains(said).then_some(())).await;
    }
    // And one that tells the truth does.
    studio.provider.lies(|_| ());
    assert_eq!(studio.log_in(&mut Browser::default(), "/").await, "/");
    assert!(
        studio.provider.keys_asked() <= 3,
        "tokens with odd names don't make the farm ask for keys again and again"
    );
}

#[tokio::test]
async fn a_login_is_of_the_browser_that_began_it_and_good_for_once() {
    let studio = Studio::start().await;
    let (mut victim, mut thief) = (Browser::default(), Browser::default());
    // What the thief began and would have the victim end: the victim would work as the thief.
    let callback = studio.way_to_callback(&mut thief, "/").await;
    assert!(studio.sent(&mut victim, &callback).await.ends_with("/?login=stale"));
    // The victim's own, with the thief's state.
    let own = studio.way_to_callback(&mut victim, "/").await;
    let state = |callback: &str| {
        Url::parse(callback)
            .expect("a URL")
            .query_pairs()
            .find(|(name, _)| name == "state")
            .expect("it has one")
            .1
            .into_owned()
    };
    let mixed = own.replace(&state(&own), &state(&callback));
    assert!(studio.sent(&mut victim.clone(), &mixed).await.ends_with("/?login=stale"));
    let before = victim.clone();
    assert!(!studio.sent(&mut victim, &own).await.contains("login="));
    // Again, with everything that the browser had then.
    assert!(studio.sent(&mut before.clone(), &own).await.ends_with("/?login=stale"));
    for address in ["", "?state=", "?code=x", "?state=a&code=b", "?error=access_denied&state=a"] {
        let address = format!("{}/v1/session/oidc/callback{address}", studio.farm.url());
        assert!(studio.sent(&mut Browser::default(), &address).await.ends_with("/?login=stale"), "{address}");
    }
    // What the provider refuses is told.
    let mut refused = Browser::default();
    let callback = studio.way_to_callback(&mut refused, "/").await;
    let denied =
        format!("{}/v1/session/oidc/callback?error=access_denied&state={}", studio.farm.url(), state(&callback));
    assert!(studio.sent(&mut refused, &denied).await.ends_with("/?login=refused"));
    // Nobody is sent anywhere else.
    for to in ["https://evil.example/", "//evil.example", "/\\evil.example", "javascript:alert(1)"] {
        assert_eq!(studio.log_in(&mut Browser::default(), to).await, "/", "{to}");
    }
}

/// Nobody is asked for anything to begin one.
#[tokio::test]
async fn logins_that_others_begin_by_the_thousand_shut_nobody_out() {
    let studio = Studio::start().await;
    let mut jane = Browser::default();
    let callback = studio.way_to_callback(&mut jane, "/jobs").await;
    let begin = format!("{}/v1/session/oidc", studio.farm.url());
    let begun = futures::stream::iter(0..10_240).map(async |_| {
        let answer = studio.client.get(&begin).send().await.expect("an answer");
        answer.headers().get(LOCATION).is_some_and(|to| to.to_str().is_ok_and(|to| to.contains("/authorize")))
    });
    let led = begun.buffer_unordered(32).filter(|led| futures::future::ready(*led)).count().await;
    assert_eq!(led, 10_240, "each is led to the provider");
    assert!(studio.sent(&mut jane, &callback).await.ends_with("/jobs"));
    assert!(studio.who(&jane).await.who.is_some_and(|who| who.name.starts_with("oidc-jane-doe-")));
}

#[tokio::test]
async fn keys_change_and_a_provider_that_is_away_is_told() {
    let studio = Studio::start().await;
    assert_eq!(studio.log_in(&mut Browser::default(), "/").await, "/");
    studio.provider.set_away(true);
    let mut browser = Browser::default();
    // It is known already where to go; what comes back can't be redeemed.
    let begin = format!("{}/v1/session/oidc", studio.farm.url());
    assert!(studio.sent(&mut browser, &begin).await.contains("/authorize"));
    studio.provider.set_away(false);
    // One key after another, within the time in which keys are believed.
    studio.provider.change_key("second", Algorithm::Rs256);
    until(SOON, "the new key is asked for", || async {
        (studio.log_in(&mut Browser::default(), "/").await == "/").then_some(())
    })
    .await;
    let mut farm = studio.farm;
    studio.provider.calls_itself(Some("https://another.example"));
    farm.restart_scheduler().await;
    let studio = Studio { farm, ..studio };
    assert!(studio.sent(&mut Browser::default(), &begin).await.ends_with("/?login=settings"));
    assert!(
        studio.farm.scheduler_log().contains("calls itself `https://another.example`"),
        "{}",
        studio.farm.scheduler_log()
    );
    studio.provider.calls_itself(None);
    studio.provider.set_away(true);
    assert!(studio.sent(&mut Browser::default(), &begin).await.ends_with("/?login=away"));
    assert!(studio.farm.scheduler_log().contains("answers 503"), "{}", studio.farm.scheduler_log());
}

#[tokio::test]
async fn every_kind_of_signature_that_a_provider_alone_can_make_is_taken() {
    let studio = Studio::start().await;
    for algorithm in Algorithm::ALL {
        studio.provider.change_key(algorithm.name(), algorithm);
    }
    for name in Algorithm::ALL.map(Algorithm::name) {
        studio.provider.signs_with(name);
        assert_eq!(studio.log_in(&mut Browser::default(), "/").await, "/", "{name}");
        studio.provider.lies(|draft| draft.signed = Signed::Not);
        assert_eq!(studio.log_in(&mut Browser::default(), "/").await, "/?login=token", "{name}");
        // Signed well by a key that is for something else.
        studio.provider.lies(|draft| draft.header["kid"] = "first".into());
        assert_eq!(studio.log_in(&mut Browser::default(), "/").await, "/?login=token", "{name}");
        studio.provider.lies(|_| ());
    }
}

#[tokio::test]
async fn keys_that_nobody_has_are_asked_for_seldom_and_one_that_was_taken_away_is_none() {
    let studio = Studio::start().await;
    assert_eq!(studio.log_in(&mut Browser::default(), "/").await, "/");
    let (asked, begin) = (studio.provider.keys_asked(), tokio::time::Instant::now());
    studio.provider.lies(|draft| draft.header["kid"] = "nobody's".into());
    let tries = futures::future::join_all((0..20).map(|_| async {
        let mut browser = Browser::default();
        studio.log_in(&mut browser, "/").await
    }));
    assert_eq!(tries.await, vec!["/?login=token"; 20]);
    // Once in two seconds.
    let most = begin.elapsed().as_secs() / 2 + 1;
    assert!(studio.provider.keys_asked() - asked <= usize::try_from(most).expect("few"), "in {:?}", begin.elapsed());
    // Whoever has the old key signs with it still; once the new one was asked for, the old one is nobody's.
    studio.provider.lies(|_| ());
    studio.provider.change_key("second", Algorithm::Es256);
    studio.provider.forget_keys();
    until(SOON, "the new key is asked for", || async {
        (studio.log_in(&mut Browser::default(), "/").await == "/").then_some(())
    })
    .await;
    studio.provider.lies(|draft| {
        draft.header["kid"] = "first".into();
        draft.header["alg"] = "RS256".into();
        draft.signed = Signed::ByAnother;
    });
    assert_eq!(studio.log_in(&mut Browser::default(), "/").await, "/?login=token");
    assert!(studio.farm.scheduler_log().contains("it names a key that the provider does not have"));
}

#[tokio::test]
async fn who_logs_out_is_logged_out_at_the_provider_too_where_it_can_do_that() {
    let mut studio = Studio::start().await;
    let mut browser = Browser::default();
    // The provider says nothing of it.
    studio.log_in(&mut browser, "/").await;
    assert_eq!(studio.log_out(&mut browser).await, None);
    let back = format!("{}/", studio.farm.url());
    studio.provider.lets_out_to(&back);
    studio.farm.restart_scheduler().await;
    studio.log_in(&mut browser, "/").await;
    // The ID token that goes with it was kept over a restart too, and nobody reads it in the database.
    studio.farm.restart_scheduler().await;
    let database = std::fs::read(studio.farm.data().join("framewake.db")).expect("there");
    let wal = std::fs::read(studio.farm.data().join("framewake.db-wal")).unwrap_or_default();
    let kept = [database, wal].concat();
    assert!(kept.windows(9).any(|part| part == b"oidc-jane"), "the session is in it");
    assert!(!kept.windows(6).any(|part| part == b"eyJhbG"), "and no ID token");
    let copied = browser.clone();
    let further = studio.log_out(&mut browser).await.expect("an address of the provider");
    assert!(further.contains("/logout?of=realm&") && further.contains("id_token_hint=ey"), "{further}");
    assert_eq!(studio.sent(&mut browser, &further).await, back);
    assert_eq!((studio.provider.ended(), studio.who(&copied).await.who), (1, None));
    // Out is out, also after a restart.
    studio.farm.restart_scheduler().await;
    assert_eq!(studio.who(&copied).await.who, None);
    // A provider that is away keeps nobody in; it has not been asked yet.
    studio.log_in(&mut browser, "/").await;
    studio.provider.set_away(true);
    studio.farm.restart_scheduler().await;
    let copied = browser.clone();
    assert_eq!(studio.log_out(&mut browser).await, None);
    assert_eq!(studio.who(&copied).await.who, None);
    assert!(studio.farm.scheduler_log().contains("logged out here and not at the provider"));
}

#[tokio::test]
async fn a_restart_logs_nobody_out_who_may_still_come_in() {
    let mut studio = Studio::start().await;
    let (mut jane, mut td) = (Browser::default(), Browser::default());
    studio.log_in(&mut jane, "/").await;
    studio.provider.says(json!({ "sub": "2", "email": "td@studio.example", "groups": ["pipeline"] }));
    studio.log_in(&mut td, "/").await;
    let name = |who: WhoView| who.who.map(|who| who.name);
    let before = studio.who(&jane).await;
    // Also without a farewell.
    studio.farm.kill_scheduler();
    studio.farm.restart_scheduler().await;
    assert_eq!(studio.who(&jane).await, before);
    assert!(name(studio.who(&td).await).is_some_and(|name| name.starts_with("oidc-td-studio-example-")));
    // The rule that let her in is another now: it is asked again who she is.
    let groups = studio.farm.arguments.len() - 1;
    studio.farm.arguments[groups] = "lighting=viewer:film,pipeline=operator".to_owned();
    studio.farm.restart_scheduler().await;
    assert_eq!(name(studio.who(&jane).await), None);
    assert!(name(studio.who(&td).await).is_some_and(|name| name.starts_with("oidc-td-studio-example-")));
    // And stays so, whatever the rules say later.
    studio.farm.arguments[groups] = "lighting=artist:film,pipeline=operator".to_owned();
    studio.farm.restart_scheduler().await;
    assert_eq!(name(studio.who(&jane).await), None);
    // Another provider knows nobody of this one.
    let issuer = studio.farm.arguments.iter().position(|word| word == "--oidc-issuer").expect("it is there") + 1;
    studio.farm.arguments[issuer] = "http://127.0.0.1:1/other".to_owned();
    studio.farm.restart_scheduler().await;
    assert_eq!(name(studio.who(&td).await), None);
}
