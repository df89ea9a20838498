//! Limits of the process's control groups, of version 2: cgroups(7). That of memory
//! is in [`netwasm_base::memory`].

use std::fs;
use std::path::{Path, PathBuf};

/// Mount point of the hierarchies.
const ROOT: &str = "/sys/fs/cgroup";

/// The control groups of the process, from its own to the root.
#[derive(Debug)]
pub(super) struct Groups {
    folders: Vec<PathBuf>,
}

impl Groups {
    /// Returns those of version 2, if the process is in one.
    pub(super) fn own() -> Self {
        let text = fs::read_to_string("/proc/self/cgroup").unwrap_or_default();
        let path = text.lines().find_map(|line| line.strip_prefix("0::"));
        Self::below(Path::new(ROOT), path.unwrap_or("/"))
    }

    fn below(root: &Path, path: &str) -> Self {
        let own = root.join(path.trim_start_matches('/'));
        // In a container, the path may be one of outside.
        let folders = own.ancestors().filter(|folder| folder.starts_with(root));
        Self {
            folders: folders.map(Path::to_owned).collect(),
        }
    }

    /// Returns the lowest limit that a file such as `pids.max` has; `None` if there
    /// is none.
    pub(super) fn lowest(&self, file: &str) -> Option<u64> {
        let texts = self.folders.iter();
        let texts = texts.filter_map(|folder| fs::read_to_string(folder.join(file)).ok());
        texts.filter_map(|text| text.trim().parse().ok()).min()
    }

    /// Returns the processors that the process may use up, `cpu.max`; `None` if
    /// there is no limit.
    pub(super) fn processors(&self) -> Option<f64> {
        let quota = |folder: &PathBuf| {
            let text = fs::read_to_string(folder.join("cpu.max")).ok()?;
            let (quota, period) = text.trim().split_once(' ')?;
            let (quota, period): (f64, f64) = (quota.parse().ok()?, period.parse().ok()?);
            (period > 0.0).then_some(quota / period)
        };
        self.folders.iter().filter_map(quota).min_by(f64::total_cmp)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_lowest_limit_of_all_groups_counts() {
        let scratch = tempfile::tempdir().expect("a directory");
        let own = scratch.path().join("a.slice/b.service");
        fs::create_dir_all(&own).expect("a directory");
        let write = |path: PathBuf, text: &str| fs::write(path, text).expect("a file");
        write(own.join("pids.max"), "max\n");
        write(own.join("cpu.max"), "150000 100000\n");
        write(scratch.path().join("a.slice/pids.max"), "512\n");
        write(scratch.path().join("a.slice/cpu.max"), "max 100000\n");
        let groups = Groups::below(scratch.path(), "/a.slice/b.service");
        assert_eq!(groups.folders.len(), 3);
        assert_eq!(groups.lowest("pids.max"), Some(512));
        assert_eq!(groups.processors(), Some(1.5));
        assert_eq!(groups.lowest("memory.max"), None);
    }
}
