//! Users and groups of the machine, by name or number: getpwnam(3), getgrnam(3).

use std::ffi::CString;

use nix::errno::Errno;
use nix::unistd;

/// A user.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct User {
    /// Name; `None` if only the number is known.
    pub name: Option<CString>,
    /// Number.
    pub id: u32,
    /// Number of the user's own group; `None` if it is unknown.
    pub group: Option<u32>,
}

/// Reason why there is no such user or group.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum UnknownUser {
    /// The machine has no such user.
    #[error("this machine has no user '{0}' (getent passwd lists them)")]
    User(String),
    /// The machine has no such group.
    #[error("this machine has no group '{0}' (getent group lists them)")]
    Group(String),
    /// The system could not look.
    #[error("'{0}' cannot be looked up: {1}")]
    Failed(String, Errno),
}

/// Returns a user by name, or else by number.
///
/// # Errors
/// Fails if there is no such name, or the system cannot look.
pub fn user(text: &str) -> Result<User, UnknownUser> {
    let failed = |errno| UnknownUser::Failed(text.to_owned(), errno);
    let number = number(text);
    let mut found = unistd::User::from_name(text).map_err(failed)?;
    if let (None, Some(number)) = (&found, number) {
        found = unistd::User::from_uid(number.into()).map_err(failed)?;
    }
    match (found, number) {
        (Some(user), _) => Ok(User {
            name: CString::new(user.name).ok(),
            id: user.uid.as_raw(),
            group: Some(user.gid.as_raw()),
        }),
        (None, Some(id)) => Ok(User {
            name: None,
            id,
            group: None,
        }),
        (None, None) => Err(UnknownUser::User(text.to_owned())),
    }
}

/// Returns the number of a group by its name, or the number itself.
///
/// # Errors
/// Fails as [`user`] does.
pub fn group(text: &str) -> Result<u32, UnknownUser> {
    let failed = |errno| UnknownUser::Failed(text.to_owned(), errno);
    match unistd::Group::from_name(text).map_err(failed)? {
        Some(group) => Ok(group.gid.as_raw()),
        None => number(text).ok_or_else(|| UnknownUser::Group(text.to_owned())),
    }
}

/// Returns the number of a user or group. The largest one stands for no change
/// in system calls (chown(2), setresuid(2)).
fn number(text: &str) -> Option<u32> {
    text.parse().ok().filter(|&number| number != u32::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_user_is_found_by_name_and_by_number() {
        let root = user("root").expect("every machine has it");
        assert_eq!((root.id, root.group), (0, Some(0)));
        assert_eq!(user("0"), Ok(root));
        assert_eq!(group("root"), Ok(0));
        // A number that no name has.
        let nameless = user("4000000001").expect("a number");
        assert_eq!((nameless.name, nameless.group), (None, None));
        assert_eq!(group("4000000001"), Ok(4_000_000_001));
        for name in ["no-such-name", "", "-1", "4294967295", "a\0b"] {
            assert_eq!(user(name), Err(UnknownUser::User(name.into())));
            assert_eq!(group(name), Err(UnknownUser::Group(name.into())));
        }
    }
}
