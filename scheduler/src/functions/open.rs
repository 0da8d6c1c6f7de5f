//! Makes the provider of each pool.

use crate::config::Config;
use anyhow::{Context, Result};
use framewake_functions::docker::DockerProvider;
use framewake_functions::http::HttpProvider;
use framewake_functions::kubernetes::{Access, Kubernetes};
use framewake_functions::local::{LocalConfig, LocalProvider};
use framewake_functions::openfaas::OpenfaasProvider;
use framewake_functions::{Provider, Surroundings};
use framewake_proto::ids::Name;
use framewake_proto::login::without_login;
use framewake_proto::pool::{PoolSpec, ProviderSpec};
use std::path::PathBuf;

/// Settings of the store that workers need too.
const PASSED_ON: &str = "AWS_";
/// Of these, what says who this process is, by files that only it has: workers elsewhere have an identity of their own.
const OWN: [&str; 5] = ["CONFIG_FILE", "CONTAINER_", "PROFILE", "ROLE_", "WEB_IDENTITY_"];

/// One for each pool. A place that does not answer yet is no fault.
pub(crate) async fn open(pools: &[PoolSpec], config: &Config) -> Result<Vec<(Name, Box<dyn Provider>)>> {
    let surroundings = surroundings(config);
    let access = match pools.iter().find(|pool| matches!(pool.provider, ProviderSpec::Kubernetes(_))) {
        None => None,
        Some(pool) => {
            let access = Access::new(&config.kubeconfig).await;
            Some(access.with_context(|| format!("pool {}", pool.name))?)
        }
    };
    let mut providers = Vec::with_capacity(pools.len());
    for pool in pools {
        let provider: Box<dyn Provider> = match &pool.provider {
            ProviderSpec::Local {} => Box::new(LocalProvider::new(local(config, &surroundings, pool.max)?)?),
            ProviderSpec::Docker(docker) => {
                let provider = DockerProvider::new(pool.name.clone(), docker.clone(), surroundings.clone());
                Box::new(provider.with_context(|| format!("pool {}", pool.name))?)
            }
            ProviderSpec::Kubernetes(kubernetes) => {
                let access = access.as_ref().expect("made above, for there is such a pool");
                let provider = Kubernetes::open(access, pool, kubernetes, &surroundings);
                Box::new(provider.with_context(|| format!("pool {}", pool.name))?)
            }
            ProviderSpec::Openfaas(openfaas) => {
                let (name, around) = (pool.name.clone(), surroundings.clone());
                let provider = OpenfaasProvider::open(name, pool.max, openfaas.clone(), around, notes(config, pool));
                Box::new(provider.with_context(|| format!("pool {}", pool.name))?)
            }
            ProviderSpec::Http(http) => {
                let provider = HttpProvider::open(http.clone(), notes(config, pool));
                Box::new(provider.with_context(|| format!("pool {}", pool.name))?)
            }
        };
        providers.push((pool.name.clone(), provider));
    }
    Ok(providers)
}

/// Where a pool without a list of its own keeps one.
fn notes(config: &Config, pool: &PoolSpec) -> PathBuf {
    config.shared.data.join("wakeups").join(pool.name.as_str())
}

fn local(config: &Config, surroundings: &Surroundings, max: u32) -> Result<LocalConfig> {
    let data = config.shared.data.canonicalize().context("the data folder")?;
    // Workers of this machine inherit the rest.
    let ca = config.credentials.nats_ca.as_deref().map(std::path::absolute).transpose().context("--nats-ca")?;
    let ca = ca.map(|file| ("FRAMEWAKE_NATS_CA".to_owned(), file.display().to_string()));
    let environment = ca.into_iter().chain([log_format(config)]).collect();
    let surroundings = Surroundings { environment, ..surroundings.clone() };
    Ok(LocalConfig { data, worker: worker_program(config)?, max, surroundings })
}

/// The program of workers here.
pub(crate) fn worker_program(config: &Config) -> Result<PathBuf> {
    let beside = std::env::current_exe().ok().and_then(|file| Some(file.parent()?.join("framewake-worker")));
    config.shared.worker_bin.clone().or(beside).context("--worker-bin is needed")
}

#[allow(clippy::disallowed_methods)] // What the store's client reads itself, workers elsewhere have to be told.
fn surroundings(config: &Config) -> Surroundings {
    // Where calls of the store are signed for workers, they need to know nothing of it.
    let is_signed = config.credentials.nats_seed.is_some() && config.store.starts_with("s3://");
    let environment = std::env::vars().filter(|(name, _)| !is_signed && is_passed_on(name));
    Surroundings {
        // Where workers join with tokens of their own, nobody's password is for them.
        nats: if config.credentials.nats_seed.is_some() { without_login(&config.nats) } else { config.nats.clone() },
        farm: config.farm.to_string(),
        store: config.store.clone(),
        environment: environment.chain([log_format(config)]).collect(),
    }
}

/// Workers log as the scheduler does, also where it was told so by a flag, which would stay here.
fn log_format(config: &Config) -> (String, String) {
    ("FRAMEWAKE_LOG_FORMAT".to_owned(), config.shared.log_format.as_str().to_owned())
}

fn is_passed_on(name: &str) -> bool {
    name.strip_prefix(PASSED_ON).is_some_and(|rest| !OWN.iter().any(|own| rest.starts_with(own)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn workers_are_told_where_the_store_is_and_not_who_the_scheduler_is() {
        for name in ["AWS_REGION", "AWS_ENDPOINT_URL", "AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"] {
            assert!(is_passed_on(name), "{name}");
        }
        let own = ["AWS_ROLE_ARN", "AWS_WEB_IDENTITY_TOKEN_FILE", "AWS_CONTAINER_CREDENTIALS_FULL_URI", "AWS_PROFILE"];
        for name in own.into_iter().chain(["PATH", "FRAMEWAKE_STORE"]) {
            assert!(!is_passed_on(name), "{name}");
        }
    }
}
