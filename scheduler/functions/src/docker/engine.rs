//! The Docker engine: what is asked of it, and what its answers mean.

use crate::Error;
use bollard::auth::DockerCredentials;
use bollard::errors::Error as BollardError;
use bollard::models::{ContainerCreateBody, ContainerInspectResponse, ContainerSummary, CreateImageInfo, ImageInspect};
use bollard::query_parameters::{
    CreateContainerOptions, CreateImageOptions, EventsOptions, KillContainerOptions, ListContainersOptions,
    LogsOptions, RemoveContainerOptions, StartContainerOptions,
};
use bollard::{API_DEFAULT_VERSION, Docker};
use framewake_proto::pool::docker::DockerPool;
use futures::stream::BoxStream;
use futures::{Stream, StreamExt};
use std::collections::HashMap;
use std::path::Path;
use std::sync::{Arc, Mutex};

/// Longest wait for the first bytes of an answer.
const ANSWER_MAX_S: u64 = 25;
/// Lines of a container's log that are read for its last words.
const LAST_LINES: &str = "20";
/// What happens to containers that a look should follow.
const EVENTS: [&str; 5] = ["create", "start", "oom", "die", "destroy"];

/// Cheap to clone; connects when it is first asked, and again after it failed.
#[derive(Clone)]
pub(super) struct Engine {
    host: String,
    certificates: Option<String>,
    connected: Arc<Mutex<Option<Connected>>>,
}

#[derive(Clone)]
struct Connected {
    docker: Docker,
    machine: Machine,
}

/// Where the engine runs.
#[derive(Debug, Clone)]
pub(super) struct Machine {
    pub(super) name: String,
    /// As images name it: `amd64`.
    pub(super) architecture: String,
}

/// Why the engine did not do it.
#[derive(Debug)]
pub(super) enum Failure {
    /// It said no.
    Refused { status: u16, message: String },
    /// It does not answer, or breaks off: nobody knows whether it was done.
    Away(Error),
}

impl Failure {
    pub(super) fn into_error(self) -> Error {
        match self {
            Failure::Refused { message, .. } => Error { what: message, cause: None },
            Failure::Away(error) => error,
        }
    }
}

impl Engine {
    pub(super) fn new(spec: &DockerPool) -> Engine {
        let (host, certificates) = (spec.host.clone(), spec.certificates.clone());
        Engine { host, certificates, connected: Arc::default() }
    }

    pub(super) async fn machine(&self) -> Result<Machine, Failure> {
        Ok(self.connect().await?.machine)
    }

    /// Also those that have ended.
    pub(super) async fn list(&self, filters: HashMap<String, Vec<String>>) -> Result<Vec<ContainerSummary>, Failure> {
        let options = ListContainersOptions { all: true, filters: Some(filters), ..ListContainersOptions::default() };
        let docker = self.docker().await?;
        docker.list_containers(Some(options)).await.map_err(|error| self.failure(error))
    }

    pub(super) async fn create(&self, name: &str, body: ContainerCreateBody) -> Result<(), Failure> {
        let options = CreateContainerOptions { name: Some(name.to_owned()), ..CreateContainerOptions::default() };
        let docker = self.docker().await?;
        docker.create_container(Some(options), body).await.map(drop).map_err(|error| self.failure(error))
    }

    /// One that runs already is left alone.
    pub(super) async fn start(&self, name: &str) -> Result<(), Failure> {
        let docker = self.docker().await?;
        docker.start_container(name, None::<StartContainerOptions>).await.map_err(|error| self.failure(error))
    }

    pub(super) async fn kill(&self, name: &str, signal: &str) -> Result<(), Failure> {
        let options = KillContainerOptions { signal: signal.to_owned() };
        let docker = self.docker().await?;
        docker.kill_container(name, Some(options)).await.map_err(|error| self.failure(error))
    }

    /// With its volumes; one that is not there, or on its way out, is no failure.
    pub(super) async fn remove(&self, name: &str) -> Result<(), Failure> {
        let options = RemoveContainerOptions { v: true, force: true, ..RemoveContainerOptions::default() };
        let docker = self.docker().await?;
        match docker.remove_container(name, Some(options)).await.map_err(|error| self.failure(error)) {
            Err(Failure::Refused { status: 404 | 409, .. }) => Ok(()),
            done => done,
        }
    }

    pub(super) async fn inspect(&self, name: &str) -> Result<ContainerInspectResponse, Failure> {
        let docker = self.docker().await?;
        docker.inspect_container(name, None).await.map_err(|error| self.failure(error))
    }

    /// The end of what it wrote.
    pub(super) async fn last_lines(&self, name: &str) -> Result<String, Failure> {
        let options = LogsOptions { stdout: true, stderr: true, tail: LAST_LINES.to_owned(), ..LogsOptions::default() };
        let docker = self.docker().await?;
        let mut lines = docker.logs(name, Some(options));
        let mut said = String::new();
        while let Some(line) = lines.next().await {
            said.push_str(&line.map_err(|error| self.failure(error))?.to_string());
        }
        Ok(said)
    }

    /// `None`: the engine does not have it.
    pub(super) async fn image(&self, name: &str) -> Result<Option<ImageInspect>, Failure> {
        let docker = self.docker().await?;
        match docker.inspect_image(name).await.map_err(|error| self.failure(error)) {
            Ok(image) => Ok(Some(image)),
            Err(Failure::Refused { status: 404, .. }) => Ok(None),
            Err(failure) => Err(failure),
        }
    }

    /// Fetches an image from its registry, telling how far it is.
    pub(super) async fn pull(
        &self,
        image: &str,
        credentials: Option<DockerCredentials>,
    ) -> Result<impl Stream<Item = Result<CreateImageInfo, Failure>> + use<>, Failure> {
        // Without a tag the engine would fetch all there are.
        let (name, tag) = if image.contains('@') { (image, None) } else { split_tag(image) };
        let options = CreateImageOptions {
            from_image: Some(name.to_owned()),
            tag: (!image.contains('@')).then(|| tag.unwrap_or("latest").to_owned()),
            ..CreateImageOptions::default()
        };
        let engine = self.clone();
        let docker = self.docker().await?;
        Ok(docker
            .create_image(Some(options), None, credentials)
            .map(move |told| told.map_err(|error| engine.failure(error)))
            .boxed())
    }

    /// Something for each change of a container.
    pub(super) async fn events(
        &self,
        mut filters: HashMap<String, Vec<String>>,
    ) -> Result<BoxStream<'static, Result<(), Failure>>, Failure> {
        filters.insert("type".to_owned(), vec!["container".to_owned()]);
        filters.insert("event".to_owned(), EVENTS.map(str::to_owned).to_vec());
        let options = EventsOptions { filters: Some(filters), ..EventsOptions::default() };
        let engine = self.clone();
        let docker = self.docker().await?;
        let events = docker.events(Some(options));
        Ok(events.map(move |event| event.map(drop).map_err(|error| engine.failure(error))).boxed())
    }

    async fn docker(&self) -> Result<Docker, Failure> {
        Ok(self.connect().await?.docker)
    }

    async fn connect(&self) -> Result<Connected, Failure> {
        if let Some(connected) = self.lock().clone() {
            return Ok(connected);
        }
        let connected = self.open().await.map_err(|error| self.failure(error))?;
        *self.lock() = Some(connected.clone());
        Ok(connected)
    }

    async fn open(&self) -> Result<Connected, BollardError> {
        let docker = match &self.certificates {
            _ if self.host.starts_with("unix://") => {
                Docker::connect_with_unix(&self.host, ANSWER_MAX_S, API_DEFAULT_VERSION)?
            }
            Some(folder) => {
                let file = |name| Path::new(folder).join(name);
                Docker::connect_with_ssl(
                    &self.host,
                    &file("key.pem"),
                    &file("cert.pem"),
                    &file("ca.pem"),
                    ANSWER_MAX_S,
                    API_DEFAULT_VERSION,
                )?
            }
            None => Docker::connect_with_http(&self.host, ANSWER_MAX_S, API_DEFAULT_VERSION)?,
        };
        // Older engines refuse newer requests.
        let docker = docker.negotiate_version().await?;
        let info = docker.info().await?;
        let architecture = match info.architecture.unwrap_or_default().as_str() {
            "x86_64" => "amd64".to_owned(),
            "aarch64" => "arm64".to_owned(),
            other => other.to_owned(),
        };
        Ok(Connected { docker, machine: Machine { name: info.name.unwrap_or_default(), architecture } })
    }

    fn failure(&self, error: BollardError) -> Failure {
        match error {
            // Busy with its own start or end.
            BollardError::DockerResponseServerError { status_code, message } if status_code != 503 => {
                Failure::Refused { status: status_code, message }
            }
            BollardError::DockerStreamError { error } => Failure::Refused { status: 200, message: error },
            error => {
                // Another one may answer next, of another version.
                *self.lock() = None;
                let what = format!("the Docker engine at {} does not answer", self.host);
                Failure::Away(Error { what, cause: Some(Box::new(error)) })
            }
        }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Option<Connected>> {
        self.connected.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }
}

/// `registry:5000/name:tag` is a name and a tag.
pub(super) fn split_tag(image: &str) -> (&str, Option<&str>) {
    match image.rsplit_once(':') {
        Some((name, tag)) if !tag.contains('/') => (name, Some(tag)),
        _ => (image, None),
    }
}
