//! How a command ends: its exit code, and an error's words for people and for programs.

use crate::printer::{Printer, Style};
use crate::text;
use framewake_proto::client;
use framewake_proto::job::Fault;
use std::io;
use std::process::ExitCode;

const BAD_INPUT: u8 = 2;
/// `EX_UNAVAILABLE` of sysexits.h.
const UNAVAILABLE: u8 = 69;
/// What a shell says of a program that SIGPIPE ended.
const PIPE_CLOSED: u8 = 141;

/// How a command ended that could do its work.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Outcome {
    Done,
    /// A job that failed, outputs that are missing, a check that found a fault.
    Failed,
    Canceled,
    Interrupted,
}

impl From<Outcome> for ExitCode {
    fn from(outcome: Outcome) -> ExitCode {
        ExitCode::from(match outcome {
            Outcome::Done => 0,
            Outcome::Failed => 1,
            Outcome::Canceled => 3,
            Outcome::Interrupted => 130,
        })
    }
}

/// The user's own words or files are wrong.
#[derive(Debug, thiserror::Error)]
#[error("{message}")]
pub(crate) struct BadInput {
    pub(crate) message: String,
    pub(crate) faults: Vec<Fault>,
    pub(crate) hint: Option<String>,
}

impl BadInput {
    pub(crate) fn new(message: impl Into<String>) -> BadInput {
        BadInput { message: message.into(), faults: Vec::new(), hint: None }
    }

    pub(crate) fn hint(mut self, hint: impl Into<String>) -> BadInput {
        self.hint = Some(hint.into());
        self
    }
}

/// Prints an error once and gives its exit code.
pub(crate) fn report(printer: &Printer, error: &anyhow::Error) -> ExitCode {
    let code = code(error);
    if code == PIPE_CLOSED {
        return ExitCode::from(code);
    }
    let (faults, hint) = details(error);
    let message = message(error);
    if printer.is_json() {
        let body = serde_json::json!({ "error": message, "code": code, "faults": faults, "hint": hint });
        printer.note(text::clean_json(&body.to_string()));
        return ExitCode::from(code);
    }
    printer.note(format_args!("{} {}", printer.paint_note(Style::Bad, "error:"), text::clean_lines(&message)));
    // A refusal's only fault is the message already.
    for fault in faults.iter().filter(|fault| !message.ends_with(&fault.reason)) {
        let field = printer.paint_note(Style::Strong, &text::clean(&text::field_path(&fault.field)));
        printer.note(format_args!("  {field}: {}", text::clean(&fault.reason)));
    }
    if let Some(hint) = hint {
        printer.note(format_args!("{} {}", printer.paint_note(Style::Strong, "hint:"), text::clean_lines(&hint)));
    }
    ExitCode::from(code)
}

/// The error with its causes, each said once, as far as they say something to the user.
pub(crate) fn message(error: &anyhow::Error) -> String {
    let mut words: Vec<String> = Vec::new();
    for cause in error.chain() {
        let text = match cause.downcast_ref() {
            Some(client::Error::Refused(problem)) => match problem.faults.as_slice() {
                [] => problem.detail.clone(),
                [fault] => format!("{}: {}", text::field_path(&fault.field), fault.reason),
                faults => format!("{} fields are wrong", faults.len()),
            },
            // What lies between the connection and the reason it broke is for programmers.
            Some(broken @ (client::Error::Unreachable { .. } | client::Error::Lost { .. })) => {
                words.extend([broken.to_string(), error.root_cause().to_string()]);
                break;
            }
            Some(_) | None => cause.to_string(),
        };
        if !words.last().is_some_and(|said| said.ends_with(&text)) {
            words.push(text);
        }
    }
    words.join(": ")
}

fn code(error: &anyhow::Error) -> u8 {
    for cause in error.chain() {
        if cause.is::<BadInput>() {
            return BAD_INPUT;
        }
        if let Some(error) = cause.downcast_ref::<client::Error>() {
            return match error {
                client::Error::Address(_) | client::Error::Token | client::Error::NoTls { .. } => BAD_INPUT,
                client::Error::Refused(problem) if matches!(problem.status, 400 | 404 | 413 | 415 | 422) => BAD_INPUT,
                error if error.is_passing() => UNAVAILABLE,
                _ => 1,
            };
        }
        if cause.downcast_ref::<io::Error>().is_some_and(|error| error.kind() == io::ErrorKind::BrokenPipe) {
            return PIPE_CLOSED;
        }
    }
    1
}

fn details(error: &anyhow::Error) -> (&[Fault], Option<String>) {
    for cause in error.chain() {
        if let Some(bad) = cause.downcast_ref::<BadInput>() {
            return (&bad.faults, bad.hint.clone());
        }
        match cause.downcast_ref::<client::Error>() {
            Some(client::Error::Refused(problem)) => {
                return (&problem.faults, problem.hint.as_deref().map(in_commands));
            }
            Some(client::Error::NoTls { url }) => {
                return (&[], Some(format!("write {}", url.replacen("https:", "http:", 1))));
            }
            // An alert of TLS is no answer that is understood.
            Some(client::Error::Lost { url, .. })
                if url.starts_with("http:") && error.root_cause().to_string().contains("invalid HTTP") =>
            {
                return (&[], Some(format!("if it speaks TLS, write {}", url.replacen("http:", "https:", 1))));
            }
            Some(client::Error::Unreachable { .. }) => {
                let hint = "start one with: framewake dev --functions FOLDER\n(its functions: `samples/functions` of the repository, or your own)\n\
                            or say where one is with --url or FRAMEWAKE_URL";
                return (&[], Some(hint.to_owned()));
            }
            Some(_) | None => {}
        }
    }
    (&[], None)
}

/// The REST interface names its own addresses; here there are commands for them.
const COMMANDS: [(&str, &str); 13] = [
    ("GET /v1/jobs", "`framewake jobs`"),
    ("GET /v1/schedules", "`framewake schedules`"),
    ("GET /v1/budgets", "`framewake budgets`"),
    ("GET /v1/prices", "`framewake prices list`"),
    ("GET /v1/tokens", "`framewake tokens`"),
    ("GET /v1/sessions", "`framewake sessions`"),
    ("put new rules in its place with PUT", "put new rules in its place with `framewake schedules apply`"),
    ("put it in the place of that one with PUT", "put it in the place of that one with `--replace`"),
    ("GET /v1/places", "`framewake workers places`"),
    ("GET /v1/workers", "`framewake workers`"),
    ("GET /v1/notifications/targets", "`framewake notify`"),
    ("GET /v1/notifications/dead", "`framewake notify dead`"),
    ("GET /readyz", "`framewake doctor`"),
];

fn in_commands(hint: &str) -> String {
    COMMANDS.iter().fold(hint.to_owned(), |hint, (address, command)| hint.replace(address, command))
}

#[cfg(test)]
mod tests {
    use super::*;
    use framewake_proto::api::Problem;

    fn refused(status: u16, faults: &[(&str, &str)]) -> anyhow::Error {
        let faults = faults.iter().map(|(field, reason)| Fault::new(*field, *reason)).collect();
        let problem = Problem {
            kind: "urn:framewake:x".to_owned(),
            title: "x".to_owned(),
            status,
            detail: "some detail".to_owned(),
            hint: None,
            faults,
            request_id: String::new(),
        };
        client::Error::Refused(Box::new(problem)).into()
    }

    #[test]
    fn a_refusal_names_its_fields_as_the_file_does() {
        let one = refused(422, &[("/steps/0/frames", "`1-` is no frame set")]).context("can't add `a.yaml`");
        assert_eq!(message(&one), "can't add `a.yaml`: steps[0].frames: `1-` is no frame set");
        assert_eq!(message(&refused(422, &[("/a", "b"), ("/c", "d")])), "2 fields are wrong");
        assert_eq!(message(&refused(404, &[])), "some detail");
    }

    #[test]
    fn exit_codes_tell_whose_fault_it_is() {
        assert_eq!([400, 404, 409, 422, 500, 503].map(|status| code(&refused(status, &[]))), [2, 2, 1, 2, 1, 69]);
        assert_eq!(code(&BadInput::new("x").into()), 2);
        assert_eq!(code(&anyhow::Error::from(io::Error::from(io::ErrorKind::BrokenPipe)).context("x")), 141);
        assert_eq!(code(&anyhow::anyhow!("x")), 1);
    }
}
