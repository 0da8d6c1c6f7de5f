//! What must hold for any bytes from outside, one function for each place where they come in. The fuzzer
//! (`make fuzz`) searches for bytes that break it; the tests play what it found worth keeping.

pub mod bridge;
pub mod corpus;
pub mod frames;
pub mod function;
pub mod job;
pub mod lines;
pub mod names;
pub mod rules;
pub mod seeds;
pub mod stream;
pub mod template;
pub mod verify;
pub mod wire;

/// The scheduler's own file, without its database and web server, which take minutes under the fuzzer's compiler.
#[path = "../../../scheduler/src/queue/reading.rs"]
mod reading;

/// A place where bytes come in.
#[derive(Debug, Clone, Copy)]
pub struct Target {
    pub name: &'static str,
    /// Panics when something does not hold.
    pub check: fn(&[u8]),
}

pub const TARGETS: [Target; 11] = [
    Target { name: "bridge", check: bridge::check },
    Target { name: "frames", check: frames::check },
    Target { name: "function", check: function::check },
    Target { name: "job", check: job::check },
    Target { name: "lines", check: lines::check },
    Target { name: "names", check: names::check },
    Target { name: "rules", check: rules::check },
    Target { name: "stream", check: stream::check },
    Target { name: "template", check: template::check },
    Target { name: "verify", check: verify::check },
    Target { name: "wire", check: wire::check },
];

/// The input as text after a first byte that chooses something.
fn choice_and_text(data: &[u8]) -> Option<(u8, &str)> {
    let (choice, rest) = data.split_first()?;
    Some((*choice, std::str::from_utf8(rest).ok()?))
}
