//! The user that a run goes on as, once it has what only root may open:
//! `--user`, `--group`.

use std::fmt;
use std::io;
use std::sync::OnceLock;

use nix::errno::Errno;
use nix::unistd::{self, Gid, Uid};
use rustix::process::{DumpableBehavior, set_dumpable_behavior};

use crate::users::{self, UnknownUser, User};

/// The user that this process has become.
static ASSUMED: OnceLock<String> = OnceLock::new();

/// A user and a group to go on as.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Identity {
    /// The user as the settings have it.
    pub shown: String,
    user: User,
    group: u32,
}

/// Reason why a run cannot go on as a user.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum IdentityError {
    /// There is no such user or group.
    #[error("{flag}: {source}")]
    Unknown {
        /// The flag that names it.
        flag: &'static str,
        /// The unknown name.
        source: UnknownUser,
    },
    /// A number without a name has no group of its own.
    #[error("--user {0} is a number without a name: give its group, too (--group)")]
    NoGroup(String),
    /// The run was not started by root.
    #[error("--user {0}: only root can go on as another user: start this as root, or as that user")]
    NotRoot(String),
    /// The system refuses.
    #[error("--user {user}: {call} fails: {errno}")]
    Refused {
        /// The user.
        user: String,
        /// The system call.
        call: &'static str,
        /// Its error.
        errno: Errno,
    },
}

impl Identity {
    /// Looks a user up, and a group, which is the user's own if there is none.
    ///
    /// # Errors
    /// Fails if one is unknown.
    pub fn of(user: &str, group: Option<&str>) -> Result<Self, IdentityError> {
        let unknown = |flag| move |source| IdentityError::Unknown { flag, source };
        let shown = user.to_owned();
        let user = users::user(user).map_err(unknown("--user"))?;
        let group = match group {
            Some(group) => Some(users::group(group).map_err(unknown("--group"))?),
            None => user.group,
        };
        match group {
            Some(group) => Ok(Self { shown, user, group }),
            None => Err(IdentityError::NoGroup(shown)),
        }
    }

    /// True if this process has the identity already.
    fn is_own(&self) -> bool {
        let (user, group) = (unistd::geteuid(), unistd::getegid());
        (user.as_raw(), group.as_raw()) == (self.user.id, self.group)
    }

    /// Checks that this process may take the identity.
    ///
    /// # Errors
    /// Fails if it is neither root's nor has it already.
    pub fn check(&self) -> Result<(), IdentityError> {
        match unistd::geteuid().is_root() || self.is_own() {
            true => Ok(()),
            false => Err(IdentityError::NotRoot(self.shown.clone())),
        }
    }

    /// Gives up root's rights for good, in all threads, and takes the user's
    /// groups.
    ///
    /// # Errors
    /// Fails if the system refuses. The process must end then.
    pub fn assume(&self) -> Result<(), IdentityError> {
        if self.is_own() && !unistd::geteuid().is_root() {
            return Ok(());
        }
        let (user, group) = (Uid::from_raw(self.user.id), Gid::from_raw(self.group));
        let refused = |call| {
            move |errno| IdentityError::Refused {
                user: self.shown.clone(),
                call,
                errno,
            }
        };
        match &self.user.name {
            Some(name) => unistd::initgroups(name, group).map_err(refused("initgroups(3)"))?,
            None => unistd::setgroups(&[group]).map_err(refused("setgroups(2)"))?,
        }
        // The C library changes all threads, which the system calls do not.
        unistd::setresgid(group, group, group).map_err(refused("setresgid(2)"))?;
        unistd::setresuid(user, user, user).map_err(refused("setresuid(2)"))?;
        // Root stays root. Nobody else may be able to go back.
        if !user.is_root() && unistd::seteuid(Uid::from_raw(0)).is_ok() {
            return Err(refused("giving up root's rights")(Errno::EPERM));
        }
        // As other processes of the user are: /proc/self belongs to it again.
        set_dumpable_behavior(DumpableBehavior::Dumpable)
            .map_err(|errno| refused("prctl(2)")(Errno::from_raw(errno.raw_os_error())))?;
        // It is called once.
        let _ = ASSUMED.set(self.shown.clone());
        Ok(())
    }
}

/// Returns the user that this process has become; `None` if it is what it was.
#[must_use]
pub fn assumed() -> Option<&'static str> {
    ASSUMED.get().map(String::as_str)
}

/// Shows, where rights are missing, the user that this process has become: ` as
/// USER (--user)`.
#[derive(Debug)]
pub struct AsUser<'a>(pub &'a io::Error);

impl fmt::Display for AsUser<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match assumed() {
            Some(user) if self.0.kind() == io::ErrorKind::PermissionDenied => {
                write!(f, " as {user} (--user)")
            }
            _ => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_user_brings_its_group_and_a_number_needs_one() {
        let root = Identity::of("root", None).expect("every machine has it");
        assert_eq!((root.user.id, root.group), (0, 0));
        let other = Identity::of("root", Some("7")).expect("a number");
        assert_eq!(other.group, 7);
        let nameless = Identity::of("4000000001", Some("7")).expect("numbers");
        assert_eq!((nameless.user.id, nameless.group), (4_000_000_001, 7));
        for (user, group, message) in [
            ("4000000001", None, "give its group, too (--group)"),
            ("no-such-name", None, "--user: this machine has no user"),
            (
                "root",
                Some("no-such-name"),
                "--group: this machine has no group",
            ),
        ] {
            let error = Identity::of(user, group).expect_err("it is unknown");
            assert!(error.to_string().contains(message), "{error}");
        }
    }
}
