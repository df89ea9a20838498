//! The traits of the futures crates.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};

use futures_core::Stream;
use futures_io::{AsyncRead, AsyncWrite};

use crate::{Connection, Reader, Receiver, Result, Writer};

macro_rules! reading {
    ($($name:ident)+) => {
        $(
            impl AsyncRead for $name {
                fn poll_read(
                    self: Pin<&mut Self>,
                    cx: &mut Context<'_>,
                    buffer: &mut [u8],
                ) -> Poll<io::Result<usize>> {
                    if buffer.is_empty() {
                        return Poll::Ready(Ok(0));
                    }
                    self.shared().poll_read_some(cx, buffer.len()).map(|read| {
                        let data = read?.unwrap_or_default();
                        for (place, byte) in buffer.iter_mut().zip(&data) {
                            *place = *byte;
                        }
                        Ok(data.len().min(buffer.len()))
                    })
                }
            }

            /// Arriving data, as `read` returns it.
            impl Stream for $name {
                type Item = Result<Vec<u8>>;

                fn poll_next(
                    self: Pin<&mut Self>,
                    cx: &mut Context<'_>,
                ) -> Poll<Option<Result<Vec<u8>>>> {
                    self.shared().poll_read(cx).map(Result::transpose)
                }
            }
        )+
    };
}

macro_rules! writing {
    ($($name:ident)+) => {
        $(
            impl AsyncWrite for $name {
                fn poll_write(
                    self: Pin<&mut Self>,
                    cx: &mut Context<'_>,
                    data: &[u8],
                ) -> Poll<io::Result<usize>> {
                    let shared = self.shared();
                    shared.poll_ready(cx).map(|ready| {
                        ready?;
                        shared.write(data);
                        Ok(data.len())
                    })
                }

                /// Waits until there is room. The host sends without being
                /// told.
                fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
                    self.shared().poll_ready(cx).map_err(Into::into)
                }

                /// Ends the sending side, as `finish`.
                fn poll_close(
                    mut self: Pin<&mut Self>,
                    _cx: &mut Context<'_>,
                ) -> Poll<io::Result<()>> {
                    Poll::Ready(self.finish().map_err(Into::into))
                }
            }
        )+
    };
}

reading!(Connection Reader);
writing!(Connection Writer);

impl<T> Stream for Receiver<T> {
    type Item = T;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<T>> {
        self.poll_recv(cx)
    }
}

#[cfg(test)]
mod tests {
    use std::future::poll_fn;

    use super::*;
    use crate::testing::{block_on, pair};

    #[test]
    fn a_connection_is_read_in_the_pieces_that_are_asked_for() {
        block_on(async {
            let (mut conn, mut peer) = pair();
            peer.send("hello");
            peer.finish();
            let mut all: Vec<u8> = Vec::new();
            loop {
                let mut buffer = [0; 2];
                let conn = &mut conn;
                let read = poll_fn(|cx| AsyncRead::poll_read(Pin::new(conn), cx, &mut buffer));
                let count = read.await.expect("it is read");
                if count == 0 {
                    break;
                }
                all.extend(buffer.iter().take(count));
            }
            assert_eq!(all, b"hello");
            let write = poll_fn(|cx| Pin::new(&mut conn).poll_write(cx, b"bye"));
            assert_eq!(write.await.expect("it is written"), 3);
            poll_fn(|cx| Pin::new(&mut conn).poll_close(cx))
                .await
                .expect("it is closed");
            peer.expect("bye");
            peer.expect_end();
        });
    }
}
