//! `framewake top`: the whole farm on a full screen, as it goes on, with keys for the usual actions.

mod look;
mod screen;
mod state;

use crate::Context;
use crate::failure::{BadInput, Outcome};
use framewake_proto::api::JobChange;
use look::Look;
use ratatui::crossterm::event::{self, Event, KeyEventKind};
use state::{Order, State};
use std::time::Duration;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::mpsc;

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Seconds between two looks at the farm
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u64).range(1..=3600))]
    every: u64,
}

/// Gives the terminal back however this ends.
struct Screen(ratatui::DefaultTerminal);

impl Drop for Screen {
    fn drop(&mut self) {
        ratatui::restore();
    }
}

pub(crate) async fn run(context: &Context, args: &Args) -> anyhow::Result<Outcome> {
    if !context.printer.is_live() {
        return Err(BadInput::new("`top` draws on a terminal, and this is none")
            .hint("for programs there are: framewake jobs --json, framewake workers --json")
            .into());
    }
    // A scheduler that is not there is said before the screen is taken.
    let first = Look::take(&context.client, None).await?;
    let mut state = State::new(first, context.printer.has_color());
    let mut screen = Screen(ratatui::try_init()?);
    let mut keys = keys();
    let mut tick = tokio::time::interval(Duration::from_secs(args.every));
    let (mut terminate, mut hang_up) = (signal(SignalKind::terminate())?, signal(SignalKind::hangup())?);
    let (send_look, mut looks) = mpsc::channel(1);
    let mut looking = false;
    loop {
        screen.0.draw(|frame| screen::draw(frame, &mut state))?;
        let order = tokio::select! {
            key = keys.recv() => match key {
                Some(Event::Key(key)) if key.kind != KeyEventKind::Release => state.key(key),
                // Another size, which the next drawing takes.
                Some(_) => None,
                None => Some(Order::Leave),
            },
            Some((actions, look)) = looks.recv() => {
                looking = false;
                // What was seen before an action would show it undone.
                if actions == state.actions {
                    state.take(look);
                    None
                } else {
                    Some(Order::Look)
                }
            }
            _ = tick.tick() => Some(Order::Look),
            _ = terminate.recv() => Some(Order::Leave),
            _ = hang_up.recv() => Some(Order::Leave),
        };
        match order {
            None => {}
            Some(Order::Leave) => return Ok(Outcome::Done),
            // One at a time: a slow scheduler is not asked more often.
            Some(Order::Look) if looking => {}
            Some(Order::Look) => {
                looking = true;
                let (client, send) = (context.client.clone(), send_look.clone());
                let (actions, selected) = (state.actions, state.selected());
                tokio::spawn(async move {
                    // Nobody listens once the screen is given back.
                    let _ = send.send((actions, Look::take(&client, selected).await)).await;
                });
            }
            Some(Order::Act(job, action)) => {
                let done = context.client.act(job, action).await;
                state.say(done.map(|job| (job, action.as_str())));
            }
            Some(Order::Prioritize(job, priority)) => {
                let done = context.client.change_job(job, &JobChange { priority }).await;
                state.say(done.map(|job| (job, "priority")));
            }
        }
    }
}

/// What is typed, from a thread that ends with the program: a terminal can only be waited for.
fn keys() -> mpsc::Receiver<Event> {
    let (send, keys) = mpsc::channel(16);
    std::thread::spawn(move || {
        while let Ok(event) = event::read() {
            if send.blocking_send(event).is_err() {
                return;
            }
        }
    });
    keys
}
