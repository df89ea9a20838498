wasmtime::component::bindgen!({
    path: "../wit",
    world: "awaiting",
    imports: {
        "netwasm:net/streams.[method]connection.receive": store | trappable,
        "netwasm:net/streams.[method]connection.send": store | trappable,
        default: trappable,
    },
    exports: { default: async | store },
    require_store_data_send: true,
    with: {
        "netwasm:net/client.datagram-socket": crate::wasm::concurrent::client::DatagramHandle,
        "netwasm:net/client.pool": crate::wasm::concurrent::client::PoolHandle,
        "netwasm:net/log": crate::wasm::bindings::netwasm::net::log,
        "netwasm:net/streams.connection": crate::wasm::concurrent::state::ConnectionHandle,
        "netwasm:net/types": crate::wasm::bindings::netwasm::net::types,
    },
});
