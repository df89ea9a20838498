wasmtime::component::bindgen!({
    path: "../../wit",
    world: "everything",
    imports: { default: trappable },
    with: {
        "netwasm:net/http.request": crate::handles::RequestHandle,
        "netwasm:net/files.file": crate::handles::FileHandle,
    },
});
