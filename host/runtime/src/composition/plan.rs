//! The plan of a composition: which part has an import from which other.
//!
//! - A plug that both imports and exports what the first part exports wraps it:
//!   middleware. The first plug is outermost, so that a call passes the plugs
//!   in the order given, and then the first part.
//! - Any other import is the nearest part's that exports it, of those that
//!   follow in the order given, or else of those before.
//! - What no part exports, the host has.

use wac_graph::types::are_semver_compatible;

/// A part by name: that of its file, and those that it imports and exports.
#[derive(Clone, Debug, Default)]
pub(super) struct Sides {
    pub(super) name: String,
    pub(super) imports: Vec<String>,
    pub(super) exports: Vec<String>,
}

/// An import that is another part's export. Parts have numbers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Wire {
    pub(super) user: usize,
    pub(super) import: String,
    pub(super) owner: usize,
    pub(super) export: String,
}

/// An export of the whole.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Export {
    pub(super) name: String,
    pub(super) part: usize,
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Plan {
    pub(super) exports: Vec<Export>,
    pub(super) wires: Vec<Wire>,
}

/// Plans a composition.
///
/// # Errors
/// Names a plug that would be of no use, and what it would have to fit.
pub(super) fn plan(parts: &[Sides]) -> Result<Plan, String> {
    let Some(first) = parts.first() else {
        return Ok(Plan::default());
    };
    let mut plan = Plan::default();
    let mut wrappers = Vec::new();
    for export in &first.exports {
        let mut chain: Vec<(usize, &String, &String)> = Vec::new();
        for (number, part) in parts.iter().enumerate().skip(1) {
            if let (Some(import), Some(own)) =
                (find(&part.imports, export), find(&part.exports, export))
            {
                chain.push((number, import, own));
            }
        }
        let outermost = chain
            .first()
            .map_or((0, export), |(part, _, own)| (*part, own));
        plan.exports.push(Export {
            name: outermost.1.clone(),
            part: outermost.0,
        });
        for (place, (user, import, _)) in chain.iter().enumerate() {
            let next = chain.get(place + 1);
            let (owner, export) = next.map_or((0, export), |(part, _, own)| (*part, *own));
            plan.wires.push(Wire {
                user: *user,
                import: (*import).clone(),
                owner,
                export: export.clone(),
            });
        }
        wrappers.extend(chain.iter().map(|(part, _, own)| (*part, *own)));
    }
    for (user, part) in parts.iter().enumerate() {
        for import in &part.imports {
            let mut wires = plan.wires.iter();
            if wires.any(|it| it.user == user && it.import == *import) {
                continue;
            }
            let before = (0..user).rev();
            let owner = (user + 1..parts.len()).chain(before).find_map(|owner| {
                let export = find(&parts.get(owner)?.exports, import)?;
                let free = !wrappers.contains(&(owner, export)) && !plan.needs(owner, user);
                free.then_some((owner, export))
            });
            if let Some((owner, export)) = owner {
                plan.wires.push(Wire {
                    user,
                    import: import.clone(),
                    owner,
                    export: export.clone(),
                });
            }
        }
    }
    let is_used = |number: usize| {
        let wraps = wrappers.iter().any(|(part, _)| *part == number);
        wraps || plan.wires.iter().any(|wire| wire.owner == number)
    };
    match (1..parts.len()).find(|number| !is_used(*number)) {
        Some(plug) => Err(useless(parts, plug, &plan)),
        None => Ok(plan),
    }
}

impl Plan {
    /// True if a part has something from another one, or from one that does. No
    /// two parts can have something from each other.
    fn needs(&self, user: usize, owner: usize) -> bool {
        let mut reached = vec![user];
        let mut place = 0;
        while let Some(&part) = reached.get(place) {
            if part == owner {
                return true;
            }
            for wire in self.wires.iter().filter(|wire| wire.user == part) {
                if !reached.contains(&wire.owner) {
                    reached.push(wire.owner);
                }
            }
            place += 1;
        }
        false
    }
}

/// Finds a name whose version fits.
fn find<'n>(names: &'n [String], wanted: &str) -> Option<&'n String> {
    let equal = names.iter().find(|name| *name == wanted);
    equal.or_else(|| {
        names
            .iter()
            .find(|name| are_semver_compatible(name, wanted))
    })
}

/// Explains why a plug fits nowhere.
fn useless(parts: &[Sides], number: usize, plan: &Plan) -> String {
    let Some(plug) = parts.get(number) else {
        return String::new();
    };
    let others = || {
        parts
            .iter()
            .enumerate()
            .filter(|(other, _)| *other != number)
    };
    // Another plug may have been nearer.
    let taken = plan
        .wires
        .iter()
        .find(|it| find(&plug.exports, &it.import).is_some());
    if let Some(wire) = taken {
        let name = |part: usize| parts.get(part).map_or("?", |it| &it.name);
        return format!(
            "--plug {} is of no use: {} has {} from {}; leave one of them out",
            plug.name,
            name(wire.user),
            wire.import,
            name(wire.owner)
        );
    }
    let needed = others().find(|(_, other)| {
        let mut imports = plug.imports.iter();
        imports.any(|import| find(&other.exports, import).is_some())
    });
    let turned = match needed {
        Some((0, first)) => format!(
            "; it imports from {}, so it is to be run with --plug {}",
            first.name, first.name
        ),
        _ => String::new(),
    };
    let is_open = |user: usize, import: &str| {
        let mut wires = plan.wires.iter();
        let is_hosts = ["wasi:", "netwasm:"]
            .iter()
            .any(|it| import.starts_with(it));
        !is_hosts && !wires.any(|wire| wire.user == user && wire.import == import)
    };
    let wanted: Vec<String> = others()
        .flat_map(|(user, other)| other.imports.iter().map(move |import| (user, import)))
        .filter(|(user, import)| is_open(*user, import))
        .map(|(_, import)| import.clone())
        .collect();
    let names: Vec<&str> = others().map(|(_, other)| &*other.name).collect();
    let verb = match names.len() {
        1 => "imports",
        _ => "import",
    };
    let imported = match &*wanted {
        [] => format!("{verb} nothing that another component could have"),
        some => format!("{verb} {}", list(some)),
    };
    let exported = parts.first().map(|first| list(&first.exports));
    format!(
        "--plug {} fits nowhere: it exports {}, and {} {imported}; nor does it both import and \
         export {}, as middleware would{turned}",
        plug.name,
        list(&plug.exports),
        names.join(" and "),
        exported.unwrap_or_default()
    )
}

fn list(names: &[String]) -> String {
    match names {
        [] => "nothing".into(),
        some => some.join(", "),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sides(name: &str, imports: &[&str], exports: &[&str]) -> Sides {
        let owned = |names: &[&str]| names.iter().map(ToString::to_string).collect();
        Sides {
            name: name.into(),
            imports: owned(imports),
            exports: owned(exports),
        }
    }

    const HANDLER: &str = "wasi:http/handler@0.3.0";

    /// Returns the exports and wires of a plan in short.
    fn planned(parts: &[Sides]) -> Vec<String> {
        let plan = plan(parts).expect("a plan");
        let name = |part: usize| &parts[part].name;
        let short = |interface: &str| interface.split(['/', '@']).nth(1).expect("it").to_owned();
        let exports = plan.exports.iter();
        let exports = exports.map(|it| format!("{} {}", short(&it.name), name(it.part)));
        let wires = plan
            .wires
            .iter()
            .map(|it| format!("{} {} {}", name(it.user), short(&it.import), name(it.owner)));
        exports.chain(wires).collect()
    }

    #[test]
    fn a_call_passes_middleware_in_the_order_given() {
        let newer = "wasi:http/handler@0.3.1";
        let app = sides("app", &["wasi:http/types@0.3.0"], &[HANDLER]);
        let auth = sides("auth", &[HANDLER, "a:b/keys@1.0.0"], &[HANDLER]);
        let log = sides("log", &[newer], &[newer]);
        let keys = sides("keys", &[], &["a:b/keys@1.2.0"]);
        let both = planned(&[app.clone(), auth.clone(), log.clone(), keys.clone()]);
        assert_eq!(
            both,
            [
                "handler auth",
                "auth handler log",
                "log handler app",
                "auth keys keys"
            ]
        );
        // A plug's provider may be named before it.
        let turned = planned(&[app, log, keys, auth]);
        assert_eq!(
            turned,
            [
                "handler log",
                "log handler auth",
                "auth handler app",
                "auth keys keys"
            ]
        );
    }

    #[test]
    fn what_a_component_calls_is_wrapped_in_the_order_given() {
        let out = "wasi:http/outgoing-handler@0.2.0";
        let app = sides("app", &[out], &["wasi:cli/run@0.2.0"]);
        let (one, two) = (sides("one", &[out], &[out]), sides("two", &[out], &[out]));
        let plan = planned(&[app, one, two]);
        // The last one's import is the host's.
        assert_eq!(
            plan,
            [
                "run app",
                "app outgoing-handler one",
                "one outgoing-handler two"
            ]
        );
    }

    #[test]
    fn a_plug_without_use_is_told_with_both_sides() {
        let app = sides("app", &["a:b/keys@1.0.0", "wasi:io/poll@0.2.0"], &[HANDLER]);
        let keys = sides("keys", &[], &["a:b/keys@1.0.0"]);
        let (two, other) = (sides("two", &[], &["a:b/keys@1.0.0"]), "a:b/keys@2.0.0");
        for (plugs, told) in [
            (
                vec![sides("new", &[], &[other])],
                "--plug new fits nowhere: it exports a:b/keys@2.0.0, and app imports \
                 a:b/keys@1.0.0; nor does it both import and export wasi:http/handler@0.3.0, as \
                 middleware would",
            ),
            (
                vec![keys.clone(), two],
                "--plug two is of no use: app has a:b/keys@1.0.0 from keys; leave one of them out",
            ),
            (
                vec![keys.clone(), sides("front", &[HANDLER], &["c:d/e@1.0.0"])],
                "--plug front fits nowhere: it exports c:d/e@1.0.0, and app and keys import \
                 nothing that another component could have; nor does it both import and export \
                 wasi:http/handler@0.3.0, as middleware would; it imports from app, so it is to \
                 be run with --plug app",
            ),
        ] {
            let parts: Vec<_> = std::iter::once(app.clone()).chain(plugs).collect();
            assert_eq!(plan(&parts).expect_err("of no use"), told);
        }
    }
}
