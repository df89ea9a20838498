//! netwasm
fn main() {}
