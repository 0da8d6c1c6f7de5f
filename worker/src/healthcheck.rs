//! `--healthcheck`: asks the worker that runs beside it, by its own port. For images that have no other program, whose
//! engine wants a command that says whether a container is well.

use crate::config::{LISTEN_DEFAULT, Mode};
use clap::Parser;
use std::io::{Read, Write};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpStream};
use std::time::Duration;

/// The argument that asks for it.
pub const HEALTHCHECK_ARGUMENT: &str = "--healthcheck";
/// Engines wait for 30 s by themselves; a worker that answers no sooner than this is not well.
const WAIT: Duration = Duration::from_secs(3);
/// Most of an answer that is read: its first line tells.
const ANSWER_MAX: u64 = 64;

/// Where the worker's port is, from the same settings that the worker was started with.
#[derive(Debug, Parser)]
#[command(name = "framewake-worker", ignore_errors = true)]
struct Settings {
    #[arg(long, env = "FRAMEWAKE_MODE", value_enum, default_value = "pull")]
    mode: Mode,
    #[arg(long, env = "FRAMEWAKE_METRICS")]
    metrics: Option<SocketAddr>,
    #[arg(long, env = "FRAMEWAKE_LISTEN", default_value = LISTEN_DEFAULT)]
    listen: SocketAddr,
}

#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("there is no port to ask: give the worker one that is known, as `FRAMEWAKE_METRICS=0.0.0.0:8081`")]
    NoPort,
    #[error("no answer on {address}")]
    Silent {
        address: SocketAddr,
        #[source]
        error: std::io::Error,
    },
    #[error("the answer on {address} is `{answer}`")]
    Unwell { address: SocketAddr, answer: String },
}

/// Asks the worker that these arguments and this environment are about.
pub fn check(arguments: impl Iterator<Item = String>) -> Result<(), Error> {
    let settings = Settings::parse_from(arguments.filter(|word| word != HEALTHCHECK_ARGUMENT));
    let address = match settings.mode {
        Mode::Http => Some(settings.listen),
        Mode::Pull | Mode::Exec => settings.metrics,
    };
    ask(address.filter(|address| address.port() != 0).ok_or(Error::NoPort)?)
}

fn ask(mut address: SocketAddr) -> Result<(), Error> {
    // Where any address is listened to, none can be asked.
    address.set_ip(match address.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => Ipv4Addr::LOCALHOST.into(),
        IpAddr::V6(ip) if ip.is_unspecified() => Ipv6Addr::LOCALHOST.into(),
        ip => ip,
    });
    let asked = || {
        let mut stream = TcpStream::connect_timeout(&address, WAIT)?;
        stream.set_read_timeout(Some(WAIT))?;
        stream.set_write_timeout(Some(WAIT))?;
        stream.write_all(b"GET /_/health HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n")?;
        let mut answer = Vec::new();
        stream.take(ANSWER_MAX).read_to_end(&mut answer)?;
        Ok(String::from_utf8_lossy(&answer).into_owned())
    };
    let answer = asked().map_err(|error| Error::Silent { address, error })?;
    if answer.starts_with("HTTP/1.1 200 ") {
        return Ok(());
    }
    Err(Error::Unwell { address, answer: answer.lines().next().unwrap_or_default().to_owned() })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::TcpListener;

    /// A port that answers one request so.
    fn answers(answer: &'static str) -> SocketAddr {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let address = listener.local_addr().expect("it listens");
        std::thread::spawn(move || {
            let (mut stream, _) = listener.accept().expect("somebody asks");
            let mut request = [0; 512];
            let _ = stream.read(&mut request);
            let _ = stream.write_all(answer.as_bytes());
        });
        address
    }

    fn check_with(words: &str) -> Result<(), Error> {
        check(format!("framewake-worker {words}").split(' ').map(str::to_owned))
    }

    #[test]
    fn it_asks_the_port_of_the_workers_mode() {
        let well = |address: SocketAddr| format!("--healthcheck --metrics 0.0.0.0:{}", address.port());
        check_with(&well(answers("HTTP/1.1 200 OK\r\n\r\n"))).expect("well");
        // What only the worker itself needs is no fault here.
        let port = answers("HTTP/1.1 200 OK\r\n\r\n").port();
        let words = format!("--mode http --listen 127.0.0.1:{port} --function f@1 --healthcheck --linger-ms 5");
        check_with(&words).expect("well");
    }

    #[test]
    fn what_does_not_answer_well_is_not_well() {
        assert!(matches!(check_with("--healthcheck"), Err(Error::NoPort)));
        assert!(matches!(check_with("--healthcheck --metrics 127.0.0.1:0"), Err(Error::NoPort)));
        let address = answers("HTTP/1.1 503 No\r\n\r\n");
        let unwell = check_with(&format!("--healthcheck --metrics {address}"));
        assert!(matches!(unwell, Err(Error::Unwell { .. })), "{unwell:?}");
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let closed = listener.local_addr().expect("it listens");
        drop(listener);
        assert!(matches!(check_with(&format!("--healthcheck --metrics {closed}")), Err(Error::Silent { .. })));
    }
}
