//! What each address of these clients needs: one line for each, and what has no line is refused. `docs/security.md` shows the same
//! table, and a test asks every address with the password and without.

use axum::http::Method;

/// What opens an address.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Needs {
    Password,
    /// Probes have none.
    Nothing,
}

/// What is noted of a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Noted {
    /// It changes nothing.
    Nothing,
    As(&'static str),
    /// It comes in great numbers.
    InBulkAs(&'static str),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Line {
    /// [`ANY`], or one.
    pub(super) method: &'static str,
    pub(super) route: &'static str,
    pub(super) needs: Needs,
    pub(super) noted: Noted,
}

/// Every method.
pub(super) const ANY: &str = "any";

const fn look(method: &'static str, route: &'static str) -> Line {
    Line { method, route, needs: Needs::Password, noted: Noted::Nothing }
}

const fn change(method: &'static str, route: &'static str, action: &'static str) -> Line {
    Line { method, route, needs: Needs::Password, noted: Noted::As(action) }
}

const fn call(method: &'static str, route: &'static str) -> Line {
    Line { method, route, needs: Needs::Password, noted: Noted::InBulkAs("job.submit") }
}

/// Every address there is.
pub(super) static LINES: &[Line] = &[
    Line { method: "GET", route: "/healthz", needs: Needs::Nothing, noted: Noted::Nothing },
    look("GET", "/system/functions"),
    change("POST", "/system/functions", "deployment.put"),
    change("PUT", "/system/functions", "deployment.put"),
    change("DELETE", "/system/functions", "deployment.remove"),
    look("GET", "/system/function/{name}"),
    change("POST", "/system/scale-function/{name}", "deployment.scale"),
    look("GET", "/system/logs"),
    look("GET", "/system/info"),
    look("GET", "/system/namespaces"),
    // These two say that there are none.
    look(ANY, "/system/namespace/{name}"),
    look(ANY, "/system/secrets"),
    call("POST", "/async-function/{name}"),
    call("POST", "/async-function/{name}/{*path}"),
    call(ANY, "/function/{name}"),
    call(ANY, "/function/{name}/"),
    call(ANY, "/function/{name}/{*path}"),
];

/// The line of an address, `HEAD` being `GET` without its body.
pub(super) fn line(method: &Method, route: &str) -> Option<&'static Line> {
    let method = if method == Method::HEAD { "GET" } else { method.as_str() };
    LINES.iter().find(|line| line.route == route && (line.method == ANY || line.method == method))
}

/// Whether an address has a line, of whatever method.
pub(super) fn is_known(route: &str) -> bool {
    LINES.iter().any(|line| line.route == route)
}

/// The table as the documents have it.
#[cfg(test)]
pub(crate) fn table() -> String {
    let mut text = "| | Address | Needs | Noted as |\n|---|---|---|---|\n".to_owned();
    for Line { method, route, needs, noted } in LINES {
        let needs = match needs {
            Needs::Password => "the password",
            Needs::Nothing => "nothing",
        };
        let noted = match noted {
            Noted::Nothing => String::new(),
            Noted::As(action) | Noted::InBulkAs(action) => format!("`{action}`"),
        };
        let row = format!("| {method} | `{route}` | {needs} | {noted} |\n");
        text.push_str(&row);
    }
    text
}
