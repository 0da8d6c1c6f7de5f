//! `framewake sessions`: who is logged in to the pages.

use crate::Context;
use crate::failure::Outcome;
use crate::printer::table;
use crate::{pages, text};
use framewake_proto::access::SessionView;

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    #[command(subcommand)]
    command: Option<Command>,
}

#[derive(Debug, clap::Subcommand)]
enum Command {
    /// List who is logged in to the pages, newest first (the default)
    List,
    /// End a session: its pages show nothing any more, until somebody logs in again
    End {
        /// Its id, as `framewake sessions` lists it
        session: String,
    },
}

pub(crate) async fn run(context: &Context, args: Args) -> anyhow::Result<Outcome> {
    let (client, printer) = (&context.client, &context.printer);
    match args.command.unwrap_or(Command::List) {
        Command::List => print(context, &pages::all(async |cursor| client.sessions(cursor).await).await?)?,
        Command::End { session } => {
            client.end_session(&session).await?;
            if !printer.is_json() {
                printer.line(format_args!("session {} is over", text::clean(&session)))?;
            }
        }
    }
    Ok(Outcome::Done)
}

fn print(context: &Context, sessions: &[SessionView]) -> anyhow::Result<()> {
    let printer = &context.printer;
    if printer.is_json() {
        for session in sessions {
            printer.json(session)?;
        }
        return Ok(());
    }
    let mut table = table(&["id", "name", "role", "project", "by", "begun", "used", "ends"], &[]);
    for session in sessions {
        let by = match (&session.token, &session.called) {
            (Some(token), _) => format!("token {token}"),
            (None, Some(called)) => format!("provider, as {}", text::clean(called)),
            (None, None) => "provider".to_owned(),
        };
        table.add_row([
            session.id.clone(),
            session.name.to_string(),
            session.role.to_string(),
            session.project.as_ref().map_or("all".to_owned(), ToString::to_string),
            by,
            session.begun_at.to_string(),
            session.used_at.to_string(),
            session.expires_at.to_string(),
        ]);
    }
    printer.table(&table)?;
    Ok(())
}
