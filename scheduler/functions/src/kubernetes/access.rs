//! The way to the API server: a kubeconfig that was named, or that of the pod this program runs in.

use super::because;
use crate::Error;
use kube::config::{ExecInteractiveMode, KubeConfigOptions, Kubeconfig};
use kube::{Client, Config};
use std::fmt;
use std::path::{Path, PathBuf};
use std::time::Duration;
use tracing::info;

/// Longest wait for a connection: the API server is near.
const CONNECT_MAX: Duration = Duration::from_secs(5);

/// A client of an API server, and the namespace where nothing else is said.
#[derive(Clone)]
pub struct Access {
    pub(super) client: Client,
    pub namespace: String,
    /// For people.
    pub server: String,
}

impl Access {
    /// By the kubeconfigs named (as `KUBECONFIG` has them: several are merged); without, as a pod of the cluster.
    pub async fn new(kubeconfig: &[PathBuf]) -> Result<Access, Error> {
        let config = if kubeconfig.is_empty() { in_cluster()? } else { of_files(kubeconfig).await? };
        Access::of(config)
    }

    /// The client itself, for what is no part of a provider.
    pub fn client(&self) -> Client {
        self.client.clone()
    }

    fn of(mut config: Config) -> Result<Access, Error> {
        config.connect_timeout = Some(CONNECT_MAX);
        // Its own way waits up to a quarter of an hour, within a call. Who asks here knows what else there is to do.
        config.default_retry = false;
        if let Some(exec) = &mut config.auth_info.exec {
            // A service has nobody to ask.
            exec.interactive_mode = Some(ExecInteractiveMode::Never);
            let command = exec.command.as_deref().unwrap_or_default();
            info!("the kubeconfig has the program `{command}` run for credentials");
        }
        let (namespace, server) = (config.default_namespace.clone(), config.cluster_url.to_string());
        let client = Client::try_from(config)
            .map_err(|error| because(format!("cannot make a client for the API server at {server}"), error))?;
        Ok(Access { client, namespace, server })
    }
}

impl fmt::Debug for Access {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Access")
            .field("server", &self.server)
            .field("namespace", &self.namespace)
            .finish_non_exhaustive()
    }
}

fn in_cluster() -> Result<Config, Error> {
    Config::incluster().map_err(|error| {
        let what =
            "there is no way to an API server: this is no pod with a service account, and KUBECONFIG names no file";
        because(what, error)
    })
}

async fn of_files(paths: &[PathBuf]) -> Result<Config, Error> {
    let mut merged = Kubeconfig::default();
    for path in paths {
        merged = read(path).and_then(|more| merged.merge(more)).map_err(|error| unusable(path, error))?;
    }
    Config::from_custom_kubeconfig(merged, &KubeConfigOptions::default())
        .await
        .map_err(|error| unusable(paths.first().map_or(Path::new(""), PathBuf::as_path), error))
}

fn read(path: &Path) -> Result<Kubeconfig, kube::config::KubeconfigError> {
    Kubeconfig::read_from(path)
}

fn unusable(path: &Path, error: kube::config::KubeconfigError) -> Error {
    because(format!("the kubeconfig `{}` cannot be used", path.display()), error)
}
