//! What the scheduler's program does besides scheduling: look after the database, and make what others are let in with.

use crate::access::errand::add_token;
use crate::credentials::Issuer;
use crate::credentials::server::Keys;
use crate::store::backup;
use crate::store::file::{DATABASE, Look, inspect};
use anyhow::Result;
use clap::Subcommand;
use framewake_proto::access::Role;
use framewake_proto::duration::Span;
use framewake_proto::ids::{FunctionRef, Name};
use framewake_proto::permissions::Joiner;
use framewake_proto::subjects::Subjects;
use framewake_proto::time::Timestamp;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// How often a copy that takes long says that it goes on.
const SAY_EVERY: Duration = Duration::from_secs(5);

#[derive(Debug, Subcommand)]
pub enum Errand {
    /// Copy the database to a file, also while the scheduler works
    Backup {
        #[command(flatten)]
        data: Data,
        /// The file to make; nothing is overwritten
        #[arg(long)]
        to: PathBuf,
    },
    /// Put a backup in the place of the database, which is moved aside. The scheduler must not run
    Restore {
        #[command(flatten)]
        data: Data,
        /// A backup, or any copy of a database
        #[arg(long)]
        from: PathBuf,
        /// Do nothing where there is a database already, or no copy: for machines that begin with an empty disk
        #[arg(long)]
        if_needed: bool,
    },
    /// Make a token, also while the scheduler works: the first one, or one when all are lost. It is printed alone, on stdout
    Token {
        #[command(flatten)]
        data: Data,
        /// Whose it is, or what it is for
        #[arg(long, default_value = "admin")]
        name: Name,
        /// viewer, artist, operator or admin
        #[arg(long, default_value = "admin")]
        role: Role,
        /// The one project it is for [default: all]
        #[arg(long)]
        project: Option<Name>,
        /// How long it is good for, as `30d` [default: until it is revoked]
        #[arg(long)]
        lasts: Option<Span>,
    },
    /// Make the keys by which NATS lets in whom the scheduler signs for: seeds, for the scheduler alone, and a file for the
    /// configuration of the server
    NatsKeys {
        /// The file to make for `--nats-seed`; nothing is overwritten
        #[arg(long)]
        seed: PathBuf,
        /// The file to make for the server, which takes it with `include`
        #[arg(long)]
        config: PathBuf,
    },
    /// Make what workers join with that the scheduler does not start itself. It is printed alone, on stdout
    JoinToken {
        /// File with the seed
        #[arg(long, env = "FRAMEWAKE_NATS_SEED_FILE")]
        nats_seed: PathBuf,
        /// Prefix of the farm on NATS
        #[arg(long, env = "FRAMEWAKE_FARM", default_value = "framewake")]
        farm: Name,
        /// The function, or version of it, that its workers run: `blender`, `blender@3` [default: any]
        #[arg(long)]
        function: Option<FunctionRef>,
        /// How long workers may join with it, as `90d` [default: until there are other keys]
        #[arg(long)]
        lasts: Option<Span>,
    },
    /// Look through the whole database, also while the scheduler works
    Check {
        #[command(flatten)]
        data: Data,
    },
}

#[derive(Debug, clap::Args)]
pub struct Data {
    /// Folder of the database, logs and caches
    #[arg(long = "data", env = "FRAMEWAKE_DATA", default_value = ".framewake")]
    folder: PathBuf,
}

#[allow(clippy::print_stdout)] // What was asked for.
pub async fn run(errand: Errand) -> Result<()> {
    if let Errand::Token { data: Data { folder }, name, role, project, lasts } = errand {
        let secret = add_token(&folder, name, role, project, lasts, Timestamp::now()).await?;
        eprintln!("keep it: what is stored is its digest. `framewake login URL` takes it");
        println!("{}", secret.reveal());
        return Ok(());
    }
    if let Errand::JoinToken { nats_seed, farm, function, lasts } = errand {
        let issuer = Issuer::open(&nats_seed, Subjects::new(farm))?;
        let joiner = function.map_or(Joiner::Any, Joiner::Function);
        let until = lasts.map(|Span(lasts)| Timestamp::now().after(lasts));
        eprintln!("workers take it as FRAMEWAKE_JOIN_TOKEN, or from the file that FRAMEWAKE_JOIN_TOKEN_FILE names");
        println!("{}", issuer.join_token(&joiner, until).reveal());
        return Ok(());
    }
    let began = Instant::now();
    let mut say = tokio::time::interval_at(tokio::time::Instant::now() + SAY_EVERY, SAY_EVERY);
    let mut work = std::pin::pin!(carry_out(errand));
    let done = loop {
        tokio::select! {
            done = &mut work => break done?,
            _ = say.tick() => eprintln!("still at it, {} s so far", began.elapsed().as_secs()),
        }
    };
    println!("{done} ({:.1} s)", began.elapsed().as_secs_f64());
    Ok(())
}

async fn carry_out(errand: Errand) -> Result<String> {
    match errand {
        Errand::Backup { data: Data { folder }, to } => {
            let bytes = backup::back_up(&folder, &to).await?;
            Ok(format!("`{}` is a copy of the database, verified and on disk: {}", to.display(), mib(bytes)))
        }
        Errand::Restore { data: Data { folder }, from, if_needed: true } if folder.join(DATABASE).exists() => {
            Ok(format!("`{}` has a database: it stays, and `{}` is not looked at", folder.display(), from.display()))
        }
        Errand::Restore { data: Data { folder }, from, if_needed: true } if !from.exists() => {
            Ok(format!("there is no `{}`: `{}` begins with an empty database", from.display(), folder.display()))
        }
        Errand::Restore { data: Data { folder }, from, if_needed: _ } => {
            let restored = backup::restore(&from, &folder).await?;
            let before = restored.before.map_or_else(
                || "there was no database before".to_owned(),
                |before| format!("the database before is `{}` now", before.display()),
            );
            Ok(format!(
                "`{}` has the database of `{}`, with {} jobs; {before}. Start the scheduler; it looks into the store before \
                 it renders. Jobs submitted since the backup are not known: submit them again",
                folder.display(),
                from.display(),
                restored.jobs
            ))
        }
        Errand::NatsKeys { seed, config } => {
            Keys::make().write(&seed, &config)?;
            Ok(format!(
                "`{}` is for the scheduler alone (--nats-seed), `{}` for NATS (include)",
                seed.display(),
                config.display()
            ))
        }
        Errand::Token { .. } | Errand::JoinToken { .. } => unreachable!("made above"),
        Errand::Check { data: Data { folder } } => {
            let database = folder.join(DATABASE);
            if !database.is_file() {
                return Err(backup::Error::NoDatabase { folder }.into());
            }
            inspect(&database, Look::Full).await?;
            Ok(format!("`{}` is whole: {}", database.display(), size(&database)))
        }
    }
}

fn size(path: &Path) -> String {
    mib(std::fs::metadata(path).map_or(0, |file| file.len()))
}

fn mib(bytes: u64) -> String {
    format!("{:.1} MiB", bytes as f64 / f64::from(1 << 20))
}
