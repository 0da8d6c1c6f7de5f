//! Farms that ask for tokens, and tokens that are made on the farm's own machine.

use crate::farm::TestFarm;
use crate::parts::built;
use framewake_proto::client::Client;
use framewake_proto::notify::Secret;
use std::process::Command;

/// What `framewake-scheduler token` prints.
pub fn made_here(farm: &TestFarm, arguments: &[&str]) -> Secret {
    let mut command = Command::new(built("framewake-scheduler"));
    command.arg("token").arg("--data").arg(farm.data()).args(arguments);
    let output = command.output().expect("it runs");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let text = String::from_utf8(output.stdout).expect("text");
    assert!(text.trim().starts_with("fw_") && text.lines().count() == 1, "it is printed alone");
    Secret::new(text.trim())
}

/// From now on the farm asks for tokens, with these arguments and this environment of its scheduler; its client has the first one,
/// which is an administrator's.
pub async fn ask_for_tokens(farm: &mut TestFarm, arguments: &[&str], environment: &[(&str, &str)]) -> Secret {
    let first = made_here(farm, &["--name", "first"]);
    farm.arguments = ["--access", "tokens"].iter().chain(arguments).map(|word| (*word).to_owned()).collect();
    farm.restart_scheduler_with(environment).await;
    farm.client = Client::with_token(&farm.url(), Some(&first)).expect("a good address");
    first
}
