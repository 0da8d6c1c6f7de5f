//! Inputs in pieces.

use super::*;
use framewake_proto::api::InputView;
use framewake_proto::objects::{Digest, input_key};

async fn send(farm: &Farm, digest: &Digest, offset: usize, size: usize, piece: &[u8]) -> Reply {
    let path = format!("/v1/inputs/{digest}?offset={offset}&size={size}");
    farm.send(Request::patch(path).body(Body::from(piece.to_vec())).expect("a request")).await
}

async fn view(farm: &Farm, digest: &Digest) -> InputView {
    farm.read(&format!("/v1/inputs/{digest}")).await
}

fn files(farm: &Farm, folder: &str) -> usize {
    std::fs::read_dir(farm.folder.path().join(folder)).map_or(0, Iterator::count)
}

#[tokio::test]
async fn an_input_arrives_in_pieces_and_goes_on_where_it_stopped() {
    let farm = Farm::start().await;
    let bytes = b"a scene, three meshes and a light";
    let digest = Digest::of(bytes);
    assert_eq!(view(&farm, &digest).await, InputView { digest, complete: false, received_bytes: 0 });
    let reply: InputView = send(&farm, &digest, 0, bytes.len(), &bytes[..10]).await.json();
    assert_eq!((reply.complete, reply.received_bytes), (false, 10));
    // The answer was lost: the client sends the piece again, and learns where to go on.
    let reply = send(&farm, &digest, 0, bytes.len(), &bytes[..10]).await;
    reply.problem(409, "wrong-offset");
    assert_eq!(reply.headers["upload-offset"], "10");
    send(&farm, &digest, 20, bytes.len(), &bytes[20..]).await.problem(409, "wrong-offset");
    // The scheduler restarts: what it had received is still there.
    let farm = farm.restarted();
    assert_eq!(view(&farm, &digest).await.received_bytes, 10);
    let reply: InputView = send(&farm, &digest, 10, bytes.len(), &bytes[10..]).await.json();
    assert_eq!((reply.complete, reply.received_bytes), (true, bytes.len() as u64));
    let stored = farm.folder.path().join("objects").join(input_key(&digest));
    assert_eq!(std::fs::read(stored).expect("stored"), bytes);
    assert_eq!(files(&farm, "uploads"), 0);
    // Once it is there, any piece is answered with that.
    assert!(send(&farm, &digest, 0, bytes.len(), bytes).await.json::<InputView>().complete);
    let mut body = job("shot", 1);
    body["steps"][0]["inputs"] = json!([{"digest": digest, "as": "scene.blend"}]);
    farm.submit(&body).await;
}

#[tokio::test]
async fn bytes_of_another_digest_are_dropped() {
    let farm = Farm::start().await;
    let digest = Digest::of(b"what was promised");
    send(&farm, &digest, 0, 17, b"what has come, xx").await.problem(422, "wrong-digest");
    assert_eq!(view(&farm, &digest).await, InputView { digest, complete: false, received_bytes: 0 });
    assert_eq!((files(&farm, "uploads"), files(&farm, "objects")), (0, 0));
    assert!(send(&farm, &digest, 0, 17, b"what was promised").await.json::<InputView>().complete);
}

#[tokio::test]
async fn an_empty_input_and_one_of_several_parts_are_stored_too() {
    let farm = Farm::start().await;
    let digest = Digest::of(b"");
    assert!(send(&farm, &digest, 0, 0, b"").await.json::<InputView>().complete);
    let bytes: Vec<u8> = (0..20_000_000_u32).map(|at| (at % 251).to_le_bytes()[0]).collect();
    let digest = Digest::of(&bytes);
    let (first, second) = bytes.split_at(15_000_000);
    assert!(!send(&farm, &digest, 0, bytes.len(), first).await.json::<InputView>().complete);
    assert!(send(&farm, &digest, first.len(), bytes.len(), second).await.json::<InputView>().complete);
    assert_eq!(farm.app.objects.digest(&input_key(&digest)).await.expect("read"), Some(digest));
    let other = Digest::of(b"another");
    assert!(!send(&farm, &other, 0, bytes.len(), first).await.json::<InputView>().complete);
    send(&farm, &other, first.len(), bytes.len(), second).await.problem(422, "wrong-digest");
    assert_eq!(farm.app.objects.size(&input_key(&other)).await.expect("asked"), None);
}

#[tokio::test]
async fn pieces_that_are_too_large_or_lead_past_the_end_are_refused() {
    let farm = Farm::start().await;
    let digest = Digest::of(b"x");
    send(&farm, &digest, 0, 100_000_000, &vec![0; 17 * 1024 * 1024]).await.problem(413, "too-large");
    send(&farm, &digest, 0, 5, b"123456").await.problem(400, "invalid-query");
    send(&farm, &digest, 6, 5, b"").await.problem(400, "invalid-query");
    send(&farm, &digest, 0, 70 * 1024 * 1024 * 1024, b"x").await.problem(413, "too-large");
    farm.send(Request::patch(format!("/v1/inputs/{digest}?offset=0")).body(Body::empty()).expect("a request"))
        .await
        .problem(400, "invalid-query");
    farm.get("/v1/inputs/12").await.problem(404, "not-found");
}

#[tokio::test]
async fn uploads_stay_within_their_room_and_do_not_stay_for_ever() {
    let limits = UploadLimits { size_bytes_max: 100, idle_max: Duration::from_hours(1) };
    let farm = Farm::start_with(limits, UrlsAllowed::default()).await;
    let (first, second) = (Digest::of(b"1"), Digest::of(b"2"));
    assert_eq!(send(&farm, &first, 0, 100, &[0; 60]).await.status, StatusCode::OK);
    send(&farm, &second, 0, 50, &[0; 20]).await.problem(507, "storage-full");
    #[allow(clippy::disallowed_methods)] // It is compared with the times of files.
    let now = std::time::SystemTime::now();
    farm.app.uploads.expire(now + Duration::from_mins(59));
    assert_eq!(view(&farm, &first).await.received_bytes, 60);
    farm.app.uploads.expire(now + Duration::from_mins(61));
    assert_eq!(view(&farm, &first).await.received_bytes, 0);
    assert_eq!(send(&farm, &second, 0, 50, &[0; 20]).await.status, StatusCode::OK);
}
