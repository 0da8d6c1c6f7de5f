use super::*;
use crate::wakeups::{Drain, Summary};
use std::sync::Mutex;
use tokio::sync::oneshot;

async fn ask(address: SocketAddr, request: &[u8]) -> String {
    let mut stream = TcpStream::connect(address).await.expect("it listens");
    stream.write_all(request).await.expect("it reads");
    stream.shutdown().await.expect("it is open");
    let mut answer = Vec::new();
    let _cut_off = stream.read_to_end(&mut answer).await;
    String::from_utf8(answer).expect("text")
}

async fn open_with(figures: &Figures, wakeups: Option<Wakeups>) -> Port {
    let any = "127.0.0.1:0".parse().expect("an address");
    let (worker, function) = ("w1".parse().expect("an id"), "paint@2".parse().expect("a key"));
    Port::open(any, Pages { worker, function, figures: figures.clone(), wakeups }).await.expect("a free port")
}

async fn open(figures: &Figures) -> Port {
    open_with(figures, None).await
}

fn status(answer: &str) -> u16 {
    answer.split(' ').nth(1).and_then(|word| word.parse().ok()).unwrap_or_else(|| panic!("no status: {answer}"))
}

#[tokio::test]
async fn it_is_ready_while_it_takes_orders_and_alive_all_the_time() {
    let figures = Figures::default();
    let port = open(&figures).await;
    let check = async |ready: u16| {
        assert_eq!(status(&ask(port.address(), b"GET /_/ready HTTP/1.1\r\n\r\n").await), ready);
        assert_eq!(status(&ask(port.address(), b"GET /_/health HTTP/1.1\r\n\r\n").await), 200);
        assert_eq!(status(&ask(port.address(), b"GET /healthz HTTP/1.1\r\n\r\n").await), 200);
    };
    for (ready, status) in [(false, 503), (true, 200), (false, 503), (true, 200)] {
        figures.set_ready(ready);
        check(status).await;
    }
    // At once, though the frame at hand goes on.
    figures.set_leaving();
    check(503).await;
}

#[tokio::test]
async fn what_it_did_is_counted() {
    let figures = Figures::default();
    let port = open(&figures).await;
    figures.begin_attempt();
    figures.done(1500);
    figures.done(250);
    figures.failed();
    figures.given_back(3);
    figures.answered();
    let text = ask(port.address(), b"GET /metrics?x=1 HTTP/1.1\r\nhost: a\r\n\r\n").await;
    for line in [
        "framewake_worker_info{worker=\"w1\",function=\"paint\",version=",
        "framewake_worker_tasks_total{result=\"done\"} 2\n",
        "framewake_worker_tasks_total{result=\"failed\"} 1\n",
        "framewake_worker_tasks_total{result=\"given_back\"} 3\n",
        "framewake_worker_task_seconds_total 1.75\n",
        "framewake_worker_working 1\n",
        "framewake_worker_heartbeat_age_seconds ",
    ] {
        assert!(text.contains(line), "{line} in {text}");
    }
}

#[tokio::test]
async fn strange_requests_are_refused_and_harm_nobody() {
    let port = open(&Figures::default()).await;
    for (request, expected) in [
        (&b"POST /metrics HTTP/1.1\r\n\r\n"[..], 405),
        (b"POST / HTTP/1.1\r\n\r\n", 405),
        (b"GET /etc/passwd HTTP/1.1\r\n\r\n", 404),
        (b"\r\n\r\n", 405),
        (b"\xff\xfe \x00\r\n\r\n", 405),
    ] {
        assert_eq!(status(&ask(port.address(), request).await), expected, "{request:?}");
    }
    assert_eq!(ask(port.address(), &vec![b'x'; 2 * HEAD_MAX]).await, "", "a head without an end");
    // Silent ones hold no place for longer than a request may take, and do not keep others from theirs.
    let mut silent = Vec::new();
    for _ in 0..REQUESTS_MAX - 1 {
        silent.push(TcpStream::connect(port.address()).await.expect("it listens"));
    }
    assert!(ask(port.address(), b"HEAD /_/health HTTP/1.1\r\n\r\n").await.ends_with("\r\n\r\n"));
}

/// Drains that have begun, and how the test ends each.
type Begun = Arc<Mutex<Vec<(Drain, oneshot::Sender<Summary>)>>>;

/// A door whose drains end when the test says so.
fn door(figures: &Figures, inflight_max: usize) -> (Wakeups, Begun) {
    let begun = Begun::default();
    let seen = Arc::clone(&begun);
    let name = || "woken".parse().expect("an id");
    let wakeups = Wakeups::new(inflight_max, Duration::from_secs(50), figures.clone(), name, move |drain: Drain| {
        let (tell, told) = oneshot::channel();
        seen.lock().expect("no panic").push((drain, tell));
        async move { told.await.map_err(|_| "the farm is away".to_owned()) }
    });
    (wakeups, begun)
}

fn summary(done: u64) -> Summary {
    Summary {
        worker: "w1".parse().expect("an id"),
        why: "idle".to_owned(),
        attempts: 1,
        tasks_done: done,
        tasks_failed: 0,
        tasks_given_back: 0,
        handed_back: false,
        seconds: 1.5,
        draining: false,
    }
}

async fn until(what: &str, mut holds: impl FnMut() -> bool) {
    let mut tick = tokio::time::interval(Duration::from_millis(5));
    for _ in 0..2000 {
        if holds() {
            return;
        }
        tick.tick().await;
    }
    panic!("{what} did not happen");
}

#[tokio::test]
async fn those_who_wake_it_share_one_drain_and_one_answer() {
    let figures = Figures::default();
    let (wakeups, begun) = door(&figures, 2);
    let port = open_with(&figures, Some(wakeups.clone())).await;
    let address = port.address();
    let post = |deadline: &str| {
        format!("POST /function/paint HTTP/1.1\r\nX-Deadline: {deadline}\r\ncontent-length: 3\r\n\r\nabc")
    };
    let first = tokio::spawn({
        let request = post("90s");
        async move { ask(address, request.as_bytes()).await }
    });
    until("the drain", || begun.lock().expect("no panic").len() == 1).await;
    let second = tokio::spawn({
        let request = post("600");
        async move { ask(address, request.as_bytes()).await }
    });
    until("both are inside", || wakeups.is_full()).await;
    // A third is one too many, and whoever asks is told so.
    assert_eq!(status(&ask(address, post("60s").as_bytes()).await), 429);
    assert_eq!(status(&ask(address, b"GET /_/ready HTTP/1.1\r\n\r\n").await), 429);
    let (drain, tell) = begun.lock().expect("no panic").pop().expect("one drain");
    let left = drain.leave.until().expect("a deadline").gone - tokio::time::Instant::now();
    assert!(left > Duration::from_secs(500), "the later deadline counts: {left:?}");
    tell.send(summary(7)).expect("somebody waits");
    for answer in [first.await, second.await] {
        let answer = answer.expect("no panic");
        assert_eq!(status(&answer), 200, "{answer}");
        assert!(answer.contains("\"tasks_done\":7"), "{answer}");
    }
    assert!(begun.lock().expect("no panic").is_empty(), "there was one drain");
    assert_eq!(status(&ask(address, b"GET /_/ready HTTP/1.1\r\n\r\n").await), 200);
}

#[tokio::test]
async fn a_gateway_that_hangs_up_or_can_wait_no_longer_cuts_no_drain() {
    let figures = Figures::default();
    let (wakeups, begun) = door(&figures, 4);
    let port = open_with(&figures, Some(wakeups)).await;
    let mut hasty = TcpStream::connect(port.address()).await.expect("it listens");
    hasty.write_all(b"POST / HTTP/1.1\r\nx-deadline: 60s\r\n\r\n").await.expect("it reads");
    until("the drain", || begun.lock().expect("no panic").len() == 1).await;
    drop(hasty);
    // Answered by its own deadline, with what is known by then.
    let answer = ask(port.address(), b"POST / HTTP/1.1\r\nx-deadline: 1s\r\n\r\n").await;
    assert!(status(&answer) == 200 && answer.contains("\"draining\":true"), "{answer}");
    let (drain, tell) = begun.lock().expect("no panic").pop().expect("one drain");
    assert!(!drain.leave.drain.is_cancelled() && !drain.leave.abort.is_cancelled());
    tell.send(summary(1)).expect("the drain is still waited for");
}

#[tokio::test]
async fn nonsense_a_farm_that_is_away_and_a_worker_that_leaves_are_told_apart() {
    let figures = Figures::default();
    let (wakeups, begun) = door(&figures, 4);
    let port = open_with(&figures, Some(wakeups.clone())).await;
    for bad in
        ["x-deadline: soon", "x-deadline: 0", "x-deadline: -5", "x-deadline: 999999999999", "x-framewake-worker: A B"]
    {
        let answer = ask(port.address(), format!("POST / HTTP/1.1\r\n{bad}\r\n\r\n").as_bytes()).await;
        assert!(status(&answer) == 400 && answer.contains("error"), "{bad}: {answer}");
    }
    let asked = tokio::spawn(ask_owned(port.address(), "POST / HTTP/1.1\r\n\r\n".to_owned()));
    until("the drain", || begun.lock().expect("no panic").len() == 1).await;
    drop(begun.lock().expect("no panic").pop());
    let answer = asked.await.expect("no panic");
    assert!(status(&answer) == 502 && answer.contains("the farm is away"), "{answer}");
    figures.set_leaving();
    let answer = ask(port.address(), b"POST / HTTP/1.1\r\n\r\n").await;
    assert_eq!(status(&answer), 503, "{answer}");
    assert!(begun.lock().expect("no panic").is_empty());
}

async fn ask_owned(address: SocketAddr, request: String) -> String {
    ask(address, request.as_bytes()).await
}
