//! Runs a farm for a while under Prometheus, and draws what each dashboard shows of it into `docs/monitoring/`.
//! `make monitoring-pictures`.

#![allow(clippy::print_stdout)] // Says what it has drawn.

use framewake_tests::monitoring::work::Watched;
use framewake_tests::monitoring::{DASHBOARDS, dashboard, plot};
use framewake_tests::parts::root;
use std::time::Duration;

const WORK: Duration = Duration::from_mins(2);
const RATE_INTERVAL: &str = "10s";

#[tokio::main]
async fn main() {
    let watched = Watched::start().await;
    watched.work(WORK).await;
    let folder = root().join("docs/monitoring");
    std::fs::create_dir_all(&folder).expect("the repository is writable");
    for name in DASHBOARDS {
        let picture = plot::draw(&watched.prometheus, &dashboard(name), watched.span(), RATE_INTERVAL).await;
        let file = folder.join(format!("{name}.svg"));
        std::fs::write(&file, picture).expect("the repository is writable");
        println!("{}", file.display());
    }
}
