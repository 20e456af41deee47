//! The arrows between the crates: who may know whom.

use cargo_metadata::MetadataCommand;

/// The dependencies of each crate on crates of ours; ARCHITECTURE.md draws them.
const ARROWS: [(&str, &[&str]); 4] = [
    ("schema", &[]),
    ("graphs", &["schema"]),
    ("nodes", &["schema"]),
    ("engine", &["graphs", "nodes", "schema"]),
];

/// What the pure crates must not know.
const EFFECTS: [&str; 6] = ["tokio", "candle-core", "axum", "reqwest", "tantivy", "moka"];

#[test]
fn arrows_point_one_way() {
    let manifest = tests::repository().join("Cargo.toml");
    let metadata = MetadataCommand::new()
        .manifest_path(manifest)
        .no_deps()
        .exec()
        .unwrap();
    let dependencies = |name: &str| {
        let package = metadata
            .packages
            .iter()
            .find(|package| package.name == name);
        let normal = package
            .unwrap()
            .dependencies
            .iter()
            .filter(|dependency| dependency.kind == cargo_metadata::DependencyKind::Normal);
        normal
            .map(|dependency| dependency.name.clone())
            .collect::<Vec<_>>()
    };
    for (name, allowed) in ARROWS {
        let mut ours: Vec<_> = dependencies(name)
            .into_iter()
            .filter(|name| ARROWS.iter().any(|(ours, _)| ours == name))
            .collect();
        ours.sort();
        assert_eq!(ours, allowed, "dependencies of {name}");
    }
    for pure in ["schema", "graphs"] {
        let found = dependencies(pure);
        let effects: Vec<_> = EFFECTS
            .iter()
            .filter(|name| found.iter().any(|have| have == *name))
            .collect();
        assert!(effects.is_empty(), "{pure} knows {effects:?}");
    }
    assert!(
        !dependencies("engine")
            .iter()
            .any(|name| name.starts_with("candle")),
        "candle stays in nodes"
    );
}
