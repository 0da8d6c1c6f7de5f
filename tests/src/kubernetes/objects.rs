//! What an API server keeps: objects with versions, and what changed when.

use framewake_proto::time::Timestamp;
use serde_json::{Value, json};
use std::collections::{BTreeMap, VecDeque};

/// Changes that are kept for watches; who comes later is told that it is too late.
const CHANGES_MAX: usize = 10_000;

/// Resource with its group (`jobs.batch`), namespace and name.
pub type Key = (String, String, String);

/// A refusal as the API server words it.
#[derive(Debug, Clone)]
pub struct Refusal {
    pub code: u16,
    pub reason: &'static str,
    pub message: String,
}

impl Refusal {
    pub fn new(code: u16, reason: &'static str, message: impl Into<String>) -> Refusal {
        Refusal { code, reason, message: message.into() }
    }

    pub(super) fn body(&self) -> Value {
        let Refusal { code, reason, message } = self;
        json!({
            "kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure",
            "message": message, "reason": reason, "code": code,
        })
    }
}

#[derive(Debug, Clone)]
pub(super) struct Change {
    pub version: u64,
    /// `ADDED`, `MODIFIED` or `DELETED`.
    pub kind: &'static str,
    pub key: Key,
    pub object: Value,
}

#[derive(Debug, Default)]
pub(crate) struct Objects {
    version: u64,
    all: BTreeMap<Key, Value>,
    changes: VecDeque<Change>,
    /// Changes up to this version are not known any more.
    forgotten: u64,
}

impl Objects {
    pub(crate) fn version(&self) -> u64 {
        self.version
    }

    pub(crate) fn forgotten(&self) -> u64 {
        self.forgotten
    }

    /// As after a compaction of etcd.
    pub(crate) fn forget_changes(&mut self) {
        self.changes.clear();
        self.forgotten = self.version;
    }

    pub(crate) fn get(&self, key: &Key) -> Option<&Value> {
        self.all.get(key)
    }

    pub(crate) fn create(&mut self, resource: &str, namespace: &str, mut object: Value) -> Result<Value, Refusal> {
        let name = object["metadata"]["name"].as_str().unwrap_or_default().to_owned();
        let key = (resource.to_owned(), namespace.to_owned(), name.clone());
        if self.all.contains_key(&key) {
            return Err(Refusal::new(409, "AlreadyExists", format!("{resource} \"{name}\" already exists")));
        }
        object["metadata"]["namespace"] = json!(namespace);
        object["metadata"]["uid"] = json!(format!("uid-{}", self.version + 1));
        object["metadata"]["creationTimestamp"] = json!(Timestamp::now());
        Ok(self.put("ADDED", key, object))
    }

    /// Replaces an object, if nobody did since it was read.
    pub(crate) fn replace(&mut self, key: &Key, object: Value) -> Result<Value, Refusal> {
        let Some(old) = self.all.get(key) else { return Err(not_found(key)) };
        let read = &object["metadata"]["resourceVersion"];
        if !read.is_null() && *read != old["metadata"]["resourceVersion"] {
            let why = format!("Operation cannot be fulfilled on {} \"{}\": the object has been modified", key.0, key.2);
            return Err(Refusal::new(409, "Conflict", why));
        }
        let mut object = object;
        for kept in ["uid", "creationTimestamp", "namespace"] {
            object["metadata"][kept] = old["metadata"][kept].clone();
        }
        Ok(self.put("MODIFIED", key.clone(), object))
    }

    /// Changes an object in place, as controllers do; whether it is there.
    pub(crate) fn modify(&mut self, key: &Key, change: impl FnOnce(&mut Value)) -> bool {
        let Some(mut object) = self.all.get(key).cloned() else { return false };
        change(&mut object);
        if self.all.get(key) != Some(&object) {
            self.put("MODIFIED", key.clone(), object);
        }
        true
    }

    pub(crate) fn delete(&mut self, key: &Key) -> Result<Value, Refusal> {
        let Some(object) = self.all.get(key).cloned() else { return Err(not_found(key)) };
        let object = self.put("DELETED", key.clone(), object);
        self.all.remove(key);
        Ok(object)
    }

    /// Those of a resource with these labels and fields; in any namespace, if none is named.
    pub(crate) fn list(&self, resource: &str, namespace: &str, labels: &str, fields: &str) -> Vec<Value> {
        let of = |key: &Key| key.0 == resource && (namespace.is_empty() || key.1 == namespace);
        let all =
            self.all.iter().filter(|(key, object)| of(key) && selected(object, labels) && has_fields(object, fields));
        all.map(|(_, object)| object.clone()).collect()
    }

    pub(super) fn since(&self, version: u64) -> Vec<Change> {
        self.changes.iter().filter(|change| change.version > version).cloned().collect()
    }

    fn put(&mut self, kind: &'static str, key: Key, mut object: Value) -> Value {
        self.version += 1;
        object["metadata"]["resourceVersion"] = json!(self.version.to_string());
        self.all.insert(key.clone(), object.clone());
        self.changes.push_back(Change { version: self.version, kind, key, object: object.clone() });
        if self.changes.len() > CHANGES_MAX {
            self.forgotten = self.changes.pop_front().map_or(0, |change| change.version);
        }
        object
    }
}

/// `a=b,c=d`.
pub(super) fn selected(object: &Value, labels: &str) -> bool {
    let wanted = labels.split(',').filter_map(|pair| pair.split_once('='));
    wanted.into_iter().all(|(key, value)| object["metadata"]["labels"][key] == value)
}

/// `type=Warning,reason=Pulled`: fields at the top, as events have them.
fn has_fields(object: &Value, fields: &str) -> bool {
    fields.split(',').filter_map(|pair| pair.split_once('=')).all(|(key, value)| object[key] == value)
}

fn not_found(key: &Key) -> Refusal {
    Refusal::new(404, "NotFound", format!("{} \"{}\" not found", key.0, key.2))
}
