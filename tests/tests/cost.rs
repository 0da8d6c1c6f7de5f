//! Money on a real farm: what jobs will cost, what they cost, and what tools for bills get of it.

use framewake_proto::api::JobState;
use framewake_proto::estimate::{EstimateView, MsRange};
use framewake_proto::money::Money;
use framewake_tests::audit::upload;
use framewake_tests::farm::{SOON, TestFarm};
use framewake_tests::parts::{built, path, root};
use framewake_tests::wait::until;
use framewake_tests::{focus, jobs};
use serde_json::{Value, json};
use std::path::Path;
use std::process::{Command, Output};
use tempfile::TempDir;

/// Runs that are estimated before and compared with what they took.
const RUNS: u32 = 10;
/// Of these, how many must end within their range.
const WITHIN: u32 = 9;

/// A farm with sample functions whose workers leave soon, because what a job cost is known when they are gone.
async fn farm(slots: u32, functions: &[&str]) -> (TestFarm, TempDir) {
    let folder = tempfile::tempdir().expect("room for a folder");
    for name in functions {
        let text = std::fs::read_to_string(root().join(format!("samples/functions/{name}.yaml"))).expect("a sample");
        let text = text
            .lines()
            .map(|line| if line.starts_with("scaling:") { "scaling: { max: 2, linger: 300ms }" } else { line });
        std::fs::write(folder.path().join(format!("{name}.yaml")), text.collect::<Vec<_>>().join("\n"))
            .expect("writable");
    }
    (TestFarm::start_with(slots, false, folder.path()).await, folder)
}

fn run(farm: &TestFarm, arguments: &[&str]) -> Output {
    let mut command = Command::new(built("framewake"));
    command.args(arguments).env("FRAMEWAKE_URL", farm.url()).env("NO_COLOR", "1").env("PATH", path());
    command.current_dir(root()).output().expect("the program runs")
}

/// Runs it and demands success; standard output.
fn good(farm: &TestFarm, arguments: &[&str]) -> String {
    let output = run(farm, arguments);
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{arguments:?}\n{}\n{said}", String::from_utf8_lossy(&output.stdout));
    String::from_utf8(output.stdout).expect("text")
}

async fn scene(farm: &TestFarm, file: &Path) -> framewake_proto::objects::Digest {
    upload(&farm.client, &std::fs::read(file).expect("a scene")).await
}

/// Runs the job again and again, each time estimated before: whether time and money were within their ranges, of workers
/// that begin from zero if `from_zero`.
async fn check_estimates(farm: &TestFarm, job: &Value, from_zero: bool) {
    let estimate = async || farm.client.estimate(job, Some("2")).await.expect("a good job");
    let before = estimate().await;
    assert_eq!(before.unknown_steps.len(), before.steps.len(), "nothing is known yet: {before:?}");
    assert_eq!(before.options[0].time_ms, MsRange::default());
    farm.succeed(job).await;
    let (mut in_time, mut in_money, mut told) = (0, 0, Vec::new());
    for _ in 0..RUNS {
        if from_zero {
            farm.no_workers().await;
        }
        let EstimateView { options, unknown_steps, .. } = estimate().await;
        assert!(unknown_steps.is_empty(), "{unknown_steps:?}");
        let view = farm.succeed(job).await;
        let took_ms = view.finished_at.expect("it is over").since(view.submitted_at).as_millis();
        let MsRange { low, high } = options[0].time_ms;
        in_time += u32::from((u128::from(low)..=u128::from(high)).contains(&took_ms));
        let mut line = format!("{took_ms} ms of {low} to {high}");
        if from_zero {
            farm.no_workers().await;
            let cost = farm.client.job_cost(view.id, 0, 0).await.expect("told").paid.cost;
            let (range, micros) = (options[0].cost[0], cost[0].micros);
            in_money += u32::from((range.low.micros..=range.high.micros).contains(&micros));
            line = format!("{line}, {micros} micros of {} to {}", range.low.micros, range.high.micros);
        }
        told.push(line);
    }
    assert!(in_time >= WITHIN, "{in_time} of {RUNS} in time:\n{}", told.join("\n"));
    assert!(!from_zero || in_money >= WITHIN, "{in_money} of {RUNS} in money:\n{}", told.join("\n"));
}

#[tokio::test(flavor = "multi_thread")]
async fn nine_of_ten_runs_of_povray_and_tachyon_end_within_their_estimates() {
    let (farm, _functions) = farm(2, &["povray", "tachyon"]).await;
    good(&farm, &["prices", "set", "any", "100USD"]);
    let spheres = scene(&farm, &root().join("samples/scenes/spheres.dat")).await;
    check_estimates(&farm, &jobs::tachyon(spheres, "1-40"), false).await;
    let orbit = scene(&farm, &root().join("samples/scenes/orbit.pov")).await;
    let povray = json!({ "name": "orbit", "steps": [{
        "name": "render", "function": "povray", "frames": "1-4", "output": "frames/{frame:04}.png",
        "inputs": [{ "digest": orbit, "as": "orbit.pov" }],
        "parameters": { "scene": "orbit.pov", "width": 96, "height": 54 },
    }] });
    check_estimates(&farm, &povray, true).await;
    // Four times the pixels: not measured, and not unknown either.
    let mut large = povray.clone();
    large["steps"][0]["parameters"]["width"] = json!(192);
    large["steps"][0]["parameters"]["height"] = json!(108);
    let [small, large] = [povray, large].map(async |job| farm.client.estimate(&job, None).await.expect("a good job"));
    let (small, large) = (small.await, large.await);
    let basis = |view: &EstimateView| view.steps[0].basis.clone().expect("known");
    assert!(basis(&large).scaled && !basis(&small).scaled);
    assert!(basis(&large).task_ms.high > 3 * basis(&small).task_ms.low, "{large:?}");
    assert_eq!(small.options.iter().map(|option| option.workers).collect::<Vec<_>>(), [1, 2], "as many as it allows");
}

#[tokio::test(flavor = "multi_thread")]
async fn nine_of_ten_runs_of_blender_end_within_their_estimates() {
    let (farm, _functions) = farm(1, &["blender"]).await;
    let file = farm.folder().join("scene.blend");
    jobs::make_blender_scene(&file);
    let job = jobs::blender(scene(&farm, &file).await, "1-3");
    check_estimates(&farm, &job, false).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_estimate_says_that_nothing_is_known_and_a_probe_makes_it_known() {
    let (farm, _functions) = farm(2, &["povray", "ffmpeg-encode"]).await;
    let file = "samples/jobs/povray.yaml";
    let small = ["--set", "render.width=64", "--set", "render.height=36"];
    let told = good(&farm, &[["estimate", file].as_slice(), &small].concat());
    assert!(told.contains("nothing is known") && told.contains("--probe"), "{told}");
    let told = good(&farm, &[["estimate", file, "--probe", "3", "--workers", "1,2"].as_slice(), &small].concat());
    assert!(told.contains("step render (12 tasks of povray@1): ") && told.contains("from 3 tasks in 1 run"), "{told}");
    assert!(told.contains("no price is set") && told.contains("without what is not known: step encode"), "{told}");
    let probe = farm.client.jobs(&framewake_proto::client::JobQuery::default()).await.expect("listed").items;
    let [probe] = probe.as_slice() else { panic!("one job: {probe:?}") };
    assert_eq!((probe.state, probe.priority, probe.steps[0].frames.as_str()), (JobState::Succeeded, 100, "1,6,12"));
    good(&farm, &["prices", "set", "any", "1USD"]);
    good(&farm, &["prices", "set", "storage", "0.02USD"]);
    let view: EstimateView =
        serde_json::from_str(&good(&farm, &[["--json", "estimate", file].as_slice(), &small].concat())).expect("JSON");
    let [one, two] = view.options.as_slice() else { panic!("{view:?}") };
    assert!(one.time_ms.low > two.time_ms.low && one.cost[0].low.micros > 0, "{view:?}");
    let outputs = view.outputs.expect("known");
    assert!(outputs.low_bytes > 0 && outputs.storage_a_month.is_some() && outputs.egress.is_none(), "{outputs:?}");
    // The same faults as a submission has.
    for (setting, fault) in [("render.width=-3", "steps[0].parameters.width"), ("render.paint=red", "paint")] {
        let output = run(&farm, &["estimate", file, "--set", setting]);
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(2), "{said}");
        let submitted = run(&farm, &["submit", file, "--set", setting]);
        assert!(said.contains(fault) && said == String::from_utf8_lossy(&submitted.stderr), "{said}");
    }
    let output = run(&farm, &["estimate", file, "--workers", "1,0"]);
    assert!(!output.status.success() && String::from_utf8_lossy(&output.stderr).contains("not `0`"), "{output:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_paid_is_told_as_tables_json_csv_and_focus() {
    let (farm, _functions) = farm(2, &["tachyon", "command"]).await;
    let imported = good(&farm, &["prices", "import", "samples/prices/gcp.csv"]);
    assert!(imported.contains("prices are new, 0 were known"), "{imported}");
    assert!(good(&farm, &["prices", "list", "--gpu", "L4"]).contains("g2-standard-4"));
    assert!(good(&farm, &["prices"]).contains("no price is known"));
    good(&farm, &["prices", "set", "any", "100USD"]);
    good(&farm, &["prices", "set", "function:command", "200EUR"]);
    assert!(good(&farm, &["prices"]).contains("function:command"));
    let spheres = scene(&farm, &root().join("samples/scenes/spheres.dat")).await;
    let mut tachyon = jobs::tachyon(spheres, "1-20");
    tachyon["project"] = json!("film");
    let job = farm.succeed(&tachyon).await.id;
    farm.succeed(&jobs::command(&["/bin/sleep", "0.05"], "1-3")).await;
    farm.no_workers().await;
    let id = job.to_string();
    let table = good(&farm, &["cost", &id]);
    for word in
        ["useful", "cold_start", "the dearest of 20 frames", "storage, about, for a month: price unknown", "own any"]
    {
        assert!(table.contains(word), "{word}: {table}");
    }
    // A job costs what its frames do, to the millionth.
    let csv = good(&farm, &["cost", &id, "--csv"]);
    let frames = csv.lines().skip(1).map(|line| focus::fields(line)[3].parse::<Money>().expect("an amount").micros);
    let view: Value = serde_json::from_str(&good(&farm, &["--json", "cost", &id])).expect("JSON");
    let whole: Money = serde_json::from_value(view["cost"][0].clone()).expect("an amount");
    assert_eq!((frames.sum::<i64>(), csv.lines().count()), (whole.micros, 21), "{csv}");
    let causes =
        view["causes"].as_array().expect("a list").iter().map(|cause| cause["time_us"].as_u64().expect("a time"));
    assert_eq!(causes.sum::<u64>(), view["time_us"].as_u64().expect("a time"));
    let days = good(&farm, &["cost", "--by", "project,function"]);
    assert!(days.contains("film") && days.contains("tachyon@1") && days.contains("EUR"), "{days}");
    // All of it in the one pool there is: what pools cost together is what the farm does.
    let pools: Value = serde_json::from_str(&good(&farm, &["--json", "cost", "--by", "pool"])).expect("JSON");
    let [pool] = pools["rows"].as_array().expect("rows").as_slice() else { panic!("one pool: {pools}") };
    assert_eq!((&pool["pool"], &pool["time_us"], &pool["cost"]), (&json!("local"), &pools["time_us"], &pools["cost"]));
    assert_eq!(view["pools"][0]["cost"], view["cost"], "{view}");
    let dearest = good(&farm, &["cost", &id, "--chunks", "3"]);
    assert!(dearest.contains("the dearest chunks:") && dearest.contains("local"), "{dearest}");
    let csv = good(&farm, &["cost", "--by", "project", "--csv"]);
    assert!(csv.starts_with("project,time_us,useful_us,unknown_us,cost\n") && csv.contains("\nfilm,"), "{csv}");
    let charges = good(&farm, &["cost", "--focus"]);
    assert_eq!(focus::faults(&charges), Vec::<String>::new(), "{charges}");
    let head = focus::fields(charges.lines().next().expect("names"));
    let column = |name: &str| head.iter().position(|other| other == name).unwrap_or_else(|| panic!("no {name}"));
    let sum = |currency: &str| -> i64 {
        let lines =
            charges.lines().skip(1).map(focus::fields).filter(|line| line[column("BillingCurrency")] == currency);
        lines.map(|line| format!("{}USD", line[column("BilledCost")]).parse::<Money>().expect("an amount").micros).sum()
    };
    let all: Value = serde_json::from_str(&good(&farm, &["--json", "cost"])).expect("JSON");
    let amounts: Vec<Money> = serde_json::from_value(all["cost"].clone()).expect("amounts");
    assert_eq!(amounts.len(), 2, "two currencies, never added to each other: {amounts:?}");
    for amount in amounts {
        assert_eq!(sum(amount.currency.as_str()), amount.micros, "{amount}");
    }
    assert!(charges.lines().skip(1).map(focus::fields).all(|line| line[column("x_Pool")] == "local"), "{charges}");
    // What is paid by from tomorrow on changes nothing today, and what can't be a price is refused.
    let refused = run(&farm, &["prices", "set", "any", "-1USD"]);
    assert!(!refused.status.success());
}

#[test]
fn the_rules_of_focus_see_what_is_wrong() {
    let head = "BilledCost,EffectiveCost,ListCost,ContractedCost,BillingAccountId,BillingAccountName,BillingCurrency,\
                BillingPeriodStart,BillingPeriodEnd,ChargePeriodStart,ChargePeriodEnd,ChargeCategory,ChargeClass,\
                ChargeFrequency,ChargeDescription,ServiceCategory,ServiceName,ProviderName,PublisherName,\
                InvoiceIssuerName,SkuPriceId,ListUnitPrice,ContractedUnitPrice,PricingCategory,PricingQuantity,\
                PricingUnit,ConsumedQuantity,ConsumedUnit,Tags";
    let row = "0.50,0.50,0.50,0.50,farm,,USD,2026-11-01T00:00:00Z,2026-12-01T00:00:00Z,2026-11-20T00:00:00Z,\
               2026-11-21T00:00:00Z,Usage,,Usage-Based,words,Compute,Rendering,own,own,own,1,1.00,1.00,Standard,\
               0.500000000,Hours,0.5,Hours,\"{\"\"a\"\":\"\"b\"\"}\"";
    assert_eq!(focus::faults(&format!("{head}\n{row}\n")), Vec::<String>::new());
    for (good, bad, fault) in [
        ("0.50,0.50,", "0.50,,", "EffectiveCost has no value"),
        ("0.50,0.50,", "0.50,\"1,000\",", "is no Decimal"),
        ("USD", "usd", "is no Currency"),
        ("Usage,", "Use,", "ChargeCategory can't be"),
        ("2026-12-01T00:00:00Z", "2026-12-01", "is no Time"),
        ("2026-11-21T00:00:00Z", "2026-12-21T00:00:00Z", "billing period"),
        ("0.500000000", "0.6", "ListUnitPrice × PricingQuantity"),
        ("Standard", "", "PricingCategory: usage must have it"),
        ("\"{\"\"a\"\":\"\"b\"\"}\"", "a", "is no Json"),
    ] {
        let faults = focus::faults(&format!("{head}\n{}\n", row.replacen(good, bad, 1))).join("\n");
        assert!(faults.contains(fault), "{fault}: {faults}");
    }
    assert!(focus::faults("BilledCost,Cause\n").join("\n").contains("Cause is no column of FOCUS"));
}

/// A person may ask at any moment: also while a job is rendered.
#[tokio::test(flavor = "multi_thread")]
async fn what_is_measured_survives_a_restart_and_counts_frames_once() {
    let (mut farm, _functions) = farm(1, &["command"]).await;
    let job = jobs::command(&["/bin/sleep", "0.02"], "1-5");
    farm.succeed(&job).await;
    let basis =
        async |farm: &TestFarm| farm.client.estimate(&job, None).await.expect("a good job").steps[0].basis.clone();
    let known = until(SOON, "it is known", || async { basis(&farm).await.filter(|basis| basis.runs == 1) }).await;
    assert_eq!(known.tasks, 5);
    farm.restart_scheduler().await;
    assert_eq!(basis(&farm).await, Some(known));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_project_without_money_is_held_over_a_restart_and_goes_on_with_more() {
    let (mut farm, _functions) = farm(1, &["command"]).await;
    good(&farm, &["prices", "set", "any", "100USD"]);
    let set = run(&farm, &["budgets", "set", "film", "--month", "0.02USD", "--warn", "50%"]);
    assert!(set.status.success(), "{}", String::from_utf8_lossy(&set.stderr));
    let mut job = jobs::command(&["/bin/sleep", "0.1"], "1-40");
    job["project"] = json!("film");
    let id = farm.submit(&job).await;
    let budget = async |farm: &TestFarm| farm.client.budgets(None).await.expect("listed").items.remove(0);
    until(SOON, "the project is held", || async { budget(&farm).await.held.then_some(()) }).await;
    farm.no_workers().await;
    let told = good(&farm, &["explain", &id.to_string()]);
    assert!(
        told.contains("held by the budget of project film: ") && told.contains(" of 0.02 USD is spent this month"),
        "{told}"
    );
    let before = farm.client.job(id).await.expect("it is there");
    assert!(before.state == JobState::Running && before.tasks.done > 0 && before.tasks.open == 0, "{before:?}");
    let spent = budget(&farm).await.spent;
    farm.restart_scheduler().await;
    let after = budget(&farm).await;
    assert!(after.held && after.spent == spent, "{after:?}, {spent} before");
    let table = good(&farm, &["budgets"]);
    assert!(table.contains("film") && table.contains("0.02 USD") && table.contains("held"), "{table}");
    let refused = run(&farm, &["budgets", "set", "film", "--month", "5EUR"]);
    assert!(String::from_utf8_lossy(&refused.stderr).contains("nothing is paid in EUR"), "{refused:?}");
    assert_eq!(farm.worker_pids(), Vec::<u32>::new(), "nobody was started for what is held");
    good(&farm, &["budgets", "set", "film", "--month", "100USD", "--over", "finish"]);
    assert_eq!(farm.over(id).await.state, JobState::Succeeded);
    good(&farm, &["budgets", "rm", "film"]);
    assert!(good(&farm, &["budgets"]).contains("no project has a budget"));
    // And a job, while it is rendered.
    let id = farm.submit(&job).await;
    good(&farm, &["budget", &id.to_string(), "0.01USD"]);
    until(SOON, "the job is held", || async {
        farm.client.job(id).await.ok().filter(|job| job.state == JobState::Paused)
    })
    .await;
    good(&farm, &["budget", &id.to_string(), "100USD"]);
    assert_eq!(farm.over(id).await.state, JobState::Succeeded, "it goes on by itself");
}
