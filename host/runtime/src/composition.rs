//! Composition of a component with others (`--plug`), when it is loaded.
//!
//! ```text
//!   parts --wac-types--> names that each imports and exports --> plan
//!                                                                 |
//!                    component <--wac-graph-- instances, wires <--+
//! ```
//!
//! A part is a component in binary form. The plan knows names alone; the graph
//! checks the types. The whole is one component, which has one set of
//! permissions.

mod plan;

use std::fmt::{self, Display, Formatter};

use netwasm_base::guarded::guarded;
use wac_graph::types::Package;
use wac_graph::{CompositionGraph, EncodeOptions, NodeId, PackageId};

use self::plan::{Plan, Sides};

/// A component to compose, in binary form.
#[derive(Clone, Debug)]
pub(crate) struct Part {
    /// Name for messages: that of its file.
    pub(crate) name: String,
    pub(crate) bytes: Vec<u8>,
}

/// The parts of a composition, and what each has from which other.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Wiring {
    names: Vec<String>,
    plan: Plan,
}

impl Display for Wiring {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let name = |part: usize| self.names.get(part).map_or("?", String::as_str);
        for export in &self.plan.exports {
            writeln!(
                f,
                "  outside calls {} of {}",
                export.name,
                name(export.part)
            )?;
        }
        for wire in &self.plan.wires {
            let (user, owner) = (name(wire.user), name(wire.owner));
            writeln!(f, "  {user} calls {} of {owner}", wire.import)?;
        }
        Ok(())
    }
}

/// Composes the first part with the others.
///
/// # Errors
/// Names a plug that fits nowhere and what it would have to fit, or the
/// interface of which two parts have different ideas.
pub(crate) fn compose(parts: Vec<Part>) -> Result<(Vec<u8>, Wiring), String> {
    let names = parts.iter().map(|part| part.name.clone()).collect();
    // wac panics on what it was not made for.
    let composed = guarded(|| composed(parts));
    let composed = composed.unwrap_or_else(|| Err("it cannot be composed: wac panicked".into()));
    composed.map(|(bytes, plan)| (bytes, Wiring { names, plan }))
}

fn composed(parts: Vec<Part>) -> Result<(Vec<u8>, Plan), String> {
    let mut graph = CompositionGraph::new();
    let mut names = Vec::new();
    let mut packages: Vec<PackageId> = Vec::new();
    for (number, Part { name, bytes }) in parts.into_iter().enumerate() {
        let wrong = |error: &dyn Display| format!("{name} cannot be composed: {error}");
        let key = format!("netwasm:part-{number}");
        let package = Package::from_bytes(&key, None, bytes, graph.types_mut());
        let package = package.map_err(|error| wrong(&format_args!("{error:#}")))?;
        let package = graph.register_package(package);
        packages.push(package.map_err(|error| wrong(&error))?);
        names.push(name);
    }
    let sides: Vec<Sides> = packages
        .iter()
        .zip(&names)
        .map(|(package, name)| {
            let world = &graph.types()[graph[*package].ty()];
            Sides {
                name: name.clone(),
                imports: world.imports.keys().cloned().collect(),
                exports: world.exports.keys().cloned().collect(),
            }
        })
        .collect();
    let plan = plan::plan(&sides)?;
    let instances: Vec<NodeId> = packages.iter().map(|it| graph.instantiate(*it)).collect();
    let name = |part: usize| names.get(part).map_or("?", String::as_str);
    let instance = |part: usize| instances.get(part).copied().ok_or("a part is missing");
    for wire in &plan.wires {
        let made = graph.alias_instance_export(instance(wire.owner)?, &wire.export);
        let made = made.map_err(|error| error.to_string()).and_then(|export| {
            let user = instance(wire.user)?;
            let set = graph.set_instantiation_argument(user, &wire.import, export);
            set.map_err(|error| causes(&error))
        });
        made.map_err(|error| {
            format!(
                "{} imports {}, and the {} that {} exports has another form: {error}",
                name(wire.user),
                wire.import,
                wire.export,
                name(wire.owner)
            )
        })?;
    }
    for export in &plan.exports {
        let made = graph.alias_instance_export(instance(export.part)?, &export.name);
        let made = made.map_err(|error| error.to_string()).and_then(|node| {
            let exported = graph.export(node, &export.name);
            exported.map_err(|error| error.to_string())
        });
        made.map_err(|error| format!("{} of {}: {error}", export.name, name(export.part)))?;
    }
    let encoded = graph.encode(EncodeOptions {
        // The compiler validates it.
        validate: false,
        ..EncodeOptions::default()
    });
    let bytes = encoded.map_err(|error| {
        let causes = causes(&error);
        format!("{} cannot be composed: {causes}", names.join(", "))
    })?;
    Ok((bytes, plan))
}

/// Joins an error and its causes in one line.
fn causes(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut next = error.source();
    while let Some(cause) = next {
        text = format!("{text}: {cause}");
        next = cause.source();
    }
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kind;

    fn part(name: &str, text: &str) -> Part {
        Part {
            name: name.into(),
            bytes: wat::parse_str(text).expect("a component"),
        }
    }

    const OWNER: &str = r#"(component
        (core module $m (func (export "f") (result i32) i32.const 1))
        (core instance $i (instantiate $m))
        (func $f (result u32) (canon lift (core func $i "f")))
        (instance $x (export "f" (func $f)))
        (export "a:b/c@1.0.2" (instance $x)))"#;

    const USER: &str = r#"(component
        (import "a:b/c@1.0.0" (instance $x (export "f" (func (result u32)))))
        (import "x:y/z@0.2.0" (instance (export "g" (func))))
        (instance $run (export "run" (func $x "f")))
        (export "wasi:cli/run@0.2.0" (instance $run)))"#;

    #[test]
    fn a_composition_has_one_interface() {
        let parts = vec![part("user", USER), part("owner", OWNER)];
        let (bytes, wiring) = compose(parts).expect("it is composed");
        wasmparser::validate(&bytes).expect("it is a component");
        assert_eq!(kind::exports(&bytes), ["wasi:cli/run@0.2.0"]);
        assert_eq!(
            wiring.to_string(),
            "  outside calls wasi:cli/run@0.2.0 of user\n  user calls a:b/c@1.0.0 of owner\n"
        );
        let engine = wasmtime::Engine::default();
        let component = wasmtime::component::Component::new(&engine, &bytes).expect("it");
        let ty = component.component_type();
        let imports: Vec<_> = ty.imports(&engine).map(|(name, _)| name).collect();
        assert_eq!(imports, ["x:y/z@0.2.0"]);
    }

    #[test]
    fn another_form_of_an_interface_is_told_with_both_sides() {
        let text = r#"(component
            (core module $m (func (export "f")))
            (core instance $i (instantiate $m))
            (func $f (canon lift (core func $i "f")))
            (instance $x (export "f" (func $f)))
            (export "a:b/c@1.0.2" (instance $x)))"#;
        let told = compose(vec![part("user", USER), part("owner", text)]);
        let told = told.expect_err("it does not fit");
        assert!(
            told.starts_with(
                "user imports a:b/c@1.0.0, and the a:b/c@1.0.2 that owner exports has another \
                 form: "
            ),
            "{told}"
        );
        assert!(told.contains("without a result"), "{told}");
    }
}
