//! What a collector of traces is sent: OTLP's protobuf, read by our own description of it, as far as tests look at it.

use crate::receiver::Receiver;
use crate::wait::until;
use prost::Message;
use std::collections::BTreeMap;
use std::time::Duration;

/// Longest wait for spans.
const SPANS_WAIT: Duration = Duration::from_secs(30);

#[derive(Clone, PartialEq, Message)]
struct Request {
    #[prost(message, repeated, tag = "1")]
    resources: Vec<Resources>,
}

#[derive(Clone, PartialEq, Message)]
struct Resources {
    #[prost(message, optional, tag = "1")]
    resource: Option<Resource>,
    #[prost(message, repeated, tag = "2")]
    scopes: Vec<Scope>,
}

#[derive(Clone, PartialEq, Message)]
struct Resource {
    #[prost(message, repeated, tag = "1")]
    attributes: Vec<KeyValue>,
}

#[derive(Clone, PartialEq, Message)]
struct Scope {
    #[prost(message, repeated, tag = "2")]
    spans: Vec<Wire>,
}

#[derive(Clone, PartialEq, Message)]
struct Wire {
    #[prost(bytes, tag = "1")]
    trace: Vec<u8>,
    #[prost(bytes, tag = "2")]
    id: Vec<u8>,
    #[prost(bytes, tag = "4")]
    parent: Vec<u8>,
    #[prost(string, tag = "5")]
    name: String,
    #[prost(fixed64, tag = "7")]
    start: u64,
    #[prost(fixed64, tag = "8")]
    end: u64,
    #[prost(message, repeated, tag = "9")]
    attributes: Vec<KeyValue>,
    #[prost(message, optional, tag = "15")]
    status: Option<Status>,
}

#[derive(Clone, PartialEq, Message)]
struct Status {
    #[prost(string, tag = "2")]
    message: String,
    #[prost(int32, tag = "3")]
    code: i32,
}

#[derive(Clone, PartialEq, Message)]
struct KeyValue {
    #[prost(string, tag = "1")]
    key: String,
    #[prost(message, optional, tag = "2")]
    value: Option<AnyValue>,
}

#[derive(Clone, PartialEq, Message)]
struct AnyValue {
    #[prost(oneof = "Value", tags = "1, 2, 3, 4")]
    value: Option<Value>,
}

#[derive(Clone, PartialEq, prost::Oneof)]
enum Value {
    #[prost(string, tag = "1")]
    Text(String),
    #[prost(bool, tag = "2")]
    Bool(bool),
    #[prost(int64, tag = "3")]
    Int(i64),
    #[prost(double, tag = "4")]
    Float(f64),
}

/// A span, its ids in hexadecimal digits.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Span {
    pub service: String,
    pub trace: String,
    pub id: String,
    /// Empty for none.
    pub parent: String,
    pub name: String,
    pub start_ns: u64,
    pub end_ns: u64,
    pub attributes: BTreeMap<String, String>,
    /// What it says failed, if anything.
    pub failed: Option<String>,
}

impl Span {
    /// An attribute; empty for none.
    pub fn of(&self, key: &str) -> &str {
        self.attributes.get(&format!("framewake.{key}")).map_or("", String::as_str)
    }
}

fn texts(attributes: Vec<KeyValue>) -> BTreeMap<String, String> {
    let text = |attribute: KeyValue| {
        let value = match attribute.value.and_then(|any| any.value) {
            Some(Value::Text(text)) => text,
            Some(Value::Bool(value)) => value.to_string(),
            Some(Value::Int(value)) => value.to_string(),
            Some(Value::Float(value)) => value.to_string(),
            None => String::new(),
        };
        (attribute.key, value)
    };
    attributes.into_iter().map(text).collect()
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |text, byte| text + &format!("{byte:02x}"))
}

/// All spans that the collector was sent so far.
pub fn sent(collector: &Receiver) -> Vec<Span> {
    let mut spans = Vec::new();
    for got in collector.got() {
        assert_eq!(got.header("content-type"), "application/x-protobuf");
        let request = Request::decode(&*got.body).expect("a request of OTLP");
        for resources in request.resources {
            let mut resource = texts(resources.resource.unwrap_or_default().attributes);
            let service = resource.remove("service.name").expect("who made it");
            for span in resources.scopes.into_iter().flat_map(|scope| scope.spans) {
                spans.push(Span {
                    service: service.clone(),
                    trace: hex(&span.trace),
                    id: hex(&span.id),
                    parent: hex(&span.parent),
                    name: span.name,
                    start_ns: span.start,
                    end_ns: span.end,
                    attributes: texts(span.attributes),
                    failed: span.status.filter(|status| status.code == 2).map(|status| status.message),
                });
            }
        }
    }
    spans
}

/// The spans of a trace, once it has so many jobs that are over: a job's span comes last.
pub async fn trace_of(collector: &Receiver, trace: &str, jobs: usize) -> Vec<Span> {
    until(SPANS_WAIT, "the spans of a job are sent", || async {
        let mut spans = sent(collector);
        spans.retain(|span| span.trace == trace);
        (spans.iter().filter(|span| span.name == "job").count() == jobs).then_some(spans)
    })
    .await
}
