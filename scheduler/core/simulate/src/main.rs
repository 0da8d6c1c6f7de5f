//! `simulate`: many seeds at once, one seed with its trace, or a whole farm at its real size.

use framewake_proto::time::Timestamp;
use framewake_simulate::budgets::{self, Budgets};
use framewake_simulate::fault::{Fault, FaultSet};
use framewake_simulate::invariant::Invariant;
use framewake_simulate::run::{Tally, play, play_traced, shorten};
use framewake_simulate::{Setting, scale, scaling};
use std::io::{IsTerminal, Write};
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

const USAGE: &str = "\
usage: simulate [--seeds N] [--from SEED]     that many seeds, from this one on (without: from the clock)
       simulate --seed N [--trace]            one seed
       simulate scale [--gpus N] [--jobs N] [--frames N]
       simulate budgets [--gpus N] [--jobs N] what budgets cost the rules
       simulate scaling [--seeds N] [--from SEED]   policies of scaling compared, with seeds to look at
       simulate scaling --into FOLDER         the report: into scaling.md, scaling.svg and scaling.csv there
options of a seed: --faults NAME,… (of `--list-faults`), --jobs N, --tasks N";
const SEEDS_DEFAULT: u64 = 1000;
/// Failing seeds that are shortened and printed; more say nothing new.
const FAILURES_SHOWN: usize = 3;
const TRACE_LINES: usize = 200;

#[derive(Default, PartialEq)]
enum What {
    #[default]
    Seeds,
    Scale,
    Scaling,
    Budgets,
}

#[derive(Default)]
struct Arguments {
    what: What,
    into: Option<PathBuf>,
    trace: bool,
    list: bool,
    seed: Option<u64>,
    seeds: Option<u64>,
    from: Option<u64>,
    faults: Option<FaultSet>,
    jobs: Option<u32>,
    tasks: Option<u32>,
    gpus: Option<u32>,
    frames: Option<u32>,
}

fn main() -> ExitCode {
    let arguments = match read(std::env::args().skip(1)) {
        Ok(arguments) => arguments,
        Err(fault) => {
            eprintln!("simulate: {fault}\n{USAGE}");
            return ExitCode::from(2);
        }
    };
    let mut out = std::io::stdout();
    let done = if arguments.list {
        let names: Vec<&str> = Fault::ALL.iter().map(|fault| fault.name()).collect();
        writeln!(out, "{}", names.join("\n")).map(|()| true)
    } else if arguments.what == What::Scaling {
        run_scaling(&arguments, &mut out)
    } else if arguments.what == What::Budgets {
        run_budgets(&arguments, &mut out)
    } else if arguments.what == What::Scale {
        run_scale(&arguments, &mut out)
    } else if let Some(seed) = arguments.seed {
        run_one(setting(seed, &arguments), arguments.trace, &mut out)
    } else {
        run_many(&arguments, &mut out)
    };
    // Whoever read the output may have gone.
    if done.unwrap_or(false) { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

fn read(mut words: impl Iterator<Item = String>) -> Result<Arguments, String> {
    let mut arguments = Arguments::default();
    while let Some(word) = words.next() {
        let mut number = || -> Result<u64, String> {
            let text = words.next().ok_or(format!("`{word}` needs a number"))?;
            text.parse().map_err(|_| format!("`{text}` is not a number"))
        };
        let small = |number: u64| u32::try_from(number).map_err(|_| format!("{number} is too large"));
        match word.as_str() {
            "scale" => arguments.what = What::Scale,
            "scaling" => arguments.what = What::Scaling,
            "budgets" => arguments.what = What::Budgets,
            "--into" => arguments.into = words.next().map(PathBuf::from),
            "--trace" => arguments.trace = true,
            "--list-faults" => arguments.list = true,
            "--seed" => arguments.seed = Some(number()?),
            "--seeds" => arguments.seeds = Some(number()?),
            "--from" => arguments.from = Some(number()?),
            "--jobs" => arguments.jobs = Some(small(number()?)?),
            "--tasks" => arguments.tasks = Some(small(number()?)?),
            "--gpus" => arguments.gpus = Some(small(number()?)?),
            "--frames" => arguments.frames = Some(small(number()?)?),
            "--faults" => arguments.faults = Some(faults(&words.next().unwrap_or_default())?),
            _ => return Err(format!("`{word}` is not known")),
        }
    }
    Ok(arguments)
}

fn faults(names: &str) -> Result<FaultSet, String> {
    let mut set = FaultSet::NONE;
    for name in names.split(',').filter(|name| *name != "none") {
        let fault =
            Fault::named(name).ok_or(format!("`{name}` is not a fault; `simulate --list-faults` names them"))?;
        set = set.with(fault);
    }
    Ok(set)
}

fn setting(seed: u64, arguments: &Arguments) -> Setting {
    let whole = Setting::new(seed);
    Setting {
        seed,
        faults: arguments.faults.unwrap_or(whole.faults),
        jobs_max: arguments.jobs.unwrap_or(whole.jobs_max).max(1),
        tasks_max: arguments.tasks.unwrap_or(whole.tasks_max).max(1),
    }
}

fn run_one(setting: Setting, trace: bool, out: &mut impl Write) -> std::io::Result<bool> {
    if trace {
        return match play_traced(setting, None, TRACE_LINES) {
            Ok(tally) => print_tally(&tally, 1, out).map(|()| true),
            Err(failure) => writeln!(out, "{failure}").map(|()| false),
        };
    }
    match play(setting, None) {
        Ok(tally) => print_tally(&tally, 1, out).map(|()| true),
        Err(broken) => writeln!(out, "{}", shorten(setting, None, broken.invariant)).map(|()| false),
    }
}

fn run_many(arguments: &Arguments, out: &mut impl Write) -> std::io::Result<bool> {
    let seeds = arguments.seeds.unwrap_or(SEEDS_DEFAULT);
    // Whole seconds, so that the number is short enough to be copied by hand.
    let from = arguments.from.unwrap_or_else(|| u64::try_from(Timestamp::now().0 / 1000).unwrap_or(0) * 1000);
    let threads = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    writeln!(out, "{seeds} seeds from {from} on, on {threads} cores")?;
    let begin = Instant::now();
    let next = AtomicU64::new(0);
    let total = Mutex::new((Tally::default(), Vec::<(Setting, Invariant)>::new()));
    std::thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| {
                loop {
                    let at = next.fetch_add(1, Ordering::Relaxed);
                    if at >= seeds {
                        return;
                    }
                    let setting = setting(from + at, arguments);
                    let played = play(setting, None);
                    let mut total = total.lock().expect("no thread panics while it counts");
                    match played {
                        Ok(tally) => total.0.add(&tally),
                        Err(broken) => total.1.push((setting, broken.invariant)),
                    }
                    progress(at + 1, seeds, begin.elapsed());
                }
            });
        }
    });
    if std::io::stderr().is_terminal() {
        eprintln!();
    }
    let (tally, failures) = total.into_inner().expect("no thread panics while it counts");
    print_tally(&tally, seeds, out)?;
    writeln!(
        out,
        "{} invariants were checked after every event, in {:.1} s",
        Invariant::ALL.len(),
        begin.elapsed().as_secs_f64()
    )?;
    for (setting, invariant) in failures.iter().take(FAILURES_SHOWN) {
        let failure = shorten(*setting, None, *invariant);
        writeln!(out, "\n{failure}")?;
    }
    if failures.is_empty() {
        writeln!(out, "nothing was lost, nothing was done twice")?;
    } else {
        let names: Vec<String> = failures.iter().map(|(setting, _)| setting.seed.to_string()).collect();
        writeln!(out, "\n{} of {seeds} seeds broke something: {}", failures.len(), names.join(" "))?;
    }
    Ok(failures.is_empty())
}

fn progress(done: u64, of: u64, elapsed: Duration) {
    const WIDTH: u64 = 40;
    if std::io::stderr().is_terminal() {
        let full = done * WIDTH / of.max(1);
        let bar: String = (0..WIDTH).map(|at| if at < full { '#' } else { '.' }).collect();
        eprint!("\r[{bar}] {done}/{of} seeds, {} s", elapsed.as_secs());
    }
}

fn print_tally(tally: &Tally, seeds: u64, out: &mut impl Write) -> std::io::Result<()> {
    writeln!(
        out,
        "{seeds} seeds: {} events, {} commits, {} changes and effects audited; {} jobs ended, {} tasks done, {} failed \
         for good ({} of them quarantined); {} frames rendered, {} found in the store",
        tally.events,
        tally.commits,
        tally.checks,
        tally.jobs_over,
        tally.done,
        tally.failed,
        tally.quarantined,
        tally.frames,
        tally.found
    )?;
    let struck = Fault::ALL.into_iter().filter(|fault| tally.of(*fault) > 0);
    let struck: Vec<String> = struck.map(|fault| format!("{fault} {}", tally.of(fault))).collect();
    writeln!(
        out,
        "{} crashes of the scheduler, {} workers killed; faults: {}",
        tally.crashes,
        tally.kills,
        struck.join(", ")
    )
}

fn run_scale(arguments: &Arguments, out: &mut impl Write) -> std::io::Result<bool> {
    let whole = scale::Size::default();
    let size = scale::Size {
        gpus: arguments.gpus.unwrap_or(whole.gpus),
        jobs: arguments.jobs.unwrap_or(whole.jobs),
        frames: arguments.frames.unwrap_or(whole.frames),
        seed: arguments.seed.unwrap_or(whole.seed),
    };
    writeln!(out, "{} GPUs, {} jobs, {} frames", size.gpus, size.jobs, size.jobs * (size.frames / size.jobs.max(1)))?;
    match scale::run(size, |line| eprint!("\r{line}")) {
        Ok(report) => writeln!(out, "{report}").map(|()| true),
        Err(broken) => writeln!(out, "broken: {}\n  {}", broken.invariant, broken.text).map(|()| false),
    }
}

fn run_budgets(arguments: &Arguments, out: &mut impl Write) -> std::io::Result<bool> {
    let (workers, jobs) = (arguments.gpus.unwrap_or(10_000), arguments.jobs.unwrap_or(1000));
    for kind in [Budgets::None, Budgets::Jobs, Budgets::Project, Budgets::ProjectEnds] {
        writeln!(out, "{}", budgets::measure(workers, jobs.max(1), kind))?;
    }
    Ok(true)
}

/// Prints the figures, of seeds to look at unless others are named, and puts those of the report into the documents.
fn run_scaling(arguments: &Arguments, out: &mut impl Write) -> std::io::Result<bool> {
    let begin = Instant::now();
    let Some(folder) = arguments.into.as_deref() else {
        let from = arguments.from.unwrap_or(*scaling::SEEDS_TO_LOOK.start());
        let count = arguments.seeds.unwrap_or(scaling::SEEDS_TO_LOOK.end() - scaling::SEEDS_TO_LOOK.start() + 1);
        writeln!(out, "{}", scaling::tables(&scaling::play_all(from..from + count)))?;
        return writeln!(out, "{:.1} s", begin.elapsed().as_secs_f64()).map(|()| true);
    };
    let played = scaling::play_all(scaling::SEEDS_TO_REPORT);
    let page = folder.join("scaling.md");
    let text = std::fs::read_to_string(&page)?;
    let Some(text) = scaling::with_figures(&text, &played) else {
        writeln!(out, "{} has no place for the figures", page.display())?;
        return Ok(false);
    };
    std::fs::write(&page, text)?;
    std::fs::write(folder.join("scaling.svg"), scaling::svg(&played))?;
    std::fs::write(folder.join("scaling.csv"), scaling::csv(&played))?;
    writeln!(out, "{}\n{:.1} s", scaling::tables(&played), begin.elapsed().as_secs_f64())?;
    Ok(true)
}
