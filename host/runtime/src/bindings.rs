wasmtime::component::bindgen!({
    path: "../../wit",
    world: "everything",
    imports: { default: trappable },
    with: {
        "netwasm:net/transports.transport": crate::handles::TransportHandle,
        "netwasm:net/transports.datagram-transport": crate::handles::DatagramHandle,
        "netwasm:net/http.request": crate::handles::RequestHandle,
        "netwasm:net/files.file": crate::handles::FileHandle,
    },
});
