//! The Helm chart: what it makes for each platform, held against Kubernetes' own schemas, the restricted standard, and the
//! programs that read what it makes.

use framewake_functions::kubernetes::rights::{self, Right};
use framewake_proto::function::FunctionSpec;
use framewake_proto::pool::{PoolSpec, ProviderSpec};
use framewake_proto::subjects::{LOGS_BYTES_MAX, REPORTS_BYTES_MAX};
use framewake_tests::chart::{Case, Rendered, cases, check, containers, name, render};
use framewake_tests::parts::{built, root};
use serde_json::{Value, json};
use std::collections::BTreeSet;
use std::process::Command;

/// The cases of these names.
fn rendered<const N: usize>(wanted: [&str; N]) -> [Rendered; N] {
    let find = |name| cases().into_iter().find(|case| case.name == name).expect("a case of that name");
    render(&wanted.map(find)).try_into().expect("one for each")
}

#[test]
fn every_preset_renders_lints_and_is_what_kubernetes_takes() {
    for rendered in check(&cases()) {
        let name = rendered.name;
        assert!(rendered.lint.is_empty(), "{name}: {}", rendered.lint.join("\n"));
        assert!(rendered.faults.is_empty(), "{name}: {}", rendered.faults.join("\n"));
        let mut seen = BTreeSet::new();
        for object in &rendered.objects {
            let namespace = object["metadata"]["namespace"].as_str().unwrap_or_default();
            assert!(!namespace.is_empty(), "{name}: {} has no namespace", object["metadata"]);
            let is_new = seen.insert((object["kind"].to_string(), namespace, self::name(object)));
            assert!(is_new, "{name}: twice {} {}", object["kind"], object["metadata"]);
            let cluster = ["ClusterRole", "ClusterRoleBinding", "CustomResourceDefinition", "Namespace"];
            assert!(!cluster.iter().any(|kind| object["kind"] == *kind), "{name}: needs rights over the cluster");
        }
        assert!(
            rendered.notes.contains("kubectl -n render rollout status deployment/farm-framewake"),
            "{}",
            rendered.notes
        );
    }
}

/// (pool, words of its file, words that must not be there)
type Keys = [(&'static str, &'static [&'static str], &'static [&'static str])];

#[test]
fn presets_carry_the_keys_of_their_platforms() {
    let gke: &Keys = &[
        (
            "l4-spot",
            &[
                "cloud.google.com/gke-accelerator: nvidia-l4",
                "cloud.google.com/gke-spot: \"true\"",
                "key: cloud.google.com/gke-spot\n",
                "key: nvidia.com/gpu",
                "market: spot",
            ],
            &[],
        ),
        ("l4", &["cloud.google.com/gke-accelerator: nvidia-l4", "key: nvidia.com/gpu"], &["gke-spot"]),
    ];
    let aks: &Keys = &[
        (
            "a10-spot",
            &[
                "kubernetes.azure.com/accelerator: nvidia",
                "kubernetes.azure.com/scalesetpriority: spot",
                "key: kubernetes.azure.com/scalesetpriority",
                "key: sku",
                "market: spot",
            ],
            &[],
        ),
        ("a10", &["kubernetes.azure.com/accelerator: nvidia", "key: sku"], &["scalesetpriority"]),
    ];
    let eks: &Keys = &[
        (
            "l4-spot",
            &[
                "karpenter.sh/capacity-type: spot",
                "karpenter.k8s.aws/instance-gpu-name: l4",
                "key: nvidia.com/gpu",
                "market: spot",
            ],
            &[],
        ),
        (
            "l4",
            &["karpenter.sh/capacity-type: on-demand", "karpenter.k8s.aws/instance-gpu-name: l4"],
            &["capacity-type: spot"],
        ),
        ("l40s", &["karpenter.k8s.aws/instance-gpu-name: l40s"], &["capacity-type: spot"]),
    ];
    let openshift: &Keys =
        &[("gpu", &["feature.node.kubernetes.io/pci-10de.present: \"true\"", "key: nvidia.com/gpu"], &[])];
    let bare: &Keys = &[("gpu", &["nvidia.com/gpu.present: \"true\"", "key: nvidia.com/gpu"], &[])];
    let mut rendered = render(&cases());
    for (preset, keys) in [("gke", gke), ("aks", aks), ("eks", eks), ("openshift", openshift), ("bare", bare)] {
        let at = rendered.iter().position(|case| case.name == preset).expect("it is a case");
        let files = rendered.remove(at).pool_files();
        let pools: BTreeSet<&str> = files.iter().filter_map(|(file, _)| file.strip_suffix(".yaml")).collect();
        let expected: BTreeSet<&str> = keys.iter().map(|(pool, ..)| *pool).chain(["cpu"]).collect();
        assert_eq!(pools, expected, "{preset}");
        for (pool, words, absent) in keys {
            let (_, text) = files.iter().find(|(file, _)| *file == format!("{pool}.yaml")).expect("listed above");
            for word in *words {
                assert!(text.contains(word), "{preset}, {pool}: no `{word}` in:\n{text}");
            }
            for word in *absent {
                assert!(!text.contains(word), "{preset}, {pool}: `{word}` in:\n{text}");
            }
            assert!(text.contains("gpu_resource: nvidia.com/gpu\n"), "{preset}, {pool}:\n{text}");
        }
        let (_, cpu) = files.iter().find(|(file, _)| file == "cpu.yaml").expect("listed above");
        assert!(!cpu.contains("gpu:") && cpu.contains("order: 0"), "{preset}: steps without GPUs come first:\n{cpu}");
    }
}

#[test]
fn no_pod_may_do_more_than_the_restricted_standard_allows() {
    for rendered in render(&cases()) {
        let pods = rendered.pods();
        assert!(!pods.is_empty());
        for (maker, pod) in pods {
            let at = format!("{}, {maker}", rendered.name);
            let security = &pod["securityContext"];
            assert_eq!(security["runAsNonRoot"], true, "{at}");
            assert_eq!(security["seccompProfile"]["type"], "RuntimeDefault", "{at}");
            // OpenShift refuses UIDs that it did not assign, and without a preset nobody has chosen one.
            let assigned = ["openshift", "elsewhere", "encrypted", "plain"].contains(&rendered.name);
            for field in ["runAsUser", "runAsGroup", "fsGroup"] {
                assert_eq!(security[field].is_null(), assigned, "{at}: {field} is {}", security[field]);
            }
            for field in ["hostNetwork", "hostPID", "hostIPC"] {
                assert!(pod[field].is_null(), "{at}: {field}");
            }
            let token = pod["automountServiceAccountToken"] == true;
            assert_eq!(token, maker == "farm-framewake", "{at}: only the scheduler speaks to the API server");
            for container in containers(pod) {
                let at = format!("{at}, {}", container["name"]);
                let security = &container["securityContext"];
                assert_eq!(security["allowPrivilegeEscalation"], false, "{at}");
                assert_eq!(security["readOnlyRootFilesystem"], true, "{at}");
                assert_eq!(security["capabilities"], json!({ "drop": ["ALL"] }), "{at}");
                assert!(security["runAsUser"].is_null() && security["privileged"].is_null(), "{at}");
                assert!(container["resources"]["requests"]["memory"].is_string(), "{at}: no request for memory");
                assert!(container["resources"]["limits"]["memory"].is_string(), "{at}: no limit of memory");
                for port in container["ports"].as_array().into_iter().flatten() {
                    assert!(port["containerPort"].as_u64() > Some(1023), "{at}: {port}");
                }
            }
            for volume in pod["volumes"].as_array().into_iter().flatten() {
                assert!(volume["hostPath"].is_null(), "{at}: {volume}");
                let empty = &volume["emptyDir"];
                assert!(empty.is_null() || empty["sizeLimit"].is_string(), "{at}: {volume} has no bound");
            }
        }
    }
}

#[test]
fn the_scheduler_may_handle_jobs_where_the_pools_are_and_workers_nothing() {
    let [rendered, two] = rendered(["everything", "two schedulers"]);
    let allowed = |rendered: &Rendered, namespace: &str| -> BTreeSet<String> {
        let of = |role: &&Value| role["metadata"]["namespace"] == namespace;
        let role = rendered.of_kind("Role").into_iter().find(of).unwrap_or_else(|| panic!("no Role in {namespace}"));
        let rules = role["rules"].as_array().expect("rules").iter();
        let words = |list: &Value| -> Vec<String> {
            list.as_array().into_iter().flatten().map(|word| word.as_str().unwrap_or_default().to_owned()).collect()
        };
        rules
            .flat_map(|rule| words(&rule["verbs"]).into_iter().map(move |verb| (rule, verb)))
            .flat_map(|(rule, verb)| words(&rule["resources"]).into_iter().map(move |what| format!("{verb} {what}")))
            .collect()
    };
    // What is called is held against the same table (`tests/kubernetes.rs`).
    let expected = |rights: &[Right]| -> BTreeSet<String> {
        let words =
            |right: &Right| right.verbs.iter().map(|verb| format!("{verb} {}", right.resource)).collect::<Vec<_>>();
        rights.iter().flat_map(words).collect()
    };
    assert_eq!(allowed(&rendered, "gpus"), expected(rights::WORKERS));
    assert_eq!(allowed(&rendered, "render"), expected(rights::WORKERS));
    assert_eq!(allowed(&two, "render"), expected(&[rights::WORKERS, rights::LEASE].concat()));
    for binding in rendered.of_kind("RoleBinding") {
        let subjects = binding["subjects"].as_array().expect("subjects");
        assert!(subjects.len() == 1 && subjects[0]["name"] == "farm-framewake", "{binding}");
        assert_eq!(subjects[0]["namespace"], "render", "{binding}");
    }
    let accounts: Vec<&Value> = rendered.of_kind("ServiceAccount");
    assert_eq!(accounts.len(), 3, "the scheduler's, and the workers' in both namespaces");
    assert!(accounts.iter().all(|account| account["automountServiceAccountToken"] == false));
}

#[test]
fn pools_and_functions_are_files_that_the_scheduler_takes() {
    let mut pools = 0;
    for rendered in render(&cases()) {
        for (file, text) in rendered.pool_files() {
            let at = format!("{}, {file}:\n{text}", rendered.name);
            let pool: PoolSpec = framewake_proto::yaml::read(&text).unwrap_or_else(|error| panic!("{error}: {at}"));
            assert!(pool.faults().is_empty(), "{:?}: {at}", pool.faults());
            assert_eq!(format!("{}.yaml", pool.name), file);
            let ProviderSpec::Kubernetes(jobs) = &pool.provider else { panic!("another provider: {at}") };
            assert_eq!(jobs.service_account.as_deref(), Some("farm-framewake-workers"), "{at}");
            assert_eq!(jobs.labels.get("app.kubernetes.io/component").map(String::as_str), Some("worker"), "{at}");
            if rendered.name == "guarded" {
                assert_eq!(jobs.environment_from, ["join"], "neither the seed nor the store's credentials: {at}");
            }
            if pool.name.as_str() == "mig" {
                assert_eq!(jobs.environment_from, ["store", "nats", "license"], "{at}");
                assert_eq!(jobs.image_pull_secrets, ["registry", "other"], "{at}");
                assert_eq!(jobs.namespace.as_deref(), Some("gpus"), "{at}");
                assert_eq!(jobs.labels.get("team").map(String::as_str), Some("render"), "{at}");
            }
            pools += 1;
        }
        let functions = rendered.one("ConfigMap", "-functions")["data"].as_object().cloned().unwrap_or_default();
        assert_eq!(functions.len(), usize::from(rendered.name == "everything"));
        for (file, text) in functions {
            let text = text.as_str().expect("text");
            let function: FunctionSpec =
                framewake_proto::yaml::read(text).unwrap_or_else(|error| panic!("{file}: {error}"));
            assert!(function.faults().is_empty(), "{file}: {:?}", function.faults());
        }
    }
    assert!(pools > 15, "only {pools} pools");
}

#[test]
fn the_scheduler_knows_every_option_that_the_chart_sets() {
    let help = |words: &[&str]| {
        let output = Command::new(built("framewake-scheduler")).args(words).output().expect("it runs");
        String::from_utf8(output.stdout).expect("text")
    };
    let known = help(&["--help"]);
    let mut set = 0;
    for rendered in render(&cases()) {
        let deployment = rendered.one("Deployment", "farm-framewake");
        for container in containers(&deployment["spec"]["template"]["spec"]) {
            for variable in container["env"].as_array().into_iter().flatten() {
                let name = variable["name"].as_str().expect("a name");
                // The store's are read by its client.
                let of_others = ["AWS_REGION", "AWS_ENDPOINT_URL"].contains(&name);
                let told = |end| known.contains(&format!("[env: {name}{end}"));
                let is_known = of_others || told('=') || told(']');
                assert!(is_known, "{}: the scheduler has no {name}", rendered.name);
                set += 1;
            }
        }
        let restore =
            containers(&deployment["spec"]["template"]["spec"]).find(|container| container["name"] == "restore");
        for word in restore.iter().flat_map(|restore| restore["args"].as_array().into_iter().flatten()) {
            let word = word.as_str().expect("a word");
            let is_known = help(&["restore", "--help"]).split_whitespace().any(|known| known == word);
            assert!(is_known || !word.starts_with("--"), "{}: `restore` has no {word}", rendered.name);
        }
    }
    assert!(set > 60, "only {set} variables were looked at");
}

#[test]
fn nats_has_room_for_the_streams_of_a_farm() {
    let [rendered] = rendered(["everything"]);
    let text = rendered.one("ConfigMap", "-nats")["data"]["nats.conf"].as_str().expect("text");
    let gib =
        |text: &str| text.split(|c: char| !c.is_ascii_digit()).next().and_then(|digits| digits.parse::<i64>().ok());
    let store = text.split("max_file_store: ").nth(1).and_then(gib).expect("the server's bound") << 30;
    assert!(store > REPORTS_BYTES_MAX + LOGS_BYTES_MAX, "streams that do not fit can't be made");
    let claims = &rendered.one("StatefulSet", "-nats")["spec"]["volumeClaimTemplates"];
    let volume = claims[0]["spec"]["resources"]["requests"]["storage"].as_str().and_then(gib).expect("Gi") << 30;
    assert!(volume > store, "a volume that is full before the server's bound ends it");
}

#[test]
fn nats_lets_only_scheduler_and_workers_in() {
    for rendered in rendered(["plain", "everything"]) {
        let policy = rendered.one("NetworkPolicy", "-nats");
        let allowed: Vec<&Value> = policy["spec"]["ingress"].as_array().expect("rules").iter().collect();
        let peers = allowed.iter().flat_map(|rule| rule["from"].as_array().expect("peers"));
        let component = |peer: &'_ Value| peer["podSelector"]["matchLabels"]["app.kubernetes.io/component"].clone();
        let components: BTreeSet<String> = peers.map(|peer| component(peer).to_string()).collect();
        assert_eq!(components, BTreeSet::from(["\"scheduler\"".to_owned(), "\"worker\"".to_owned()]), "{policy}");
        assert!(allowed.iter().all(|rule| rule["ports"] == json!([{ "port": "nats" }])), "{policy}");
    }
}

#[test]
fn keda_and_openfaas_have_a_door_where_they_are_asked_for() {
    for (rendered, open) in rendered(["everything", "plain"]).iter().zip([true, false]) {
        let expected = if open { vec!["http", "keda", "openfaas"] } else { vec!["http"] };
        let names = |ports: &Value| -> Vec<String> {
            let ports = ports.as_array().expect("ports").iter();
            let mut names: Vec<String> = ports.map(|port| port["name"].as_str().expect("a name").to_owned()).collect();
            names.sort();
            names
        };
        assert_eq!(names(&rendered.one("Service", "farm-framewake")["spec"]["ports"]), expected);
        let pod = &rendered.one("Deployment", "farm-framewake")["spec"]["template"]["spec"];
        let container = containers(pod).find(|container| container["name"] == "scheduler").expect("it is there");
        assert_eq!(names(&container["ports"]), expected);
        let environment = container["env"].as_array().expect("variables");
        let listens = |name: &str| environment.iter().find(|variable| variable["name"] == name);
        for (name, address) in
            [("FRAMEWAKE_KEDA_LISTEN", "0.0.0.0:7701"), ("FRAMEWAKE_OPENFAAS_LISTEN", "0.0.0.0:8080")]
        {
            assert_eq!(
                listens(name).map(|variable| variable["value"].as_str()),
                open.then_some(Some(address)),
                "{name}"
            );
        }
        // The door of KEDA has no password: only KEDA comes to it.
        let policies = rendered.of_kind("NetworkPolicy");
        let policy = policies.into_iter().find(|policy| name(policy) == "farm-framewake").expect("it is there");
        let rules = policy["spec"]["ingress"].as_array().expect("rules");
        let keda: Vec<&Value> = rules.iter().filter(|rule| rule["ports"].to_string().contains("keda")).collect();
        let scaling = json!([{ "namespaceSelector": { "matchLabels": { "kubernetes.io/metadata.name": "scaling" } } }]);
        assert_eq!(keda.len(), usize::from(open));
        assert!(
            keda.iter().all(|rule| rule["from"] == scaling && rule["ports"] == json!([{ "port": "keda" }])),
            "{policy}"
        );
        let words = "framewake functions keda NAME --scaler farm-framewake.render.svc:7701 --farm framewake --store s3://frames/farm --secret store --secret nats";
        assert_eq!(rendered.notes.contains(words), open, "{}", rendered.notes);
    }
}

#[test]
fn whoever_asks_needs_a_token_unless_the_farm_is_said_to_be_open() {
    for (rendered, open) in rendered(["plain", "everything", "encrypted"]).iter().zip([false, true, false]) {
        let pod = &rendered.one("Deployment", "farm-framewake")["spec"]["template"]["spec"];
        let container = containers(pod).find(|container| container["name"] == "scheduler").expect("it is there");
        let environment = container["env"].as_array().expect("variables");
        let access = environment.iter().find(|it| it["name"] == "FRAMEWAKE_ACCESS").expect("it is said");
        assert_eq!(access["value"], if open { "open" } else { "tokens" });
        // By these and no other names, of which those who ask from within the cluster are some.
        let names = environment.iter().find(|it| it["name"] == "FRAMEWAKE_NAMES").map(|it| it["value"].clone());
        let all = "farm-framewake,farm-framewake.render,farm-framewake.render.svc,farm-framewake.render.svc.cluster.local,farm.example,render.example";
        assert_eq!(names, open.then(|| json!(all)));
        let first =
            "kubectl -n render exec deployment/farm-framewake --container scheduler -- framewake-scheduler token";
        assert_eq!(rendered.notes.contains(first), !open, "{}", rendered.notes);
        for monitor in rendered.of_kind("ServiceMonitor") {
            let shown = &monitor["spec"]["endpoints"][0]["authorization"]["credentials"];
            let secret = json!({ "name": "prometheus", "key": "token" });
            assert_eq!(*shown, if open { Value::Null } else { secret });
        }
    }
}

#[test]
fn with_a_secret_for_it_every_port_speaks_tls_and_who_asks_there_is_told_so() {
    for (rendered, encrypted) in rendered(["encrypted", "everything"]).iter().zip([true, false]) {
        let pod = &rendered.one("Deployment", "farm-framewake")["spec"]["template"]["spec"];
        let container = containers(pod).find(|container| container["name"] == "scheduler").expect("it is there");
        let scheme = if encrypted { "HTTPS" } else { "HTTP" };
        for probe in ["startupProbe", "livenessProbe", "readinessProbe"] {
            assert_eq!(container[probe]["httpGet"]["scheme"], scheme, "{probe}");
        }
        let environment = container["env"].as_array().expect("variables").iter();
        let files = environment.filter(|it| it["name"].as_str().is_some_and(|name| name.starts_with("FRAMEWAKE_TLS_")));
        let files: Vec<&str> = files.filter_map(|it| it["value"].as_str()).collect();
        let mounted = container["volumeMounts"].as_array().expect("mounts").iter().find(|it| it["name"] == "tls");
        let service = rendered.one("Service", "farm-framewake")["spec"]["ports"].as_array().expect("ports");
        let spoken: Vec<&str> = service.iter().filter_map(|port| port["appProtocol"].as_str()).collect();
        let scraped = &rendered.one("ServiceMonitor", "farm-framewake")["spec"]["endpoints"][0];
        if encrypted {
            assert_eq!(files, ["/etc/framewake/tls/tls.crt", "/etc/framewake/tls/tls.key"]);
            assert_eq!(mounted.expect("the files are there")["mountPath"], "/etc/framewake/tls");
            let volumes = pod["volumes"].as_array().expect("volumes");
            let secret = json!({ "name": "tls", "secret": { "secretName": "farm-tls" } });
            assert!(volumes.contains(&secret), "{volumes:?}");
            assert_eq!(spoken, ["https", "https", "https"]);
            assert_eq!(rendered.one("Route", "farm-framewake")["spec"]["tls"]["termination"], "reencrypt");
            assert_eq!(
                (&scraped["scheme"], &scraped["tlsConfig"]["serverName"]),
                (&json!("https"), &json!("farm-framewake.render.svc"))
            );
            assert!(rendered.notes.contains("--tls --ca-secret farm-tls"), "{}", rendered.notes);
            let doctor = &rendered.one("Pod", "-doctor")["spec"];
            let told = json!([
                { "name": "FRAMEWAKE_URL", "value": "https://farm-framewake.render.svc:7700" },
                { "name": "SSL_CERT_FILE", "value": "/etc/framewake/tls/ca.crt" },
            ]);
            assert_eq!(doctor["containers"][0]["env"], told);
            let authority =
                json!({ "secretName": "farm-tls", "items": [{ "key": "ca.crt", "path": "ca.crt" }], "optional": true });
            assert_eq!(doctor["volumes"], json!([{ "name": "tls", "secret": authority }]), "no key is among it");
            assert_eq!(doctor["containers"][0]["volumeMounts"][0]["mountPath"], "/etc/framewake/tls");
        } else {
            assert!(files.is_empty() && mounted.is_none() && scraped["scheme"].is_null());
            assert_eq!(spoken, ["http", "http", "kubernetes.io/h2c"]);
            assert!(!rendered.notes.contains("--tls"), "{}", rendered.notes);
        }
    }
}

#[test]
fn workers_reach_nats_the_store_and_names_and_nothing_reaches_them() {
    let expected = [vec![53, 53, 443, 4222], vec![53, 53, 4222, 8333, 27000], vec![53, 53, 443, 4333]];
    for (rendered, expected) in rendered(["gke", "everything", "elsewhere"]).iter().zip(expected) {
        let wanted = rendered.name;
        let policies: Vec<&Value> =
            rendered.of_kind("NetworkPolicy").into_iter().filter(|it| name(it).ends_with("-workers")).collect();
        assert_eq!(policies.len(), if wanted == "everything" { 2 } else { 1 }, "one for each namespace");
        for policy in policies {
            let spec = &policy["spec"];
            assert_eq!(spec["policyTypes"], json!(["Ingress", "Egress"]));
            assert_eq!(spec["ingress"], json!([]));
            let rules = spec["egress"].as_array().expect("rules");
            let mut ports: Vec<u64> = rules
                .iter()
                .flat_map(|rule| rule["ports"].as_array().expect("every rule names ports"))
                .map(|port| port["port"].as_u64().expect("a number"))
                .collect();
            ports.sort_unstable();
            assert_eq!(ports, expected, "{wanted}: {spec}");
            let text = spec.to_string();
            assert!(text.contains("169.254.0.0/16"), "{wanted}: the metadata of clouds: {spec}");
        }
    }
}

#[test]
fn what_is_read_at_the_start_makes_a_new_pod_when_it_changes() {
    let values = [json!({}), json!({}), json!({ "pools": { "gpu": { "max": 9 } } })];
    let rendered = render(&values.map(|values| Case::new("changed", Some("bare"), values)));
    let sums =
        |at: usize| &rendered[at].one("Deployment", "farm-framewake")["spec"]["template"]["metadata"]["annotations"];
    assert_eq!(sums(0), sums(1), "the same values make the same pod");
    assert_ne!(sums(0)["framewake/pools"], sums(2)["framewake/pools"]);
    assert_eq!(sums(0)["framewake/functions"], sums(2)["framewake/functions"]);
}

#[test]
fn alerts_and_dashboards_are_those_that_are_tested() {
    let [rendered] = rendered(["everything"]);
    let text = std::fs::read_to_string(root().join("charts/framewake/rules/framewake.yaml")).expect("it is there");
    let rules: Value = serde_saphyr::from_str(&text).expect("YAML");
    assert_eq!(rendered.one("PrometheusRule", "")["spec"], rules);
    for dashboard in framewake_tests::monitoring::DASHBOARDS {
        let map = rendered.one("ConfigMap", &format!("-dashboard-{dashboard}"));
        assert_eq!(map["metadata"]["labels"]["grafana_dashboard"], "1");
        let held = map["data"][format!("framewake-{dashboard}.json")].as_str().expect("a dashboard");
        let held: Value = serde_json::from_str(held).expect("JSON");
        assert_eq!(held, framewake_tests::monitoring::dashboard(dashboard));
    }
}

#[test]
fn presets_open_streams_for_long() {
    let [everything, openshift, bare, aks, eks] =
        rendered(["everything", "elsewhere", "bare with ingress", "aks with ingress", "eks with ingress"]);
    assert_eq!(everything.one("BackendConfig", "")["spec"]["timeoutSec"], 86400);
    let service = everything.one("Service", "farm-framewake");
    assert_eq!(
        service["metadata"]["annotations"]["cloud.google.com/backend-config"],
        r#"{"default":"farm-framewake"}"#
    );
    let route = openshift.one("Route", "");
    assert_eq!(route["metadata"]["annotations"]["haproxy.router.openshift.io/timeout"], "1h");
    for (rendered, key, value) in [
        (bare, "nginx.ingress.kubernetes.io/proxy-read-timeout", "3600"),
        (aks, "nginx.ingress.kubernetes.io/proxy-buffering", "off"),
        (eks, "alb.ingress.kubernetes.io/load-balancer-attributes", "idle_timeout.timeout_seconds=3600"),
    ] {
        assert_eq!(rendered.one("Ingress", "")["metadata"]["annotations"][key], value, "{}", rendered.name);
    }
}

#[test]
fn the_truth_outlives_the_release_and_has_one_owner() {
    for rendered in rendered(["plain", "everything", "elsewhere", "two schedulers"]) {
        let deployment = rendered.one("Deployment", "farm-framewake");
        assert_eq!(deployment["spec"]["strategy"], json!({ "type": "Recreate" }), "{}", rendered.name);
        let replicas = if rendered.name == "two schedulers" { 2 } else { 1 };
        assert_eq!(deployment["spec"]["replicas"], replicas, "{}", rendered.name);
        let scheduler = &deployment["spec"]["template"]["spec"]["containers"][0];
        let lease =
            scheduler["env"].as_array().expect("variables").iter().find(|it| it["name"] == "FRAMEWAKE_LEADER_LEASE");
        // Who waits for the lease is alive and must not be asked; who is alone takes jobs also while a part is away.
        let (held, probe) = if replicas == 2 { (Some("render/farm-framewake"), "/readyz") } else { (None, "/healthz") };
        assert_eq!(lease.and_then(|lease| lease["value"].as_str()), held, "{}", rendered.name);
        assert_eq!(scheduler["readinessProbe"]["httpGet"]["path"], probe, "{}", rendered.name);
        assert_eq!(scheduler["livenessProbe"]["httpGet"]["path"], "/healthz", "{}", rendered.name);
        let claims = rendered.of_kind("PersistentVolumeClaim");
        assert_eq!(claims.len(), usize::from(rendered.name != "elsewhere"), "{}", rendered.name);
        assert!(claims.iter().all(|claim| claim["metadata"]["annotations"]["helm.sh/resource-policy"] == "keep"));
        let before = &deployment["spec"]["template"]["spec"]["initContainers"];
        let before: Vec<&str> =
            before.as_array().into_iter().flatten().filter_map(|one| one["name"].as_str()).collect();
        let copied = ["everything", "elsewhere"].contains(&rendered.name);
        let expected: &[&str] = if copied { &["fetch-copy", "restore", "replicate"] } else { &[] };
        assert_eq!(before, expected, "{}", rendered.name);
    }
}
