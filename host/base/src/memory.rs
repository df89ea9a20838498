//! The limit of memory that a container has, and how many connections fit below
//! it.

use std::fs;
use std::path::{Path, PathBuf};

/// Memory for a connection, bytes: an idle one of HTTP keeps some 50 KiB, with the
/// instance that waits for its next request.
const CONNECTION: u64 = 64 << 10;

/// Limits from here on are none: the first version of control groups says so by the
/// pages that 63 bits can count.
const NO_LIMIT: u64 = 1 << 62;

/// Returns how many connections can be open at once before their control group is
/// out of memory, and the system kills it: as many as there are numbers, if it has
/// no limit. A quarter is for the program itself. Half of the rest is for accepted
/// connections if guests connect, too. Guests may need more.
#[must_use]
pub fn connections(connects: bool) -> usize {
    limit().map_or(usize::MAX, |limit| within(limit, connects))
}

/// Returns how many connections fit below a limit in bytes.
fn within(limit: u64, connects: bool) -> usize {
    let ways = if connects { 2 } else { 1 };
    let connections = (limit - limit / 4) / CONNECTION / ways;
    usize::try_from(connections.max(1)).unwrap_or(usize::MAX)
}

/// Returns the limit of the control group, bytes; `None` if there is none.
#[must_use]
pub fn limit() -> Option<u64> {
    let groups = fs::read_to_string("/proc/self/cgroup").ok()?;
    limit_of(&groups, |file| {
        // `max` is no limit.
        fs::read_to_string(file).ok()?.trim().parse().ok()
    })
}

/// Returns the lowest limit of the groups that `/proc/PID/cgroup` names, cgroups(7).
/// `read` returns the number in a file.
fn limit_of(groups: &str, read: impl Fn(&Path) -> Option<u64>) -> Option<u64> {
    let root = Path::new("/sys/fs/cgroup");
    let of_line = |line: &str| {
        let (_, rest) = line.split_once(':')?;
        let (controllers, group) = rest.split_once(':')?;
        let (hierarchy, file) = match controllers {
            // The second version has one hierarchy.
            "" => (root.to_owned(), "memory.max"),
            list if list.split(',').any(|it| it == "memory") => {
                (root.join("memory"), "memory.limit_in_bytes")
            }
            _ => return None,
        };
        // The limit of a group holds for those in it. A container may see its
        // group as the root.
        let groups = Path::new(group.trim_start_matches('/')).ancestors();
        let files = groups.map(|group| -> PathBuf { hierarchy.join(group).join(file) });
        let limits = files.filter_map(|file| read(&file));
        limits.filter(|limit| *limit < NO_LIMIT).min()
    };
    groups.lines().filter_map(of_line).min()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_lowest_limit_of_all_groups_counts() {
        let read = |file: &Path| match file.to_str()? {
            "/sys/fs/cgroup/kubepods/pod/memory.max" => Some(512 << 20),
            "/sys/fs/cgroup/kubepods/memory.max" => Some(8 << 30),
            "/sys/fs/cgroup/memory/memory.limit_in_bytes" => Some(256 << 20),
            "/sys/fs/cgroup/memory/docker/1/memory.limit_in_bytes" => Some(0x7fff_ffff_ffff_f000),
            "/sys/fs/cgroup/free/memory.max" => Some(0x7fff_ffff_ffff_f000),
            _ => None,
        };
        for (groups, limit) in [
            ("0::/kubepods/pod/container\n", Some(512)),
            ("0::/kubepods\n", Some(8 << 10)),
            ("0::/\n", None),
            ("0::/free\n", None),
            // The first version, whose names are those of the host.
            ("4:cpu,memory:/docker/1\n3:pids:/docker/1\n", Some(256)),
            ("3:cpu:/docker/1\n", None),
            ("nothing of it", None),
            ("", None),
        ] {
            let mebibytes = limit_of(groups, read).map(|limit| limit >> 20);
            assert_eq!(mebibytes, limit, "{groups:?}");
        }
        assert_eq!(within(512 << 20, false), 6144);
        assert_eq!(within(512 << 20, true), 3072);
        assert_eq!(within(1, true), 1);
    }
}
