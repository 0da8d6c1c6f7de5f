//! `framewake tokens` and `framewake audit`: who may do what, and who changed what.

use crate::Context;
use crate::failure::{BadInput, Outcome};
use crate::printer::table;
use crate::{pages, text};
use framewake_proto::access::{AuditView, Role, TokenAdd, TokenView};
use framewake_proto::api::PAGE_SIZE_MAX;
use framewake_proto::duration::Span;
use framewake_proto::ids::Name;
use framewake_proto::time::Timestamp;

/// Hexadecimal digits of an id.
const ID_LEN: usize = 12;

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    #[command(subcommand)]
    command: Option<Command>,
}

#[derive(Debug, clap::Subcommand)]
enum Command {
    /// List tokens, never their secrets (the default)
    List,
    /// Make a token. It is printed alone, on stdout, this once
    Add {
        /// Whose it is, or what it is for
        name: Name,
        /// viewer, artist, operator or admin
        #[arg(long)]
        role: Role,
        /// The one project it is for [default: all]
        #[arg(long)]
        project: Option<Name>,
        /// How long it is good for, as `30d` [default: until it is revoked]
        #[arg(long)]
        lasts: Option<Span>,
    },
    /// Revoke a token: it opens nothing from now on
    Revoke {
        /// Its id, as `framewake tokens` lists it, or its name if no other has that; or the id of the session of somebody who logged
        /// in by a provider of identities, as `framewake sessions` lists it
        token: String,
    },
}

pub(crate) async fn run(context: &Context, args: Args) -> anyhow::Result<Outcome> {
    let (client, printer) = (&context.client, &context.printer);
    match args.command.unwrap_or(Command::List) {
        Command::List => print(context, &all(context).await?)?,
        Command::Add { name, role, project, lasts } => {
            let made = client.add_token(&TokenAdd { name, role, project, lasts }).await?;
            if printer.is_json() {
                printer.json(&made)?;
            } else {
                printer.line(made.secret.reveal())?;
                printer.note("this is shown once: what is stored is its digest. `framewake login` takes it");
            }
        }
        Command::Revoke { token } => {
            let id = find(context, &token).await?;
            client.revoke_token(&id).await?;
            if !printer.is_json() {
                printer.line(format_args!("token {id} opens nothing any more"))?;
            }
        }
    }
    Ok(Outcome::Done)
}

async fn all(context: &Context) -> anyhow::Result<Vec<TokenView>> {
    Ok(pages::all(async |cursor| context.client.tokens(cursor).await).await?)
}

/// The id that was meant.
async fn find(context: &Context, wanted: &str) -> anyhow::Result<String> {
    // Whoever pastes the whole token means it.
    let wanted = wanted.strip_prefix("fw_").and_then(|rest| rest.split('_').next()).unwrap_or(wanted);
    let tokens = all(context).await?;
    if let Some(found) = tokens.iter().find(|token| token.id == wanted) {
        return Ok(found.id.clone());
    }
    let named: Vec<&TokenView> = tokens.iter().filter(|token| token.name.as_str() == wanted).collect();
    match named.as_slice() {
        [one] => Ok(one.id.clone()),
        // A session's, which is in another list.
        [] if wanted.len() == ID_LEN && wanted.bytes().all(|byte| byte.is_ascii_hexdigit()) => Ok(wanted.to_owned()),
        [] => Err(BadInput::new(format!("there is no token `{}`", text::clean(wanted)))
            .hint("`framewake tokens` lists them")
            .into()),
        several => {
            let ids: Vec<&str> = several.iter().map(|token| token.id.as_str()).collect();
            let message = format!("{} tokens are named `{}`", several.len(), text::clean(wanted));
            Err(BadInput::new(message).hint(format!("say which: {}", ids.join(", "))).into())
        }
    }
}

fn print(context: &Context, tokens: &[TokenView]) -> anyhow::Result<()> {
    let printer = &context.printer;
    if printer.is_json() {
        for token in tokens {
            printer.json(token)?;
        }
        return Ok(());
    }
    let mut table = table(&["id", "name", "role", "project", "made", "by", "used", "expires"], &[]);
    let at = |time: Option<Timestamp>, none: &str| time.map_or_else(|| none.to_owned(), |time| time.to_string());
    for token in tokens {
        table.add_row([
            token.id.clone(),
            token.name.to_string(),
            token.role.to_string(),
            token.project.as_ref().map_or("all".to_owned(), ToString::to_string),
            token.made_at.to_string(),
            text::clean(&token.made_by).into_owned(),
            at(token.used_at, "never"),
            at(token.expires_at, "never"),
        ]);
    }
    printer.table(&table)?;
    Ok(())
}

#[derive(Debug, clap::Args)]
pub(crate) struct AuditArgs {
    /// Only by this name
    #[arg(long)]
    who: Option<String>,
    /// Only actions that begin so: `job.`, `token.add`
    #[arg(long)]
    action: Option<String>,
    /// How many
    #[arg(long, default_value = "50", value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    limit: u32,
}

pub(crate) async fn audit(context: &Context, args: AuditArgs) -> anyhow::Result<Outcome> {
    let mut changes: Vec<AuditView> = Vec::new();
    let mut cursor: Option<String> = None;
    while changes.len() < args.limit as usize {
        let left = args.limit - u32::try_from(changes.len()).unwrap_or(args.limit);
        let limit = Some(left.min(PAGE_SIZE_MAX));
        let (who, action) = (args.who.as_deref(), args.action.as_deref());
        let page = context.client.audit(who, action, cursor.as_deref(), limit).await?;
        changes.extend(page.items);
        cursor = page.next;
        if cursor.is_none() {
            break;
        }
    }
    let printer = &context.printer;
    if printer.is_json() {
        for change in &changes {
            printer.json(change)?;
        }
        return Ok(Outcome::Done);
    }
    let mut table = table(&["at", "who", "from", "action", "subject", "before", "after"], &["before", "after"]);
    for change in &changes {
        let words = [&change.who, &change.from, &change.action, &change.subject, &change.before, &change.after];
        let words = words.map(|word| text::clean(word).into_owned());
        table.add_row(std::iter::once(change.at.to_string()).chain(words));
    }
    printer.table(&table)?;
    Ok(Outcome::Done)
}
