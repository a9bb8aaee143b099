//! The shadow on the disk, beside the directory it is of and on the same file system.
//!
//! ```text
//! root                 the path of the directory that is shadowed
//! directories/<inode>  its durable names, one a line: kind, inode, name
//! contents/<inode>     the durable bytes of a file, with its time of modification
//! pins/<inode>         a link to the file itself, so that its number is never given to another
//! renames              one a line: from which directory and name to which
//! steps                what became durable, one a line
//! ```

use std::collections::BTreeMap;
use std::fs::{self, File, Metadata};
use std::io::{self, Write};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::UNIX_EPOCH;

/// A file or a directory, whatever it is called.
///
/// Its number alone would not do for directories, which nothing can pin: the time at which it was made tells
/// a later holder of the number apart, where the file system keeps it.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct Inode(String);

impl Inode {
    pub(super) fn of(found: &Metadata) -> Self {
        let born = found.created().ok().and_then(|born| born.duration_since(UNIX_EPOCH).ok());
        let born = born.map_or(0, |born| born.as_nanos());
        Self(format!("{}-{}-{born}", found.dev(), found.ino()))
    }

    fn at(path: &Path) -> io::Result<Self> {
        Ok(Self::of(&fs::symlink_metadata(path)?))
    }
}

/// What a name stands for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Entry {
    File(Inode),
    Directory(Inode),
}

/// The names in a directory.
pub(super) type Names = BTreeMap<String, Entry>;

/// The place of a name: the directory and the name.
pub(super) type Slot = (Inode, String);

/// A shadow of one directory.
#[derive(Debug, Clone)]
pub struct Shadow {
    pub(super) at: PathBuf,
    pub(super) root: PathBuf,
}

impl Shadow {
    /// Begins a shadow of `root` at `at`, which is replaced. Everything that is there counts as durable.
    pub fn begin(root: &Path, at: &Path) -> io::Result<Self> {
        if at.exists() {
            fs::remove_dir_all(at)?;
        }
        let shadow = Self { at: at.to_owned(), root: root.to_owned() };
        for directory in ["directories", "contents", "pins"] {
            fs::create_dir_all(shadow.at.join(directory))?;
        }
        fs::write(shadow.at.join("root"), root.as_os_str().as_encoded_bytes())?;
        shadow.all_durable(root)?;
        Ok(shadow)
    }

    /// The shadow at `at`.
    pub(super) fn open(at: PathBuf) -> io::Result<Self> {
        let root = fs::read_to_string(at.join("root"))?.into();
        Ok(Self { at, root })
    }

    /// What a process has to be told so that it notes what becomes durable here; with `step`, also to die when
    /// that step is about to.
    pub fn variables(&self, step: Option<u64>) -> Vec<(&'static str, String)> {
        let mut variables = vec![("HAPAX_SHADOW", self.at.display().to_string())];
        variables.extend(step.map(|step| ("HAPAX_SHADOW_STEP", step.to_string())));
        variables
    }

    /// What became durable since the shadow began, in words.
    pub fn steps(&self) -> io::Result<Vec<String>> {
        match fs::read_to_string(self.at.join("steps")) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Vec::new()),
            read => Ok(read?.lines().map(str::to_owned).collect()),
        }
    }

    fn all_durable(&self, directory: &Path) -> io::Result<()> {
        for entry in fs::read_dir(directory)? {
            let path = entry?.path();
            if path.is_dir() {
                self.all_durable(&path)?;
            } else {
                self.note_content(&path)?;
            }
        }
        self.note_names(directory)
    }

    pub(super) fn covers(&self, path: &Path) -> bool {
        path.starts_with(&self.root)
    }

    /// Keeps the bytes that a file has now.
    pub(super) fn note_content(&self, path: &Path) -> io::Result<()> {
        let inode = self.pin(path)?;
        let bytes = fs::read(path)?;
        let modified = fs::metadata(path)?.modified()?;
        self.replace(&self.at.join("contents").join(inode.0), &bytes)?.set_modified(modified)
    }

    /// Keeps the names that a directory has now.
    pub(super) fn note_names(&self, directory: &Path) -> io::Result<()> {
        let mut lines = String::new();
        for (name, entry) in names_in(directory)? {
            let (kind, inode) = match entry {
                Entry::File(_) => ('f', self.pin(&directory.join(&name))?),
                Entry::Directory(inode) => ('d', inode),
            };
            lines.push_str(&format!("{kind} {} {name}\n", inode.0));
        }
        let at = self.at.join("directories").join(Inode::at(directory)?.0);
        self.replace(&at, lines.as_bytes()).map(drop)
    }

    /// Notes that `from` is about to become `to`.
    pub(super) fn note_rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        let (Some((from, old)), Some((to, new))) = (slot(from), slot(to)) else {
            return Err(io::ErrorKind::InvalidInput.into());
        };
        let line = format!("{} {old} {} {new}\n", Inode::at(from)?.0, Inode::at(to)?.0);
        self.append("renames", &line)
    }

    pub(super) fn note_step(&self, what: &str, path: &Path) -> io::Result<()> {
        let shown = path.strip_prefix(&self.root).unwrap_or(path).display();
        self.append("steps", &format!("{what} {shown}\n"))
    }

    /// The renames that were noted. Names with spaces in them are not among them.
    pub(super) fn renames(&self) -> io::Result<Vec<(Slot, Slot)>> {
        let text = match fs::read_to_string(self.at.join("renames")) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => String::new(),
            read => read?,
        };
        let mut renames = Vec::new();
        for line in text.lines() {
            if let [from, old, to, new] = line.split(' ').collect::<Vec<_>>().as_slice() {
                let slot = |inode: &str, name: &str| (Inode(inode.to_owned()), name.to_owned());
                renames.push((slot(from, old), slot(to, new)));
            }
        }
        Ok(renames)
    }

    /// The names of every directory that were noted last.
    pub(super) fn directories(&self) -> io::Result<BTreeMap<Inode, Names>> {
        let mut directories = BTreeMap::new();
        for (inode, path) in self.kept("directories")? {
            let mut names = Names::new();
            for line in fs::read_to_string(path)?.lines() {
                if let [kind, inode, name] = line.splitn(3, ' ').collect::<Vec<_>>().as_slice() {
                    let inode = Inode((*inode).to_owned());
                    let entry = if *kind == "d" { Entry::Directory(inode) } else { Entry::File(inode) };
                    names.insert((*name).to_owned(), entry);
                }
            }
            directories.insert(inode, names);
        }
        Ok(directories)
    }

    /// The files in one directory of the shadow, by the inode they stand for.
    pub(super) fn kept(&self, what: &str) -> io::Result<Vec<(Inode, PathBuf)>> {
        let mut kept = Vec::new();
        for entry in fs::read_dir(self.at.join(what))? {
            let entry = entry?;
            match entry.file_name().into_string() {
                Ok(name) if !name.ends_with(".new") => kept.push((Inode(name), entry.path())),
                _ => {}
            }
        }
        Ok(kept)
    }

    pub(super) fn root_inode(&self) -> io::Result<Inode> {
        Inode::at(&self.root)
    }

    fn pin(&self, path: &Path) -> io::Result<Inode> {
        let inode = Inode::at(path)?;
        match fs::hard_link(path, self.at.join("pins").join(&inode.0)) {
            Err(error) if error.kind() != io::ErrorKind::AlreadyExists => Err(error),
            _ => Ok(inode),
        }
    }

    /// Writes a file in one step: the process may be killed in the middle.
    fn replace(&self, path: &Path, bytes: &[u8]) -> io::Result<File> {
        let mut new = path.as_os_str().to_owned();
        new.push(".new");
        let mut file = File::create(&new)?;
        file.write_all(bytes)?;
        fs::rename(new, path)?;
        Ok(file)
    }

    fn append(&self, name: &str, line: &str) -> io::Result<()> {
        let mut file = File::options().create(true).append(true).open(self.at.join(name))?;
        file.write_all(line.as_bytes())
    }
}

fn slot(path: &Path) -> Option<(&Path, &str)> {
    Some((path.parent()?, path.file_name()?.to_str()?))
}

/// What the names in a directory stand for.
pub(super) fn names_in(directory: &Path) -> io::Result<Names> {
    let mut names = Names::new();
    for entry in fs::read_dir(directory)? {
        let entry = entry?;
        let found = entry.metadata()?;
        let inode = Inode::of(&found);
        let name = entry.file_name().into_string().map_err(|_| io::ErrorKind::InvalidFilename)?;
        names.insert(name, if found.is_dir() { Entry::Directory(inode) } else { Entry::File(inode) });
    }
    Ok(names)
}
