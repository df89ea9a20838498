//! Responses in many small frames, which `h2` keeps one by one.

use bytes::Bytes;
use h2::SendStream;

use netwasm_base::config::Limits;
use netwasm_net::testing::{in_worker, settle};

use super::http2::{Backend, answer, http2_server, response};
use super::{PASSED, client};
use crate::testing::get;

const PART: &[u8] = b"12345678";

/// Sends small frames until the window is closed. Returns the number of bytes.
async fn fill(stream: &mut SendStream<Bytes>) -> usize {
    let mut sent = 0;
    loop {
        stream.reserve_capacity(1 << 20);
        settle().await;
        let count = stream.capacity() / PART.len();
        if count == 0 {
            return sent;
        }
        for _ in 0..count {
            let part = Bytes::from_static(PART);
            stream.send_data(part, false).expect("the stream is open");
        }
        sent += count * PART.len();
        assert!(sent < 64 << 20, "nothing stops it");
    }
}

#[test]
fn small_frames_that_clients_do_not_take_end_no_other_stream() {
    in_worker(Limits::default(), async |worker| {
        let (server, script) = http2_server(&worker).await;
        let mut slow = [client(&script, &worker), client(&script, &worker)];
        slow[0].send(&get("/0")).await;
        let mut backend = Backend::accept(&server).await;
        let (_, mut respond) = backend.next().await;
        let mut first = respond.send_response(response(200), false).expect("open");
        slow[1].send(&get("/1")).await;
        let (_, mut respond) = backend.next().await;
        let mut second = respond.send_response(response(200), false).expect("open");
        let mut sent = Vec::new();
        for (client, stream) in slow.iter_mut().zip([&mut first, &mut second]) {
            client.head().await;
            sent.push(fill(stream).await);
        }
        let mut other = client(&script, &worker);
        other.send(&get("/2")).await;
        answer(backend.next().await.1);
        other.expect(PASSED).await;
        for stream in [&mut first, &mut second] {
            stream.send_data(Bytes::new(), true).expect("it is open");
        }
        for (client, sent) in slow.iter_mut().zip(sent) {
            let mut come = Vec::new();
            while come.len() < sent {
                let size = client.receive("\r\n").await;
                let size = usize::from_str_radix(size.trim(), 16).expect("a chunk");
                let chunk = client.bytes(size + 2).await;
                come.extend_from_slice(&chunk[..size]);
            }
            assert_eq!(come, PART.repeat(sent / PART.len()));
            client.expect("0\r\n\r\n").await;
        }
        assert_eq!(worker.env().counters.connections_made.get(), 1);
    });
}
