//! Sends back what it receives without seeing it: the host copies.

use netwasm_guest::{Connection, Result};

netwasm_guest::export!(tcp: echo);

async fn echo(conn: Connection) -> Result<()> {
    conn.relay_back().await
}
