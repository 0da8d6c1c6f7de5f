//! Workers by the thousand, played: they are heard of and hold nothing, which is all that who looks at them can tell.

use async_nats::Client;
use framewake_proto::ids::FunctionKey;
use framewake_proto::subjects::Subjects;
use framewake_proto::wire;
use prost::Message;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;
use tokio::task::{JoinHandle, JoinSet};

/// Connections that the workers share: a connection each would measure NATS.
const CONNECTIONS: usize = 4;
/// Heartbeats of a connection that wait for their answers at once.
const AT_ONCE: usize = 64;
/// GPUs of these models, of which each worker has one.
const MODELS: [&str; 3] = ["NVIDIA L4", "NVIDIA L40S", "NVIDIA H100 80GB HBM3"];

/// Played workers of `command@1`, which say that they are there until this is dropped.
#[derive(Debug)]
pub struct Crowd {
    clients: Vec<Client>,
    count: Arc<AtomicUsize>,
    beating: JoinHandle<()>,
}

impl Crowd {
    /// So many, each of which is heard of every so often. Done once all were heard of.
    pub async fn start(nats: &str, count: usize, every: Duration) -> Crowd {
        let mut clients = Vec::new();
        for _ in 0..CONNECTIONS {
            clients.push(async_nats::connect(nats).await.expect("NATS is there"));
        }
        let count = Arc::new(AtomicUsize::new(count));
        beat(&clients, &count).await;
        let beating = tokio::spawn({
            let (clients, count) = (clients.clone(), Arc::clone(&count));
            async move {
                let mut tick = tokio::time::interval(every);
                loop {
                    tick.tick().await;
                    beat(&clients, &count).await;
                }
            }
        });
        Crowd { clients, count, beating }
    }

    /// Done once all were heard of.
    pub async fn grow_to(&self, count: usize) {
        self.count.store(count, Ordering::Relaxed);
        beat(&self.clients, &self.count).await;
    }
}

impl Drop for Crowd {
    fn drop(&mut self) {
        self.beating.abort();
    }
}

/// Each says that it is there. Done once the scheduler has answered all.
async fn beat(clients: &[Client], count: &AtomicUsize) {
    let count = count.load(Ordering::Relaxed);
    let mut shares = JoinSet::new();
    for share in 0..CONNECTIONS * AT_ONCE {
        let client = clients[share % CONNECTIONS].clone();
        shares.spawn(async move {
            let subjects = Subjects::new("framewake".parse().expect("good"));
            let function: FunctionKey = "command@1".parse().expect("a key");
            for at in (share..count).step_by(CONNECTIONS * AT_ONCE) {
                let heartbeat = heartbeat(at);
                let subject = subjects.heartbeat(&function, &heartbeat.worker.parse().expect("a good id"));
                let _ = client.request(subject, heartbeat.encode_to_vec().into()).await;
            }
        });
    }
    shares.join_all().await;
}

fn heartbeat(at: usize) -> wire::Heartbeat {
    let (model, host) = (MODELS[at % MODELS.len()].to_owned(), format!("host-{:04}", at / 8));
    let sample = wire::GpuSample {
        uuid: format!("GPU-{at:08}"),
        model: model.clone(),
        busy_percent: Some(u32::try_from(at % 100).unwrap_or(0)),
        memory_used_bytes: Some(8 << 30),
        memory_total_bytes: Some(24 << 30),
        power_milliwatts: Some(60_000),
        ..wire::GpuSample::default()
    };
    wire::Heartbeat {
        worker: format!("played-{at:05}"),
        function: "command".to_owned(),
        function_version: 1,
        host,
        gpus: vec![model],
        gpu_samples: vec![sample],
        ..wire::Heartbeat::default()
    }
}
