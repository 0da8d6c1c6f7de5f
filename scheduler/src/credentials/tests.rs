//! What is signed, and with what.

use super::*;
use std::os::unix::fs::PermissionsExt as _;

fn subjects() -> Subjects {
    Subjects::new("farm".parse().expect("a good name"))
}

fn body(jwt: &str) -> Value {
    let body = jwt.split('.').nth(1).expect("three parts");
    serde_json::from_slice(&URL_SAFE_NO_PAD.decode(body).expect("base 64")).expect("JSON")
}

#[test]
fn keys_are_made_once_for_their_owners() {
    let folder = tempfile::tempdir().expect("room for a folder");
    let (seed, config) = (folder.path().join("seed"), folder.path().join("trusted.conf"));
    let keys = server::Keys::make();
    keys.write(&seed, &config).expect("written");
    let mode = std::fs::metadata(&seed).expect("there").permissions().mode();
    assert_eq!(mode & 0o777, 0o600, "for its owner alone");
    assert!(server::Keys::make().write(&seed, &config).is_err(), "nothing is overwritten");
    let text = std::fs::read_to_string(&config).expect("there");
    let issuer = Issuer::open(&seed, subjects()).expect("its own seed");
    assert!(text.contains(&format!("{}: ", issuer.key.public())), "the server knows the account: {text}");
    assert!(!text.contains(keys.seed.reveal()) && !format!("{keys:?}{issuer:?}").contains(keys.seed.reveal()));
}

#[test]
fn a_credential_is_of_its_worker_and_ends() {
    let folder = tempfile::tempdir().expect("room for a folder");
    let seed = folder.path().join("seed");
    let issuer = |text: String| {
        std::fs::write(&seed, text).expect("writable");
        Issuer::open(&seed, subjects())
    };
    let (ours, others) = (Key::make(Kind::Account), Key::make(Kind::Account));
    let farm = issuer(ours.seed().reveal().to_owned()).expect("a seed");
    let (function, worker) = ("blender@2".parse().expect("good"), "w1".parse().expect("good"));
    let credential = farm.of_worker(&function, &worker, Timestamp(7_000_999), None);
    let claims = body(credential.reveal());
    assert_eq!((&claims["exp"], &claims["iss"]), (&7000.into(), &ours.public().into()));
    assert!(claims["sub"].as_str().is_some_and(|sub| nkey::is_public(sub, Kind::User)));
    let may = Permissions::of_worker(&subjects(), &function, &worker);
    assert_eq!(claims["nats"]["pub"]["allow"], serde_json::json!(may.publish));
    assert_eq!(claims["nats"]["sub"]["allow"], serde_json::json!(may.subscribe));
    assert!(credential.reveal().len() < 3000, "it fits the first line that NATS reads");
    assert!(body(farm.own().reveal())["nats"]["pub"].is_null(), "the scheduler may do everything");

    assert!(farm.was_of(credential.reveal(), &function, &worker), "also when it is over");
    assert!(!farm.was_of(credential.reveal(), &function, &"w2".parse().expect("good")));
    assert!(!farm.was_of(credential.reveal(), &"blender@1".parse().expect("good"), &worker));
    assert!(!farm.was_of(farm.join_token_of(&function, &worker, Timestamp::now()).reveal(), &function, &worker));
    let elsewhere = issuer(others.seed().reveal().to_owned()).expect("a seed");
    assert!(!elsewhere.was_of(credential.reveal(), &function, &worker));
    assert!(!farm.was_of(&"x".repeat(1 << 20), &function, &worker));

    // A signing key of somebody's NATS says for which account it signs.
    let signing = issuer(format!("{}\n{}\n", ours.seed().reveal(), others.public())).expect("a seed and its account");
    assert_eq!(body(signing.own().reveal())["nats"]["issuer_account"], others.public());
    for wrong in [format!("{} nonsense", ours.seed().reveal()), String::new(), "x".repeat(5000)] {
        let error = issuer(wrong).expect_err("no seed");
        assert!(!format!("{error:#}").contains(ours.seed().reveal()), "{error:#}");
    }
}

#[test]
fn keys_are_made_anew_for_the_account_that_there_is() {
    let folder = tempfile::tempdir().expect("room for a folder");
    let (old, seed, config) =
        (folder.path().join("old"), folder.path().join("seed"), folder.path().join("trusted.conf"));
    // As a version wrote it that could take nothing back.
    let account = Key::make(Kind::Account);
    std::fs::write(&old, format!("{}\n", account.seed().reveal())).expect("writable");
    let before = Issuer::open(&old, subjects()).expect("a seed");
    assert!(!before.can_take_back());
    server::Keys::renew(&old).expect("a seed").write(&seed, &config).expect("written");
    let issuer = Issuer::open(&seed, subjects()).expect("all seeds");
    assert!(issuer.can_take_back());
    assert_eq!(issuer.key.public(), account.public(), "what was signed stays good");
    let text = std::fs::read_to_string(&seed).expect("there");
    let words: Vec<&str> = text.split_whitespace().collect();
    assert_eq!(words.len(), 3, "the account's, the operator's, the system's");
    for wrong in [
        words[..2].join("\n"),
        format!("{}\n{}", words[0], words[2]),
        format!("{}\n{}\n{}", words[0], words[1], account.public()),
        format!("{text}{}", account.public()),
    ] {
        std::fs::write(&old, wrong).expect("writable");
        let error = Issuer::open(&old, subjects()).expect_err("seeds that do not go together");
        assert!(!format!("{error:#}").contains(words[0]), "{error:#}");
    }
}

#[test]
fn a_worker_is_one_user_and_what_it_is_given_after_its_end_is_newer() {
    let folder = tempfile::tempdir().expect("room for a folder");
    let (seed, config) = (folder.path().join("seed"), folder.path().join("trusted.conf"));
    server::Keys::make().write(&seed, &config).expect("written");
    let issuer = Issuer::open(&seed, subjects()).expect("its own seed");
    let (function, worker, other): (FunctionKey, WorkerId, WorkerId) =
        ("f@1".parse().expect("good"), "w1-1".parse().expect("good"), "w1-11".parse().expect("good"));
    let now = Timestamp::now();
    let given =
        |worker, taken_back| body(issuer.of_worker(&function, worker, now.after(JOIN_FOR), taken_back).reveal());
    let (first, second) = (given(&worker, None), given(&worker, None));
    assert_eq!(first["sub"], second["sub"], "a renewal is of the same user");
    assert_ne!(first["jti"], second["jti"]);
    assert_ne!(first["sub"], given(&other, None)["sub"]);
    assert_ne!(first["sub"], body(issuer.join_token_of(&function, &worker, now).reveal())["sub"]);
    assert_ne!(first["sub"], body(issuer.own().reveal())["sub"]);
    // Also of one that comes again in the same second.
    assert_eq!(given(&worker, Some(now.0 / 1000 + 7))["iat"], now.0 / 1000 + 8);
    assert!(given(&worker, Some(0))["iat"].as_i64() >= Some(now.0 / 1000));

    // What the server is told of it.
    let authority = issuer.authority.as_ref().expect("all seeds are there");
    let told = body(&authority.without(&[(issuer.user(&worker), 77)].into()));
    assert_eq!(told["nats"]["revocations"], serde_json::json!({ first["sub"].as_str().expect("text"): 77 }));
    assert_eq!((&told["sub"], &told["nats"]["type"]), (&issuer.key.public().into(), &"account".into()));
    // The most that are told fit a message of a server that nobody has told more.
    let all = (0..ENDED_MAX)
        .map(|number| (issuer.user(&format!("w18f2b7c3d11-{number}").parse().expect("a good id")), now.0 / 1000));
    let size = authority.without(&all.collect()).len();
    assert!(size < 1 << 20, "{size} bytes");
    // And who tells may do nothing else.
    let own = body(authority.own().reveal());
    let subject = format!("$SYS.REQ.ACCOUNT.{}.CLAIMS.UPDATE", issuer.key.public());
    assert_eq!(own["nats"]["pub"]["allow"], serde_json::json!([subject]));
    assert_eq!(own["nats"]["sub"]["allow"], serde_json::json!(["_INBOX.>"]));
}

#[test]
fn an_invitation_is_of_one_worker_of_one_version_in_one_farm() {
    let folder = tempfile::tempdir().expect("room for a folder");
    let seed = folder.path().join("seed");
    std::fs::write(&seed, Key::make(Kind::Account).seed().reveal()).expect("writable");
    let farm = Issuer::open(&seed, subjects()).expect("a seed");
    let other = Issuer::open(&seed, Subjects::new("other".parse().expect("good"))).expect("a seed");
    let (function, worker): (FunctionKey, WorkerId) = ("f@1".parse().expect("good"), "w1-1".parse().expect("good"));
    let invitation = farm.invitation(&function, &worker);
    assert!(farm.has_invited(&function, &worker, invitation.reveal()));
    assert!(!farm.has_invited(&function, &"w1-2".parse().expect("good"), invitation.reveal()));
    assert!(!farm.has_invited(&"f@2".parse().expect("good"), &worker, invitation.reveal()));
    assert!(!other.has_invited(&function, &worker, invitation.reveal()));
    for wrong in ["", "?", &invitation.reveal()[1..], &format!("{}=", invitation.reveal()), &"A".repeat(1 << 20)] {
        assert!(!farm.has_invited(&function, &worker, wrong));
    }
    assert!(!farm.was_of(invitation.reveal(), &function, &worker), "it is no credential");
}
