//! Sends each datagram back to its sender.

use netwasm_guest::{Result, UdpSocket};

netwasm_guest::export!(udp: echo);

async fn echo(mut socket: UdpSocket) -> Result<()> {
    while let Some((data, peer)) = socket.recv_from().await? {
        socket.send_to(&data, peer)?;
    }
    Ok(())
}
