//! What was changed, by whom, and what it was before.

use super::door::{Names, named};
use super::openapi::Problems;
use super::problem::Answer;
use super::query::Query;
use super::shares::peer_of;
use super::{App, RequestId};
use crate::access::rules::{Kind, Of, Rule};
use crate::access::{Caller, note};
use crate::store::{AccessWrite, AuditRow, Share};
use axum::Json;
use axum::body::Body;
use axum::extract::State;
use axum::http::header::LOCATION;
use axum::http::request::Parts;
use axum::response::Response;
use framewake_proto::access::{AuditView, Role};
use framewake_proto::api::{Page, TaskState};
use framewake_proto::ids::{JobId, Name};
use framewake_proto::time::Timestamp;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::sync::Arc;

/// Most bytes that are noted of what was before, and of what is after.
const NOTED_MAX: usize = 2048;
/// Largest answer to a change that is read for what is after: a job of many steps, a function with its bounds.
const ANSWER_MAX: usize = 4 * 1024 * 1024;
/// Most failed frames that are named.
const FAILED_MAX: u32 = 200;
/// Most bytes of an address that are noted.
const SUBJECT_MAX: usize = 300;

/// An answer says of what project the change was, where the address doesn't.
#[derive(Debug, Clone)]
pub(super) struct OfProject(pub(super) Name);

/// What is noted of an answer instead of its body: for bodies with secrets.
#[derive(Debug, Clone)]
pub(super) struct NotedAs(pub(super) Value);

/// A change that is under way.
pub(super) struct Noting {
    rule: &'static Rule,
    row: AuditRow,
    names: Names,
}

impl Noting {
    /// Looks at what is there before.
    pub(super) async fn begin(app: &App, rule: &'static Rule, caller: &Caller, parts: &Parts, names: &Names) -> Noting {
        let request = parts.extensions.get::<RequestId>().map_or(String::new(), |RequestId(id)| id.clone());
        let (before, project) = look(app, rule, names).await;
        let row = AuditRow {
            share: share(rule),
            who: caller.name.clone(),
            token: caller.token().map_or(String::new(), |id| id.to_string()),
            peer: peer_of(&parts.extensions).to_string(),
            action: rule.action,
            subject: cut(parts.uri.path(), SUBJECT_MAX),
            project: project.or_else(|| caller.project.clone()),
            before: before.map_or(String::new(), |value| cut(&value.to_string(), NOTED_MAX)),
            request,
            ..AuditRow::default()
        };
        Noting { rule, row, names: names.clone() }
    }

    /// Does what was asked, and notes it if it was done: in the transaction of the change, wherever a change is the engine's.
    pub(super) async fn follow(mut self, app: &Arc<App>, request: impl Future<Output = Response>) -> Response {
        let (response, left) = note::carry(self.row.clone(), request).await;
        let noted = self.row.noted.is_set();
        // Whoever took it found nothing to change: what was there before is answered, as to who repeats a submission.
        let unchanged = left.is_none() && !noted;
        // What is told of a submission is told with it.
        if !response.status().is_success() || unchanged || (noted && self.rule.kind == Kind::Bulk) {
            return response;
        }
        self.row.at = Timestamp::now();
        if let Some(row) = left {
            self.row.before = row.before;
        }
        let (mut parts, body) = response.into_parts();
        if let Some(OfProject(project)) = parts.extensions.remove() {
            self.row.project = Some(project);
        }
        let made = parts.headers.get(LOCATION).and_then(|at| at.to_str().ok()).map(|at| cut(at, SUBJECT_MAX));
        if let Some(at) = &made {
            self.row.subject.clone_from(at);
        }
        let noted_as = parts.extensions.remove::<NotedAs>();
        let (after, body) = match (self.rule.of, noted_as) {
            (_, Some(NotedAs(value))) => (value.to_string(), body),
            (Of::Job, None) => {
                let (after, _) = look(app, self.rule, &self.names).await;
                (after.map_or(String::new(), |value| value.to_string()), body)
            }
            (_, None) => match axum::body::to_bytes(body, ANSWER_MAX).await {
                Ok(bytes) => (String::from_utf8_lossy(&bytes).into_owned(), Body::from(bytes)),
                // Answers to changes are made whole, and are small.
                Err(_) => (String::new(), Body::empty()),
            },
        };
        self.row.after = cut(&after, NOTED_MAX);
        let AuditRow { request, who, token, action, project, after, .. } = &self.row;
        let writes = vec![if noted {
            AccessWrite::Told {
                request: request.clone(),
                who: who.clone(),
                token: token.clone(),
                action,
                subject: made,
                project: project.clone(),
                after: after.clone(),
            }
        } else {
            AccessWrite::Changed(Box::new(self.row))
        }];
        if self.rule.kind == Kind::Bulk {
            app.handle.tell_access(writes).await;
        } else {
            let _ = app.handle.write_access(writes).await;
        }
        Response::from_parts(parts, body)
    }
}

/// By the role that it takes. An operator of one project shares with those of the farm, and so does a gateway.
fn share(rule: &Rule) -> Share {
    match (rule.kind, rule.role) {
        (Kind::Bulk, _) => Share::Submissions,
        (Kind::Plain | Kind::Stream, Some(Role::Admin)) => Share::Admins,
        (Kind::Plain | Kind::Stream, Some(Role::Operator)) => Share::Operators,
        (Kind::Plain | Kind::Stream, Some(Role::Artist | Role::Viewer) | None) => Share::Artists,
    }
}

/// Notes what was there before a change that only its body tells of.
pub(super) fn note_before(before: &Value) {
    note::set_before(cut(&before.to_string(), NOTED_MAX));
}

/// What an address names, shortly, and its project.
async fn look(app: &App, rule: &Rule, names: &Names) -> (Option<Value>, Option<Name>) {
    let name = || named(names, "name").parse::<Name>().ok();
    match rule.of {
        Of::Job => {
            let Ok(id) = named(names, "id").parse::<JobId>() else { return (None, None) };
            let Ok(Some(job)) = app.reader.job(id).await else { return (None, None) };
            let mut shown = json!({"name": job.name, "state": job.state, "priority": job.priority});
            match rule.action {
                "job.budget" => {
                    let spec = app.reader.job_spec(id).await.ok().flatten();
                    shown["budget"] = json!(spec.and_then(|spec| spec.budget));
                }
                "job.retry" => shown["failed"] = json!(failed(app, id).await),
                _ => {}
            }
            (Some(shown), Some(job.project))
        }
        Of::Schedule => {
            let Some(name) = name() else { return (None, None) };
            let Ok(Some(view)) = app.handle.schedule(name).await else { return (None, None) };
            (serde_json::to_value(json!({"state": view.state, "spec": view.spec})).ok(), Some(view.spec.job.project))
        }
        Of::Target => {
            let Some(target) = name().and_then(|name| app.handle.targets().get(&name).cloned()) else {
                return (None, None);
            };
            let spec = &target.spec;
            let shown = json!({"name": spec.name, "way": spec.way.as_str(), "on": spec.on, "project": spec.project});
            (Some(shown), spec.project.clone())
        }
        Of::Farm | Of::Project => look_at_farm(app, names).await,
        Of::Nobody | Of::Own | Of::Shared => (None, None),
    }
}

/// Frames of each step that failed, as far as they are few.
async fn failed(app: &App, id: JobId) -> Option<BTreeMap<Name, String>> {
    let key = app.reader.job_key(id).await.ok().flatten()?;
    let tasks = app.reader.tasks(&key, None, Some(TaskState::Failed), (0, 0), FAILED_MAX).await.ok()?;
    let mut frames: BTreeMap<Name, Vec<(i64, i64)>> = BTreeMap::new();
    for task in tasks.items {
        let runs = frames.entry(task.step).or_default();
        match runs.last_mut() {
            Some((_, last)) if *last + 1 == task.frame => *last = task.frame,
            _ => runs.push((task.frame, task.frame)),
        }
    }
    let more = if tasks.next.is_some() { "…" } else { "" };
    let run = |(first, last): (i64, i64)| if first == last { first.to_string() } else { format!("{first}-{last}") };
    let text = |runs: Vec<(i64, i64)>| runs.into_iter().map(run).collect::<Vec<_>>().join(",") + more;
    Some(frames.into_iter().map(|(step, runs)| (step, text(runs))).collect())
}

/// Shares and budgets; the rest of the farm says in its answers what is after.
async fn look_at_farm(app: &App, names: &Names) -> (Option<Value>, Option<Name>) {
    if let Ok(project) = named(names, "project").parse::<Name>() {
        let Ok(mut budgets) = app.handle.budgets().await else { return (None, Some(project)) };
        budgets.retain(|budget| budget.project == project && budget.period.to_string() == named(names, "period"));
        return (budgets.first().and_then(|budget| serde_json::to_value(budget).ok()), Some(project));
    }
    match named(names, "name").parse::<Name>() {
        Ok(name) => {
            let weight = app.reader.project_weight(name.as_str()).await.ok().flatten();
            (weight.map(|weight| json!({"weight": weight})), None)
        }
        Err(_) => (None, None),
    }
}

fn cut(text: &str, bytes_max: usize) -> String {
    if text.len() <= bytes_max {
        return text.to_owned();
    }
    format!("{}…", &text[..text.floor_char_boundary(bytes_max)])
}

/// List what was changed, by whom, newest first
///
/// Of each change what was there before and after, as far as it is short. The oldest are forgotten.
#[utoipa::path(get, path = "/v1/audit", tag = "access",
    params(
        ("who" = Option<String>, Query, description = "Only by this name"),
        ("action" = Option<String>, Query, description = "Only actions that begin so: `job.`, `token.add`"),
        ("cursor" = Option<String>, Query, description = "`next` of the page before"),
        ("limit" = Option<u32>, Query, description = "1 to 1000, else 100"),
    ),
    responses((status = 200, body = Page<AuditView>), Problems))]
pub(super) async fn list(State(app): State<Arc<App>>, caller: Caller, query: Query) -> Answer<Json<Page<AuditView>>> {
    let query = query.only(&["who", "action", "cursor", "limit"])?;
    let before = query.cursor(|text| text.parse::<i64>().ok())?;
    let (who, action, limit) = (query.one("who")?, query.one("action")?, query.limit()?);
    Ok(Json(app.reader.audit(caller.only(), who, action, before, limit).await?))
}
