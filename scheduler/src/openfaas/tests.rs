//! Who may ask what of the door for clients of `OpenFaaS`: every address, with the password and without.

use super::rules::{ANY, LINES, Needs, line};
use super::{Clock, Gateway, Settings, answering, guarded, router};
use axum::Router;
use axum::body::{Body, to_bytes};
use axum::http::header::AUTHORIZATION;
use axum::http::{Method, Request, StatusCode};
use axum::routing::get;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use framewake_proto::duration::Span;
use std::sync::Arc;
use std::time::Duration;
use tower::ServiceExt as _;

const PASSWORD: &str = "hunter2";
const METHODS: [Method; 5] = [Method::GET, Method::POST, Method::PUT, Method::PATCH, Method::DELETE];

async fn gateway() -> (tempfile::TempDir, Arc<Gateway>) {
    let (folder, app) = crate::keda::tests::app().await;
    let file = folder.path().join("password");
    std::fs::write(&file, PASSWORD).expect("the folder is writable");
    let settings = Settings {
        openfaas_listen: None,
        openfaas_user: "admin".to_owned(),
        openfaas_password_file: Some(file),
        openfaas_namespace: "openfaas-fn".parse().expect("a name"),
        openfaas_wait: Span(Duration::from_secs(1)),
        openfaas_callback_secret_file: None,
    };
    (folder, Gateway::new(&settings, Arc::new(app), Clock::start()).expect("there is a password"))
}

fn basic(credentials: &str) -> String {
    format!("Basic {}", STANDARD.encode(credentials))
}

async fn ask(router: &Router, method: &Method, route: &str, authorization: Option<&str>) -> (StatusCode, String) {
    let path = route.replace("{name}", "nobody").replace("{*path}", "some/where");
    let mut request = Request::builder().method(method).uri(path);
    if let Some(authorization) = authorization {
        request = request.header(AUTHORIZATION, authorization);
    }
    let answer = router.clone().oneshot(request.body(Body::empty()).expect("a request")).await.expect("an answer");
    let status = answer.status();
    let body = to_bytes(answer.into_body(), 1 << 20).await.expect("a body");
    (status, String::from_utf8_lossy(&body).into_owned())
}

#[tokio::test]
async fn every_address_for_clients_of_openfaas_is_met_as_its_table_says() {
    let (_folder, gateway) = gateway().await;
    let router = router(gateway);
    let right = basic(&format!("admin:{PASSWORD}"));
    let wrong = [
        basic("admin:hunter3"),
        basic("admin:"),
        basic(&format!("root:{PASSWORD}")),
        format!("Bearer {PASSWORD}"),
        format!("Basic admin:{PASSWORD}"),
    ];
    for known in LINES {
        let methods = METHODS.iter().filter(|method| known.method == ANY || known.method == method.as_str());
        for method in methods {
            for authorization in std::iter::once(None).chain(wrong.iter().map(|text| Some(text.as_str()))) {
                let (status, said) = ask(&router, method, known.route, authorization).await;
                let refused = status == StatusCode::UNAUTHORIZED;
                assert_eq!(refused, known.needs == Needs::Password, "{known:?} {authorization:?}: {status} {said}");
            }
            let (status, said) = ask(&router, method, known.route, Some(&right)).await;
            let shut = [StatusCode::UNAUTHORIZED, StatusCode::FORBIDDEN, StatusCode::METHOD_NOT_ALLOWED];
            assert!(!shut.contains(&status), "{known:?}: {status} {said}");
            assert!(!said.contains("nothing at this address"), "{known:?} has no route: {said}");
        }
        // A method that is answered has its line too.
        for method in METHODS.iter().filter(|method| line(method, known.route).is_none()) {
            assert_eq!(ask(&router, method, known.route, None).await.0, StatusCode::UNAUTHORIZED, "{method} {known:?}");
            let (status, said) = ask(&router, method, known.route, Some(&right)).await;
            assert_eq!(status, StatusCode::METHOD_NOT_ALLOWED, "{method} {known:?}: {said}");
        }
    }
    assert_eq!(ask(&router, &Method::GET, "/nowhere", None).await.0, StatusCode::UNAUTHORIZED);
}

#[tokio::test]
async fn an_address_that_somebody_adds_and_forgets_is_refused_to_clients_of_openfaas() {
    let (_folder, gateway) = gateway().await;
    let router = guarded(answering().route("/system/forgotten", get(async || "the secret is 42")), gateway);
    let right = basic(&format!("admin:{PASSWORD}"));
    for (authorization, expected) in [(None, StatusCode::UNAUTHORIZED), (Some(&right), StatusCode::FORBIDDEN)] {
        let (status, said) = ask(&router, &Method::GET, "/system/forgotten", authorization.map(String::as_str)).await;
        assert_eq!(status, expected, "{said}");
        assert!(!said.contains("the secret"), "{said}");
    }
}
