//! Which entries of the cache of quantised weights go when a new one comes: those that no start has used for a month,
//! and all but the last few. Never touches a file that the cache did not write, by its name; what can't be removed
//! stays and is told. A process that maps a removed entry keeps its pages: on Unix a name goes, the file goes with the
//! last map; elsewhere such a file can't be removed, and stays.

use std::fs::{self, File, Metadata};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

const DAY: Duration = Duration::from_secs(24 * 60 * 60);
const UNUSED_MAX: Duration = DAY.saturating_mul(30);
/// With the new one.
const ENTRIES_MAX: usize = 8;
/// What is still written is younger: its time is that of the last write.
const UNFINISHED_MAX: Duration = DAY;
/// Of an entry's name: the hexadecimal digits of its key.
pub(super) const KEY_DIGITS: usize = 32;
pub(super) const EXTENSION: &str = ".safetensors";

/// What went.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Removed {
    pub entries: usize,
    pub bytes: u64,
    /// The first thing that could not be removed.
    pub failure: Option<String>,
}

/// Says that an entry is used: its time of change becomes now. Where that is not allowed it counts as older than it is.
pub(super) fn mark_used(entry: &Path, now: SystemTime) {
    let _ = File::options().write(true).open(entry).and_then(|file| file.set_modified(now));
}

/// Removes old entries beside `new`, which stays, and what killed writers left of theirs.
pub(super) fn remove_old(new: &Path, now: SystemTime) -> Removed {
    let mut entries: Vec<(PathBuf, Metadata, SystemTime)> = vec![];
    let mut removed = Removed::default();
    let folder = new.parent().and_then(|folder| fs::read_dir(folder).ok());
    for file in folder.into_iter().flatten().flatten() {
        let (Some(rest), Ok(about)) = (after_key(&file.path()), file.metadata()) else { continue };
        let Ok(modified) = about.modified() else { continue };
        let unused = now.duration_since(modified).unwrap_or_default();
        if !about.is_file() || file.path() == new {
            continue;
        }
        if rest == EXTENSION {
            entries.push((file.path(), about, modified));
        } else if rest.starts_with(&format!("{EXTENSION}.tmp-")) && unused > UNFINISHED_MAX {
            removed.remove(&file.path(), None);
        }
    }
    entries.sort_by_key(|(_, _, modified)| std::cmp::Reverse(*modified));
    for (i, (path, about, modified)) in entries.iter().enumerate() {
        let unused = now.duration_since(*modified).unwrap_or_default();
        if i + 1 >= ENTRIES_MAX || unused > UNUSED_MAX {
            removed.remove(path, Some(about.len()));
        }
    }
    removed
}

impl Removed {
    /// `entry_bytes`: of a whole entry.
    fn remove(&mut self, path: &Path, entry_bytes: Option<u64>) {
        match fs::remove_file(path) {
            Ok(()) => {
                self.entries += usize::from(entry_bytes.is_some());
                self.bytes += entry_bytes.unwrap_or(0);
            }
            // Another start was quicker.
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
            Err(error) => {
                self.failure.get_or_insert(format!("{}: {error}", path.display()));
            }
        }
    }
}

/// What follows the key in a file's name; `None` where it does not begin with one.
fn after_key(path: &Path) -> Option<String> {
    let name = path.file_name()?.to_str()?;
    let is_key = |key: &str| key.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'));
    let (key, rest) = name.split_at_checked(KEY_DIGITS)?;
    is_key(key).then(|| rest.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::TempFolder;

    struct World {
        dir: TempFolder,
        now: SystemTime,
    }

    impl World {
        fn new() -> World {
            World { dir: TempFolder::new(), now: SystemTime::now() }
        }

        fn path(&self, name: &str) -> PathBuf {
            self.dir.path().join(name)
        }

        /// A file of three bytes that was used `days` ago.
        fn put(&self, name: &str, days: u32) -> PathBuf {
            let path = self.path(name);
            fs::write(&path, "abc").unwrap();
            mark_used(&path, self.now - DAY * days);
            path
        }

        fn remove(&self, new: &Path) -> Removed {
            remove_old(new, self.now)
        }

        fn names(&self) -> Vec<String> {
            let entries = fs::read_dir(self.dir.path()).unwrap();
            let mut names: Vec<_> =
                entries.map(|e| e.unwrap().file_name().into_string().unwrap()).collect();
            names.sort();
            names
        }
    }

    fn entry(key: u32) -> String {
        format!("{key:032x}{EXTENSION}")
    }

    #[test]
    fn a_month_without_use_is_enough() {
        let world = World::new();
        let new = world.put(&entry(0), 0);
        for (key, days) in [(1, 1), (2, 29), (3, 31), (4, 400)] {
            world.put(&entry(key), days);
        }
        mark_used(&world.path(&entry(4)), world.now);
        assert_eq!(world.remove(&new), Removed { entries: 1, bytes: 3, failure: None });
        assert_eq!(world.names(), [0, 1, 2, 4].map(entry));
    }

    #[test]
    fn the_last_few_stay_and_the_new_one_among_them_whatever_its_time() {
        let world = World::new();
        let new = world.put(&entry(99), 60);
        let n = ENTRIES_MAX as u32;
        for days in 0..n + 2 {
            world.put(&entry(days), days);
        }
        assert_eq!(world.remove(&new), Removed { entries: 3, bytes: 9, failure: None });
        let mut left: Vec<_> = (0..n - 1).map(entry).collect();
        left.push(entry(99));
        assert_eq!(world.names(), left);
    }

    #[test]
    fn what_the_cache_did_not_write_stays_and_what_it_left_half_written_goes() {
        let world = World::new();
        let new = world.put(&entry(0), 0);
        let foreign = [
            "model.safetensors".to_owned(),
            format!("{:032X}{EXTENSION}", 0xABC),
            format!("{:031x}{EXTENSION}", 1),
            format!("{}.json", &entry(1)[..KEY_DIGITS]),
        ];
        for name in &foreign {
            world.put(name, 400);
        }
        fs::create_dir(world.path(&entry(5))).unwrap();
        let young = format!("{}.tmp-1-1", entry(6));
        world.put(&young, 0);
        world.put(&format!("{}.tmp-1-2", entry(6)), 2);
        assert_eq!(world.remove(&new), Removed::default());
        let mut left: Vec<String> = [vec![entry(0), entry(5), young], foreign.to_vec()].concat();
        left.sort();
        assert_eq!(world.names(), left);
    }

    #[test]
    fn a_folder_that_is_not_there_has_nothing_old() {
        let world = World::new();
        assert_eq!(world.remove(&world.path("missing/entry")), Removed::default());
    }
}
