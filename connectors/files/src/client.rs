//! Files wherever they are: found by path, glob or URL, and read by range.

use std::io;
use std::path::{Path as LocalPath, PathBuf};
use std::sync::Arc;

use bytes::Bytes;
use futures::TryStreamExt;
use object_store::path::Path;
use object_store::{GetOptions, GetRange, ObjectMeta, ObjectStore, ObjectStoreExt};
use url::Url;

use crate::source::fault::FilesFault;

/// An object store that refused or did not answer. Its text carries no secrets.
#[derive(Debug, thiserror::Error)]
#[error("{name}: {what}")]
pub struct Unreached {
    name: String,
    what: String,
    reason: Reason,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Reason {
    Missing,
    Refused,
    Changed,
    Other,
}

impl Unreached {
    fn new(name: &str, error: &object_store::Error) -> Self {
        use object_store::Error as E;
        let reason = match error {
            E::NotFound { .. } => Reason::Missing,
            E::Precondition { .. } | E::NotModified { .. } => Reason::Changed,
            E::PermissionDenied { .. }
            | E::Unauthenticated { .. }
            | E::InvalidPath { .. }
            | E::NotSupported { .. }
            | E::NotImplemented { .. }
            | E::UnknownConfigurationKey { .. } => Reason::Refused,
            _ => Reason::Other,
        };
        Self { name: name.to_owned(), what: redact(&error.to_string()), reason }
    }

    /// Whether trying again may help.
    pub fn may_pass(&self) -> bool {
        self.reason == Reason::Other
    }
}

/// A text without what may be secret in the URLs it holds: user names, passwords, query strings.
pub fn redact(text: &str) -> String {
    let ends = |c: char| c.is_whitespace() || matches!(c, '"' | '\'' | ')' | '>' | '`');
    let mut clean = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find("://") {
        let (before, url) = rest.split_at(at + 3);
        clean.push_str(before);
        let (url, after) = url.split_at(url.find(ends).unwrap_or(url.len()));
        let (authority, path) = url.split_at(url.find(['/', '?', '#']).unwrap_or(url.len()));
        clean.push_str(authority.rsplit_once('@').map_or(authority, |(_, host)| host));
        clean.push_str(path.split(['?', '#']).next().unwrap_or_default());
        rest = after;
    }
    clean.push_str(rest);
    clean
}

/// Where a source's files are.
#[derive(Debug, Clone)]
pub enum Location {
    /// Standard input.
    Stdin,
    /// A path or glob on this machine.
    Local(String),
    /// A key or glob in an object store.
    Remote(Bucket),
}

/// An object store, and what of it is meant.
#[derive(Debug, Clone)]
pub struct Bucket {
    store: Arc<dyn ObjectStore>,
    /// The URL up to the keys, without secrets; with a slash at its end.
    base: String,
    /// The key, or where keys begin for a glob.
    prefix: Path,
    pattern: Option<glob::Pattern>,
}

/// One file, as it stands now.
#[derive(Debug, Clone)]
pub struct Object {
    /// Its name for people and in split names: the path as found, the URL without secrets.
    pub name: String,
    /// Where it is.
    pub place: Place,
    /// How long it is, in bytes.
    pub size: u64,
    /// A digest of what the storage says of its version.
    pub stamp: [u8; 16],
}

/// Where one file is.
#[derive(Debug, Clone)]
pub enum Place {
    /// On this machine.
    Local(PathBuf),
    /// In an object store.
    Remote {
        /// Which one.
        store: Arc<dyn ObjectStore>,
        /// Under which key.
        path: Path,
        /// Its version, where the store tells.
        e_tag: Option<String>,
    },
}

const GLOB: glob::MatchOptions = glob::MatchOptions {
    case_sensitive: true,
    require_literal_separator: true,
    require_literal_leading_dot: true,
};

impl Location {
    /// Reads a path as the file gives it.
    pub fn parse(path: &str) -> Result<Self, FilesFault> {
        let wrong = |what: String| FilesFault::Config { path: redact(path), what };
        if path == "-" {
            return Ok(Self::Stdin);
        }
        if path.is_empty() {
            return Err(wrong("the path is empty".to_owned()));
        }
        let Some((scheme, _)) = path.split_once("://") else { return Ok(Self::Local(path.to_owned())) };
        if scheme == "file" {
            let url = Url::parse(path).map_err(|e| wrong(e.to_string()))?;
            let local = url.to_file_path().map_err(|()| wrong("this URL names no local file".to_owned()))?;
            return Ok(Self::Local(local.to_string_lossy().into_owned()));
        }
        Bucket::parse(path).map(Self::Remote)
    }

    /// The files it means now, in the order of their names. Empty if nothing matches a glob.
    pub async fn list(&self) -> Result<Vec<Object>, FilesFault> {
        let mut found = match self {
            Self::Stdin => Vec::new(),
            Self::Local(pattern) => local(pattern)?,
            Self::Remote(bucket) => bucket.list().await?,
        };
        found.sort_by(|a, b| a.name.cmp(&b.name));
        Ok(found)
    }

    /// One file by the name that [`Location::list`] gave it, as it stands now.
    pub async fn find(&self, name: &str) -> Result<Object, FilesFault> {
        match self {
            Self::Stdin => Err(FilesFault::NoFile { path: name.to_owned() }),
            Self::Local(_) => stat(name),
            Self::Remote(bucket) => {
                let key = name.strip_prefix(&bucket.base).unwrap_or(name);
                let path = Path::parse(key).map_err(|e| Unreached::new(name, &e.into()))?;
                bucket.head(path).await
            }
        }
    }
}

impl Bucket {
    fn parse(path: &str) -> Result<Self, FilesFault> {
        let wrong = |what: String| FilesFault::Config { path: redact(path), what };
        let globbed = path.find(['*', '[']);
        let fixed = globbed
            .and_then(|at| path.get(..at))
            .and_then(|before| before.rfind('/'))
            .and_then(|slash| path.get(..=slash))
            .unwrap_or(path);
        let url = Url::parse(fixed).map_err(|e| wrong(e.to_string()))?;
        let (store, prefix) =
            object_store::parse_url_opts(&url, environment()).map_err(|e| wrong(redact(&e.to_string())))?;
        let plain = redact(fixed);
        let base = plain.strip_suffix('/').unwrap_or(&plain);
        let base = base.strip_suffix(prefix.as_ref()).unwrap_or(base).trim_end_matches('/');
        let pattern = match globbed {
            None => None,
            Some(_) => {
                let tail = path.strip_prefix(fixed).unwrap_or_default();
                let whole =
                    if prefix.as_ref().is_empty() { tail.to_owned() } else { format!("{prefix}/{tail}") };
                Some(glob::Pattern::new(&whole).map_err(|e| wrong(e.to_string()))?)
            }
        };
        Ok(Self { store: store.into(), base: format!("{base}/"), prefix, pattern })
    }

    async fn list(&self) -> Result<Vec<Object>, FilesFault> {
        let Some(pattern) = &self.pattern else { return Ok(vec![self.head(self.prefix.clone()).await?]) };
        let prefix = (!self.prefix.as_ref().is_empty()).then_some(&self.prefix);
        let unreached = |e| Unreached::new(&self.base, &e);
        let all: Vec<ObjectMeta> = self.store.list(prefix).try_collect().await.map_err(unreached)?;
        let wanted = all.into_iter().filter(|meta| pattern.matches_with(meta.location.as_ref(), GLOB));
        Ok(wanted.map(|meta| self.object(meta)).collect())
    }

    async fn head(&self, path: Path) -> Result<Object, FilesFault> {
        let name = format!("{}{path}", self.base);
        let meta = self.store.head(&path).await.map_err(|e| Unreached::new(&name, &e))?;
        Ok(self.object(meta))
    }

    fn object(&self, meta: ObjectMeta) -> Object {
        let modified = meta.last_modified.to_rfc3339();
        let version = meta.e_tag.as_deref().unwrap_or(&modified);
        Object {
            name: format!("{}{}", self.base, meta.location),
            size: meta.size,
            stamp: stamp(version.as_bytes()),
            place: Place::Remote { store: self.store.clone(), path: meta.location, e_tag: meta.e_tag },
        }
    }
}

impl Object {
    /// Reads up to `bytes_max` bytes from an offset; fewer at the end of the file.
    pub async fn range(&self, from: u64, bytes_max: usize) -> Result<Bytes, FilesFault> {
        let until = from.saturating_add(u64::try_from(bytes_max).unwrap_or(u64::MAX)).min(self.size);
        if from >= until {
            return Ok(Bytes::new());
        }
        match &self.place {
            Place::Local(path) => {
                let unreadable = |source| FilesFault::Unreadable { name: self.name.clone(), source };
                let file = std::fs::File::open(path).map_err(unreadable)?;
                let mut buffer = vec![0; usize::try_from(until - from).unwrap_or(0)];
                let read = read_at(&file, &mut buffer, from).map_err(unreadable)?;
                buffer.truncate(read);
                Ok(buffer.into())
            }
            Place::Remote { store, path, e_tag } => {
                let options = GetOptions {
                    range: Some(GetRange::Bounded(from..until)),
                    if_match: e_tag.clone(),
                    ..GetOptions::default()
                };
                let unreached = |e: object_store::Error| self.changed(&e);
                store.get_opts(path, options).await.map_err(unreached)?.bytes().await.map_err(unreached)
            }
        }
    }

    fn changed(&self, error: &object_store::Error) -> FilesFault {
        let unreached = Unreached::new(&self.name, error);
        if unreached.reason == Reason::Changed {
            FilesFault::Replaced {
                name: self.name.clone(),
                what: "its version changed during the run".to_owned(),
            }
        } else {
            unreached.into()
        }
    }
}

/// Reads at an offset until the buffer is full or the file ends.
pub(crate) fn read_at(file: &std::fs::File, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
    use std::os::unix::fs::FileExt;
    let mut done = 0;
    while let Some(rest) = buffer.get_mut(done..).filter(|rest| !rest.is_empty()) {
        let at = offset.saturating_add(u64::try_from(done).unwrap_or(u64::MAX));
        match file.read_at(rest, at) {
            Ok(0) => break,
            Ok(n) => done += n,
            Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
            Err(e) => return Err(e),
        }
    }
    Ok(done)
}

fn local(pattern: &str) -> Result<Vec<Object>, FilesFault> {
    let globbed = pattern.contains(['*', '?', '[']);
    if !globbed || LocalPath::new(pattern).exists() {
        return Ok(vec![stat(pattern)?]);
    }
    let wrong = |e: glob::PatternError| FilesFault::Config { path: pattern.to_owned(), what: e.to_string() };
    let mut found = Vec::new();
    for path in glob::glob_with(pattern, GLOB).map_err(wrong)? {
        let path = path.map_err(|e| FilesFault::Unreadable {
            name: e.path().to_string_lossy().into_owned(),
            source: e.into(),
        })?;
        if path.is_file() {
            found.push(stat(&path.to_string_lossy())?);
        }
    }
    Ok(found)
}

fn stat(name: &str) -> Result<Object, FilesFault> {
    use std::os::unix::fs::MetadataExt;
    let path = PathBuf::from(name);
    let meta = match std::fs::metadata(&path) {
        Err(e) if e.kind() == io::ErrorKind::NotFound => {
            return Err(FilesFault::NoFile { path: name.to_owned() });
        }
        other => other.map_err(|source| FilesFault::Unreadable { name: name.to_owned(), source })?,
    };
    if !meta.is_file() {
        let what = if meta.is_dir() {
            "this is a directory; name its files, for instance with `*.csv` behind it"
        } else {
            "this is not a regular file; pipes are read as `-`"
        };
        return Err(FilesFault::Config { path: name.to_owned(), what: what.to_owned() });
    }
    let version = format!(
        "{} {}.{} {}.{}",
        meta.ino(),
        meta.mtime(),
        meta.mtime_nsec(),
        meta.ctime(),
        meta.ctime_nsec()
    );
    let stamp = stamp(version.as_bytes());
    Ok(Object { name: name.to_owned(), place: Place::Local(path), size: meta.len(), stamp })
}

fn stamp(version: &[u8]) -> [u8; 16] {
    blake3::hash(version).as_bytes().first_chunk().copied().unwrap_or_default()
}

/// What the environment says of object stores: `AWS_…`, `AZURE_…`, `GOOGLE_…`.
fn environment() -> Vec<(String, String)> {
    let meant = |key: &str| ["aws_", "azure_", "google_"].iter().any(|prefix| key.starts_with(prefix));
    std::env::vars_os()
        .filter_map(|(key, value)| {
            Some((key.into_string().ok()?.to_ascii_lowercase(), value.into_string().ok()?))
        })
        .filter(|(key, _)| meant(key))
        .collect()
}
