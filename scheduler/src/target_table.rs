//! Who may be told: every target there is, and which of them a notice goes to.

use framewake_proto::ids::{Name, nearest};
use framewake_proto::notify::{Notice, NotifySpec, TargetSpec};
use std::collections::BTreeMap;
use std::sync::Arc;
use tokio::sync::Notify;

/// A target's number in the store: it stays when the target is changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TargetId(pub i64);

#[derive(Debug, Clone)]
pub struct Target {
    pub(crate) id: TargetId,
    pub(crate) spec: Arc<TargetSpec>,
    /// Something new waits for it.
    pub(crate) wake: Arc<Notify>,
}

#[derive(Debug, Clone, Default)]
pub struct TargetTable {
    by_name: BTreeMap<Name, Target>,
}

impl TargetTable {
    pub(crate) fn get(&self, name: &Name) -> Option<&Target> {
        self.by_name.get(name)
    }

    pub(crate) fn of(&self, id: TargetId) -> Option<&Target> {
        self.iter().find(|target| target.id == id)
    }

    /// By name.
    pub(crate) fn iter(&self) -> impl Iterator<Item = &Target> {
        self.by_name.values()
    }

    pub(crate) fn len(&self) -> usize {
        self.by_name.len()
    }

    pub(crate) fn insert(&mut self, id: TargetId, spec: Arc<TargetSpec>) {
        let wake = self.get(&spec.name).map(|known| known.wake.clone()).unwrap_or_default();
        self.by_name.insert(spec.name.clone(), Target { id, spec, wake });
    }

    pub(crate) fn remove(&mut self, name: &Name) -> Option<Target> {
        self.by_name.remove(name)
    }

    /// Those who are told of a notice: by what they want to hear themselves, and by what its job asks for. Each once.
    pub(crate) fn receivers<'a>(
        &'a self,
        notice: &'a Notice,
        asked: &'a [NotifySpec],
    ) -> impl Iterator<Item = &'a Target> {
        let (occasion, project) = (notice.occasion(), notice.project());
        self.iter().filter(move |Target { spec, .. }| {
            let wants = occasion.is_some_and(|occasion| spec.on.contains(&occasion));
            let named = || {
                let asks =
                    |asked: &NotifySpec| asked.target == spec.name && occasion.is_some_and(|it| asked.on.contains(&it));
                asked.iter().any(asks)
            };
            spec.project.as_ref().is_none_or(|own| Some(own) == project) && (wants || named())
        })
    }

    /// Whether jobs of `project` may name the target.
    pub(crate) fn may_notify(&self, name: &Name, project: &Name) -> Result<(), String> {
        let Some(target) = self.get(name) else {
            let known = self.by_name.keys().map(Name::as_str);
            let hint = nearest(name.as_str(), known).map_or(String::new(), |near| format!("; did you mean `{near}`?"));
            return Err(format!("there is no target `{name}`{hint}: `framewake notify list` has them"));
        };
        match &target.spec.project {
            Some(own) if own != project => Err(format!("target `{name}` is only for jobs of project `{own}`")),
            Some(_) | None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use framewake_proto::notify::Occasion;
    use framewake_proto::time::Timestamp;
    use serde_json::json;

    fn name(text: &str) -> Name {
        text.parse().expect("a name")
    }

    fn missed(project: &str) -> Notice {
        Notice::Missed { schedule: name("nightly"), project: name(project), due: Timestamp(0), reason: String::new() }
    }

    fn table(targets: &[serde_json::Value]) -> TargetTable {
        let mut table = TargetTable::default();
        for (id, target) in (1..).zip(targets) {
            table.insert(TargetId(id), Arc::new(serde_json::from_value(target.clone()).expect("a target")));
        }
        table
    }

    #[test]
    fn a_notice_goes_to_those_who_want_it_and_to_those_its_job_names_once_each() {
        let nats = json!({ "kind": "nats" });
        let table = table(&[
            json!({ "name": "all", "on": ["missed", "failed"], "way": nats }),
            json!({ "name": "film", "on": ["missed"], "project": "film", "way": nats }),
            json!({ "name": "silent", "way": nats }),
        ]);
        let told = |notice: &Notice, asked: &[NotifySpec]| {
            table.receivers(notice, asked).map(|target| target.spec.name.to_string()).collect::<Vec<_>>()
        };
        assert_eq!(told(&missed("film"), &[]), ["all", "film"]);
        assert_eq!(told(&missed("other"), &[]), ["all"]);
        let ask = |target: &str, on| NotifySpec { target: name(target), on: [on].into() };
        let asked = [ask("silent", Occasion::Missed), ask("all", Occasion::Missed), ask("film", Occasion::Missed)];
        assert_eq!(told(&missed("other"), &asked), ["all", "silent"], "not another project's");
        assert_eq!(told(&missed("other"), &[ask("silent", Occasion::Late)]), ["all"]);
        assert!(told(&Notice::Test { target: name("all") }, &[]).is_empty());
    }

    #[test]
    fn jobs_name_targets_of_their_project_or_of_all() {
        let nats = json!({ "kind": "nats" });
        let table =
            table(&[json!({ "name": "ops", "way": nats }), json!({ "name": "film", "project": "film", "way": nats })]);
        assert_eq!(table.may_notify(&name("ops"), &name("any")), Ok(()));
        assert_eq!(table.may_notify(&name("film"), &name("film")), Ok(()));
        assert!(table.may_notify(&name("film"), &name("other")).expect_err("refused").contains("project `film`"));
        assert!(table.may_notify(&name("opps"), &name("any")).expect_err("refused").contains("did you mean `ops`"));
    }
}
