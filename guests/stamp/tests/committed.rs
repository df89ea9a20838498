//! The compiled guests that are committed are those of the sources.

use std::path::Path;

use netwasm_guest_stamp::{digest, guests, read, stamped};

#[test]
fn every_committed_guest_was_built_from_its_present_sources() {
    let workspace = Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../.."));
    let names = guests(workspace).expect("the guests' manifests");
    assert!(names.iter().any(|name| name == "echo"), "{names:?}");
    let mut wrong = String::new();
    for name in names {
        let path = workspace.join("guests").join(format!("{name}.wasm"));
        let state = match read(&path).and_then(|component| stamped(&component)) {
            Err(error) => format!("cannot be read ({error})"),
            Ok(None) => "has no digest of its sources".to_owned(),
            Ok(Some(stamp)) if stamp != digest(workspace, &name).expect("its sources") => {
                "is older than its sources".to_owned()
            }
            Ok(Some(_)) => continue,
        };
        wrong += &format!("\nguests/{name}.wasm {state}: run `guests/build {name}`");
    }
    assert!(wrong.is_empty(), "{wrong}");
}
