//! `framewake-gpu EVERY_MS [UUID…]`: says on standard output how the GPUs are, a look a line, until its standard input is
//! closed. The worker starts it: NVIDIA's library needs glibc, which the worker does without.

use framewake_gpu::Reader;
use std::io::{Read, Write};
use std::process::ExitCode;
use std::time::Duration;

/// The library can't be used here.
const EXIT_UNAVAILABLE: u8 = 69;

fn main() -> ExitCode {
    // A driver may hang for minutes inside a call; the worker's end must end this program all the same.
    std::thread::spawn(|| {
        let mut nothing = [0; 16];
        while std::io::stdin().read(&mut nothing).is_ok_and(|count| count > 0) {}
        #[allow(clippy::disallowed_methods)] // Nothing is open that would want to be closed.
        std::process::exit(0);
    });
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            let _nobody_reads =
                writeln!(std::io::stderr(), "framewake-gpu: {}", framewake_proto::chain::Chain(&*error));
            ExitCode::from(EXIT_UNAVAILABLE)
        }
    }
}

fn run() -> Result<(), Box<dyn std::error::Error>> {
    let mut arguments = std::env::args().skip(1);
    let every = arguments.next().unwrap_or_default();
    let every: u64 = every.parse().map_err(|_| format!("`{every}` is no number of milliseconds between two looks"))?;
    let given: Vec<String> = arguments.collect();
    let mut reader = Reader::open(&given)?;
    let mut out = std::io::stdout().lock();
    loop {
        let mut line = match reader.look() {
            Ok(look) => serde_json::to_vec(&look)?,
            // It may pass, as while a driver is loaded anew: said as a line that is no look.
            Err(error) => serde_json::to_vec(&framewake_proto::chain::Chain(&error).to_string())?,
        };
        line.push(b'\n');
        out.write_all(&line)?;
        out.flush()?;
        reader.wait(Duration::from_millis(every));
    }
}
