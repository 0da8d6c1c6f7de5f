//! What each address needs: one line for each, and what has no line is refused. `docs/security.md` shows the same table, and a
//! test walks every address with every role.

use axum::http::Method;
use framewake_proto::access::Role;
use std::collections::HashMap;
use std::sync::LazyLock;

/// What a request is about, and so whose it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Of {
    /// Nobody's: how the scheduler is, pages without anything in them, descriptions. No token is asked for.
    Nobody,
    /// The job that the address names: of others' projects there is none.
    Job,
    /// The project that the address names.
    Project,
    /// The schedule that the address names.
    Schedule,
    /// The target of notifications that the address names.
    Target,
    /// What the body names, or a list: only of the caller's projects.
    Own,
    /// Everybody's who has a token: functions, prices, the calendar.
    Shared,
    /// The farm's: a token of one project does not do.
    Farm,
}

/// What a line of the table says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Rule {
    pub(crate) method: &'static str,
    pub(crate) route: &'static str,
    /// The least role; without one, no token is asked for.
    pub(crate) role: Option<Role>,
    pub(crate) of: Of,
    /// What is noted of it; empty: it changes nothing.
    pub(crate) action: &'static str,
    pub(crate) kind: Kind,
}

/// What is special about the answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    Plain,
    /// It may go on for hours, and ends with the token.
    Stream,
    /// It comes in great numbers: it is noted without being waited for.
    Bulk,
}

const fn open(method: &'static str, route: &'static str) -> Rule {
    Rule { method, route, role: None, of: Of::Nobody, action: "", kind: Kind::Plain }
}

const fn look(role: Role, route: &'static str, of: Of) -> Rule {
    Rule { method: "GET", route, role: Some(role), of, action: "", kind: Kind::Plain }
}

const fn stream(role: Role, route: &'static str, of: Of) -> Rule {
    Rule { kind: Kind::Stream, ..look(role, route, of) }
}

const fn change(role: Role, method: &'static str, route: &'static str, of: Of, action: &'static str) -> Rule {
    Rule { method, route, role: Some(role), of, action, kind: Kind::Plain }
}

const fn bulk(role: Role, method: &'static str, route: &'static str, of: Of, action: &'static str) -> Rule {
    Rule { kind: Kind::Bulk, ..change(role, method, route, of, action) }
}

use Of::{Farm, Job, Own, Project, Schedule, Shared, Target};
use Role::{Admin, Artist, Operator, Viewer};

/// Every address there is.
pub(crate) static RULES: &[Rule] = &[
    look(Viewer, "/v1/overview", Own),
    bulk(Artist, "POST", "/v1/jobs", Own, "job.submit"),
    look(Viewer, "/v1/jobs", Own),
    look(Viewer, "/v1/jobs/{id}", Job),
    change(Artist, "PATCH", "/v1/jobs/{id}", Job, "job.change"),
    look(Viewer, "/v1/jobs/{id}/spec", Job),
    change(Artist, "POST", "/v1/jobs/{id}/cancel", Job, "job.cancel"),
    change(Artist, "POST", "/v1/jobs/{id}/pause", Job, "job.pause"),
    change(Artist, "POST", "/v1/jobs/{id}/resume", Job, "job.resume"),
    change(Artist, "POST", "/v1/jobs/{id}/retry", Job, "job.retry"),
    change(Artist, "PUT", "/v1/jobs/{id}/budget", Job, "job.budget"),
    look(Viewer, "/v1/jobs/{id}/steps", Job),
    look(Viewer, "/v1/jobs/{id}/steps/{step}/map", Job),
    look(Viewer, "/v1/jobs/{id}/explain", Job),
    look(Viewer, "/v1/jobs/{id}/tasks", Job),
    look(Viewer, "/v1/jobs/{id}/outputs", Job),
    stream(Viewer, "/v1/jobs/{id}/outputs/{step}/{task}", Job),
    look(Viewer, "/v1/jobs/{id}/outputs/{step}/{task}/{picture}", Job),
    look(Viewer, "/v1/jobs/{id}/attempts", Job),
    stream(Viewer, "/v1/jobs/{id}/attempts/{attempt}/log", Job),
    look(Viewer, "/v1/jobs/{id}/cost", Job),
    stream(Viewer, "/v1/jobs/{id}/events", Job),
    stream(Viewer, "/v1/events", Own),
    look(Artist, "/v1/inputs/{digest}", Own),
    // Bytes under their own digest: a job that uses them is what is noted.
    change(Artist, "PATCH", "/v1/inputs/{digest}", Own, ""),
    change(Artist, "POST", "/v1/estimates", Own, ""),
    look(Viewer, "/v1/functions", Shared),
    change(Operator, "POST", "/v1/functions", Farm, "function.add"),
    look(Viewer, "/v1/functions/{name}", Shared),
    look(Viewer, "/v1/functions/{name}/scaling", Shared),
    look(Viewer, "/v1/workers", Own),
    look(Viewer, "/v1/workers/{id}/start", Shared),
    look(Viewer, "/v1/gpus", Shared),
    look(Viewer, "/v1/places", Own),
    change(Operator, "POST", "/v1/places/{name}/restore", Farm, "place.restore"),
    look(Viewer, "/v1/projects", Own),
    look(Viewer, "/v1/projects/{name}", Project),
    change(Operator, "PUT", "/v1/projects/{name}", Farm, "project.weigh"),
    look(Viewer, "/v1/budgets", Own),
    // Whoever spends does not say how much.
    change(Operator, "PUT", "/v1/budgets/{project}/{period}", Farm, "budget.put"),
    change(Operator, "DELETE", "/v1/budgets/{project}/{period}", Farm, "budget.remove"),
    look(Viewer, "/v1/costs", Own),
    look(Viewer, "/v1/prices", Shared),
    change(Operator, "POST", "/v1/prices", Farm, "price.add"),
    look(Viewer, "/v1/paid-by", Shared),
    change(Operator, "PUT", "/v1/paid-by/{what}", Farm, "price.pay-by"),
    look(Viewer, "/v1/schedules", Own),
    change(Operator, "POST", "/v1/schedules", Own, "schedule.add"),
    look(Viewer, "/v1/schedules/{name}", Schedule),
    change(Operator, "PUT", "/v1/schedules/{name}", Schedule, "schedule.put"),
    change(Operator, "DELETE", "/v1/schedules/{name}", Schedule, "schedule.remove"),
    change(Operator, "POST", "/v1/schedules/{name}/pause", Schedule, "schedule.pause"),
    change(Operator, "POST", "/v1/schedules/{name}/resume", Schedule, "schedule.resume"),
    change(Artist, "POST", "/v1/schedules/{name}/run", Schedule, "schedule.run"),
    look(Viewer, "/v1/schedules/{name}/runs", Schedule),
    look(Viewer, "/v1/schedules/{name}/next", Schedule),
    look(Viewer, "/v1/calendar", Shared),
    look(Operator, "/v1/notifications/targets", Own),
    change(Operator, "POST", "/v1/notifications/targets", Own, "target.add"),
    look(Operator, "/v1/notifications/targets/{name}", Target),
    change(Operator, "PUT", "/v1/notifications/targets/{name}", Target, "target.put"),
    change(Operator, "DELETE", "/v1/notifications/targets/{name}", Target, "target.remove"),
    change(Operator, "POST", "/v1/notifications/targets/{name}/test", Target, "target.test"),
    look(Operator, "/v1/notifications/dead", Farm),
    change(Operator, "POST", "/v1/notifications/dead/{id}/resend", Farm, "notification.resend"),
    look(Admin, "/v1/tokens", Own),
    change(Admin, "POST", "/v1/tokens", Own, "token.add"),
    change(Admin, "DELETE", "/v1/tokens/{id}", Own, "token.revoke"),
    look(Admin, "/v1/sessions", Own),
    change(Admin, "DELETE", "/v1/sessions/{id}", Own, "session.end"),
    look(Operator, "/v1/audit", Own),
    // These ask for the token themselves, or for none.
    open("GET", "/v1/session"),
    open("POST", "/v1/session"),
    open("DELETE", "/v1/session"),
    open("GET", "/v1/session/oidc"),
    open("GET", "/v1/session/oidc/callback"),
    open("GET", "/healthz"),
    // Without a token it says whether, and not why not.
    open("GET", "/readyz"),
    // It has the names of projects in it, and what they spend.
    look(Viewer, "/metrics", Farm),
    open("GET", "/v1/openapi.json"),
    open("GET", "/v1/job-schema.json"),
    open("GET", "/v1/function-schema.json"),
    open("GET", "/v1/schedule-schema.json"),
    // Pages have nothing in them: their scripts ask as who is logged in.
    open("GET", "/"),
    open("GET", "/jobs"),
    open("GET", "/jobs/{id}"),
    open("GET", "/submit"),
    open("GET", "/workers"),
    open("GET", "/functions"),
    open("GET", "/schedules"),
    open("GET", "/cost"),
    open("GET", "/events"),
    open("GET", "/settings"),
    open("GET", "/api"),
    open("GET", "/web/{name}"),
];

static BY_ROUTE: LazyLock<HashMap<&'static str, Vec<&'static Rule>>> = LazyLock::new(|| {
    let mut rules: HashMap<&str, Vec<&Rule>> = HashMap::new();
    for rule in RULES {
        rules.entry(rule.route).or_default().push(rule);
    }
    rules
});

/// The line of an address, `HEAD` being `GET` without its body; `None`: it is refused.
pub(crate) fn rule(method: &Method, route: &str) -> Option<&'static Rule> {
    let method = if method == Method::HEAD { "GET" } else { method.as_str() };
    rules_of(route).iter().copied().find(|rule| rule.method == method)
}

/// Of any method.
pub(crate) fn rules_of(route: &str) -> &'static [&'static Rule] {
    BY_ROUTE.get(route).map(Vec::as_slice).unwrap_or_default()
}

#[cfg(test)]
impl Of {
    fn in_words(self) -> &'static str {
        match self {
            Of::Nobody => "nobody's",
            Of::Job => "the job's project",
            Of::Project => "the project",
            Of::Schedule => "the schedule's project",
            Of::Target => "the target's project",
            Of::Own => "only its own project's",
            Of::Shared => "everybody's",
            Of::Farm => "refused: all projects",
        }
    }
}

/// The table as the documents have it.
#[cfg(test)]
pub(crate) fn table() -> String {
    let mut text = "| | Address | Needs | For a token of one project | Noted as |\n|---|---|---|---|---|\n".to_owned();
    for Rule { method, route, role, of, action, .. } in RULES {
        let needs = role.map_or("no token", Role::as_str);
        let noted = if action.is_empty() { String::new() } else { format!("`{action}`") };
        let row = format!("| {method} | `{route}` | {needs} | {} | {noted} |\n", of.in_words());
        text.push_str(&row);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_address_has_one_line_and_what_has_none_is_refused() {
        for one in RULES {
            let same = RULES.iter().filter(|other| (other.method, other.route) == (one.method, one.route));
            assert_eq!(same.count(), 1, "{} {}", one.method, one.route);
            assert_eq!(one.role.is_none(), one.of == Of::Nobody, "{} {}", one.method, one.route);
            assert!(one.action.is_empty() || one.method != "GET", "a look changes nothing: {}", one.route);
        }
        assert_eq!(rule(&Method::POST, "/v1/nothing"), None);
        assert_eq!(rule(&Method::DELETE, "/v1/jobs"), None);
        assert_eq!(rule(&Method::HEAD, "/v1/jobs"), rule(&Method::GET, "/v1/jobs"));
    }

    #[test]
    fn what_changes_something_needs_more_than_a_viewer_and_is_noted() {
        let unnoted = ["/v1/inputs/{digest}", "/v1/estimates", "/v1/session"];
        for rule in RULES.iter().filter(|rule| rule.method != "GET" && rule.of != Of::Nobody) {
            assert!(rule.role >= Some(Role::Artist), "{}", rule.route);
            assert!(!rule.action.is_empty() || unnoted.contains(&rule.route), "{}", rule.route);
        }
    }
}
