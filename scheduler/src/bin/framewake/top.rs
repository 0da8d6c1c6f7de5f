//! `framewake top`: the whole farm on a full screen, as it goes on, with keys for the usual actions.

mod below;
mod look;
mod screen;
mod state;

use crate::Context;
use crate::failure::Outcome;
use crate::full_screen::{Heard, Screen, needs_terminal};
use framewake_proto::api::JobChange;
use framewake_proto::client::Error;
use look::Look;
use state::{Order, State};
use std::time::Duration;
use tokio::sync::mpsc;

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Seconds between two looks at the farm
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u64).range(1..=3600))]
    every: u64,
}

pub(crate) async fn run(context: &Context, args: &Args) -> anyhow::Result<Outcome> {
    needs_terminal(&context.printer, "top", "framewake jobs --json, framewake workers --json")?;
    // A scheduler that is not there is said before the screen is taken.
    let first = Look::take(&context.client, None, "").await?;
    let mut state = State::new(first, context.printer.has_color());
    let mut screen = Screen::take()?;
    let mut tick = tokio::time::interval(Duration::from_secs(args.every));
    let (send_look, mut looks) = mpsc::channel(1);
    let mut looking = false;
    loop {
        screen.draw(|frame| screen::draw(frame, &mut state))?;
        let order = tokio::select! {
            heard = screen.hears() => match heard {
                Heard::Key(key) => state.key(key),
                Heard::Other => None,
                Heard::Gone => Some(Order::Leave),
            },
            (name, done) = state.deed.done() => {
                state.say(name, done);
                None
            }
            Some((actions, look)) = looks.recv() => {
                let look: Result<Look, Error> = look;
                looking = false;
                // What was seen before an action would show it undone.
                if actions == state.actions {
                    let is_news = look.is_ok();
                    state.take(look);
                    // Another job was chosen meanwhile, or others are looked for.
                    let other = state.selected().is_some_and(|id| state.look.about != Some(id));
                    let other = other || state.look.words != state.find.words;
                    (is_news && other).then_some(Order::Look)
                } else {
                    Some(Order::Look)
                }
            }
            _ = tick.tick() => Some(Order::Look),
        };
        match order {
            None => {}
            Some(Order::Leave) => {
                drop(screen);
                state.deed.leave(&context.printer);
                return Ok(Outcome::Done);
            }
            // One at a time: a slow scheduler is not asked more often.
            Some(Order::Look) if looking => {}
            Some(Order::Look) => {
                looking = true;
                let (client, send) = (context.client.clone(), send_look.clone());
                let (actions, selected, words) = (state.actions, state.selected(), state.find.words.clone());
                tokio::spawn(async move {
                    // Nobody listens once the screen is given back.
                    let _ = send.send((actions, Look::take(&client, selected, &words).await)).await;
                });
            }
            Some(Order::Act(job, action)) => {
                let client = context.client.clone();
                state.deed.begin(action.as_str(), async move { client.act(job, action).await });
            }
            Some(Order::Prioritize(job, priority)) => {
                let client = context.client.clone();
                state.deed.begin("priority", async move { client.change_job(job, &JobChange { priority }).await });
            }
        }
    }
}
