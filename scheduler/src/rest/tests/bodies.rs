//! Bad bodies: each is refused with every reason, and leaves nothing behind.

use super::*;
use futures::StreamExt;

/// The faults of a refused job, as `field: reason`.
async fn faults(farm: &Farm, body: &Value) -> Vec<String> {
    let problem = farm.post("/v1/jobs", body).await.problem(422, "invalid-body");
    problem.faults.into_iter().map(|fault| format!("{}: {}", fault.field, fault.reason)).collect()
}

/// `good_job` with one member of its only step replaced.
fn with(member: &str, value: Value) -> Value {
    let mut body = job("shot", 10);
    body["steps"][0][member] = value;
    body
}

#[tokio::test]
async fn each_wrong_value_is_named_with_its_place_and_what_would_be_right() {
    let farm = Farm::start().await;
    let top = |member: &str, value: Value| {
        let mut body = job("shot", 10);
        body[member] = value;
        body
    };
    let digest = "0".repeat(64);
    let long = "x".repeat(100_000);
    for (body, field, words) in [
        (top("priority", json!(101)), "/priority", "101 is not between 0 and 100"),
        (top("priority", json!(-1)), "/priority", "-1 is less than the 0 allowed"),
        (top("priority", json!("50")), "/priority", "must be a whole number, not text: take the quotes away"),
        (top("name", json!(7)), "/name", "must be text, not a number: put it between quotes"),
        (top("name", json!("")), "/name", "must be 1 to 200 bytes"),
        (top("project", json!("My Film")), "/project", "`My Film` does not fit: lower-case letters"),
        (top("priorty", json!(5)), "/priorty", "unknown field `priorty`; did you mean `priority`?"),
        (
            top("shutter", json!(5)),
            "/shutter",
            "unknown field `shutter`; known here: budget, deadline, labels, name, notify, priority, project, steps",
        ),
        (top("labels", json!({"a": 1})), "/labels/a", "must be text, not a number"),
        (top("labels", json!(["a"])), "/labels", "must be an object, not a list"),
        (top("steps", json!([])), "/steps", "0 steps: a job has 1 to 64"),
        (top("steps", json!("render")), "/steps", "must be a list, not text"),
        (json!({"name": "shot"}), "/steps", "is missing"),
        (with("frames", json!("1-")), "/steps/0/frames", "`1-` is not a frame or a range"),
        (with("frames", json!("5-1x0")), "/steps/0/frames", "has a step of 0"),
        (with("frames", json!("5-1")), "/steps/0/frames", "runs backwards"),
        (with("frames", json!("")), "/steps/0/frames", "the frame set is empty"),
        (
            with("frames", json!("1-1000000000,-1000000000-0")),
            "/steps/0/frames",
            "the set has 2000000001 frames, more than",
        ),
        (with("frames", json!(10)), "/steps/0/frames", "must be text, not a number: put it between quotes"),
        (
            with("function", json!("pant")),
            "/steps/0/function",
            "`pant` is not a function of this farm (known: paint); did you mean `paint`?",
        ),
        (
            with("function", json!("paint@9")),
            "/steps/0/function",
            "`paint@9` is not a function of this farm: `paint` has version 1 alone",
        ),
        (with("function", json!("paint@x")), "/steps/0/function", "`x` is not a version of a function"),
        (with("output", json!("f.png")), "/steps/0/output", "the step has 10 frames and the template has no `{frame}`"),
        (with("output", json!("../{frame}.png")), "/steps/0/output", "the output template leaves its folder"),
        (with("output", json!("/etc/{frame}.png")), "/steps/0/output", "the output template leaves its folder"),
        (with("output", json!("{frme}.png")), "/steps/0/output", "`{frme}` is not a placeholder"),
        (
            with("inputs", json!([{"path": "a.blend", "as": "a"}])),
            "/steps/0/inputs/0/path",
            "`a.blend` is a local file: `framewake submit` uploads it",
        ),
        (
            with("inputs", json!([{"as": "a"}])),
            "/steps/0/inputs/0",
            "exactly one of `path`, `digest`, `url` and `step`",
        ),
        (
            with("inputs", json!([{"digest": "12", "as": "a"}])),
            "/steps/0/inputs/0/digest",
            "`12` does not fit: SHA-256, 64 hexadecimal digits",
        ),
        (with("inputs", json!([{"digest": digest, "as": "../a"}])), "/steps/0/inputs/0/as", "must be a relative path"),
        (with("inputs", json!([{"digest": digest, "as": "a"}])), "/steps/0/inputs/0/digest", "is not uploaded"),
        (
            with("inputs", json!([{"url": "https://a.example/x"}])),
            "/steps/0/inputs/0/url",
            "this farm fetches no addresses",
        ),
        (
            with("inputs", json!([{"step": "rendr"}])),
            "/steps/0/inputs/0/step",
            "`rendr` is not a step of this job; did you mean `render`?",
        ),
        (with("after", json!(["render"])), "/steps/0/after/0", "a step can't wait for itself"),
        (
            with("parameters", json!({"sampels": 4})),
            "/steps/0/parameters/sampels",
            "has no parameter `sampels`; did you mean `samples`?",
        ),
        (with("parameters", json!({"samples": 0})), "/steps/0/parameters/samples", "0 is less than the 1 allowed"),
        (
            with("parameters", json!({"samples": {"a": 1}})),
            "/steps/0/parameters/samples",
            "must be true or false, a number, text or a list, not an object",
        ),
        (with("chunking", json!({"size": 3})), "/steps/0/chunking/mode", "is missing: one of auto, fixed"),
        (
            with("chunking", json!({"mode": "fixd"})),
            "/steps/0/chunking/mode",
            "`fixd` is not one of auto, fixed; did you mean `fixed`?",
        ),
        (
            with("chunking", json!({"mode": "fixed", "szie": 3, "size": 1})),
            "/steps/0/chunking/szie",
            "unknown field `szie`; did you mean `size`?",
        ),
        (with("chunking", json!("auto")), "/steps/0/chunking", "must be an object, not text"),
        (with("retries", json!({"attempts": 0})), "/steps/0/retries/attempts", "0 is not between 1 and 100"),
        (
            with("timeouts", json!({"frame": "1 hour"})),
            "/steps/0/timeouts/frame",
            "`1 hour` does not fit: a whole number and a unit",
        ),
        (
            with("verify", json!({"black": "alow"})),
            "/steps/0/verify/black",
            "`alow` is not one of refuse, allow; did you mean `allow`?",
        ),
        (
            with("verify", json!({"width": 5_000_000_000_u64})),
            "/steps/0/verify/width",
            "5000000000 is more than the 4294967295 allowed",
        ),
        (with("name", json!(long)), "/steps/0/name", "…` does not fit: lower-case letters"),
    ] {
        let said = faults(&farm, &body).await;
        assert!(
            said.iter().any(|fault| fault.starts_with(&format!("{field}: ")) && fault.contains(words)),
            "{field}: {words}\n  {said:?}"
        );
        assert!(said.iter().all(|fault| fault.len() < 500), "{said:?}");
    }
    assert_eq!(farm.jobs().await, 0);
}

#[tokio::test]
async fn all_faults_are_named_at_once() {
    let farm = Farm::start().await;
    let shape = json!({"nmae": "x", "priority": "high", "steps": [{"name": "A", "function": 3}]});
    assert_eq!(faults(&farm, &shape).await.len(), 5);
    let sense = json!({"name": "x", "priority": 200, "steps": [
        {"name": "a", "function": "nothing", "frames": "x"},
        {"name": "a", "function": "paint", "frames": "1-5", "output": "../x", "after": ["c"]},
    ]});
    assert_eq!(faults(&farm, &sense).await.len(), 6);
    assert_eq!(farm.jobs().await, 0);
}

#[tokio::test]
async fn steps_that_wait_in_a_circle_or_write_one_name_are_refused() {
    let farm = Farm::start().await;
    let step = |name: &str, after: Value, output: &str| json!({"name": name, "function": "paint", "frames": "1-5", "after": after, "output": output});
    let circle = json!({"name": "x", "steps": [step("a", json!(["b"]), "a/{frame}.png"), step("b", json!(["a"]), "b/{frame}.png")]});
    assert_eq!(faults(&farm, &circle).await, ["/steps/0/after: these steps wait for each other in a circle: a, b"]);
    let clash = json!({"name": "x", "steps": [step("a", json!([]), "f/{frame}.png"), step("b", json!([]), "f/{frame:02}.png")]});
    let said = faults(&farm, &clash).await;
    assert!(said[0].starts_with("/steps/1/output: step `b` could write the same names as step `a`"), "{said:?}");
    assert_eq!(farm.jobs().await, 0);
}

#[tokio::test]
async fn missing_inputs_are_all_named() {
    let farm = Farm::start().await;
    let inputs: Vec<Value> = (0..5).map(|at| json!({"digest": format!("{at:064}"), "as": format!("f{at}")})).collect();
    let said = faults(&farm, &with("inputs", json!(inputs))).await;
    assert_eq!(said.len(), 5, "{said:?}");
}

#[tokio::test]
async fn bodies_that_are_no_json_or_yaml_are_refused_with_the_place() {
    let farm = Farm::start().await;
    for (kind, body, words) in [
        (
            "application/json",
            "{\"name\": \"x\",\n  steps: []}",
            "the body is not JSON: key must be a string at line 2 column 3",
        ),
        (
            "application/json",
            "{\"name\": \"x\"",
            "the body is not JSON: EOF while parsing an object at line 1 column 12",
        ),
        ("application/json", "", "the body is empty"),
        ("application/json", " \n", "the body is empty"),
        ("application/json", "{\"name\": \"\u{1}\"}", "control character"),
        ("application/json", "nul", "the body is not JSON"),
        ("application/yaml", "name: [a", "the body is not YAML at line 1"),
        ("application/yaml", "name: x\nname: y\n", "duplicate"),
        ("application/yaml", "a: *b", "the body is not YAML"),
    ] {
        let request = Request::post("/v1/jobs").header("content-type", kind).body(Body::from(body)).expect("a request");
        let problem = farm.send(request).await.problem(400, "invalid-body");
        assert!(problem.detail.contains(words), "{body}: {}", problem.detail);
    }
    let doubled = r#"{"name": "x", "name": "y", "steps": [{"name": "a", "function": "paint"}]}"#;
    let request = Request::post("/v1/jobs").header("content-type", "application/json").body(Body::from(doubled));
    let problem = farm.send(request.expect("a request")).await.problem(400, "invalid-body");
    assert_eq!(problem.detail, "duplicate field `name` at line 1 column 20");
    // Deep enough to overflow a careless parser's stack.
    let deep = format!("{{\"name\": {}", "[".repeat(100_000));
    let request = Request::post("/v1/jobs").header("content-type", "application/json").body(Body::from(deep));
    farm.send(request.expect("a request")).await.problem(400, "invalid-body");
    assert_eq!(farm.jobs().await, 0);
}

#[tokio::test]
async fn yaml_that_unfolds_to_much_more_than_it_holds_is_refused() {
    let farm = Farm::start().await;
    let mut bomb = "a: &a [x, x, x, x, x, x, x, x, x, x]\n".to_owned();
    for (name, before) in [("b", "a"), ("c", "b"), ("d", "c"), ("e", "d"), ("f", "e"), ("g", "f")] {
        let line = vec![format!("*{before}"); 10].join(", ");
        bomb = format!("{bomb}{name}: &{name} [{line}]\n");
    }
    let request = Request::post("/v1/jobs").header("content-type", "application/yaml").body(Body::from(bomb));
    farm.send(request.expect("a request")).await.problem(400, "invalid-body");
}

#[tokio::test]
async fn a_body_of_200_mb_is_refused_without_being_read() {
    let farm = Farm::start().await;
    let announced =
        Request::post("/v1/jobs").header("content-type", "application/json").header("content-length", "200000000");
    farm.send(announced.body(Body::from("{")).expect("a request")).await.problem(413, "too-large");
    // Not announced: read up to the bound, and no further.
    let read = Arc::new(std::sync::atomic::AtomicUsize::new(0));
    let counter = read.clone();
    let pieces = futures::stream::iter(0..200).map(move |_| {
        counter.fetch_add(1, std::sync::atomic::Ordering::SeqCst);
        Ok::<_, std::io::Error>(vec![b' '; 1_000_000])
    });
    let request = Request::post("/v1/jobs").header("content-type", "application/json");
    farm.send(request.body(Body::from_stream(pieces)).expect("a request")).await.problem(413, "too-large");
    assert!(read.load(std::sync::atomic::Ordering::SeqCst) <= 2);
    assert_eq!(farm.jobs().await, 0);
}

#[tokio::test]
async fn a_body_of_another_kind_is_not_guessed_at() {
    let farm = Farm::start().await;
    for kind in ["text/plain", "application/x-www-form-urlencoded", ""] {
        let request = Request::post("/v1/jobs").header("content-type", kind).body(Body::from(job("x", 1).to_string()));
        farm.send(request.expect("a request")).await.problem(415, "unsupported-media");
    }
    assert_eq!(farm.jobs().await, 0);
}

#[tokio::test]
async fn bad_functions_are_refused_with_every_reason() {
    let farm = Farm::start().await;
    for (body, field, words) in [
        (json!({"name": "a"}), "/driver", "is missing"),
        (
            json!({"name": "a", "driver": {"kind": "comand", "command": ["x"]}}),
            "/driver/kind",
            "did you mean `command`?",
        ),
        (json!({"name": "a", "driver": {"kind": "command", "command": []}}), "/driver/command", "the command is empty"),
        (
            json!({"name": "a", "driver": {"kind": "command", "command": ["x", "{samplse}"]}, "parameters": {"samples": {"type": "integer"}}}),
            "/driver/command/1",
            "did you mean `{samples}`?",
        ),
        (
            json!({"name": "a", "driver": {"kind": "command", "command": ["x"]}, "rules": "blendr"}),
            "/rules",
            "did you mean `blender`?",
        ),
        (
            json!({"name": "a", "driver": {"kind": "command", "command": ["x"]}, "scaling": {"linger": "10"}}),
            "/scaling/linger",
            "does not fit",
        ),
        (
            json!({"name": "a", "driver": {"kind": "command", "command": ["x"]}, "image": "--config=/etc/shadow"}),
            "/image",
            "beginning with a letter or digit",
        ),
    ] {
        let problem = farm.post("/v1/functions", &body).await.problem(422, "invalid-body");
        let fault = problem.faults.iter().find(|fault| fault.field == field);
        assert!(fault.is_some_and(|fault| fault.reason.contains(words)), "{field}: {words}\n  {:?}", problem.faults);
    }
    assert_eq!(farm.read::<Value>("/v1/functions").await["items"].as_array().map(Vec::len), Some(1));
}
