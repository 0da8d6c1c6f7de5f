//! Outputs: the list and the bytes.

use super::*;
use framewake_proto::api::{OutputView, Page, StepMap};
use framewake_proto::objects::{Digest, Picture, log_key, picture_key};

pub(super) async fn farm_with_outputs() -> (Farm, JobId, Vec<u8>) {
    let farm = Farm::start().await;
    let id = farm.submit(&job("shot", 10)).await;
    farm.wait(id, |job| job.tasks.open > 0).await;
    farm.claim(1).await;
    let bytes: Vec<u8> = (0..100).collect();
    let results = (0..10).map(|task| done(task, &format!("jobs/default/{id}/f/{:04}.png", task + 1), &bytes));
    farm.report(1, results.collect(), Vec::new()).await;
    farm.wait(id, |job| job.state.is_over()).await;
    farm.app.objects.put(&format!("jobs/default/{id}/f/0001.png"), bytes.clone().into()).await.expect("put");
    (farm, id, bytes)
}

#[tokio::test]
async fn outputs_are_listed_with_what_is_known_of_them() {
    let (farm, id, bytes) = farm_with_outputs().await;
    let first: Page<OutputView> = farm.read(&format!("/v1/jobs/{id}/outputs?limit=7")).await;
    let view = &first.items[0];
    assert_eq!((view.name.as_str(), view.frame, view.size_bytes), ("f/0001.png", 1, 100));
    assert_eq!(view.sha256, framewake_proto::objects::Digest::of(&bytes));
    assert_eq!((view.width, view.height, view.device.as_str(), view.attempt.as_str()), (4, 2, "CPU", "1.1"));
    let rest: Page<OutputView> =
        farm.read(&format!("/v1/jobs/{id}/outputs?step=render&cursor={}", first.next.expect("more"))).await;
    assert_eq!(rest.items.iter().map(|view| view.frame).collect::<Vec<_>>(), [8, 9, 10]);
    assert_eq!(rest.next, None);
}

#[tokio::test]
async fn a_step_is_shown_at_a_glance_in_as_many_columns_as_are_asked_for() {
    let farm = Farm::start().await;
    let id = farm.submit(&job("shot", 10)).await;
    farm.wait(id, |job| job.tasks.open > 0).await;
    farm.claim(1).await;
    farm.report(1, vec![done(0, "a", b"a"), done(1, "b", b"b")], vec![failed(9, Verdict::SceneError)]).await;
    farm.wait(id, |job| job.tasks.done == 2 && job.tasks.failed == 1).await;
    let map: StepMap = farm.read(&format!("/v1/jobs/{id}/steps/render/map?columns=3")).await;
    assert_eq!((map.total, map.size, map.sampled), (10, vec![4, 3, 3], false));
    assert_eq!((map.done, map.failed), (vec![2, 0, 0], vec![0, 0, 1]));
    assert_eq!((map.mean_ms[0].is_some(), map.mean_ms[1], map.max_ms[2]), (true, None, None));
    let whole: StepMap = farm.read(&format!("/v1/jobs/{id}/steps/render/map")).await;
    assert_eq!(whole.size, [1; 10], "never more columns than tasks");
    assert_eq!(whole.done.iter().chain(&whole.failed).chain(&whole.open).max(), Some(&1), "each task is one thing");
    for wrong in ["columns=0", "columns=4097", "columns=x", "buckets=3"] {
        farm.get(&format!("/v1/jobs/{id}/steps/render/map?{wrong}")).await.problem(400, "invalid-query");
    }
    farm.get(&format!("/v1/jobs/{id}/steps/rendr/map")).await.problem(404, "not-found");
}

#[tokio::test]
async fn bytes_come_whole_or_in_ranges() {
    let (farm, id, bytes) = farm_with_outputs().await;
    let path = format!("/v1/jobs/{id}/outputs/render/0");
    let ask = async |method: &str, name: &'static str, value: &str| {
        let request = Request::builder().method(method).uri(&path).header(name, value).body(Body::empty());
        farm.send(request.expect("a request")).await
    };
    let whole = ask("GET", "x-none", "").await;
    assert_eq!((whole.status, whole.body), (StatusCode::OK, bytes.clone()));
    assert_eq!(whole.headers["content-type"], "image/png");
    assert_eq!(whole.headers["accept-ranges"], "bytes");
    let part = ask("GET", "range", "bytes=10-19").await;
    assert_eq!((part.status, part.body), (StatusCode::PARTIAL_CONTENT, bytes[10..20].to_vec()));
    assert_eq!(part.headers["content-range"], "bytes 10-19/100");
    assert_eq!(ask("GET", "range", "bytes=-5").await.body, bytes[95..]);
    let outside = ask("GET", "range", "bytes=100-").await;
    outside.problem(416, "wrong-range");
    assert_eq!(outside.headers["content-range"], "bytes */100");
    let head = ask("HEAD", "x-none", "").await;
    assert_eq!((head.headers["content-length"].to_str().expect("ASCII"), head.body.len()), ("100", 0));
    let tag = whole.headers["etag"].to_str().expect("ASCII");
    assert_eq!(ask("GET", "if-none-match", tag).await.status, StatusCode::NOT_MODIFIED);
}

#[tokio::test]
async fn an_output_asked_for_by_its_digest_may_be_kept_for_ever() {
    let (farm, id, bytes) = farm_with_outputs().await;
    let path = format!("/v1/jobs/{id}/outputs/render/0");
    assert_eq!(farm.get(&path).await.headers["cache-control"], "private, no-cache");
    let kept = farm.get(&format!("{path}?of={}", Digest::of(&bytes))).await;
    assert_eq!((kept.status, kept.body), (StatusCode::OK, bytes));
    assert_eq!(kept.headers["cache-control"], "private, max-age=31536000, immutable");
    farm.get(&format!("{path}?of={}", Digest::of(b"other"))).await.problem(404, "not-found");
    farm.get(&format!("{path}?of=x")).await.problem(400, "invalid-query");
}

#[tokio::test]
async fn pictures_of_outputs_come_if_they_are_there_and_are_as_small_as_workers_make_them() {
    let (farm, id, bytes) = farm_with_outputs().await;
    let of = Digest::of(&bytes);
    for picture in Picture::ALL {
        let path = format!("/v1/jobs/{id}/outputs/render/0/{}", picture.as_str());
        let none = farm.get(&path).await.problem(404, "not-found");
        assert!(none.detail.contains("the output has no"), "{}", none.detail);
        let put = async |size: u64| {
            let object = vec![7; usize::try_from(size).expect("it fits")];
            farm.app.objects.put(&picture_key(id, &of, picture), object.into()).await.expect("put");
            farm.get(&path).await
        };
        let good = put(picture.size_max()).await;
        assert_eq!((good.status, good.body.len() as u64), (StatusCode::OK, picture.size_max()));
        assert_eq!(good.headers["content-type"], picture.media_type());
        assert_eq!(good.headers["etag"].to_str().expect("ASCII"), format!("\"{of}.{}\"", picture.as_str()));
        put(picture.size_max() + 1).await.problem(404, "not-found");
    }
    farm.get(&format!("/v1/jobs/{id}/outputs/render/10/thumbnail")).await.problem(404, "not-found");
    let other = farm.get(&format!("/v1/jobs/{id}/outputs/render/0/poster")).await.problem(404, "not-found");
    assert!(other.detail.contains("no `poster` of an output, only its `thumbnail`"), "{}", other.detail);
}

#[tokio::test]
async fn outputs_are_listed_from_either_end() {
    let (farm, id, _) = farm_with_outputs().await;
    let tasks = async |rest: &str| -> Vec<u32> {
        let page: Page<OutputView> = farm.read(&format!("/v1/jobs/{id}/outputs?{rest}")).await;
        page.items.iter().map(|output| output.task).collect()
    };
    let all = tasks("order=first").await;
    assert_eq!(all, (0..10).collect::<Vec<_>>());
    assert_eq!(tasks("order=last").await, all.iter().rev().copied().collect::<Vec<_>>());
    assert_eq!(tasks("step=render&order=last&cursor=0.4&limit=3").await, [3, 2, 1]);
    let page: Page<OutputView> = farm.read(&format!("/v1/jobs/{id}/outputs?order=last&limit=4")).await;
    assert_eq!(tasks(&format!("order=last&cursor={}", page.next.expect("more"))).await, [5, 4, 3, 2, 1, 0]);
    farm.get(&format!("/v1/jobs/{id}/outputs?order=newest")).await.problem(400, "invalid-query");
}

#[tokio::test]
async fn an_output_that_is_not_there_is_said_to_be_missing() {
    let (farm, id, _) = farm_with_outputs().await;
    let gone = farm.get(&format!("/v1/jobs/{id}/outputs/render/1")).await.problem(404, "not-found");
    assert!(gone.detail.contains("is gone from the store"), "{}", gone.detail);
    for path in ["render/10", "render/x", "rendr/0"] {
        farm.get(&format!("/v1/jobs/{id}/outputs/{path}")).await.problem(404, "not-found");
    }
}

#[tokio::test]
async fn the_log_of_an_attempt_comes_from_the_store_once_it_is_there() {
    let (farm, id, _) = farm_with_outputs().await;
    let path = format!("/v1/jobs/{id}/attempts/1.1/log?follow=true");
    let asked = farm.get(&path);
    // It arrives there after the attempt is over.
    let key = log_key(id, attempt(1));
    let moved = farm.app.objects.put(&key, "said\n".into());
    let (reply, moved) = tokio::join!(asked, moved);
    moved.expect("put");
    assert_eq!((reply.status, reply.text().as_str()), (StatusCode::OK, "said\n"));
    assert_eq!(reply.headers["content-type"], "text/plain; charset=utf-8");
    farm.get(&format!("/v1/jobs/{id}/attempts/9.9/log")).await.problem(404, "not-found");
    farm.get(&format!("/v1/jobs/{id}/attempts/1.1/log?follow=perhaps")).await.problem(400, "invalid-query");
}
