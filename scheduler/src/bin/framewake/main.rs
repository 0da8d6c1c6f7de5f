//! The `framewake` command line: reads the arguments, runs one command, turns its outcome into an exit code.
//! Speaks only REST, and what it knows of the farm comes from there; only `dev` runs a farm itself.

mod bars;
mod budgets;
mod change;
mod completions;
mod contexts;
mod cost;
mod doctor;
mod estimate;
mod failure;
mod failures;
mod fetch;
mod find;
mod follow;
mod frames;
mod full_screen;
mod functions;
mod job;
mod job_file;
mod jobs;
mod local_inputs;
mod login;
mod logs;
mod man;
mod notify;
mod pace;
mod pages;
mod plain;
mod prices;
mod printer;
mod projects;
mod retry;
mod scaling;
mod schedules;
mod sessions;
mod start;
mod submit;
mod tail;
mod text;
mod tokens;
mod top;
mod upload;
mod watch;
mod workers;

use clap::error::{ContextKind, ContextValue};
use clap::{CommandFactory, Parser, Subcommand};
use contexts::{Asked, Environment};
use failure::Outcome;
use framewake_proto::client::{Action, Client};
use framewake_scheduler::config::DevConfig;
use printer::Printer;
use std::process::ExitCode;

/// Renders frames on whatever machines there are: submit jobs, watch them, fetch what they made.
///
/// Exit codes: 0 done, 1 failed, 2 bad input, 3 job canceled, 69 scheduler out of reach, 130 interrupted.
#[derive(Debug, Parser)]
#[command(name = "framewake", version, max_term_width = 100)]
pub(crate) struct Cli {
    /// Address of the scheduler [default: that of the context in use, or `http://127.0.0.1:7700`]
    #[arg(long, global = true, env = "FRAMEWAKE_URL")]
    url: Option<String>,
    /// A farm that `framewake login` stored
    #[arg(long, global = true, env = "FRAMEWAKE_CONTEXT")]
    context: Option<String>,
    /// Print JSON: one object, or one a line for lists
    #[arg(long, global = true)]
    json: bool,
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run a whole farm on this machine: scheduler, nats-server, store, workers from zero
    Dev(Box<DevConfig>),
    /// Store a token for a farm, or that it asks for none, and use that farm from now on
    Login(login::LoginArgs),
    /// Forget a stored farm and its token
    Logout(login::LogoutArgs),
    /// List the farms that are stored, or choose one
    Contexts(login::ContextsArgs),
    #[command(flatten)]
    Ask(Ask),
}

/// What is asked of a scheduler.
#[derive(Debug, Subcommand)]
enum Ask {
    /// Send a job to the farm
    Submit(submit::Args),
    /// Say how long a job will take and what it will cost, before it is submitted
    Estimate(estimate::Args),
    /// Watch a job until it is over
    Tail(tail::Args),
    /// Watch the whole farm on a full screen, and act on its jobs
    Top(top::Args),
    /// List jobs, newest first
    Jobs(jobs::Args),
    /// Show one job, or why it waits: `framewake job explain JOB`
    Job(job::Args),
    /// Say why a job's tasks wait
    Explain(job::ExplainArgs),
    /// Stop a job; frames that are done stay
    Cancel(change::Args),
    /// Give out no more work of a job; what runs is finished
    Pause(change::Args),
    /// Go on with a paused job
    Resume(change::Args),
    /// Render the failed frames of a job again, and only those
    Retry(change::RetryArgs),
    /// Change the priority of a job, 0 (last) to 100 (first)
    Priority(change::PriorityArgs),
    /// List a job's frames and what became of them
    Frames(frames::Args),
    /// Print what a renderer said
    Logs(logs::Args),
    /// Download a job's outputs
    Fetch(fetch::Args),
    /// List, show and add functions, the renderers of the farm; make, build and push new ones
    Functions(functions::Args),
    /// Make jobs by themselves, at times: add, list, show, pause, resume, run, next, runs, rm, apply
    Schedules(schedules::Args),
    /// Say who is told of what: add, list, show, test, rm, dead, resend
    Notify(notify::Args),
    /// List the workers, and the machines that are set aside
    Workers(workers::Args),
    /// List projects, and set their share of the farm
    Projects(projects::Args),
    /// Show what a job cost, or what was paid on some days
    Cost(cost::Args),
    /// Say what projects may cost in a month or in all: set, list, rm
    Budgets(budgets::Args),
    /// Give a job another budget, or none
    Budget(budgets::JobArgs),
    /// List and import prices, and say which are paid by
    Prices(prices::Args),
    /// Say who may do what: list, add, revoke
    Tokens(tokens::Args),
    /// Say who is logged in to the pages: list, end
    Sessions(sessions::Args),
    /// Show what was changed, by whom, newest first
    Audit(tokens::AuditArgs),
    /// Check the scheduler and this machine, and say what to do
    Doctor,
    /// Print completions for a shell
    Completions(completions::Args),
    /// Write manual pages of all commands into a folder
    Man(man::Args),
}

/// What every command gets.
#[derive(Debug)]
pub(crate) struct Context {
    client: Client,
    printer: Printer,
}

fn main() -> ExitCode {
    rustls::crypto::aws_lc_rs::default_provider().install_default().expect("nothing has installed another before main");
    let cli = Cli::try_parse().unwrap_or_else(|error| with_whole_usage(error).exit());
    let printer = Printer::new(cli.json);
    let runtime = match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => return failure::report(&printer, &anyhow::Error::new(error).context("can't start threads")),
    };
    let code = match cli.command {
        Command::Dev(config) => match runtime.block_on(framewake_scheduler::dev::run(*config)) {
            Ok(()) => ExitCode::SUCCESS,
            Err(error) => failure::report(&printer, &error),
        },
        Command::Login(args) => end(&printer, runtime.block_on(login::login(&printer, args))),
        Command::Logout(args) => end(&printer, login::logout(&printer, args)),
        Command::Contexts(args) => end(&printer, login::contexts(&printer, args)),
        Command::Ask(command) => match Environment::read().asked(cli.url.as_deref(), cli.context.as_deref()) {
            Ok(asked) => runtime.block_on(run(asked, printer, command)),
            Err(error) => failure::report(&printer, &error.into()),
        },
    };
    // A thread that hashes a large file must not hold up Ctrl-C.
    runtime.shutdown_background();
    code
}

/// With the usage of the whole command: by itself clap shows what was given, and a global option from the environment is that too.
fn with_whole_usage(mut error: clap::Error) -> clap::Error {
    if error.get(ContextKind::Usage).is_some() {
        let mut command = Cli::command();
        command.build();
        let mut command = &mut command;
        let mut words = std::env::args().skip(1);
        while let Some(word) = words.next() {
            if ["--url", "--context"].contains(&word.as_str()) {
                words.next();
            } else if command.find_subcommand(&word).is_some() {
                command = command.find_subcommand_mut(&word).expect("just found");
            }
        }
        error.insert(ContextKind::Usage, ContextValue::StyledStr(command.render_usage()));
    }
    error
}

fn end(printer: &Printer, outcome: anyhow::Result<Outcome>) -> ExitCode {
    match outcome {
        Ok(outcome) => outcome.into(),
        Err(error) => failure::report(printer, &error),
    }
}

async fn run(asked: Asked, printer: Printer, command: Ask) -> ExitCode {
    let client = match Client::with_token(&asked.url, asked.token.as_ref()) {
        Ok(client) => client,
        Err(error) => return failure::report(&printer, &error.into()),
    };
    let context = Context { client, printer };
    let outcome = tokio::select! {
        outcome = ask(&context, command) => outcome,
        _ = tokio::signal::ctrl_c() => Ok(Outcome::Interrupted),
    };
    match outcome {
        Ok(outcome) => {
            if outcome == Outcome::Interrupted {
                context.printer.say_farewell();
            }
            outcome.into()
        }
        Err(error) => failure::report(&context.printer, &error),
    }
}

async fn ask(context: &Context, command: Ask) -> anyhow::Result<Outcome> {
    match command {
        Ask::Submit(args) => submit::run(context, args).await,
        Ask::Estimate(args) => estimate::run(context, args).await,
        Ask::Tail(args) => tail::run(context, &args).await,
        Ask::Top(args) => top::run(context, &args).await,
        Ask::Jobs(args) => jobs::run(context, args).await,
        Ask::Job(args) => job::run(context, args).await,
        Ask::Explain(args) => job::explain(context, &args.job).await,
        Ask::Cancel(args) => change::run(context, &args, Action::Cancel).await,
        Ask::Pause(args) => change::run(context, &args, Action::Pause).await,
        Ask::Resume(args) => change::run(context, &args, Action::Resume).await,
        Ask::Retry(args) => change::retry(context, &args).await,
        Ask::Priority(args) => change::set_priority(context, &args).await,
        Ask::Frames(args) => frames::run(context, args).await,
        Ask::Logs(args) => logs::run(context, &args).await,
        Ask::Fetch(args) => fetch::run(context, args).await,
        Ask::Functions(args) => functions::run(context, args).await,
        Ask::Schedules(args) => schedules::run(context, args).await,
        Ask::Notify(args) => notify::run(context, args).await,
        Ask::Workers(args) => workers::run(context, &args).await,
        Ask::Projects(args) => projects::run(context, args).await,
        Ask::Cost(args) => cost::run(context, args).await,
        Ask::Budgets(args) => budgets::run(context, args).await,
        Ask::Budget(args) => budgets::of_job(context, args).await,
        Ask::Prices(args) => prices::run(context, args).await,
        Ask::Tokens(args) => tokens::run(context, args).await,
        Ask::Sessions(args) => sessions::run(context, args).await,
        Ask::Audit(args) => tokens::audit(context, args).await,
        Ask::Doctor => doctor::run(context).await,
        Ask::Completions(args) => completions::run(context, &args),
        Ask::Man(args) => man::run(context, &args),
    }
}
