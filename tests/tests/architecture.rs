//! Dependencies point down only, and each crate knows what it may know.

use std::collections::{BTreeMap, BTreeSet};

use cargo_metadata::{DependencyKind, MetadataCommand};

/// Each crate's height; a crate depends only on lower ones. Stages share the top: never stage on stage.
const LEVELS: &[(u32, &[&str])] = &[
    (0, &["fault", "random", "tokenizer", "kernels"]),
    (1, &["artifact", "tables", "device", "encoder", "policy"]),
    (2, &["cli", "training"]),
    (3, &["tokenize", "score", "select", "pretrain", "glue", "report"]),
    // Calls the stages as programs, and reads what they made as the report does.
    (4, &["ablation"]),
];

/// Crates that build without burn, so that tokenizing, selecting and inspecting need no backend.
const WITHOUT_BURN: &[&str] = &[
    "fault",
    "random",
    "tokenizer",
    "policy",
    "artifact",
    "tables",
    "cli",
    "tokenize",
    "select",
    "report",
    "ablation",
];

fn normal_dependencies() -> BTreeMap<String, BTreeSet<String>> {
    let metadata = MetadataCommand::new().no_deps().exec().expect("cargo metadata runs in the workspace");
    let packages = metadata.packages.iter().filter(|package| package.name.as_str() != "entromask-tests");
    packages
        .map(|package| {
            let normal = package.dependencies.iter().filter(|dep| dep.kind != DependencyKind::Development);
            (short(&package.name), normal.map(|dep| short(&dep.name)).collect())
        })
        .collect()
}

fn short(name: &str) -> String {
    name.strip_prefix("entromask-").map_or_else(|| format!("external:{name}"), ToString::to_string)
}

fn level(name: &str) -> u32 {
    let found = LEVELS.iter().find(|(_, names)| names.contains(&name));
    found.unwrap_or_else(|| panic!("crate `{name}` has no place in the architecture: add it here")).0
}

#[test]
fn dependencies_point_down() {
    for (name, dependencies) in normal_dependencies() {
        for below in dependencies.iter().filter(|dependency| !dependency.starts_with("external:")) {
            assert!(level(below) < level(&name), "{name} must not depend on {below}");
        }
    }
}

#[test]
fn stages_that_need_no_model_build_without_burn() {
    let dependencies = normal_dependencies();
    let external: Vec<&str> = WITHOUT_BURN
        .iter()
        .flat_map(|name| dependencies[*name].iter().map(String::as_str))
        .filter(|name| {
            name.starts_with("external:burn") || ["device", "encoder", "kernels", "training"].contains(name)
        })
        .collect();
    assert!(external.is_empty(), "{external:?}");
}

#[test]
fn only_tables_knows_our_schemas_and_only_device_knows_backends() {
    let metadata = MetadataCommand::new().no_deps().exec().expect("cargo metadata runs in the workspace");
    for package in &metadata.packages {
        let name = short(&package.name);
        let features = ["wgpu", "vulkan", "cuda"];
        let has_backends = features.iter().any(|feature| package.features.contains_key(*feature));
        assert!(!has_backends || name == "device", "{name} has backend features");
    }
    for (name, dependencies) in normal_dependencies() {
        // The tokenizer stage reads foreign Parquet files, as text.
        let knows_tables = ["tables", "tokenize"].contains(&name.as_str());
        for format in ["arrow", "parquet"] {
            let reads = dependencies.contains(&format!("external:{format}"));
            assert!(!reads || knows_tables, "{name} depends on {format}");
        }
    }
}
