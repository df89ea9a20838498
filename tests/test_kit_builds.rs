//! Tests of how `netwasm-test` builds the crates of components.

use std::panic::catch_unwind;

use netwasm_test::Component;

use crate::harness::{directory, write};
use crate::test_kit::{again, by_this_host, failure};

/// Set in a run of this program that finds no host.
const HAS_NO_HOST: &str = "NETWASM_TEST_HAS_NO_HOST";

#[test]
fn a_host_is_looked_for_before_a_crate_is_built() {
    const NAME: &str = "test_kit_builds::a_host_is_looked_for_before_a_crate_is_built";
    if std::env::var_os(HAS_NO_HOST).is_some() {
        drop(Component::of_crate("/no/such/crate").tcp().start());
        return;
    }
    let failed = again(NAME)
        .env(HAS_NO_HOST, "1")
        .env("NETWASM", "/no/such/netwasm")
        .output()
        .expect("it starts");
    assert!(!failed.status.success());
    let told = String::from_utf8_lossy(&failed.stdout);
    assert!(told.contains("NETWASM names '/no/such/netwasm'"), "{told}");
}

/// A machine without the target has the other half of this.
#[test]
fn a_crate_is_built_or_the_message_says_how() {
    let scratch = directory();
    write(
        scratch.path(),
        "Cargo.toml",
        "[package]\nname = \"some-program\"\nedition = \"2024\"\n[workspace]\n",
    );
    std::fs::create_dir(scratch.path().join("src")).expect("a directory");
    write(scratch.path(), "src/main.rs", "fn main() {}\n");
    match catch_unwind(|| by_this_host(Component::of_crate(scratch.path())).start_program()) {
        Ok(server) => {
            assert_eq!(server.wait().code, 0);
            let built = "target/wasm32-wasip2/release/some-program.wasm";
            let bytes = std::fs::read(scratch.path().join(built)).expect("the component");
            // The layer of components, not of modules.
            assert_eq!(bytes[..8], *b"\0asm\x0d\0\x01\0");
        }
        Err(payload) => {
            let message = *payload.downcast::<String>().expect("a message");
            assert!(
                message.contains("`rustup target add wasm32-wasip2`"),
                "{message}"
            );
        }
    }
}

#[test]
fn a_crate_that_cannot_be_built_fails_with_the_compilers_words() {
    let scratch = directory();
    let manifest = "[package]\nname = \"broken\"\nedition = \"2024\"\n[workspace]\n";
    write(scratch.path(), "Cargo.toml", manifest);
    std::fs::create_dir(scratch.path().join("src")).expect("a directory");
    write(scratch.path(), "src/lib.rs", "this is no Rust");
    for _ in 0..2 {
        let message = failure(|| by_this_host(Component::of_crate(scratch.path())).start_program());
        assert!(message.contains("broken cannot be built"), "{message}");
        assert!(message.contains("this is no Rust"), "{message}");
    }
}
