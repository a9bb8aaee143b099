//! What is left when the power goes.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use super::store::{Entry, Inode, Names, Shadow, Slot, names_in};

/// How much of a file survives or not as a whole, in bytes.
const SECTOR_BYTES: usize = 512;

/// What survives of that which was not durable.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Luck {
    /// Nothing.
    None,
    /// Each change or not, as the coins of this seed fall.
    Coins(u64),
}

/// Everything that is known of a directory at the moment at which the power goes.
#[derive(Debug, Clone)]
pub struct Wreck {
    root: Inode,
    durable: Tree,
    live: Tree,
    renames: Vec<(Slot, Slot)>,
}

/// Directories and files, by inode.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
struct Tree {
    directories: BTreeMap<Inode, Names>,
    contents: BTreeMap<Inode, Content>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Content {
    bytes: Vec<u8>,
    modified: SystemTime,
}

impl Shadow {
    /// What is known now. No process may be at work.
    pub fn wreck(&self) -> io::Result<Wreck> {
        let mut durable = Tree { directories: self.directories()?, contents: BTreeMap::new() };
        for (inode, path) in self.kept("contents")? {
            durable.contents.insert(inode, Content::read(&path)?);
        }
        let mut live = Tree::default();
        live.read(&self.root)?;
        // What has no name any more may still have a durable one.
        for (inode, path) in self.kept("pins")? {
            live.contents.insert(inode, Content::read(&path)?);
        }
        Ok(Wreck { root: self.root_inode()?, durable, live, renames: self.renames()? })
    }
}

impl Wreck {
    /// Replaces what stands at `root` by what a power loss leaves.
    pub fn leave(&self, luck: Luck, root: &Path) -> io::Result<()> {
        let tree = match luck {
            Luck::None => self.durable.clone(),
            Luck::Coins(seed) => self.mixed(&mut Coins(seed)),
        };
        fs::remove_dir_all(root)?;
        tree.write(&self.root, root, &mut BTreeMap::new())
    }

    /// Each name that changed is as it was or as it became, those of one rename together; each sector of a
    /// file likewise.
    fn mixed(&self, coins: &mut Coins) -> Tree {
        let mut mixed = Tree { directories: self.durable.directories.clone(), contents: BTreeMap::new() };
        for group in self.changes() {
            if coins.toss() {
                continue;
            }
            for (directory, name) in group {
                let became = self.live.directories.get(&directory).and_then(|names| names.get(&name));
                let names = mixed.directories.entry(directory).or_default();
                match became {
                    Some(entry) => names.insert(name, entry.clone()),
                    None => names.remove(&name),
                };
            }
        }
        for (inode, became) in &self.live.contents {
            let was = self.durable.contents.get(inode);
            mixed.contents.insert(inode.clone(), became.torn(was, coins));
        }
        mixed
    }

    /// The names that are not what is durable, in groups that change together.
    fn changes(&self) -> Vec<BTreeSet<Slot>> {
        let mut groups: Vec<BTreeSet<Slot>> = Vec::new();
        let none = Names::new();
        let all: BTreeSet<&Inode> =
            self.durable.directories.keys().chain(self.live.directories.keys()).collect();
        for directory in all {
            let was = self.durable.directories.get(directory).unwrap_or(&none);
            let became = self.live.directories.get(directory).unwrap_or(&none);
            let names: BTreeSet<&String> = was.keys().chain(became.keys()).collect();
            let changed = names.into_iter().filter(|name| was.get(*name) != became.get(*name));
            groups.extend(changed.map(|name| BTreeSet::from([(directory.clone(), name.clone())])));
        }
        for (from, to) in &self.renames {
            let place = |slot: &Slot| groups.iter().position(|group| group.contains(slot));
            let (Some(from), Some(to)) = (place(from), place(to)) else { continue };
            if from != to {
                let joined = groups.swap_remove(from.max(to));
                if let Some(group) = groups.get_mut(from.min(to)) {
                    group.extend(joined);
                }
            }
        }
        groups
    }
}

impl Tree {
    fn read(&mut self, directory: &Path) -> io::Result<()> {
        let names = names_in(directory)?;
        for (name, entry) in &names {
            let path = directory.join(name);
            match entry {
                Entry::Directory(_) => self.read(&path)?,
                Entry::File(inode) => {
                    self.contents.insert(inode.clone(), Content::read(&path)?);
                }
            }
        }
        self.directories.insert(Inode::of(&directory.metadata()?), names);
        Ok(())
    }

    /// Writes a directory and what can be reached from it. Names of one file become names of one file.
    fn write(&self, inode: &Inode, to: &Path, written: &mut BTreeMap<Inode, PathBuf>) -> io::Result<()> {
        fs::create_dir(to)?;
        for (name, entry) in self.directories.get(inode).into_iter().flatten() {
            let path = to.join(name);
            match entry {
                Entry::Directory(inode) => self.write(inode, &path, written)?,
                Entry::File(inode) => match written.get(inode) {
                    Some(first) => fs::hard_link(first, &path)?,
                    None => {
                        let mut file = File::create(&path)?;
                        // A name can be durable before any byte behind it is.
                        if let Some(content) = self.contents.get(inode) {
                            file.write_all(&content.bytes)?;
                            file.set_modified(content.modified)?;
                        }
                        written.insert(inode.clone(), path);
                    }
                },
            }
        }
        Ok(())
    }
}

impl Content {
    fn read(path: &Path) -> io::Result<Self> {
        Ok(Self { bytes: fs::read(path)?, modified: fs::metadata(path)?.modified()? })
    }

    /// What may be there of it where only `was` is durable.
    fn torn(&self, was: Option<&Self>, coins: &mut Coins) -> Self {
        if was == Some(self) {
            return self.clone();
        }
        let was = was.map_or(&[][..], |was| was.bytes.as_slice());
        let length = if coins.toss() { was.len() } else { self.bytes.len() };
        let mut bytes = Vec::with_capacity(length);
        while bytes.len() < length {
            let end = length.min(bytes.len().saturating_add(SECTOR_BYTES));
            let from = if coins.toss() { was } else { self.bytes.as_slice() };
            let sector = (bytes.len()..end).map(|place| from.get(place).copied().unwrap_or(0));
            bytes.extend(sector.collect::<Vec<u8>>());
        }
        Self { bytes, modified: self.modified }
    }
}

/// Coins that fall the same way for the same seed (SplitMix64).
struct Coins(u64);

impl Coins {
    fn toss(&mut self) -> bool {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        (z ^ (z >> 31)) & 1 == 0
    }
}

#[cfg(test)]
mod tests;
