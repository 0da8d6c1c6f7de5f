//! Workers as Jobs of Kubernetes: one Job for each, named like it. What there is, is known from two watches; what was started
//! here before this process is found by its labels. Nothing of a frame is ever an object of Kubernetes.

mod access;
mod events;
pub mod lease;
mod refusal;
pub mod rights;
mod seen;
mod state;
mod template;
mod watch;

pub use access::Access;
pub use template::joining::joining;
pub use template::{FARM, FUNCTION, POOL, WORKER};

use crate::{Error, Instance, InstanceState, Provider, Start, StartError, Surroundings};
use async_trait::async_trait;
use events::Events;
use framewake_proto::ids::WorkerId;
use framewake_proto::pool::PoolSpec;
use framewake_proto::pool::kubernetes::KubernetesPool;
use k8s_openapi::api::batch::v1::Job;
use kube::Api;
use kube::api::{DeleteParams, PostParams, Preconditions};
use kube::client::Body;
use kube::core::{Request, Resource, Status};
use refusal::{Call, Failure};
use seen::{Jobs, Pods, Workers};
use template::Template;
use tokio::time::Instant;
use tokio_util::sync::{CancellationToken, DropGuard};
use tracing::{debug, info};

/// A pool of workers in a namespace of a cluster.
#[derive(Debug)]
pub struct Kubernetes {
    access: Access,
    namespace: String,
    template: Template,
    workers: Workers,
    /// Until when the API server wants to be left alone.
    breath_until: Option<Instant>,
    _stop: DropGuard,
}

impl Kubernetes {
    /// The pool, and what follows its Jobs and pods until this is dropped. The API server may be away: then nothing is known
    /// yet.
    pub fn open(
        access: &Access,
        pool: &PoolSpec,
        kubernetes: &KubernetesPool,
        surroundings: &Surroundings,
    ) -> Result<Kubernetes, Error> {
        let template = Template::new(pool, kubernetes, surroundings)?;
        let namespace = kubernetes.namespace.clone().unwrap_or_else(|| access.namespace.clone());
        let (workers, stop) = (Workers::new(), CancellationToken::new());
        let (client, at) = (&access.client, || (namespace.clone(), template.selector(), stop.clone()));
        let ((space, selector, until), jobs) = (at(), Api::namespaced(client.clone(), &namespace));
        tokio::spawn(watch::follow(jobs, space, selector, Jobs(workers.clone()), until));
        let ((space, selector, until), pods) = (at(), Api::namespaced(client.clone(), &namespace));
        tokio::spawn(watch::follow(pods, space, selector, Pods(workers.clone()), until));
        let api = Api::namespaced(client.clone(), &namespace);
        let events = Events { api, namespace: namespace.clone(), workers: workers.clone() };
        tokio::spawn(events.look(stop.clone()));
        info!("pool `{}` starts workers as Jobs in namespace `{namespace}` of {}", pool.name, access.server);
        let access = access.clone();
        Ok(Kubernetes { access, namespace, template, workers, breath_until: None, _stop: stop.drop_guard() })
    }

    fn jobs(&self) -> Api<Job> {
        Api::namespaced(self.access.client.clone(), &self.namespace)
    }

    fn call(&self, verb: &'static str) -> Call<'_> {
        Call { verb, resource: "jobs.batch", namespace: &self.namespace }
    }

    /// The Job, as the API server took it, or its refusal; an overrun one says for how long it wants to be left alone.
    async fn create(&mut self, job: &Job) -> Result<Job, Failure> {
        let path = Job::url_path(&(), Some(&self.namespace));
        let post = PostParams { dry_run: false, field_manager: Some("framewake".to_owned()) };
        let answer = async {
            let body = serde_json::to_vec(job).map_err(kube::Error::SerdeError)?;
            let request = Request::new(path).create(&post, body).map_err(kube::Error::BuildRequest)?;
            // By hand, because a client that reads the answer drops its headers.
            let answer = self.access.client.send(request.map(Body::from)).await?;
            let (head, body) = answer.into_parts();
            Ok((head, body.collect_bytes().await?))
        };
        let (head, body) = self.call("create").answered(answer).await?;
        if head.status.is_success() {
            let job = serde_json::from_slice(&body).map_err(kube::Error::SerdeError);
            return job.map_err(|error| Failure::Unheard(Some(error)));
        }
        let told = || String::from_utf8_lossy(&body).trim().to_owned();
        let status: Status = serde_json::from_slice(&body).unwrap_or_else(|_| Status::failure(&told(), "no Status"));
        let status = status.with_code(head.status.as_u16());
        let header = head.headers.get("retry-after").and_then(|value| value.to_str().ok());
        self.breath_until = refusal::breath(&status, header).map(|breath| Instant::now() + breath);
        Err(Failure::Refused(status.boxed()))
    }

    /// The Job of this name, if it is ours.
    async fn find(&self, worker: &WorkerId) -> Result<Option<Job>, Error> {
        if let Some(job) = self.workers.job(worker) {
            return Ok(Some(job));
        }
        let call = self.call("get");
        let jobs = self.jobs();
        let found = call.answered(jobs.get_opt(worker.as_str())).await.map_err(|failure| call.error(failure))?;
        Ok(found.filter(|job| self.template.is_ours(job.metadata.labels.as_ref())))
    }

    /// Exactly the Job that was looked at, and its pod with it.
    async fn delete(&self, job: &Job) -> Result<(), Error> {
        let call = self.call("delete");
        let uid = Preconditions { uid: job.metadata.uid.clone(), resource_version: None };
        let background = DeleteParams::background().preconditions(uid);
        let (jobs, name) = (self.jobs(), job.metadata.name.clone().unwrap_or_default());
        match call.answered(jobs.delete(&name, &background)).await {
            Ok(_) => Ok(()),
            // Gone already, or another of the same name by now.
            Err(failure) if matches!(failure.code(), Some(404 | 409)) => Ok(()),
            Err(failure) => Err(call.error(failure)),
        }
    }
}

#[async_trait]
impl Provider for Kubernetes {
    async fn start(&mut self, start: &Start) -> Result<(), StartError> {
        if self.workers.job(&start.worker).is_some() {
            return Ok(());
        }
        if let Some(until) = self.breath_until.filter(|until| Instant::now() < *until) {
            let left = (until - Instant::now()).as_secs() + 1;
            return Err(StartError::Away(plain(format!("the API server asks to be left alone for {left} s"))));
        }
        let job = self.template.job(start).map_err(StartError::Refused)?;
        match self.create(&job).await {
            Ok(job) => {
                debug!(worker.id = %start.worker, "Job {} is made", start.worker);
                self.workers.created(&start.worker, &start.function, job);
                Ok(())
            }
            // There already: a request whose answer was lost, or somebody else's.
            Err(failure) if failure.code() == Some(409) => match self.find(&start.worker).await {
                Ok(Some(_)) => Ok(()),
                Ok(None) => Err(StartError::Refused(format!(
                    "there is a Job `{}` in namespace `{}` that is not of this pool",
                    start.worker, self.namespace
                ))),
                Err(error) => Err(StartError::Away(error)),
            },
            Err(failure) => Err(self.call("create").start_error(failure)),
        }
    }

    async fn stop(&mut self, worker: &WorkerId) -> Result<(), Error> {
        if let Some(job) = self.find(worker).await? {
            self.delete(&job).await?;
            info!(worker.id = %worker, "the Job of worker {worker}, which never spoke, is deleted");
        }
        self.workers.drop_worker(worker);
        Ok(())
    }

    async fn observe(&mut self) -> Result<Vec<Instance>, Error> {
        self.workers.observe().await
    }

    async fn changed(&mut self) {
        self.workers.changed().await;
    }

    async fn forget(&mut self, worker: &WorkerId) -> Result<(), Error> {
        match self.workers.state(worker) {
            None => return Ok(()),
            Some(InstanceState::Ended(_)) => {}
            // What renders is never deleted, whoever asks.
            Some(InstanceState::Waiting { .. } | InstanceState::Running) => {
                return Err(plain(format!("worker {worker} has not ended, so its Job stays")));
            }
        }
        if let Some(job) = self.workers.job(worker) {
            self.delete(&job).await?;
        }
        self.workers.drop_worker(worker);
        Ok(())
    }
}

fn because(what: impl Into<String>, cause: impl std::error::Error + Send + Sync + 'static) -> Error {
    Error { what: what.into(), cause: Some(Box::new(cause)) }
}

fn plain(what: impl Into<String>) -> Error {
    Error { what: what.into(), cause: None }
}
