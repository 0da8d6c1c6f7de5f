//! KEDA's side of the service, by a client of its own, against a real engine.

use super::messages::external_scaler_client::ExternalScalerClient;
use super::messages::{GetMetricsRequest, ScaledObjectRef};
use super::{listen, serve};
use crate::engine::{Engine, Handle, Health, Submission};
use crate::function_table::Accepted;
use crate::metrics::Metrics;
use crate::notify::{Allowed, Ways};
use crate::objects::{Address, Objects};
use crate::rest::{App, Certificate, UploadLimits, Uploads, UrlsAllowed};
use crate::store::Store;
use crate::store::read::Reader;
use framewake_core::values::Settings;
use framewake_proto::function::FunctionSpec;
use framewake_proto::ids::JobId;
use framewake_proto::job::JobSpec;
use hyper_util::rt::TokioIo;
use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};
use rustls::pki_types::CertificateDer;
use rustls::{ClientConfig, RootCertStore};
use serde_json::{Value, json};
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::watch;
use tokio_rustls::TlsConnector;
use tokio_util::sync::CancellationToken;
use tonic::transport::{Channel, Endpoint};
use tonic::{Code, Streaming};

/// Longest wait for anything.
const PATIENCE: Duration = Duration::from_secs(20);

struct Farm {
    handle: Handle,
    client: ExternalScalerClient<Channel>,
    stop: CancellationToken,
    _folder: tempfile::TempDir,
}

/// A scheduler that can start nobody.
async fn farm() -> Farm {
    let (folder, app) = app().await;
    let (handle, stop) = (app.handle.clone(), CancellationToken::new());
    let address = served(app, &stop).await;
    let channel = Channel::from_shared(format!("http://{address}")).expect("an address");
    let client = ExternalScalerClient::new(channel.connect().await.expect("it answers"));
    Farm { handle, client, stop, _folder: folder }
}

pub(crate) async fn app() -> (tempfile::TempDir, App) {
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
    let folder = tempfile::tempdir().expect("a temporary folder");
    let store = Store::open(folder.path()).await.expect("a new store");
    let (_, health) = watch::channel(Health::default());
    let metrics = Arc::new(Metrics::default());
    let (engine, handle, _commands) =
        Engine::load(store, Settings::default(), health, metrics.clone()).await.expect("an empty farm");
    tokio::spawn(engine.run());
    handle.add_function(paint(json!({}))).await.expect("a good function");
    let reader = Reader::open(&folder.path().join("framewake.db")).await.expect("the store's file");
    let objects = Objects::open(&Address::Folder(folder.path().join("objects"))).expect("a folder");
    let uploads = Uploads::open(folder.path().join("uploads"), UploadLimits::default()).expect("a folder");
    let ways = Ways::new("farm".parse().expect("a name"), Allowed::default(), None, None).expect("a client");
    let app = App::new(handle, reader, objects, uploads, metrics, UrlsAllowed::default(), Arc::new(ways));
    (folder, app)
}

async fn served(app: App, stop: &CancellationToken) -> SocketAddr {
    let address = "127.0.0.1:0".parse().expect("an address");
    let listener = listen(Some(address)).await.expect("a free port").expect("an address was given");
    let address = listener.local_addr().expect("it listens");
    tokio::spawn(serve(Some(listener), Arc::new(app), stop.clone()));
    address
}

fn paint(resources: Value) -> FunctionSpec {
    serde_json::from_value(json!({
        "name": "paint", "image": "registry.example/paint:1", "resources": resources, "scaling": { "max": 5 },
        "driver": { "kind": "command", "command": ["paint", "{output}"] },
    }))
    .expect("a function")
}

fn asked(function: &str) -> ScaledObjectRef {
    ScaledObjectRef {
        name: "paint".to_owned(),
        namespace: "render".to_owned(),
        scaler_metadata: [("function".to_owned(), function.to_owned())].into(),
    }
}

async fn submit(handle: &Handle, frames: &str) -> JobId {
    let spec: JobSpec = serde_json::from_value(json!({
        "name": "walls",
        "steps": [{ "name": "paint", "function": "paint", "frames": frames, "output": "{frame}.png" }],
    }))
    .expect("a job");
    let job = spec.check(&Accepted(&handle.functions())).expect("a good job");
    let id = JobId(ulid::Ulid::generate());
    handle
        .submit(Submission { id, by: String::new(), spec, job, idempotency: None, parent: None })
        .await
        .expect("taken");
    id
}

async fn value(client: &mut ExternalScalerClient<Channel>) -> (i64, f64) {
    let request =
        GetMetricsRequest { scaled_object_ref: Some(asked("paint")), metric_name: "framewake-paint-1".to_owned() };
    let values = client.get_metrics(request).await.expect("answered").into_inner().metric_values;
    assert_eq!(values.len(), 1);
    assert_eq!(values[0].metric_name, "framewake-paint-1");
    (values[0].metric_value, values[0].metric_value_float)
}

async fn next(stream: &mut Streaming<super::messages::IsActiveResponse>) -> Option<bool> {
    let next = tokio::time::timeout(PATIENCE, stream.message()).await.expect("it is pushed");
    next.expect("a message").map(|message| message.result)
}

#[tokio::test]
async fn keda_is_told_how_many_are_needed_and_when_that_begins_and_ends() {
    let mut farm = farm().await;
    let specs = farm.client.get_metric_spec(asked("paint@1")).await.expect("answered").into_inner().metric_specs;
    assert_eq!(
        (specs[0].metric_name.as_str(), specs[0].target_size, specs[0].target_size_float),
        ("framewake-paint-1", 1, 1.0)
    );
    assert_eq!(value(&mut farm.client).await, (0, 0.0));
    assert!(!farm.client.is_active(asked("paint")).await.expect("answered").into_inner().result);
    let mut pushed = farm.client.stream_is_active(asked("paint")).await.expect("answered").into_inner();
    assert_eq!(next(&mut pushed).await, Some(false), "how it is, at once");

    let few = submit(&farm.handle, "1-3").await;
    assert_eq!(next(&mut pushed).await, Some(true));
    assert_eq!(
        value(&mut farm.client).await,
        (3, 3.0),
        "exactly as many as there is work for, though none can be started here"
    );
    let many = submit(&farm.handle, "1-100").await;
    assert_eq!(value(&mut farm.client).await, (5, 5.0), "and at most as many as the function may have");
    for id in [few, many] {
        farm.handle.change_job(id, crate::engine::JobCommand::Cancel).await.expect("canceled");
    }
    assert_eq!(next(&mut pushed).await, Some(false));
    assert_eq!(value(&mut farm.client).await, (0, 0.0));
    farm.stop.cancel();
    assert_eq!(next(&mut pushed).await, None, "a scheduler that stops ends its streams");
}

#[tokio::test]
async fn keda_is_told_the_same_beside_pools_that_have_room() {
    let mut farm = farm().await;
    let local = json!({ "name": "local", "max": 2, "provider": { "kind": "local" } });
    farm.handle.set_pools(vec![serde_json::from_value(local).expect("a pool")]).await;
    let mut external = paint(json!({}));
    external.scaling.external = true;
    farm.handle.add_function(external).await.expect("no pool has to have room");
    let request = || GetMetricsRequest { scaled_object_ref: Some(asked("paint@2")), metric_name: String::new() };
    submit(&farm.handle, "1-100").await;
    let values = farm.client.get_metrics(request()).await.expect("answered").into_inner().metric_values;
    assert_eq!(values[0].metric_value, 5, "as many as the function may have");
    let scaling = farm.handle.explain_scaling("paint@2".parse().expect("a key")).await.expect("told");
    let scaling = scaling.expect("it is there");
    assert_eq!((scaling.starting, scaling.pools.len()), (0, 0));
    assert!(scaling.unfit[0].reason.contains("scaling.external"), "{:?}", scaling.unfit);
}

#[tokio::test]
async fn what_can_not_be_answered_is_refused_and_never_0() {
    let mut farm = farm().await;
    for (function, code, said) in
        [("pain", Code::NotFound, "`paint`"), ("paint@7", Code::NotFound, "paint@7"), ("", Code::NotFound, "")]
    {
        let request = GetMetricsRequest { scaled_object_ref: Some(asked(function)), metric_name: String::new() };
        let refused = farm.client.get_metrics(request).await.expect_err("refused");
        assert_eq!(refused.code(), code);
        assert!(refused.message().contains(said), "{}", refused.message());
        assert_eq!(farm.client.is_active(asked(function)).await.expect_err("refused").code(), code);
    }
    let nameless = ScaledObjectRef::default();
    assert_eq!(farm.client.stream_is_active(nameless).await.expect_err("refused").code(), Code::InvalidArgument);
}

/// An authority, and the certificate that its clients trust.
fn authority() -> (Issuer<'static, KeyPair>, CertificateDer<'static>) {
    let key = KeyPair::generate().expect("a key");
    let mut parameters = CertificateParams::new(Vec::new()).expect("no names");
    parameters.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let certificate = parameters.self_signed(&key).expect("its own signature").der().clone();
    (Issuer::new(parameters, key), certificate)
}

/// A certificate for this machine, and its key, in files.
fn issue(authority: &Issuer<'static, KeyPair>, chain: &Path, key: &Path) {
    let pair = KeyPair::generate().expect("a key");
    let certificate = CertificateParams::new(vec!["localhost".to_owned()]).expect("a name");
    let certificate = certificate.signed_by(&pair, authority).expect("signed");
    std::fs::write(key, pair.serialize_pem()).expect("writable");
    std::fs::write(chain, certificate.pem()).expect("writable");
}

/// A client that speaks TLS, as KEDA does: it trusts one authority, and wants to be told that HTTP/2 is spoken.
async fn by_tls(address: SocketAddr, trusted: &CertificateDer<'static>) -> Option<ExternalScalerClient<Channel>> {
    let mut roots = RootCertStore::empty();
    roots.add(trusted.clone()).expect("a certificate");
    let mut config = ClientConfig::builder().with_root_certificates(roots).with_no_client_auth();
    config.alpn_protocols = vec![b"h2".to_vec()];
    let connector = TlsConnector::from(Arc::new(config));
    let connect = tower::service_fn(move |_| {
        let connector = connector.clone();
        async move {
            let socket = TcpStream::connect(address).await?;
            let socket = connector.connect("localhost".try_into().expect("a name"), socket).await?;
            assert_eq!(socket.get_ref().1.alpn_protocol(), Some(&b"h2"[..]), "it is said what is spoken");
            Ok::<_, std::io::Error>(TokioIo::new(socket))
        }
    });
    let channel = Endpoint::from_static("http://localhost").connect_with_connector(connect).await;
    channel.ok().map(ExternalScalerClient::new)
}

#[tokio::test]
async fn with_a_certificate_keda_is_answered_by_tls_alone_and_a_renewed_one_is_taken() {
    let (folder, app) = app().await;
    let (chain, key) = (folder.path().join("tls.crt"), folder.path().join("tls.key"));
    let [(one, trusts_one), (two, trusts_two)] = [authority(), authority()];
    issue(&one, &chain, &key);
    let certificate = Arc::new(Certificate::open(chain.clone(), key.clone()).expect("a certificate"));
    let stop = CancellationToken::new();
    tokio::spawn(certificate.clone().keep(stop.clone()));
    let address = served(app.with_certificate(Some(certificate)), &stop).await;
    let mut client = by_tls(address, &trusts_one).await.expect("it speaks TLS");
    assert_eq!(value(&mut client).await, (0, 0.0));
    let mut pushed = client.stream_is_active(asked("paint")).await.expect("answered").into_inner();
    assert_eq!(next(&mut pushed).await, Some(false));
    assert!(by_tls(address, &trusts_two).await.is_none(), "of another authority");
    // In the clear it is refused, and said why.
    let plain = Channel::from_shared(format!("http://{address}")).expect("an address").connect().await;
    if let Ok(plain) = plain {
        ExternalScalerClient::new(plain).is_active(asked("paint")).await.expect_err("refused");
    }
    let mut socket = TcpStream::connect(address).await.expect("it listens");
    socket.write_all(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n").await.expect("sent");
    let mut said = String::new();
    tokio::time::timeout(PATIENCE, socket.read_to_string(&mut said)).await.expect("it ends").expect("an answer");
    assert!(said.contains("this address speaks TLS") && said.contains("enableTLS"), "{said}");
    // Who is connected stays so; who comes is shown the new one.
    issue(&two, &chain, &key);
    let renewed = tokio::time::timeout(PATIENCE, async {
        let mut tick = tokio::time::interval(Duration::from_millis(100));
        loop {
            tick.tick().await;
            if let Some(client) = by_tls(address, &trusts_two).await {
                return client;
            }
        }
    });
    assert_eq!(value(&mut renewed.await.expect("the new one is taken")).await, (0, 0.0));
    assert!(by_tls(address, &trusts_one).await.is_none());
    assert_eq!(value(&mut client).await, (0, 0.0));
    stop.cancel();
    assert_eq!(next(&mut pushed).await, None, "a scheduler that stops ends its streams");
}
