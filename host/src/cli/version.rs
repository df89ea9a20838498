//! The texts that `-V` and `--version` tell.

/// Version of the program.
pub(super) const VERSION: &str = env!("CARGO_PKG_VERSION");

/// Returns the line of `-V`. `commit` is as `netwasm_commit::commit` has it.
pub(super) fn short(commit: &str) -> String {
    match commit {
        "" => format!("{VERSION} (commit unknown)"),
        commit => format!("{VERSION} ({commit})"),
    }
}

/// Returns the lines of `--version`.
pub(super) fn long(commit: &str) -> String {
    let features = match env!("NETWASM_FEATURES") {
        "" => "none",
        features => features,
    };
    let lines = [
        ("wasmtime", netwasm_runtime::WASMTIME),
        ("target", env!("NETWASM_TARGET")),
        ("profile", env!("NETWASM_PROFILE")),
        ("rustc", env!("NETWASM_RUSTC")),
        ("features", features),
    ];
    let lines = lines.map(|(name, value)| format!("\n{name}: {value}"));
    short(commit) + &lines.concat()
}

/// Returns the commit's day; empty if it is unknown.
pub(super) fn date(commit: &str) -> &str {
    commit.split_once(' ').map_or("", |(_, date)| date)
}
