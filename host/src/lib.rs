//! netwasm
pub mod bindings {
    wasmtime::component::bindgen!({
        path: "../wit",
        world: "everything",
        imports: { default: trappable },
        additional_derives: [PartialEq],
    });
}
