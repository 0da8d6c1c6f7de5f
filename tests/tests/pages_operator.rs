//! What somebody does on the pages who looks after a farm, by buttons, each with the effect that it has: tokens, projects, prices,
//! notifications; a refused image; a cause of failed tries; and an upload whose connection breaks.

use framewake_proto::access::{Role, TokenAdd, WhoView};
use framewake_proto::client::{Client, Error, JobQuery};
use framewake_proto::notify::Secret;
use framewake_proto::objects::{Digest, input_key};
use framewake_tests::browser::Browser;
use framewake_tests::farm::{SOON, TestFarm};
use framewake_tests::jobs;
use framewake_tests::parts::free_port;
use framewake_tests::proxy::{Mode, Proxy};
use framewake_tests::receiver::{Answer, Receiver};
use framewake_tests::tokens::ask_for_tokens;
use framewake_tests::wait::until;
use serde_json::{Value, json};
use std::os::unix::fs::PermissionsExt;

/// 32 bytes that the receiver knows.
const SECRET: &str = "whsec_MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY=";

/// A farm that asks for tokens and may tell programs on this machine; and a browser in which its operator has logged in.
async fn operated() -> (TestFarm, Browser) {
    let mut farm = TestFarm::start(1).await;
    let allowed = [("FRAMEWAKE_NOTIFY_ALLOW", "127.0.0.1/32"), ("FRAMEWAKE_NOTIFY_FOR", "1s")];
    let token = ask_for_tokens(&mut farm, &[], &allowed).await;
    let browser = Browser::start().await;
    browser.open(&format!("{}/settings", farm.url())).await;
    browser.sees("This farm asks who you are.").await;
    browser.write("Token", token.reveal()).await;
    browser.press("Log in").await;
    browser.sees("Told when").await;
    (farm, browser)
}

/// A job whose frames fail at their one try.
fn failing(name: &str) -> Value {
    let mut job = jobs::command(&["/bin/sh", "-c", "echo no such texture; exit 3"], "1");
    (job["name"], job["steps"][0]["retries"]) = (json!(name), json!({ "attempts": 1 }));
    job
}

#[tokio::test]
async fn a_token_that_is_made_opens_the_farm_until_it_is_revoked() {
    let (farm, browser) = operated().await;
    browser.write_under("Tokens", "Name", "vera").await;
    browser.write_under("Tokens", "Role", "viewer").await;
    // What can't be used is said, and makes nothing.
    browser.write_under("Tokens", "Lasts", "for a while").await;
    browser.press("Make a token").await;
    browser.wait("the fault is told", "return Boolean(document.querySelector('main [role=alert]'))").await;
    assert_eq!(farm.client.tokens(None).await.expect("a list").items.len(), 1);
    browser.write_under("Tokens", "Lasts", "30d").await;
    browser.press("Make a token").await;
    browser.sees("It is shown this once").await;
    let secret = browser.ask("return document.querySelector('[aria-label=\"Token of vera\"]').value").await;
    let secret = Secret::new(secret.as_str().expect("text").to_owned());
    let vera = Client::with_token(&farm.url(), Some(&secret)).expect("a good address");
    vera.jobs(&JobQuery::default()).await.expect("a viewer may look");
    browser.press("Done").await;
    let gone = format!("return !document.documentElement.innerHTML.includes('{}')", secret.reveal());
    browser.wait("it is shown no more", &gone).await;
    browser.press_labeled("Revoke vera").await;
    browser.press("Leave it").await;
    vera.jobs(&JobQuery::default()).await.expect("it was not revoked");
    browser.press_labeled("Revoke vera").await;
    browser.press("Revoke it").await;
    browser.sees("The token of vera opens nothing any more.").await;
    let refused = vera.jobs(&JobQuery::default()).await;
    assert!(matches!(&refused, Err(Error::Refused(problem)) if problem.status == 401), "{refused:?}");
    browser.close().await;
}

#[tokio::test]
async fn an_admin_sees_who_is_logged_in_and_ends_the_session_of_another() {
    let (farm, browser) = operated().await;
    let add = TokenAdd { name: "vera".parse().expect("a name"), role: Role::Viewer, project: None, lasts: None };
    let vera = farm.client.add_token(&add).await.expect("made");
    let log_in = reqwest::Client::new().post(format!("{}/v1/session", farm.url()));
    let login = log_in.json(&json!({ "token": vera.secret.reveal() })).send().await.expect("an answer");
    let cookie = login.headers()["set-cookie"].to_str().expect("text").split(';').next().expect("a cookie").to_owned();
    let who = async || {
        let asked = reqwest::Client::new().get(format!("{}/v1/session", farm.url())).header("cookie", &cookie);
        asked.send().await.expect("an answer").json::<WhoView>().await.expect("who one is").who
    };
    assert!(who().await.is_some_and(|who| who.name == "vera"));
    let sessions = farm.client.sessions(None).await.expect("a list").items;
    let hers = sessions.iter().find(|one| one.name.as_str() == "vera").expect("she is logged in");
    browser.open(&format!("{}/settings", farm.url())).await;
    browser.sees("by this page").await;
    browser.sees(&hers.id).await;
    assert_eq!(browser.broken_rules().await, json!([]), "who is logged in");
    let end = format!("End the session {} of vera", hers.id);
    browser.press_labeled(&end).await;
    browser.press("Leave it").await;
    assert!(who().await.is_some(), "it was not ended");
    browser.press_labeled(&end).await;
    browser.press("End it").await;
    browser.sees("The session of vera is over.").await;
    assert_eq!(who().await, None);
    let left = format!("return !document.querySelector('main').innerText.includes('{}')", hers.id);
    browser.wait("it is listed no more", &left).await;
    browser.sees("by this page").await;
    browser.close().await;
}

#[tokio::test]
async fn shares_budgets_and_prices_are_set_and_taken_back() {
    let (farm, browser) = operated().await;
    let job = jobs::command(&["/bin/true"], "1");
    farm.succeed(&job).await;
    browser.press_labeled("Weight of default").await;
    browser.sees("Weight of default: its share").await;
    browser.write("Weight of default: its share of the workers beside other projects, 1 to 1000", "7").await;
    browser.press("Set it").await;
    browser.sees("default weighs 7.").await;
    assert_eq!(farm.client.project(&"default".parse().expect("a name")).await.expect("known").weight, 7);

    browser.write_under("Prices", "For", "any").await;
    browser.write_under("Prices", "An hour costs", "seventy cents").await;
    browser.press("Set a price").await;
    browser.wait("the fault is told", "return Boolean(document.querySelector('main [role=alert]'))").await;
    assert_eq!(farm.client.paid_by(None).await.expect("a list").items.len(), 0);
    browser.write_under("Prices", "An hour costs", "0.71 USD").await;
    browser.press("Set a price").await;
    browser.sees("any costs 0.71 USD an hour from today on.").await;
    browser.sees("$0.71").await;
    assert_eq!(farm.client.paid_by(None).await.expect("a list").items.len(), 1);

    browser.write_under("Projects: shares and budgets", "Project", "film").await;
    browser.write_under("Projects: shares and budgets", "May cost", "500 USD").await;
    browser.press("Set a budget").await;
    browser.sees("film may cost $500.00 a month.").await;
    browser.sees("of $500.00").await;
    let budgets = farm.client.budgets(None).await.expect("a list").items;
    assert_eq!((budgets.len(), budgets[0].project.as_str()), (1, "film"));
    browser.press_labeled("Remove the budget of film").await;
    browser.press("Remove it").await;
    browser.wait("it is gone", "return !document.querySelector('main').innerText.includes('$500.00')").await;
    assert_eq!(farm.client.budgets(None).await.expect("a list").items.len(), 0);
    browser.close().await;
}

#[tokio::test]
async fn who_is_told_is_added_tested_told_given_up_told_again_and_removed() {
    let (farm, browser) = operated().await;
    let receiver = Receiver::start(free_port(), |_| Answer::Status(200)).await;
    browser.write_under("Notifications", "Name", "artists").await;
    browser.write_under("Notifications", "By", "webhook").await;
    browser.write_under("Notifications", "Address", &receiver.url()).await;
    browser.write_under("Notifications", "Secret", SECRET).await;
    browser.press("Add").await;
    browser.sees("artists is told from now on.").await;
    browser.press_labeled("Test artists").await;
    browser.sees("artists was told.").await;
    assert_eq!(receiver.got().len(), 1, "the button did what it says");
    receiver.behave(|_| Answer::Status(500));
    browser.press_labeled("Test artists").await;
    browser.sees("artists was not told:").await;
    // What happens is told to nobody while it is away; it is given up, and sent once somebody says so.
    farm.over(farm.submit(&failing("unheard of")).await).await;
    browser.sees("Given up").await;
    receiver.behave(|_| Answer::Status(200));
    let before = receiver.got().len();
    browser.press_labeled("Send again to artists").await;
    browser.sees("It is tried again.").await;
    let got = until(SOON, "it is told", async || receiver.got().get(before).cloned()).await;
    assert!(String::from_utf8_lossy(&got.body).contains("unheard of"), "{got:?}");
    browser.press_labeled("Remove artists").await;
    browser.press("Remove it").await;
    browser.sees("Nobody is told of anything yet.").await;
    assert_eq!(farm.client.targets().await.expect("a list").len(), 0);
    browser.close().await;
}

#[tokio::test]
async fn a_cause_of_failed_tries_leads_to_the_log_that_tells_more() {
    let farm = TestFarm::start(1).await;
    let there = farm.folder().join("there");
    // Its first try fails, its second does not.
    let script =
        format!("[ -e {0} ] || {{ touch {0}; echo 'Error: <b>license server</b> away'; exit 3; }}", there.display());
    farm.succeed(&jobs::command(&["/bin/sh", "-c", &script], "1")).await;
    let browser = Browser::start().await;
    browser.open(&format!("{}/", farm.url())).await;
    browser.sees("No frame has failed for good.").await;
    browser.sees("Every try that failed, by cause").await;
    browser.sees("the renderer exited with code 3").await;
    browser.press("log of 1.1").await;
    browser.sees("Log of attempt 1.1").await;
    browser.sees("Error: <b>license server</b> away").await;
    browser.close().await;
}

#[tokio::test]
async fn an_image_that_was_refused_is_shown_with_what_was_found_and_the_version_before_stays() {
    let mut farm = TestFarm::start(0).await;
    let scanner = farm.folder().join("scanner");
    let found = r#"{"SchemaVersion":2,"ArtifactName":"x","Results":[{"Target":"x","Class":"os-pkgs","Vulnerabilities":[{"VulnerabilityID":"CVE-2026-1111","PkgName":"zlib1g","InstalledVersion":"1:1.2.13","Severity":"CRITICAL","Title":"<b>overflow</b>"}]}]}"#;
    let clean = r#"{"SchemaVersion":2,"ArtifactName":"x","Results":[]}"#;
    let script = format!("#!/bin/sh\ncase $1 in *:bad) echo '{found}' ;; *) echo '{clean}' ;; esac\n");
    std::fs::write(&scanner, script).expect("writable");
    std::fs::set_permissions(&scanner, std::fs::Permissions::from_mode(0o755)).expect("ours");
    farm.arguments = vec!["--scan-images".to_owned(), format!("{} {{image}}", scanner.display())];
    farm.restart_scheduler().await;
    let add = async |tag: &str| {
        let driver = json!({ "kind": "command", "command": ["/bin/true"] });
        let function = json!({ "name": "shot", "image": format!("registry.example/shot:{tag}"), "driver": driver });
        farm.client.add_function(&function).await.expect("a good function");
    };
    add("good").await;
    let browser = Browser::start().await;
    browser.open(&format!("{}/functions", farm.url())).await;
    browser.sees("shot@1").await;
    add("bad").await;
    // Without the page being loaded again.
    browser.sees("@2 is not active:").await;
    browser.sees("critical").await;
    let heading = "return [...document.querySelectorAll('h2')].some((one) => one.innerText === 'shot@1')";
    browser.wait("the version before is the one that is used", heading).await;
    browser.press_under("shot@1", "Parameters and versions").await;
    browser.sees("refused").await;
    browser.sees("critical: CVE-2026-1111 in zlib1g 1:1.2.13, <b>overflow</b>").await;
    assert_eq!(browser.broken_rules().await, json!([]));
    browser.close().await;
}

#[tokio::test]
async fn an_upload_goes_on_where_it_was_after_the_connection_broke() {
    let farm = TestFarm::start(1).await;
    let proxy = Proxy::start(farm.port()).await;
    // Three pieces, no two alike.
    let bytes: Vec<u8> = (0..20_u32 << 18).flat_map(u32::to_le_bytes).collect();
    let file = farm.folder().join("scene.bin");
    std::fs::write(&file, &bytes).expect("writable");
    let browser = Browser::start().await;
    browser.open(&format!("http://127.0.0.1:{}/submit?function=command", proxy.port)).await;
    browser.sees("The same as a file").await;
    browser.write("Outputs", "").await;
    browser.write("Files", file.to_str().expect("UTF-8")).await;
    browser.write("program", "/bin/true").await;
    let watch = "window.said = [];
        new MutationObserver(() => {
            const words = document.querySelector('main li [role=status]')?.textContent;
            if (words && window.said.at(-1) !== words) window.said.push(words);
        }).observe(document.querySelector('main'), { childList: true, subtree: true, characterData: true })";
    browser.ask(watch).await;
    // Within a piece, on every connection, and then nothing for a while. A browser tries by itself again what it sent on a connection that
    // it had used before, but not what breaks on a new one.
    proxy.set(Mode::Cut { after: 6 << 20 });
    browser.press("Submit").await;
    browser.wait("it says that it broke", "return window.said.includes('the connection broke: trying again')").await;
    proxy.set(Mode::Refuse);
    let tries =
        "return performance.getEntriesByType('resource').filter((entry) => entry.name.includes('/v1/inputs/')).length";
    let before = browser.ask(tries).await.as_u64().expect("a number");
    browser.wait("it tries", &format!("{tries} > {before}")).await;
    proxy.set(Mode::Pass);
    browser.wait("the page of the job opens", "return location.pathname.startsWith('/jobs/')").await;
    browser.sees("succeeded").await;
    let said = browser.ask("return window.said").await;
    let said: Vec<&str> = said.as_array().expect("a list").iter().filter_map(Value::as_str).collect();
    let broke = said.iter().position(|words| words.starts_with("the connection broke")).expect("it was said");
    assert!(said[..broke].contains(&"0 B of 20.0 MiB"), "{said:?}");
    let after: Vec<&&str> = said[broke..].iter().filter(|words| words.ends_with("of 20.0 MiB")).collect();
    assert!(!after.is_empty() && after.iter().all(|words| !words.starts_with("0 B")), "it began anew: {said:?}");
    assert_eq!(said.last(), Some(&"is there"), "{said:?}");
    let stored = farm.store_folder().join(input_key(&Digest::of(&bytes)));
    assert!(std::fs::read(stored).expect("it is there") == bytes, "every byte is where it was");
    browser.close().await;
}
