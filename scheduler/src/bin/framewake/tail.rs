//! `framewake tail`: a job as it goes on; on a terminal as a full screen, with keys for the usual actions.

mod log;
mod look;
mod screen;
mod state;

use crate::Context;
use crate::failure::{self, Outcome};
use crate::full_screen::{Heard, Screen};
use crate::watch::Watch;
use crate::{find, follow};
use framewake_proto::api::{JobChange, JobView};
use log::Log;
use look::Looks;
use state::{Order, Seen, State, Teller};
use std::cell::RefCell;
use std::pin::Pin;
use std::rc::Rc;
use std::time::Duration;
use tokio::time::MissedTickBehavior;

/// Between two drawings while nothing else asks for one.
const DRAWN_EVERY: Duration = Duration::from_millis(500);

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Id of a job, the beginning of one, or `latest`
    #[arg(default_value = "latest")]
    job: String,
    /// Bars and lines that stay, instead of a full screen
    #[arg(long)]
    lines: bool,
}

pub(crate) async fn run(context: &Context, args: &Args) -> anyhow::Result<Outcome> {
    let id = find::job(&context.client, &args.job).await?;
    if args.lines || !context.printer.is_live() {
        return follow::run(context, id).await;
    }
    // A scheduler that is not there, and a job that is over, are said before the screen is taken.
    let job = context.client.job(id).await?;
    if job.state.is_over() {
        return follow::end(context, &job).await;
    }
    follow::set_farewell(context, id);
    match on_screen(context, job).await? {
        Some(over) => follow::end(context, &over).await,
        None => Ok(Outcome::Interrupted),
    }
}

type Followed<'a> = Pin<Box<dyn Future<Output = anyhow::Result<JobView>> + 'a>>;

/// The job, if it was over when the screen was left.
async fn on_screen(context: &Context, job: JobView) -> anyhow::Result<Option<JobView>> {
    let (client, id) = (&context.client, job.id);
    let seen = Rc::new(RefCell::new(Seen::new(job.clone())));
    let follow = |job: JobView| -> Followed<'_> {
        let watch = Watch::new(job, Duration::ZERO);
        Box::pin(follow::until_over(client, watch, Box::new(Teller(Rc::clone(&seen)))))
    };
    let mut followed = Some(follow(job));
    let mut state = State::new(context.printer.has_color());
    let (mut log, mut looks) = (Log::default(), Looks::default());
    let mut screen = Screen::take()?;
    let mut tick = tokio::time::interval(DRAWN_EVERY);
    tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut over: Option<JobView> = None;
    loop {
        let chosen = state.choose(&seen.borrow());
        log.read(client, id, chosen.as_deref());
        screen.draw(|frame| screen::draw(frame, &seen.borrow(), &mut state, &log, looks.last()))?;
        let order = tokio::select! {
            done = ended(&mut followed) => {
                followed = None;
                let job = done?;
                seen.borrow_mut().job = job.clone();
                over = Some(job);
                state.said = None;
                // Somebody who reads something goes when they like.
                if !state.touched {
                    return Ok(over);
                }
                None
            }
            heard = screen.hears() => match heard {
                Heard::Key(key) => state.key(key, &seen.borrow()),
                Heard::Other => None,
                Heard::Gone => Some(Order::Leave),
            },
            (name, done) = state.deed.done() => {
                match done {
                    Ok(job) => {
                        seen.borrow_mut().changed(job.clone(), name);
                        // That it is over was told before the answer, and stays said.
                        if followed.is_some() || !job.state.is_over() {
                            state.say(&job, name);
                        }
                        // Its failed frames are tried again: it is no longer over.
                        if followed.is_none() && !job.state.is_over() {
                            over = None;
                            seen.borrow_mut().forget();
                            followed = Some(follow(job));
                        }
                    }
                    Err(error) => state.said = Some(failure::message(&error.into())),
                }
                None
            }
            () = log.more() => None,
            () = looks.more() => None,
            _ = tick.tick() => {
                looks.take(client, &seen.borrow(), &state);
                None
            }
        };
        match order {
            None => {}
            Some(Order::Leave) => {
                drop(screen);
                state.deed.leave(&context.printer);
                return Ok(over);
            }
            Some(Order::ReadAgain) => log.forget(),
            Some(Order::Act(action)) => {
                let client = client.clone();
                state.deed.begin(action.as_str(), async move { client.act(id, action).await });
            }
            Some(Order::Prioritize(priority)) => {
                let client = client.clone();
                state.deed.begin("priority", async move { client.change_job(id, &JobChange { priority }).await });
            }
        }
    }
}

/// Waits for the end of a job that is followed.
async fn ended(followed: &mut Option<Followed<'_>>) -> anyhow::Result<JobView> {
    match followed {
        Some(followed) => followed.await,
        None => std::future::pending().await,
    }
}
