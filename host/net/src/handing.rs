//! Sockets handed to another process, over a Unix socket (`SCM_RIGHTS`, unix(7)).

use std::io::{self, IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::io::Errno;
use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, ReturnFlags, SendAncillaryBuffer,
    SendAncillaryMessage, SendFlags,
};

/// Most descriptors in a message. The kernel takes 253.
const MOST: usize = 128;

/// A byte that goes with the descriptors of a message: without one, nothing is
/// sent.
const BYTE: [u8; 1] = [0];

/// Sends a message with the first of these descriptors, as many as it takes.
/// Returns their number.
///
/// # Errors
/// Fails as sendmsg(2) does.
pub fn send(socket: impl AsFd, descriptors: &[BorrowedFd<'_>]) -> io::Result<usize> {
    let some = descriptors.get(..MOST).unwrap_or(descriptors);
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MOST))];
    let mut message = SendAncillaryBuffer::new(&mut space);
    if !message.push(SendAncillaryMessage::ScmRights(some)) {
        return Err(io::ErrorKind::InvalidInput.into());
    }
    let bytes = [IoSlice::new(&BYTE)];
    rustix::net::sendmsg(socket, &bytes, &mut message, SendFlags::NOSIGNAL)?;
    Ok(some.len())
}

/// Receives a message, and adds its descriptors. Returns false at the end of the
/// stream.
///
/// # Errors
/// Fails as recvmsg(2) does.
pub fn receive(socket: impl AsFd, descriptors: &mut Vec<OwnedFd>) -> io::Result<bool> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MOST))];
    let mut message = RecvAncillaryBuffer::new(&mut space);
    let mut byte = BYTE;
    let mut bytes = [IoSliceMut::new(&mut byte)];
    let received = rustix::net::recvmsg(socket, &mut bytes, &mut message, RecvFlags::CMSG_CLOEXEC)?;
    for part in message.drain() {
        if let RecvAncillaryMessage::ScmRights(sent) = part {
            descriptors.extend(sent);
        }
    }
    if received.flags.contains(ReturnFlags::CTRUNC) {
        // The limit of open files leaves no room for some of them.
        return Err(Errno::MFILE.into());
    }
    Ok(received.bytes > 0)
}

#[cfg(test)]
mod tests {
    use std::fs::File;
    use std::os::unix::net::UnixStream;

    use super::*;

    #[test]
    fn many_descriptors_arrive_in_order() {
        let (here, there) = UnixStream::pair().expect("a pair of sockets");
        let files: Vec<_> = (0..300)
            .map(|number| {
                let file = tempfile::tempfile().expect("a file");
                file.set_len(number).expect("a length");
                file
            })
            .collect();
        let all: Vec<_> = files.iter().map(File::as_fd).collect();
        let mut sent = 0;
        while sent < all.len() {
            sent += send(&here, &all[sent..]).expect("a message");
        }
        drop(here);
        let mut received = Vec::new();
        while receive(&there, &mut received).expect("a message") {}
        let lengths = received.into_iter().map(|fd| {
            let metadata = File::from(fd).metadata();
            metadata.expect("a file").len()
        });
        assert!(lengths.eq(0..300));
    }
}
