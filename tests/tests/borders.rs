//! The borders of the workspace, and what every source file of it owes its reader.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use std::path::{Path, PathBuf};
use std::process::Command;

/// The packages of the workspace.
const PACKAGES: [&str; 6] = ["routing", "translate", "controller-sync", "gateway", "tests", "loadtest"];
/// "Question a module at 400 lines, split it at 600."
const MAX_LINES: usize = 600;

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap()
}

/// The names of all packages that a package needs to run, directly or not.
fn dependencies(package: &str) -> Vec<String> {
    let arguments = ["tree", "--locked", "--offline", "--edges", "normal", "--prefix", "none", "--format", "{p}"];
    let output =
        Command::new(env!("CARGO")).current_dir(root()).args(arguments).args(["--package", package]).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let text = String::from_utf8(output.stdout).unwrap();
    let mut names: Vec<String> = text.lines().filter_map(|line| line.split(' ').next()).map(str::to_owned).collect();
    assert!(names.len() > 5 && names[0] == package, "{names:?}");
    names.sort_unstable();
    names.dedup();
    names
}

fn check_does_not_need(package: &str, families: &[&str]) {
    for name in dependencies(package) {
        let is_of = |family: &&&str| name == **family || name.starts_with(&format!("{family}-"));
        assert!(!families.iter().any(|family| is_of(&family)), "{package} needs {name}");
    }
}

/// The Rust files below a directory.
fn sources(directory: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut open = vec![directory.to_owned()];
    while let Some(directory) = open.pop() {
        for entry in std::fs::read_dir(directory).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                open.push(path);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                found.push(path);
            }
        }
    }
    found.sort_unstable();
    found
}

/// The modules of all packages: what is below `src/`, without the tests that have a file of their own.
fn modules() -> Vec<PathBuf> {
    let all = PACKAGES.iter().flat_map(|package| sources(&root().join(package).join("src")));
    let modules: Vec<_> = all.filter(|path| path.file_name().is_none_or(|name| name != "tests.rs")).collect();
    assert!(modules.len() > 50, "{modules:?}");
    modules
}

#[test]
fn routing_knows_no_kubernetes_no_runtime_and_no_pingora() {
    check_does_not_need("routing", &["kube", "k8s", "tokio", "pingora", "translate", "controller", "gateway"]);
}

#[test]
fn translate_knows_no_client_no_runtime_and_no_pingora() {
    check_does_not_need("translate", &["kube", "tokio", "pingora", "controller", "gateway"]);
}

#[test]
fn the_controller_knows_no_pingora() {
    check_does_not_need("controller-sync", &["pingora", "gateway"]);
}

#[test]
fn the_check_of_dependencies_sees_those_of_dependencies() {
    let gateway = dependencies("gateway");
    for name in ["routing", "tokio", "pingora-core"] {
        assert!(gateway.iter().any(|dependency| dependency == name), "{name}: {gateway:?}");
    }
}

#[test]
fn only_the_composition_root_knows_both_sides() {
    // In two parts, because this file must not name it either.
    let name = ["controller", "sync"].join("_");
    let gateway = root().join("gateway/src");
    let is_root = |path: &Path| path == gateway.join("main.rs") || path.starts_with(gateway.join("main"));
    let mut roots = 0;
    for package in PACKAGES.iter().filter(|package| **package != "controller-sync") {
        for path in sources(&root().join(package)) {
            if std::fs::read_to_string(&path).unwrap().contains(&name) {
                assert!(is_root(&path), "{} names {name}", path.display());
                roots += 1;
            }
        }
    }
    assert!(roots > 0, "nothing names {name}");
}

#[test]
fn no_module_is_longer_than_its_reader_can_hold() {
    for path in modules() {
        let text = std::fs::read_to_string(&path).unwrap();
        let n_lines = text.lines().take_while(|line| *line != "#[cfg(test)]").count();
        assert!(n_lines <= MAX_LINES, "{} has {n_lines} lines without its tests", path.display());
    }
}

#[test]
fn every_module_says_what_it_owns() {
    for path in modules() {
        let text = std::fs::read_to_string(&path).unwrap();
        assert!(text.starts_with("//! "), "{} does not begin with a module doc", path.display());
    }
}
