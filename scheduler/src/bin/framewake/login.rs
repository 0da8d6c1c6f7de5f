//! `framewake login`, `logout` and `contexts`: farms, and how one is known there.

use crate::contexts::{Contexts, Environment, Farm, read_token};
use crate::failure::{BadInput, Outcome};
use crate::printer::{Printer, Style, table};
use crate::text;
use framewake_proto::access::{Who, WhoView};
use framewake_proto::client::{Client, URL_DEFAULT};
use framewake_proto::notify::Secret;
use reqwest::Url;
use serde_json::json;
use std::io::{BufRead as _, IsTerminal as _, Read as _};
use std::path::{Path, PathBuf};

/// Longest line that is read for a token.
const LINE_MAX: u64 = 4096;

#[derive(Debug, clap::Args)]
pub(crate) struct LoginArgs {
    /// Address of the scheduler
    #[arg(default_value = URL_DEFAULT)]
    address: String,
    /// What the context is called [default: the host of the address, with its port where that is no usual one]
    #[arg(long)]
    name: Option<String>,
    /// File with the token; without it, it is asked for, or read from standard input. Not looked at where a farm asks for none
    #[arg(long, value_name = "FILE")]
    token_file: Option<PathBuf>,
}

#[derive(Debug, clap::Args)]
pub(crate) struct LogoutArgs {
    /// The context to forget [default: the one in use]
    name: Option<String>,
}

#[derive(Debug, clap::Args)]
pub(crate) struct ContextsArgs {
    /// Use this one from now on
    name: Option<String>,
}

/// Stores a token that opens something, or where a farm is that asks nobody for one.
pub(crate) async fn login(printer: &Printer, args: LoginArgs) -> anyhow::Result<Outcome> {
    let file = contexts_file()?;
    let mut kept = Contexts::load(&file)?;
    let url = args.address.trim_end_matches('/').to_owned();
    // What is wrong with the name is said before anybody looks for a token.
    let name = args.name.map_or_else(|| kept.name_for(&url), Ok)?;
    // Nobody looks for a token, or hands one over, where none is asked for.
    if !Client::with_token(&url, None)?.who().await?.tokens {
        return store_open(printer, &mut kept, &file, &name, &url);
    }
    let token = match &args.token_file {
        Some(file) => read_token(file)?,
        None => ask(printer)?,
    };
    let client = Client::with_token(&url, Some(&token))?;
    let WhoView { who, .. } = client.who().await?;
    let who = who.ok_or_else(|| {
        BadInput::new(format!("the token opens nothing at {url}: nothing is stored"))
            .hint("it was revoked, has expired, is of another farm, or was not copied whole")
    })?;
    kept.contexts.insert(name.clone(), Farm { url: url.clone(), token: Some(token) });
    kept.current = Some(name.clone());
    kept.store(&file)?;
    if printer.is_json() {
        printer.json(&json!({ "context": name, "url": url, "tokens": true, "who": who }))?;
        return Ok(Outcome::Done);
    }
    printer.line(format_args!("at {url} you are {}; context `{name}` in `{}`", in_words(&who), file.display()))?;
    if url.starts_with("http://") && !is_here(&url) {
        printer.note("without TLS, everybody on the way can read the token: use an https address");
    }
    Ok(Outcome::Done)
}

/// A token that was stored for it goes: the farm asks for none any more.
fn store_open(printer: &Printer, kept: &mut Contexts, file: &Path, name: &str, url: &str) -> anyhow::Result<Outcome> {
    kept.contexts.insert(name.to_owned(), Farm { url: url.to_owned(), token: None });
    kept.current = Some(name.to_owned());
    kept.store(file)?;
    if printer.is_json() {
        printer.json(&json!({ "context": name, "url": url, "tokens": false }))?;
    } else {
        printer.line(format_args!(
            "{url} asks nobody for a token: whoever reaches it may do everything. Context `{name}` in `{}` has none",
            file.display()
        ))?;
    }
    Ok(Outcome::Done)
}

fn in_words(who: &Who) -> String {
    let of = who.project.as_ref().map_or("all projects".to_owned(), |project| format!("project {project}"));
    format!("{} ({} of {of})", text::clean(&who.name), who.role)
}

fn is_here(url: &str) -> bool {
    let url = url.parse::<Url>().ok();
    url.is_some_and(|url| url.host_str().is_some_and(|host| ["localhost", "127.0.0.1", "[::1]"].contains(&host)))
}

/// From standard input; at a terminal, what is typed is not shown.
fn ask(printer: &Printer) -> anyhow::Result<Secret> {
    let input = std::io::stdin();
    let line = if input.is_terminal() {
        printer.note("Paste the token (it is not shown), then press Enter:");
        console::Term::stderr().read_secure_line()?
    } else {
        let mut line = String::new();
        input.lock().take(LINE_MAX).read_line(&mut line)?;
        line
    };
    match line.trim() {
        "" => Err(BadInput::new("no token was given")
            .hint("framewake login URL < FILE, or --token-file FILE; `framewake tokens add` makes one")
            .into()),
        token => Ok(Secret::new(token)),
    }
}

/// The token still opens until it is revoked.
pub(crate) fn logout(printer: &Printer, args: LogoutArgs) -> anyhow::Result<Outcome> {
    let file = contexts_file()?;
    let mut kept = Contexts::load(&file)?;
    let name = args.name.or_else(|| kept.current.clone()).ok_or_else(|| BadInput::new("no context is in use"))?;
    let Some(forgotten) = kept.contexts.remove(&name) else {
        return Err(BadInput::new(format!("there is no context `{name}`"))
            .hint("`framewake contexts` lists them")
            .into());
    };
    kept.current = kept.current.filter(|current| *current != name);
    kept.store(&file)?;
    if !printer.is_json() {
        let rest = if forgotten.token.is_some() { "; its token is good until it is revoked" } else { "" };
        printer.line(format_args!("context `{name}` is forgotten{rest}"))?;
    }
    Ok(Outcome::Done)
}

pub(crate) fn contexts(printer: &Printer, args: ContextsArgs) -> anyhow::Result<Outcome> {
    let file = contexts_file()?;
    let mut kept = Contexts::load(&file)?;
    if let Some(name) = args.name {
        if !kept.contexts.contains_key(&name) {
            let known: Vec<&str> = kept.contexts.keys().map(String::as_str).collect();
            return Err(BadInput::new(format!("there is no context `{name}`"))
                .hint(format!("there are: {}", known.join(", ")))
                .into());
        }
        kept.current = Some(name);
        kept.store(&file)?;
    }
    print(printer, &kept, &file)
}

fn print(printer: &Printer, kept: &Contexts, file: &Path) -> anyhow::Result<Outcome> {
    let mut table = table(&["", "context", "address", "token"], &[]);
    for (name, farm) in &kept.contexts {
        let used = kept.current.as_ref() == Some(name);
        let has_token = farm.token.is_some();
        if printer.is_json() {
            printer.json(&json!({ "context": name, "url": farm.url, "token": has_token, "current": used }))?;
        }
        let mark = printer.cell(used.then_some(Style::Good), if used { "*" } else { "" });
        let (name, url) = (text::clean(name), text::clean(&farm.url));
        let token = if has_token { "stored" } else { "nobody is asked for one" };
        table.add_row([mark, printer.cell(None, &name), printer.cell(None, &url), printer.cell(None, token)]);
    }
    if !printer.is_json() {
        if kept.contexts.is_empty() {
            printer.note(format_args!("no context in `{}` yet: `framewake login URL` makes one", file.display()));
        } else {
            printer.table(&table)?;
        }
    }
    Ok(Outcome::Done)
}

fn contexts_file() -> Result<PathBuf, BadInput> {
    Environment::read().contexts_file().ok_or_else(|| {
        BadInput::new("this user has no home folder to keep tokens in").hint("say where: FRAMEWAKE_CONTEXTS=FILE")
    })
}
