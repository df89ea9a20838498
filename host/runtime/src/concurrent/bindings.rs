wasmtime::component::bindgen!({
    path: "../../wit",
    world: "awaiting",
    imports: {
        "netwasm:net/streams.[method]connection.receive": store | trappable,
        "netwasm:net/streams.[method]connection.send": store | trappable,
        "netwasm:net/sockets.wait": async | trappable,
        default: trappable,
    },
    exports: { default: async | store },
    require_store_data_send: true,
    with: {
        "netwasm:net/client.datagram-socket": crate::concurrent::handles::DatagramSocketHandle,
        "netwasm:net/client.pool": crate::concurrent::handles::PoolHandle,
        "netwasm:net/log": crate::bindings::netwasm::net::log,
        "netwasm:net/metrics": crate::bindings::netwasm::net::metrics,
        "netwasm:net/shared": crate::bindings::netwasm::net::shared,
        "netwasm:net/streams.connection": crate::concurrent::handles::ConnectionHandle,
        "netwasm:net/tls-engine.session": crate::concurrent::handles::TlsEngineHandle,
        "netwasm:net/types": crate::bindings::netwasm::net::types,
    },
});
