//! What a scanner said of a function's image: waited for, and told.

use crate::printer::{Printer, Style};
use crate::{Context, retry, text};
use framewake_proto::api::FunctionView;
use framewake_proto::scan::{ScanState, ScanView};
use std::time::Duration;

/// How often it is asked whether a scan is over: it takes seconds to minutes.
const ASK_EVERY: Duration = Duration::from_millis(500);

fn waits(function: &FunctionView) -> bool {
    function.scan.as_ref().is_some_and(|scan| scan.state == ScanState::Waiting)
}

/// The version once its scan is over; Ctrl-C leaves it to the scheduler.
pub(super) async fn wait(context: &Context, mut function: FunctionView) -> anyhow::Result<FunctionView> {
    if waits(&function) && !context.printer.is_json() {
        let (name, version) = (&function.name, function.version);
        context
            .printer
            .note(format_args!("{name}@{version} is active once the scan of its image has passed; waiting for it"));
    }
    let name = format!("{}@{}", function.name, function.version);
    while waits(&function) {
        tokio::time::sleep(ASK_EVERY).await;
        function = retry::while_passing(&context.printer, async || context.client.function(&name).await).await?;
    }
    Ok(function)
}

/// What was found, and newer versions that are not active for what was found in theirs.
pub(super) fn print(printer: &Printer, function: &FunctionView) -> anyhow::Result<()> {
    if let Some(scan) = &function.scan {
        print_scan(printer, "scan", scan)?;
    }
    for candidate in &function.candidates {
        print_scan(printer, &format!("{}@{} is not active: scan", function.name, candidate.version), &candidate.scan)?;
    }
    Ok(())
}

fn print_scan(printer: &Printer, what: &str, scan: &ScanView) -> anyhow::Result<()> {
    let style = if scan.state.is_active() { Style::Weak } else { Style::Bad };
    printer.line(format_args!("{what}: {}, {}", printer.paint(style, scan.state.as_str()), scan.found))?;
    if !scan.reason.is_empty() {
        printer.line(format_args!("  {}", text::clean(&scan.reason)))?;
    }
    for finding in &scan.worst {
        let (id, place, title) = (text::clean(&finding.id), text::clean(&finding.place), text::clean(&finding.title));
        printer.line(format_args!("  - {} {id} in {place}: {title}", finding.severity))?;
    }
    Ok(())
}
