//! The functions of this farm, all versions: what job files are checked against.

use framewake_proto::function::FunctionSpec;
use framewake_proto::ids::{FunctionKey, FunctionRef, Name};
use framewake_proto::job::Known;
use std::collections::BTreeMap;
use std::sync::Arc;

#[derive(Debug, Clone, Default, PartialEq)]
pub struct FunctionTable {
    pub functions: BTreeMap<Name, BTreeMap<u32, Arc<FunctionSpec>>>,
}

impl FunctionTable {
    pub fn insert(&mut self, key: FunctionKey, spec: FunctionSpec) {
        self.functions.entry(key.name).or_default().insert(key.version, Arc::new(spec));
    }

    pub fn get(&self, key: &FunctionKey) -> Option<&Arc<FunctionSpec>> {
        self.functions.get(&key.name)?.get(&key.version)
    }

    pub fn newest(&self, name: &Name) -> Option<(u32, &Arc<FunctionSpec>)> {
        self.functions.get(name)?.last_key_value().map(|(version, spec)| (*version, spec))
    }

    /// The version that `wanted` means now.
    pub fn find(&self, wanted: &FunctionRef) -> Option<(u32, &Arc<FunctionSpec>)> {
        match wanted.version {
            None => self.newest(&wanted.name),
            Some(version) => self.functions.get(&wanted.name)?.get(&version).map(|spec| (version, spec)),
        }
    }

    pub fn iter(&self) -> impl Iterator<Item = (FunctionKey, &Arc<FunctionSpec>)> {
        self.functions.iter().flat_map(|(name, versions)| {
            versions.iter().map(|(version, spec)| (FunctionKey { name: name.clone(), version: *version }, spec))
        })
    }
}

/// For jobs that were accepted before: what was allowed then is not asked again.
#[derive(Debug)]
pub(crate) struct Accepted<'a>(pub(crate) &'a FunctionTable);

impl Known for Accepted<'_> {
    fn function(&self, wanted: &FunctionRef) -> Option<(u32, &FunctionSpec)> {
        self.0.find(wanted).map(|(version, spec)| (version, spec.as_ref()))
    }

    fn function_names(&self) -> Vec<&str> {
        self.0.functions.keys().map(Name::as_str).collect()
    }

    fn url_allowed(&self, _url: &str) -> Result<(), String> {
        Ok(())
    }

    fn may_notify(&self, _target: &Name, _project: &Name) -> Result<(), String> {
        Ok(())
    }

    fn was_accepted(&self) -> bool {
        true
    }
}
