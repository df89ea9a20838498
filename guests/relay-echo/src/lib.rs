//! Sends back what it receives, and never sees a byte of it: the host copies
//! from the connection to itself, natively.
//!
//! ```sh
//! netwasm run guests/relay-echo.wasm --tcp 8888
//! ```
//!
//! Compare `async-echo`, which does the same by hand.
use netwasm_guest::Connection;

netwasm_guest::export!(tcp: Connection::relay_back);
