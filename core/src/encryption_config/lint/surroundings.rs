//! Plain facts about a file and its cluster, collected by who can do IO.

use std::path::PathBuf;

/// What is known beside the file's bytes.
#[derive(Clone, Debug, Default)]
pub struct Surroundings {
    /// `None` for stdin.
    pub file: Option<File>,
    /// What the cluster serves, subresources left out; `None` where nobody asked it.
    pub served: Option<Vec<Served>>,
}

/// The file itself.
#[derive(Clone, Debug)]
pub struct File {
    /// Without symbolic links, absolute.
    pub path: PathBuf,
    /// Whether the path that was given is a symbolic link.
    pub is_symlink: bool,
    /// The permission bits.
    pub mode: u32,
    /// The user whose it is.
    pub owner: u32,
    /// Where it lies.
    pub directory: Directory,
    /// The user who asks.
    pub asked_by: u32,
}

/// The directory of the file.
#[derive(Clone, Copy, Debug)]
pub struct Directory {
    /// The permission bits, the sticky one included.
    pub mode: u32,
    /// The user whose it is.
    pub owner: u32,
    /// The group whose it is.
    pub group: u32,
}

/// A resource as the cluster's discovery has it.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Served {
    /// Empty for the core group.
    pub group: String,
    /// `widgets`
    pub plural: String,
    /// `widget`; empty where the server does not say.
    pub singular: String,
    /// `Widget`
    pub kind: String,
}
