//! Unix sockets: their addresses, and the files of those that have one.

use std::fs;
use std::io;
use std::os::fd::AsRawFd;
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, FileType, Gid, Mode, OFlags, Uid};
use rustix::io::Errno;
use rustix::net::{SocketAddrAny, SocketAddrUnix};
use socket2::{Domain, SockAddr, Socket, Type};

use netwasm_base::unix::{UnixRights, abstract_name};
use netwasm_base::users;

/// Returns the address of a socket with this name: a path, or `@NAME`.
///
/// # Errors
/// Fails if the name is too long.
pub(crate) fn address(path: &Path) -> io::Result<SockAddr> {
    use std::os::unix::ffi::OsStrExt;
    match abstract_name(path) {
        // socket2 takes a path that begins with NUL for such a name.
        Some(name) => {
            let bytes = [b"\0", name].concat();
            SockAddr::unix(std::ffi::OsStr::from_bytes(&bytes))
        }
        None => SockAddr::unix(path),
    }
}

/// Like [`address`], for calls of `rustix`.
///
/// # Errors
/// Fails with `INVAL` or `NAMETOOLONG` if it is no name.
pub(crate) fn plain_address(path: &Path) -> Result<SocketAddrAny, Errno> {
    Ok(match abstract_name(path) {
        Some(name) => SocketAddrUnix::new_abstract_name(name)?.into(),
        None => SocketAddrUnix::new(path)?.into(),
    })
}

/// The file of a Unix domain socket. Dropping it removes the file.
#[derive(Debug)]
pub struct SocketFile {
    path: PathBuf,
    /// Device and inode, so that only the process's own file is removed.
    identity: (u64, u64),
}

impl SocketFile {
    /// Returns the path of the file.
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// Returns the device and the inode of the file.
    pub(crate) fn identity(&self) -> (u64, u64) {
        self.identity
    }

    /// Returns the file that a socket was just bound to.
    pub(crate) fn of(path: &Path) -> Option<Self> {
        identity(path).map(|identity| Self {
            path: path.to_owned(),
            identity,
        })
    }

    /// Gives the file its owner, group and mode, as far as they are set.
    ///
    /// # Errors
    /// Fails if there is no such user or group, if the system refuses, or if
    /// somebody has put another file in its place.
    pub(crate) fn set_rights(&self, rights: &UnixRights) -> io::Result<()> {
        let UnixRights { mode, owner, group } = rights;
        if *rights == UnixRights::default() {
            return Ok(());
        }
        let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let file = rustix::fs::open(&self.path, flags, Mode::empty())?;
        let stat = rustix::fs::fstat(&file)?;
        let is_ours = FileType::from_raw_mode(stat.st_mode) == FileType::Socket
            && (stat.st_dev, stat.st_ino) == self.identity;
        if !is_ours {
            return Err(io::Error::other("another file has taken its place"));
        }
        let owner = owner.as_deref().map(users::user).transpose();
        let owner = owner.map_err(|error| io::Error::other(format!("--unix-owner: {error}")))?;
        let group = group.as_deref().map(users::group).transpose();
        let group = group.map_err(|error| io::Error::other(format!("--unix-group: {error}")))?;
        let owner = owner.map(|owner| owner.id).filter(|id| *id != stat.st_uid);
        let group = group.filter(|id| *id != stat.st_gid);
        if owner.is_some() || group.is_some() {
            let (owner, group) = (owner.map(Uid::from_raw), group.map(Gid::from_raw));
            let given = rustix::fs::chownat(&file, c"", owner, group, AtFlags::EMPTY_PATH);
            given.map_err(|errno| match errno {
                Errno::PERM => io::Error::other(
                    "only root gives a socket to another --unix-owner, or to a --unix-group that \
                     its user is not in",
                ),
                errno => errno.into(),
            })?;
        }
        if let Some(mode) = *mode {
            // The very file, whatever the path leads to by now.
            let path = format!("/proc/self/fd/{}", file.as_raw_fd());
            fs::set_permissions(path, fs::Permissions::from_mode(mode))?;
        }
        Ok(())
    }
}

impl Drop for SocketFile {
    fn drop(&mut self) {
        if identity(&self.path) == Some(self.identity) {
            let _ = fs::remove_file(&self.path);
        }
    }
}

fn identity(path: &Path) -> Option<(u64, u64)> {
    fs::symlink_metadata(path)
        .ok()
        .map(|metadata| (metadata.dev(), metadata.ino()))
}

/// Removes a socket file that a server left behind.
///
/// # Errors
/// `AddrInUse`: a server answers, or the socket cannot be probed. Other errors:
/// the file is no socket, or it cannot be removed.
pub(crate) fn remove_stale(path: &Path) -> io::Result<()> {
    let Ok(metadata) = fs::symlink_metadata(path) else {
        return Ok(());
    };
    if !metadata.file_type().is_socket() {
        return Err(io::Error::other(
            "there is a file of that name, and it is not a socket",
        ));
    }
    // A server whose backlog is full would keep a call that blocks.
    let probe = Socket::new(Domain::UNIX, Type::STREAM.nonblocking(), None)?;
    match probe.connect(&SockAddr::unix(path)?) {
        Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => fs::remove_file(path),
        _ => Err(io::ErrorKind::AddrInUse.into()),
    }
}
