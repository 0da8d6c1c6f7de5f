//! The provider `kubernetes` and the lease, against an API server: that of the tests, or the one that the kubeconfig in
//! `FRAMEWAKE_TEST_KUBECONFIG` leads to. There, what needs failures on demand says that it is skipped.

#[path = "kubernetes/apart.rs"]
mod apart;
#[path = "kubernetes/ground.rs"]
mod ground;
#[path = "kubernetes/leases.rs"]
mod leases;
#[path = "kubernetes/plants.rs"]
mod plants;
#[path = "kubernetes/trouble.rs"]
mod trouble;

use framewake_functions::kubernetes::rights;
use framewake_functions::{End, InstanceState, Provider, StartError, StartStep};
use framewake_tests::kubernetes::{GPU, Image, Refusal};
use ground::{Ground, gone, start, taken_away, until_state, waits_for};
use serde_json::json;

#[tokio::test]
async fn a_worker_is_seen_from_its_job_to_its_end_and_forgotten() {
    let ground = Ground::new(&[8]).await;
    let mut provider = ground.provider();
    assert_eq!(provider.observe().await.expect("it answers"), []);
    let start = start(&ground, 1);
    provider.start(&start).await.expect("it is taken");
    let seen = provider.observe().await.expect("it answers");
    assert_eq!(seen.len(), 1, "known at once, whatever the watch has told");
    assert_eq!((&seen[0].worker, &seen[0].function), (&start.worker, &start.function));
    provider.start(&start).await.expect("asked for twice, there once");

    let running = until_state(&mut provider, &start.worker, |state| *state == InstanceState::Running).await;
    for step in [StartStep::Created, StartStep::Scheduled, StartStep::ProcessStarted] {
        assert!(running.steps.contains_key(&step), "{step:?}: {running:?}");
    }
    ground.delete_pod_gently(&start.worker).await;
    until_state(&mut provider, &start.worker, |state| matches!(state, InstanceState::Ended(_))).await;
    assert_eq!(provider.observe().await.expect("it answers").len(), 1, "until it is forgotten");
    provider.forget(&start.worker).await.expect("it has ended");
    assert_eq!(provider.observe().await.expect("it answers"), []);
    gone(&ground, &start.worker).await;
    provider.forget(&start.worker).await.expect("gone is gone");
}

#[tokio::test]
async fn one_that_finds_no_machine_says_so_and_is_ended() {
    let ground = Ground::new(&[8]).await;
    let mut provider = ground.provider();
    // On a cluster with larger machines it would be another number.
    let mut many = start(&ground, 1);
    std::sync::Arc::make_mut(&mut many.spec).resources.gpus = 16;
    provider.start(&many).await.expect("it is taken");
    waits_for(&mut provider, &many.worker, &["Unschedulable", GPU]).await;
    provider.stop(&many.worker).await.expect("it is deleted");
    assert_eq!(provider.observe().await.expect("it answers"), []);
    gone(&ground, &many.worker).await;
    provider.stop(&many.worker).await.expect("gone is gone");
    provider.stop(&"w0-0".parse().expect("a good id")).await.expect("never there");
}

#[tokio::test]
async fn an_image_that_is_not_there_is_named() {
    let ground = Ground::new(&[8]).await;
    if let Some(cluster) = &ground.own {
        let message = "rpc error: code = NotFound desc = failed to resolve: not found";
        cluster.image("framewake.invalid/none:1", Image::Waits { reason: "ErrImagePull", message });
    }
    let mut provider = ground.provider();
    let mut missing = start(&ground, 0);
    std::sync::Arc::make_mut(&mut missing.spec).image = Some("framewake.invalid/none:1".to_owned());
    provider.start(&missing).await.expect("it is taken");
    waits_for(&mut provider, &missing.worker, &["ImagePull"]).await;
    provider.stop(&missing.worker).await.expect("it is deleted");
}

#[tokio::test]
async fn who_comes_later_finds_all_that_were_started_before() {
    let ground = Ground::new(&[8]).await;
    let mut first = ground.provider();
    let starts = [start(&ground, 0), start(&ground, 0), start(&ground, 0)];
    for start in &starts {
        first.start(start).await.expect("it is taken");
    }
    drop(first);
    let mut second = ground.provider();
    let mut found: Vec<_> = second.observe().await.expect("it answers").into_iter().map(|found| found.worker).collect();
    found.sort();
    let mut expected: Vec<_> = starts.iter().map(|start| start.worker.clone()).collect();
    expected.sort();
    assert_eq!(found, expected);
    for start in &starts {
        second.start(start).await.expect("there already");
        ground.never_spoke(&start.worker);
        second.stop(&start.worker).await.expect("they never spoke");
        gone(&ground, &start.worker).await;
    }
}

#[tokio::test]
async fn a_job_that_somebody_deletes_was_taken_away() {
    let ground = Ground::new(&[8]).await;
    let mut provider = ground.provider();
    let start = start(&ground, 0);
    provider.start(&start).await.expect("it is taken");
    until_state(&mut provider, &start.worker, |state| *state == InstanceState::Running).await;
    ground.delete_job(&start.worker).await;
    until_state(&mut provider, &start.worker, |state| {
        matches!(state, InstanceState::Ended(End::TakenAway { .. } | End::Left))
    })
    .await;
    provider.forget(&start.worker).await.expect("it has ended");
    assert_eq!(provider.observe().await.expect("it answers"), []);
}

#[tokio::test]
async fn each_reason_why_a_worker_is_not_there_is_told() {
    let ground = Ground::new(&[8]).await;
    let Some(cluster) = ground.cluster() else { return };
    let mut provider = ground.provider();
    let images = [
        (
            "config",
            Image::Waits { reason: "CreateContainerConfigError", message: "secret \"store\" not found" },
            "secret \"store\" not found",
        ),
        (
            "root",
            Image::Waits {
                reason: "CreateContainerConfigError",
                message: "container has runAsNonRoot and image will run as root",
            },
            "will run as root",
        ),
        (
            "backoff",
            Image::Waits { reason: "ImagePullBackOff", message: "Back-off pulling image" },
            "ImagePullBackOff: Back-off",
        ),
        ("name", Image::Waits { reason: "InvalidImageName", message: "couldn't parse image name" }, "InvalidImageName"),
    ];
    for (name, image, words) in images {
        cluster.image(name, image);
        let mut start = start(&ground, 0);
        std::sync::Arc::make_mut(&mut start.spec).image = Some(name.to_owned());
        provider.start(&start).await.expect("it is taken");
        waits_for(&mut provider, &start.worker, &[words]).await;
    }
    // Of a Job that Kueue holds, and of one whose pod somebody else doesn't allow.
    let mut held = start(&ground, 0);
    std::sync::Arc::make_mut(&mut held.spec).image = Some("config".to_owned());
    provider.start(&held).await.expect("it is taken");
    cluster.with_job(held.worker.as_str(), hold);
    waits_for(&mut provider, &held.worker, &["suspended", "`gpu` of Kueue has not admitted it"]).await;
    let mut fresh = start(&ground, 0);
    std::sync::Arc::make_mut(&mut fresh.spec).image = Some("denied".to_owned());
    let message =
        "ValidatingAdmissionPolicy 'framewake-tests' with binding 'framewake-tests' denied request: not this image";
    cluster.image("denied", Image::Denied { message });
    provider.start(&fresh).await.expect("it is taken");
    waits_for(&mut provider, &fresh.worker, &["FailedCreate", "denied request: not this image"]).await;
}

/// As Kueue does it: the Job is suspended, and by its label it is known whose it is.
fn hold(job: &mut serde_json::Value) {
    job["spec"]["suspend"] = json!(true);
    job["metadata"]["labels"]["kueue.x-k8s.io/queue-name"] = json!("gpu");
}

#[tokio::test]
async fn a_worker_whose_place_kueue_takes_back_has_ended_and_comes_not_back_under_its_name() {
    let ground = Ground::new(&[8]).await;
    let Some(cluster) = ground.cluster() else { return };
    let mut provider = ground.provider();
    let start = start(&ground, 1);
    provider.start(&start).await.expect("it is taken");
    until_state(&mut provider, &start.worker, |state| *state == InstanceState::Running).await;
    cluster.with_job(start.worker.as_str(), hold);
    taken_away(&mut provider, &start.worker, "the queue `gpu` of Kueue took its place back").await;
    // Kueue admits it again, before anybody has forgotten it.
    cluster.with_job(start.worker.as_str(), |job| job["spec"]["suspend"] = json!(false));
    taken_away(&mut provider, &start.worker, "took its place back").await;
    ground.never_spoke(&start.worker);
    provider.forget(&start.worker).await.expect("it has ended");
    gone(&ground, &start.worker).await;
}

#[tokio::test]
async fn a_quota_for_pods_is_a_reason_and_one_for_jobs_is_a_full_place() {
    let ground = Ground::new(&[8, 8]).await;
    let Some(cluster) = ground.cluster() else { return };
    let mut provider = ground.provider();
    cluster.quota(&json!({ "count/jobs.batch": "2", "requests.nvidia.com/gpu": "1" })).await;
    let (first, second, third) = (start(&ground, 1), start(&ground, 1), start(&ground, 1));
    provider.start(&first).await.expect("within the quota");
    until_state(&mut provider, &first.worker, |state| *state == InstanceState::Running).await;
    provider.start(&second).await.expect("the Job is within the quota");
    let refused = provider.start(&third).await.expect_err("one too many");
    assert!(matches!(&refused, StartError::Full(why) if why.contains("exceeded quota: gpus")), "{refused:?}");
    waits_for(&mut provider, &second.worker, &["quota", "requests.nvidia.com/gpu=1"]).await;
    assert_eq!(cluster.jobs().len(), 2);
}

type Check = Box<dyn Fn(&End) -> bool>;

#[tokio::test]
async fn each_way_of_ending_is_told_apart() {
    let ground = Ground::new(&[8, 8]).await;
    let Some(cluster) = ground.cluster() else { return };
    let mut provider = ground.provider();
    let failed = |words: &'static str| move |end: &End| matches!(end, End::Failed { reason } if reason.contains(words));
    let taken =
        |words: &'static str| move |end: &End| matches!(end, End::TakenAway { reason } if reason.contains(words));
    let exits: [(serde_json::Value, Check); 7] = [
        (json!({ "exitCode": 0, "reason": "Completed" }), Box::new(|end| *end == End::Left)),
        (json!({ "exitCode": 1, "message": "log\nthe store is wrong\n" }), Box::new(failed("the store is wrong"))),
        (json!({ "exitCode": 69 }), Box::new(failed("exit code 69"))),
        (json!({ "exitCode": 75 }), Box::new(taken("handed back"))),
        (json!({ "exitCode": 78 }), Box::new(failed("exit code 78"))),
        (json!({ "exitCode": 137, "reason": "OOMKilled" }), Box::new(failed("OOMKilled"))),
        (
            json!({ "exitCode": 128, "reason": "StartError", "message": "exec: no such file" }),
            Box::new(failed("exec: no such file")),
        ),
    ];
    for (exit, check) in exits {
        let start = start(&ground, 0);
        provider.start(&start).await.expect("it is taken");
        until_state(&mut provider, &start.worker, |state| *state == InstanceState::Running).await;
        cluster.exit(start.worker.as_str(), &exit);
        let ended = until_state(&mut provider, &start.worker, |state| matches!(state, InstanceState::Ended(_))).await;
        assert!(matches!(&ended.state, InstanceState::Ended(end) if check(end)), "{exit}: {:?}", ended.state);
        provider.forget(&start.worker).await.expect("it has ended");
    }
    for (reason, words) in [("PreemptionByScheduler", "higher priority"), ("DeletionByTaintManager", "tainted")] {
        let start = start(&ground, 0);
        provider.start(&start).await.expect("it is taken");
        until_state(&mut provider, &start.worker, |state| *state == InstanceState::Running).await;
        cluster.disrupt(start.worker.as_str(), reason);
        let ended = until_state(&mut provider, &start.worker, |state| matches!(state, InstanceState::Ended(_))).await;
        assert!(matches!(&ended.state, InstanceState::Ended(end) if taken(words)(end)), "{:?}", ended.state);
    }
    // Its node went, and its pod with it.
    let lost = start(&ground, 0);
    provider.start(&lost).await.expect("it is taken");
    until_state(&mut provider, &lost.worker, |state| *state == InstanceState::Running).await;
    cluster.lose_pod(lost.worker.as_str());
    let ended = until_state(&mut provider, &lost.worker, |state| matches!(state, InstanceState::Ended(_))).await;
    assert!(
        matches!(ended.state, InstanceState::Ended(End::TakenAway { .. } | End::Failed { .. })),
        "{:?}",
        ended.state
    );
    // The kubelet has no such device after all.
    cluster.image("rejected", Image::Rejected { reason: "OutOfnvidia.com/gpu" });
    let mut rejected = start(&ground, 1);
    std::sync::Arc::make_mut(&mut rejected.spec).image = Some("rejected".to_owned());
    provider.start(&rejected).await.expect("it is taken");
    let ended = until_state(&mut provider, &rejected.worker, |state| matches!(state, InstanceState::Ended(_))).await;
    assert!(
        matches!(&ended.state, InstanceState::Ended(end) if failed("OutOfnvidia.com/gpu")(end)),
        "{:?}",
        ended.state
    );
}

#[tokio::test]
async fn a_rendering_pod_is_never_deleted_and_a_job_of_that_name_is_not_taken_for_ours() {
    let ground = Ground::new(&[8]).await;
    let Some(cluster) = ground.cluster() else { return };
    let mut provider = ground.provider();
    let start_one = start(&ground, 1);
    provider.start(&start_one).await.expect("it is taken");
    until_state(&mut provider, &start_one.worker, |state| *state == InstanceState::Running).await;
    let refused = provider.forget(&start_one.worker).await.expect_err("it renders");
    assert!(refused.what.contains("has not ended"), "{refused}");
    assert_eq!(cluster.calls_of("delete", "jobs.batch").len(), 0);
    assert_eq!(cluster.calls_of("delete", "pods").len(), 0, "there is not even the right to");

    let foreign = start(&ground, 0);
    let pod = json!({ "restartPolicy": "Never", "containers": [{ "name": "other", "image": "other" }] });
    let spec = json!({ "suspend": true, "template": { "spec": pod } });
    let labels = json!({ "team": "other" });
    cluster.create(
        "jobs.batch",
        json!({ "metadata": { "name": foreign.worker.as_str(), "labels": labels }, "spec": spec }),
    );
    let refused = provider.start(&foreign).await.expect_err("the name is taken");
    assert!(matches!(&refused, StartError::Refused(why) if why.contains("not of this pool")), "{refused:?}");
    provider.stop(&foreign.worker).await.expect("there is none of ours");
    assert_eq!(cluster.calls_of("delete", "jobs.batch").len(), 0, "what is not ours stays");
}

#[tokio::test]
async fn what_is_refused_names_the_right_or_the_field_that_is_wrong() {
    let ground = Ground::new(&[8]).await;
    let Some(cluster) = ground.cluster() else { return };
    let mut provider = ground.provider();
    let refuse = |code, reason, message: &str| {
        framewake_tests::kubernetes::Harm::Refused(Refusal::new(code, reason, message), None)
    };
    let forbidden =
        "jobs.batch is forbidden: User \"system:serviceaccount:render:framewake\" cannot create resource \"jobs\"";
    for (harm, words) in [
        (refuse(403, "Forbidden", forbidden), "may not `create jobs.batch` in namespace `render`"),
        (refuse(422, "Invalid", "spec.template.spec.runtimeClassName: Invalid value"), "runtimeClassName"),
        (refuse(404, "NotFound", "namespaces \"render\" not found"), "no namespace `render`"),
        (refuse(400, "BadRequest", "admission webhook \"kyverno\" denied the request"), "kyverno"),
    ] {
        cluster.harm("create", "jobs.batch", 1, harm);
        let refused = provider.start(&start(&ground, 0)).await.expect_err("refused");
        assert!(matches!(&refused, StartError::Refused(why) if why.contains(words)), "{words}: {refused:?}");
    }
    assert_eq!(cluster.jobs().len(), 0);
}

#[tokio::test]
async fn all_rights_that_are_asked_for_are_used() {
    let ground = Ground::new(&[1]).await;
    let Some(cluster) = ground.cluster() else { return };
    let mut provider = ground.provider();
    let (first, second) = (start(&ground, 1), start(&ground, 1));
    provider.start(&first).await.expect("it is taken");
    provider.start(&second).await.expect("it is taken");
    // One waits, so events are asked for; one that nobody knows is looked for.
    provider.stop(&"w0-0".parse().expect("a good id")).await.expect("never there");
    let wanted = |right: &&rights::Right| *right.verbs != ["list"];
    waits_for(&mut provider, &second.worker, &["Unschedulable"]).await;
    provider.stop(&second.worker).await.expect("it is deleted");
    for right in rights::WORKERS.iter().filter(wanted) {
        let resource = if right.group.is_empty() {
            right.resource.to_owned()
        } else {
            format!("{}.{}", right.resource, right.group)
        };
        for verb in right.verbs {
            cluster.until(&format!("{verb} {resource} is called"), || {
                (!cluster.calls_of(verb, &resource).is_empty()).then_some(())
            });
        }
    }
}
