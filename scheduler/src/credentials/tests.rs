//! What is signed, and with what.

use super::*;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::Value;
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
    let credential = farm.of_worker(&function, &worker, Timestamp(7_000_999));
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
