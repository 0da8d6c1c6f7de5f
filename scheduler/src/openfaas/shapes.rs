//! What these clients send and read, field by field. They leave out what is empty or 0, and so do the answers.

use framewake_proto::time::Timestamp;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// A function as `POST` and `PUT /system/functions` bring it. Fields that are not known here are left alone: clients add
/// some.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(super) struct FunctionDeployment {
    pub(super) service: String,
    pub(super) image: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub(super) namespace: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub(super) env_process: String,
    #[serde(deserialize_with = "or_null", skip_serializing_if = "BTreeMap::is_empty")]
    pub(super) env_vars: BTreeMap<String, String>,
    #[serde(deserialize_with = "or_null", skip_serializing_if = "Vec::is_empty")]
    pub(super) constraints: Vec<String>,
    #[serde(deserialize_with = "or_null", skip_serializing_if = "Vec::is_empty")]
    pub(super) secrets: Vec<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) labels: Option<BTreeMap<String, String>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) annotations: Option<BTreeMap<String, String>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) limits: Option<FunctionResources>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) requests: Option<FunctionResources>,
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub(super) read_only_root_filesystem: bool,
}

impl FunctionDeployment {
    pub(super) fn label(&self, name: &str) -> Option<&str> {
        self.labels.as_ref()?.get(name).map(String::as_str)
    }

    pub(super) fn annotation(&self, name: &str) -> Option<&str> {
        self.annotations.as_ref()?.get(name).map(String::as_str)
    }
}

/// Go writes an empty list or map as `null`.
fn or_null<'de, T: Default + Deserialize<'de>, D: serde::Deserializer<'de>>(deserializer: D) -> Result<T, D::Error> {
    Ok(Option::deserialize(deserializer)?.unwrap_or_default())
}

#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub(super) struct FunctionResources {
    #[serde(skip_serializing_if = "String::is_empty")]
    pub(super) memory: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub(super) cpu: String,
    #[serde(rename = "nvidia.com/gpu", skip_serializing_if = "String::is_empty")]
    pub(super) nvidia_gpu: String,
    #[serde(rename = "amd.com/gpu", skip_serializing_if = "String::is_empty")]
    pub(super) amd_gpu: String,
    #[serde(rename = "intel.com/gpu", skip_serializing_if = "String::is_empty")]
    pub(super) intel_gpu: String,
}

/// A function as `GET /system/functions` shows it.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct FunctionStatus {
    pub(super) name: String,
    pub(super) image: String,
    pub(super) namespace: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub(super) env_process: String,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub(super) env_vars: BTreeMap<String, String>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(super) constraints: Vec<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) labels: Option<BTreeMap<String, String>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) annotations: Option<BTreeMap<String, String>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) limits: Option<FunctionResources>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) requests: Option<FunctionResources>,
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub(super) read_only_root_filesystem: bool,
    #[serde(skip_serializing_if = "is_zero")]
    pub(super) invocation_count: u64,
    #[serde(skip_serializing_if = "is_zero")]
    pub(super) replicas: u64,
    #[serde(skip_serializing_if = "is_zero")]
    pub(super) available_replicas: u64,
    pub(super) created_at: Timestamp,
}

#[allow(clippy::trivially_copy_pass_by_ref)] // As serde calls it.
fn is_zero(number: &u64) -> bool {
    *number == 0
}

/// The body of `POST /system/scale-function/NAME`.
#[derive(Debug, Clone, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(super) struct ScaleServiceRequest {
    pub(super) service_name: String,
    pub(super) replicas: u64,
    pub(super) namespace: String,
}

/// The body of `DELETE /system/functions`.
#[derive(Debug, Clone, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(super) struct DeleteFunctionRequest {
    pub(super) function_name: String,
    pub(super) namespace: String,
}

/// A line of `/system/logs`.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub(super) struct Message<'a> {
    pub(super) name: &'a str,
    pub(super) namespace: &'a str,
    pub(super) instance: &'a str,
    pub(super) timestamp: Timestamp,
    pub(super) text: &'a str,
}
