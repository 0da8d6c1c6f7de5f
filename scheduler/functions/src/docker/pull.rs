//! Images are fetched from registries: how far that is, and why it fails.

use super::engine::{Engine, Failure};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bollard::auth::DockerCredentials;
use bollard::models::CreateImageInfo;
use futures::StreamExt;
use serde::Deserialize;
use std::collections::{BTreeMap, HashMap};

/// Fetches an image, telling how far it is.
pub(super) async fn pull(
    engine: &Engine,
    image: &str,
    logins: Option<&str>,
    told: impl Fn(String),
) -> Result<(), Failure> {
    told(format!("fetching image `{image}`"));
    let credentials = logins.map(|file| login(file, image)).transpose();
    let credentials = credentials.map_err(|message| Failure::Refused { status: 0, message })?.flatten();
    let mut news = engine.pull(image, credentials).await?;
    let mut layers = Layers::default();
    while let Some(news) = news.next().await {
        let news = news.map_err(|failure| explained(failure, image, logins))?;
        if let Some(percent) = layers.take_in(&news) {
            told(format!("fetching image `{image}`: {percent} %"));
        }
    }
    Ok(())
}

/// How much of each layer is here.
#[derive(Debug, Default)]
struct Layers(BTreeMap<String, (u64, u64)>);

impl Layers {
    /// How far all of them are, where that is known.
    fn take_in(&mut self, news: &CreateImageInfo) -> Option<u64> {
        let layer = news.id.clone()?;
        match news.status.as_deref()? {
            "Downloading" => {
                let detail = news.progress_detail.as_ref()?;
                let bytes = |count: Option<i64>| u64::try_from(count?).ok();
                self.0.insert(layer, (bytes(detail.current)?, bytes(detail.total).filter(|total| *total > 0)?));
            }
            "Download complete" | "Pull complete" => {
                let (here, total) = self.0.get_mut(&layer)?;
                *here = *total;
            }
            _ => return None,
        }
        let (here, total) = self.0.values().fold((0, 0), |sum, layer| (sum.0 + layer.0, sum.1 + layer.1));
        Some((here * 100).checked_div(total)?.min(100))
    }
}

/// What registries and engines say, and what it means.
const MEANINGS: [(&str, &str); 9] = [
    ("no matching manifest", "it is not made for the machine of this pool"),
    ("no basic auth credentials", "its registry wants a login"),
    ("unauthorized", "its registry wants a login"),
    ("access denied", "there is no such image, or its registry wants a login"),
    ("manifest unknown", "there is no such image"),
    ("not found", "there is no such image"),
    ("no space left", "the disk of the engine is full"),
    ("no such host", "its registry is not to be found from the engine's machine"),
    ("invalid reference", "that is no name of an image"),
];

fn explained(failure: Failure, image: &str, logins: Option<&str>) -> Failure {
    let Failure::Refused { status, message } = failure else { return failure };
    let meaning =
        MEANINGS.iter().find(|(words, _)| message.contains(words)).map_or("its registry failed", |(_, means)| means);
    let hint = match (meaning.contains("login"), logins) {
        (false, _) => String::new(),
        (true, None) => ": name a file with one as `credentials` of the pool".to_owned(),
        (true, Some(file)) => format!(": see the one for it in `{file}`"),
    };
    Failure::Refused {
        status,
        message: format!("image `{image}` can't be fetched, {meaning}{hint} ({})", message.trim()),
    }
}

/// The part of the docker client's `config.json` that holds logins.
#[derive(Deserialize)]
struct Logins {
    #[serde(default)]
    auths: HashMap<String, Login>,
}

#[derive(Deserialize)]
struct Login {
    #[serde(default)]
    auth: String,
}

/// The login for an image's registry.
fn login(file: &str, image: &str) -> Result<Option<DockerCredentials>, String> {
    let text =
        std::fs::read_to_string(file).map_err(|error| format!("the logins in `{file}` can't be read: {error}"))?;
    let logins: Logins =
        serde_json::from_str(&text).map_err(|error| format!("`{file}` is no file of logins: {error}"))?;
    let registry = registry(image);
    let plain =
        |name: &str| name.trim_start_matches("https://").trim_end_matches("/v1/").trim_end_matches('/').to_owned();
    let Some((name, login)) = logins.auths.iter().find(|(name, _)| plain(name) == registry) else { return Ok(None) };
    let wrong =
        || format!("the login for `{registry}` in `{file}` can't be read: it must hold `auth`, not a helper's name");
    let decoded =
        STANDARD.decode(&login.auth).ok().and_then(|bytes| String::from_utf8(bytes).ok()).ok_or_else(wrong)?;
    let (user, password) = decoded.split_once(':').ok_or_else(wrong)?;
    Ok(Some(DockerCredentials {
        username: Some(user.to_owned()),
        password: Some(password.to_owned()),
        serveraddress: Some(name.clone()),
        ..DockerCredentials::default()
    }))
}

/// Host and port of an image's registry, as logins name it.
fn registry(image: &str) -> &str {
    match image.split_once('/') {
        Some((first, _)) if first.contains(['.', ':']) || first == "localhost" => first,
        _ => "index.docker.io",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use bollard::models::ProgressDetail;

    fn news(layer: &str, status: &str, bytes: Option<(i64, i64)>) -> CreateImageInfo {
        CreateImageInfo {
            id: Some(layer.to_owned()),
            status: Some(status.to_owned()),
            progress_detail: bytes
                .map(|(current, total)| ProgressDetail { current: Some(current), total: Some(total) }),
            ..CreateImageInfo::default()
        }
    }

    #[test]
    fn progress_is_over_all_layers_that_are_known() {
        let mut layers = Layers::default();
        assert_eq!(layers.take_in(&news("a", "Pulling fs layer", None)), None);
        assert_eq!(layers.take_in(&news("a", "Downloading", Some((10, 100)))), Some(10));
        assert_eq!(layers.take_in(&news("b", "Downloading", Some((0, 300)))), Some(2));
        assert_eq!(layers.take_in(&news("b", "Download complete", None)), Some(77));
        assert_eq!(layers.take_in(&news("c", "Downloading", Some((1, 0)))), None, "of unknown size");
        assert_eq!(layers.take_in(&news("a", "Pull complete", None)), Some(100));
    }

    #[test]
    fn a_registry_is_found_in_the_name_of_an_image() {
        for (image, expected) in [
            ("blender", "index.docker.io"),
            ("studio/blender:5.0", "index.docker.io"),
            ("registry.example/blender", "registry.example"),
            ("localhost/blender", "localhost"),
            ("127.0.0.1:5000/a/b@sha256:00", "127.0.0.1:5000"),
        ] {
            assert_eq!(registry(image), expected, "{image}");
        }
    }

    #[test]
    fn logins_are_read_as_the_docker_client_writes_them() {
        let folder = tempfile::tempdir().expect("room for a folder");
        let file = folder.path().join("config.json");
        let file = file.to_str().expect("plain");
        let auth = STANDARD.encode("me:pass:word");
        std::fs::write(
            file,
            format!(r#"{{"auths":{{"https://index.docker.io/v1/":{{"auth":"{auth}"}},"helped.example":{{}}}}}}"#),
        )
        .expect("writable");
        let found = login(file, "studio/blender").expect("read").expect("there");
        assert_eq!((found.username.as_deref(), found.password.as_deref()), (Some("me"), Some("pass:word")));
        assert!(login(file, "other.example/blender").expect("read").is_none());
        let reason = login(file, "helped.example/blender").expect_err("no login in it");
        assert!(reason.contains("not a helper's name"), "{reason}");
        assert!(login("/nowhere", "blender").expect_err("not there").contains("/nowhere"));
    }

    #[test]
    fn a_failed_fetch_says_what_to_do() {
        let check = |message: &str, logins: Option<&str>, expected: &str| {
            let failure = Failure::Refused { status: 404, message: message.to_owned() };
            let Failure::Refused { message, .. } = explained(failure, "a/b", logins) else {
                panic!("it stays refused")
            };
            assert!(message.contains(expected), "{message}");
        };
        check("manifest for a/b:latest not found: manifest unknown", None, "there is no such image (manifest");
        let denied = "pull access denied for a/b, repository does not exist or may require 'docker login'";
        check(denied, None, "or its registry wants a login: name a file with one as `credentials` of the pool (pull");
        check(denied, Some("/etc/logins"), "see the one for it in `/etc/logins`");
        check("no matching manifest for linux/amd64 in the manifest list entries", None, "not made for the machine");
        check("write /x: no space left on device", None, "the disk of the engine is full");
        check("received unexpected HTTP status: 500", None, "its registry failed (received");
    }
}
