//! What a token of one project is shown of lists, and for whom it may ask.

use super::problem::{Answer, Code, Refusal};
use crate::access::Caller;
use framewake_proto::ids::Name;
use framewake_proto::job::DEFAULT_PROJECT;

/// Puts what is made into the project of who makes it; refuses another. Who names none means their own.
pub(super) fn fit(caller: &Caller, project: &mut Name) -> Answer<()> {
    let Some(only) = caller.only() else { return Ok(()) };
    if project.as_str() == DEFAULT_PROJECT {
        project.clone_from(only);
    }
    if project == only {
        return Ok(());
    }
    let detail = format!("this token is for project `{only}`, and not for `{project}`");
    Err(Refusal::new(Code::Forbidden, detail).hint("leave the project out, or use a token of that project"))
}

/// What of a list by project is to be seen.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Narrowed {
    All,
    To(String),
    /// Another project was asked for than the caller may see.
    Nothing,
}

pub(super) fn project(caller: &Caller, asked: Option<&str>) -> Narrowed {
    match (caller.only(), asked) {
        (None, None) => Narrowed::All,
        (None, Some(asked)) => Narrowed::To(asked.to_owned()),
        (Some(only), asked) if asked.is_none_or(|asked| asked == only.as_str()) => Narrowed::To(only.to_string()),
        (Some(_), _) => Narrowed::Nothing,
    }
}
