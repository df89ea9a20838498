//! Sends back what it receives.

use netwasm_guest::{Connection, Result};

netwasm_guest::export!(tcp: echo);

async fn echo(mut conn: Connection) -> Result<()> {
    while let Some(data) = conn.read().await? {
        conn.write_all(data).await?;
    }
    Ok(())
}
