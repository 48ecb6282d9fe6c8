//! What there is to read under the given paths, and which directories tell when that changes.
//!
//! Symbolic links are followed step by step. An event names the real directory of an entry, so everything here that is
//! compared with events is a canonical path, while manifests keep the names that their user knows.

use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};
use std::ffi::{OsStr, OsString};
use std::fs;
use std::io::{self, ErrorKind};
use std::path::{Component, Path, PathBuf};
use std::sync::Arc;

use routing::packed::{Wear, repack};
use translate::{Problem, Reason};

/// As many links on one way as Linux follows.
const MAX_LINKS: usize = 40;

/// What there is to read.
#[derive(Default)]
pub(super) struct Tree {
    /// The manifests, each with the entries that its content hangs on.
    pub(super) files: BTreeMap<Arc<Path>, Origin>,
    /// The directories to watch.
    pub(super) directories: BTreeSet<PathBuf>,
    /// The directories that cannot be read. What was known to be in them may still be there.
    pub(super) troubles: BTreeMap<Arc<Path>, Problem>,
    /// The directories whose new entries count, with the names that their user knows.
    listed: BTreeMap<PathBuf, PathBuf>,
    /// The entries that something hangs on, and the manifests among that.
    entries: HashMap<PathBuf, Vec<Arc<Path>>>,
    /// Whether several paths may lead to one file.
    is_tangled: bool,
    wear: Wear,
}

/// What an entry means to the tree.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Update {
    /// A manifest is new.
    Added(Arc<Path>),
    /// A manifest is gone.
    Removed(Arc<Path>),
    /// Nothing.
    Same,
    /// The whole tree has to be walked to know.
    Unclear,
}

/// How a path leads to a file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Origin {
    /// The links on the way.
    pub(super) links: Vec<PathBuf>,
    /// The file itself. It need not exist.
    pub(super) end: PathBuf,
}

/// A directory that is still to be listed.
struct Directory {
    shown: PathBuf,
    end: PathBuf,
}

#[derive(Default)]
struct Walk {
    tree: Tree,
    /// Directories by their own name come first, so that a link to one adds nothing. That is also what ends a loop.
    own: VecDeque<Directory>,
    linked: VecDeque<Directory>,
}

// === impl Tree ===

impl Tree {
    /// Looks at everything under the given paths. What does not exist is left out.
    pub(super) fn walk(roots: &[PathBuf]) -> Self {
        let mut walk = Walk::default();
        walk.tree.is_tangled = roots.len() > 1;
        for root in roots {
            walk.add_root(root);
        }
        while let Some(directory) = walk.own.pop_front().or_else(|| walk.linked.pop_front()) {
            walk.list(&directory);
        }
        repack(&mut walk.tree.files);
        walk.tree
    }

    /// The manifests whose content hangs on an entry.
    pub(super) fn dependents(&self, entry: &Path) -> &[Arc<Path>] {
        self.entries.get(entry).map(Vec::as_slice).unwrap_or_default()
    }

    /// Whether the tree is another one when this entry is gone.
    pub(super) fn hangs_on(&self, entry: &Path) -> bool {
        self.entries.contains_key(entry) || self.directories.contains(entry)
    }

    /// Whether the tree may be another one now that this entry is there.
    pub(super) fn may_grow_by(&self, entry: &Path) -> bool {
        if self.hangs_on(entry) {
            return true;
        }
        let is_listed = entry.parent().is_some_and(|parent| self.listed.contains_key(parent));
        let name = entry.file_name().unwrap_or_default();
        // A file that is being prepared under another name is nobody's business; a link may lead to a directory.
        is_listed
            && !is_hidden(name)
            && (is_manifest(name) || fs::symlink_metadata(entry).is_ok_and(|metadata| !metadata.is_file()))
    }

    /// Takes in what has become of an entry, as long as it is a file like most: a walk costs as much as the tree is large.
    pub(super) fn update(&mut self, entry: &Path) -> Update {
        let directory = entry.parent().and_then(|parent| self.listed.get(parent));
        let (Some(directory), Some(name)) = (directory, entry.file_name()) else { return Update::Unclear };
        if self.is_tangled || !is_manifest(name) || self.directories.contains(entry) {
            return Update::Unclear;
        }
        match (fs::symlink_metadata(entry), self.dependents(entry).first()) {
            (Ok(metadata), Some(_)) if metadata.is_file() => Update::Same,
            (Ok(metadata), None) if metadata.is_file() => {
                let path: Arc<Path> = directory.join(name).into();
                self.add_file(Arc::clone(&path), Origin { links: Vec::new(), end: entry.to_owned() });
                self.mend();
                Update::Added(path)
            }
            (Err(error), Some(path)) if error.kind() == ErrorKind::NotFound => {
                let path = Arc::clone(path);
                self.entries.remove(entry);
                self.files.remove(&path);
                self.mend();
                Update::Removed(path)
            }
            (Err(error), None) if error.kind() == ErrorKind::NotFound => Update::Same,
            (Ok(_) | Err(_), _) => Update::Unclear,
        }
    }

    /// Gives back the room that many changes leave in the maps.
    fn mend(&mut self) {
        if self.wear.is_due(1, self.files.len()) {
            repack(&mut self.files);
            self.entries.shrink_to_fit();
        }
    }

    fn add_file(&mut self, path: Arc<Path>, origin: Origin) {
        // A file that two paths lead to is read once.
        if !self.dependents(&origin.end).is_empty() {
            return;
        }
        for entry in origin.entries() {
            let dependents = self.entries.entry(entry.to_owned()).or_default();
            dependents.reserve_exact(1);
            dependents.push(Arc::clone(&path));
        }
        self.files.insert(path, origin);
    }

    /// Whether a manifest that was not found may be there.
    pub(super) fn may_hide(&self, path: &Path) -> bool {
        self.troubles.keys().any(|trouble| path.starts_with(trouble))
    }
}

// === impl Walk ===

impl Walk {
    fn add_root(&mut self, root: &Path) {
        let origin = follow(root);
        self.watch(&origin);
        match fs::metadata(root) {
            Ok(metadata) if metadata.is_dir() => {
                self.own.push_back(Directory { shown: root.to_owned(), end: origin.end });
            }
            // Whoever names a file means it, whatever its name.
            Ok(_) => self.tree.add_file(root.into(), origin),
            Err(error) => self.add_trouble(root, &error),
        }
    }

    fn list(&mut self, directory: &Directory) {
        let Directory { shown, end } = directory;
        if self.tree.listed.contains_key(end) {
            return;
        }
        self.tree.listed.insert(end.clone(), shown.clone());
        let entries = fs::read_dir(end).and_then(|entries| {
            let entries = entries.map(|entry| entry.and_then(|entry| Ok((entry.file_name(), entry.file_type()?))));
            entries.collect::<io::Result<BTreeMap<OsString, fs::FileType>>>()
        });
        match entries {
            Ok(entries) => {
                self.tree.directories.insert(end.clone());
                for (name, kind) in entries.into_iter().filter(|(name, _)| !is_hidden(name)) {
                    self.add_entry(directory, &name, kind);
                }
            }
            Err(error) => {
                self.tree.entries.entry(end.clone()).or_default();
                self.add_trouble(shown, &error);
            }
        }
    }

    fn add_entry(&mut self, directory: &Directory, name: &OsStr, kind: fs::FileType) {
        let shown = directory.shown.join(name);
        let end = directory.end.join(name);
        if kind.is_dir() {
            self.own.push_back(Directory { shown, end });
        } else if kind.is_file() && is_manifest(name) {
            self.tree.add_file(shown.into(), Origin { links: Vec::new(), end });
        } else if kind.is_symlink() {
            self.tree.is_tangled = true;
            let origin = follow(&end);
            self.watch(&origin);
            match fs::metadata(&end) {
                Ok(metadata) if metadata.is_dir() => self.linked.push_back(Directory { shown, end: origin.end }),
                // A link that leads nowhere is for the reader to tell.
                Ok(metadata) if is_manifest(name) && metadata.is_file() => self.tree.add_file(shown.into(), origin),
                Err(_) if is_manifest(name) => self.tree.add_file(shown.into(), origin),
                Ok(_) | Err(_) => {}
            }
        }
    }

    /// Watches the directories in which the way to something can change.
    fn watch(&mut self, origin: &Origin) {
        for entry in origin.entries() {
            self.tree.entries.entry(entry.to_owned()).or_default();
            self.tree.directories.extend(entry.parent().map(Path::to_owned));
        }
    }

    fn add_trouble(&mut self, path: &Path, error: &io::Error) {
        // It is gone, not unreadable.
        if error.kind() == ErrorKind::NotFound {
            return;
        }
        let problem = Problem::error(Reason::Malformed, "", format_args!("cannot be read: {error}"));
        self.tree.troubles.insert(path.into(), problem);
    }
}

// === impl Origin ===

impl Origin {
    /// The links on the way, and the file.
    fn entries(&self) -> impl Iterator<Item = &Path> {
        self.links.iter().chain([&self.end]).map(PathBuf::as_path)
    }

    /// The directory that tells when the file is written.
    pub(super) fn directory(&self) -> &Path {
        self.end.parent().unwrap_or(&self.end)
    }
}

/// Follows a path from the root of the file system, link by link, as far as it exists.
fn follow(path: &Path) -> Origin {
    let absolute = std::path::absolute(path).unwrap_or_else(|_| path.to_owned());
    let mut rest: VecDeque<OsString> = names(&absolute).collect();
    let mut links = Vec::new();
    let mut end = PathBuf::from("/");
    while let Some(name) = rest.pop_front() {
        if name == ".." {
            end.pop();
            continue;
        }
        let entry = end.join(name);
        match fs::read_link(&entry) {
            Ok(target) if links.len() < MAX_LINKS => {
                if target.is_absolute() {
                    end = PathBuf::from("/");
                }
                for name in names(&target).collect::<Vec<_>>().into_iter().rev() {
                    rest.push_front(name);
                }
                links.push(entry);
            }
            Err(error) if error.kind() == ErrorKind::NotFound => return Origin { links, end: entry },
            // Not a link.
            Ok(_) | Err(_) => end = entry,
        }
    }
    Origin { links, end }
}

fn names(path: &Path) -> impl Iterator<Item = OsString> + '_ {
    path.components().filter_map(|component| match component {
        Component::Normal(name) => Some(name.to_owned()),
        Component::ParentDir => Some("..".into()),
        Component::Prefix(_) | Component::RootDir | Component::CurDir => None,
    })
}

/// Names that begin with a dot are never manifests: editors and Kubernetes keep their own things there.
fn is_hidden(name: &OsStr) -> bool {
    name.as_encoded_bytes().starts_with(b".")
}

fn is_manifest(name: &OsStr) -> bool {
    !is_hidden(name)
        && Path::new(name)
            .extension()
            .is_some_and(|ending| ["yaml", "yml", "json"].iter().any(|known| ending == *known))
}
