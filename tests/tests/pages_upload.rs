//! Files on their way from a page into the farm: hashed one after the other, and sent on after the scheduler had too much to do or
//! another window has sent a part of them. That a broken connection goes on where it was is in `pages_operator.rs`.

use framewake_proto::objects::{Digest, input_key};
use framewake_tests::browser::Browser;
use framewake_tests::farm::TestFarm;
use framewake_tests::proxy::rest::{DETAIL, Refusal, RestProxy};
use framewake_tests::wait::until;
use serde_json::json;
use std::path::PathBuf;
use std::time::Duration;

/// A form whose one file is hashed and waits to be sent, at this address.
async fn filled(farm: &TestFarm, url: &str, bytes: &[u8]) -> Browser {
    let file = farm.folder().join("scene.bin");
    std::fs::write(&file, bytes).expect("writable");
    let browser = Browser::start().await;
    browser.open(&format!("{url}/submit?function=command")).await;
    browser.sees("The same as a file").await;
    browser.write("Outputs", "").await;
    browser.write("Files", file.to_str().expect("UTF-8")).await;
    browser.write("program", "/bin/true").await;
    browser
}

/// Where the store has an input.
fn stored(farm: &TestFarm, bytes: &[u8]) -> PathBuf {
    farm.store_folder().join(input_key(&Digest::of(bytes)))
}

#[tokio::test]
async fn files_of_a_folder_are_in_memory_one_after_the_other() {
    let farm = TestFarm::start(1).await;
    let folder = farm.folder().join("textures");
    std::fs::create_dir(&folder).expect("writable");
    for number in 0..12 {
        std::fs::write(folder.join(format!("{number:02}.bin")), vec![number; 1 << 20]).expect("writable");
    }
    let browser = Browser::start().await;
    browser.open(&format!("{}/submit?function=command", farm.url())).await;
    browser.sees("The same as a file").await;
    // What is read as a whole is held until it is hashed.
    let count = "window.held = 0; window.most = 0; window.hashed = 0;
        const [read, digest] = [Blob.prototype.arrayBuffer, SubtleCrypto.prototype.digest];
        Blob.prototype.arrayBuffer = function () {
            window.held += 1;
            window.most = Math.max(window.most, window.held);
            return read.call(this);
        };
        SubtleCrypto.prototype.digest = async function (...given) {
            try {
                return await digest.apply(this, given);
            } finally {
                window.held -= 1;
                window.hashed += 1;
            }
        }";
    browser.ask(count).await;
    browser.write("Outputs", "").await;
    browser.write("Folder", folder.to_str().expect("UTF-8")).await;
    browser.write("program", "/bin/true").await;
    // Those that nobody has hashed yet are sent all the same.
    browser.press("Submit").await;
    browser.wait("the page of the job opens", "return location.pathname.startsWith('/jobs/')").await;
    assert_eq!(browser.ask("return [window.most, window.hashed, window.held]").await, json!([1, 12, 0]));
    for number in 0..12 {
        assert!(stored(&farm, &vec![number; 1 << 20]).is_file(), "file {number} is there");
    }
    browser.close().await;
}

#[tokio::test]
async fn an_upload_waits_as_long_as_the_scheduler_says_and_goes_on() {
    let farm = TestFarm::start(1).await;
    let proxy = RestProxy::start(farm.port()).await;
    let bytes = vec![7; 1 << 20];
    let browser = filled(&farm, &proxy.url(), &bytes).await;
    // More often than a broken connection is tried again.
    proxy.refuse(&["/v1/inputs/"], Refusal { status: 429, retry_after: Some(1), in_its_words: true });
    browser.press("Submit").await;
    browser.sees(&format!("{DETAIL}: waits 1.0 s, and goes on")).await;
    let asked = until(Duration::from_secs(30), "it is asked again and again", async || {
        let asked = proxy.refused_at("/v1/inputs/");
        (asked.len() > 8).then_some(asked)
    })
    .await;
    assert!(asked.windows(2).all(|pair| pair[1] - pair[0] >= Duration::from_millis(950)), "{asked:?}");
    proxy.pass_all();
    browser.wait("the page of the job opens", "return location.pathname.startsWith('/jobs/')").await;
    assert!(stored(&farm, &bytes).is_file(), "it is there");
    browser.close().await;
}

#[tokio::test]
async fn a_file_of_which_another_window_has_sent_a_part_goes_on_from_there() {
    let farm = TestFarm::start(1).await;
    let bytes: Vec<u8> = (0..5_u32 << 18).flat_map(u32::to_le_bytes).collect();
    let browser = filled(&farm, &farm.url(), &bytes).await;
    // Between the question how much is there and the first piece, another sends a piece.
    let elsewhere = "const own = window.fetch;
        window.before = 0;
        window.fetch = async (address, options) => {
            if (options?.method === 'PATCH' && !window.before) {
                window.before = 4096;
                await own(address, { ...options, body: options.body.slice(0, window.before) });
            }
            const answer = await own(address, options);
            if (answer.status === 409) window.refused = (window.refused ?? 0) + 1;
            return answer;
        }";
    browser.ask(elsewhere).await;
    browser.press("Submit").await;
    browser.wait("the page of the job opens", "return location.pathname.startsWith('/jobs/')").await;
    assert_eq!(browser.ask("return [window.before, window.refused]").await, json!([4096, 1]));
    assert!(std::fs::read(stored(&farm, &bytes)).expect("it is there") == bytes, "every byte is where it was");
    browser.close().await;
}
