wasmtime::component::bindgen!({
    path: "../wit",
    world: "everything",
    imports: { default: trappable },
    with: {
        "netwasm:net/transports.transport": crate::wasm::state::TransportHandle,
        "netwasm:net/transports.datagram-transport": crate::wasm::state::DatagramHandle,
        "netwasm:net/http.request": crate::wasm::state::RequestHandle,
        "netwasm:net/files.file": crate::wasm::state::FileHandle,
    },
});
