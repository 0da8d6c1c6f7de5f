//! How workers came, while they are here and afterwards; and what schedules learn of their runs.

use super::*;
use framewake_proto::start::{StartPoint, WorkerStart};
use sqlx::Connection;
use sqlx::sqlite::{SqliteConnectOptions, SqliteConnection};

fn points(start: &WorkerStart) -> Vec<StartPoint> {
    start.steps.iter().map(|step| step.point).collect()
}

#[tokio::test]
async fn the_way_of_a_worker_is_shown_while_it_is_here_and_when_it_is_gone() {
    let farm = Farm::start().await;
    let id = farm.submit(&job("a", 1)).await;
    farm.claim(1).await;
    farm.wait(id, |job| job.tasks.open == 1).await;
    let here: WorkerStart = farm.read("/v1/workers/w1/start").await;
    assert_eq!((points(&here), &here.ended, &here.pool), (vec![StartPoint::Order], &None, &None));
    farm.report(1, vec![done(0, "jobs/default/a/f/0001.png", b"x")], Vec::new()).await;
    farm.wait(id, |job| job.state.is_over()).await;
    assert!(farm.handle.tell(Message::Happened(Event::WorkerLeft { worker: here.worker.clone() })).await);
    assert!(farm.handle.durable().await);
    let gone: WorkerStart = farm.read("/v1/workers/w1/start").await;
    assert_eq!(points(&gone), [StartPoint::Order, StartPoint::Frame]);
    assert_eq!(gone.ended.expect("it left").reason, "it left");
    farm.get("/v1/workers/w2/start").await.problem(404, "not-found");
    farm.get("/v1/workers/No%20name/start").await.problem(404, "not-found");
    farm.get(&format!("/v1/workers/{}/start", "x".repeat(5000))).await.problem(404, "not-found");
}

#[tokio::test]
async fn what_a_run_of_a_schedule_took_is_kept_until_the_schedule_goes() {
    let farm = Farm::start().await;
    let schedule = json!({ "name": "nightly", "cron": "0 3 1 1 *", "job": job("night", 1) });
    assert_eq!(farm.post("/v1/schedules", &schedule).await.status, StatusCode::CREATED);
    let reply = farm.post("/v1/schedules/nightly/run", &json!({})).await;
    assert!(reply.status.is_success(), "{}", reply.text());
    let id = reply.json::<Submitted>().id;
    farm.claim(1).await;
    farm.report(1, vec![done(0, "jobs/default/night/f/0001.png", b"x")], Vec::new()).await;
    farm.wait(id, |job| job.state.is_over()).await;
    let file = SqliteConnectOptions::new().filename(farm.folder.path().join("framewake.db")).read_only(true);
    let mut database = SqliteConnection::connect_with(&file).await.expect("it is there");
    let mut learned = async || -> Vec<(i64, f64)> {
        let rows = sqlx::query_as("SELECT step, task_s FROM learned_runs").fetch_all(&mut database);
        rows.await.expect("readable")
    };
    assert_eq!(learned().await, [(0, 0.007)]);
    let removed = farm.send(Request::delete("/v1/schedules/nightly").body(Body::empty()).expect("a request")).await;
    assert!(removed.status.is_success(), "{}", removed.text());
    assert_eq!(learned().await, []);
}
