//! Kubernetes' and etcd's own programs, built from their Go modules once and cached.

use std::ffi::OsStr;
use std::fmt;
use std::fs::{self, File};
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::OnceLock;

use data_encoding::HEXLOWER;
use sha2::{Digest, Sha256};

/// The release of Kubernetes that tests run; `tests/control-plane/kubernetes/go.mod` pins it.
pub const KUBERNETES: &str = "v1.37.2";

/// What a first build of a control plane takes: 4.4 GiB of Go's build cache, 1 GiB of modules, 0.6
/// GiB of programs; and room to spare.
const CONTROL_PLANE_SPACE: u64 = 8 << 30;

/// What a first build of a judge or of an etcd takes: 0.6 GiB of Go's build cache, 0.2 GiB of modules,
/// 70 MiB of programs at most; and room to spare.
const MODULE_SPACE: u64 = 1 << 30;

/// The older release whose kube-apiserver tests run: of the last minor that does not say which
/// EncryptionConfiguration it has loaded. `tests/control-plane/kube-apiserver/1.33/go.mod` pins it.
pub const BEFORE_HASHES: &str = "v1.33.13";

/// The releases of etcd that tests run, oldest first; with Kubernetes runs the newest one.
pub const ETCD: [&str; 3] = ["3.5", "3.6", "3.7"];

/// The releases whose KMS client there is a module of, oldest first.
pub const KMS_CLIENTS: [u32; 5] = [27, 29, 31, 33, 37];

/// Why the programs are not there.
#[derive(Debug)]
pub enum Error {
    /// There is no Go on the PATH.
    NoGo,
    /// Fewer bytes are free than a build takes.
    NoSpace {
        /// Where.
        path: PathBuf,
        /// Bytes that are free.
        free: u64,
        /// Bytes that a build takes.
        needed: u64,
    },
    /// The build failed; its words are on stderr.
    Build(String),
    /// The cache cannot be written.
    Cache(PathBuf, io::Error),
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoGo => write!(
                f,
                "error: cannot build the control plane: there is no go on the PATH\n\
                 hint: install Go 1.26 or later (https://go.dev/dl), or point KUBEBUILDER_ASSETS at \
                 a directory that holds the programs"
            ),
            Self::NoSpace { path, free, needed } => write!(
                f,
                "error: cannot build the control plane: {} has {} MiB free, the build takes {} MiB\n\
                 hint: free some space, or set XDG_CACHE_HOME to another disk",
                path.display(),
                free >> 20,
                needed >> 20,
            ),
            Self::Build(module) => write!(
                f,
                "error: cannot build the control plane: go build failed in tests/control-plane/{module}\n\
                 hint: go's own message is above; the build needs the Go module proxy once"
            ),
            Self::Cache(path, error) => write!(
                f,
                "error: cannot build the control plane: {}: {error}\n\
                 hint: set XDG_CACHE_HOME to a directory that can be written",
                path.display(),
            ),
        }
    }
}

impl std::error::Error for Error {}

/// Where the built programs are.
#[derive(Debug)]
pub struct Programs {
    kubernetes: PathBuf,
    etcd: PathBuf,
}

impl Programs {
    /// Finds the programs, or builds them: about ten minutes on two cores, once.
    pub fn find_or_build() -> Result<&'static Self, &'static Error> {
        static PROGRAMS: OnceLock<Result<Programs, Error>> = OnceLock::new();
        PROGRAMS
            .get_or_init(|| {
                Ok(Self {
                    etcd: module("etcd/3.7", CONTROL_PLANE_SPACE, build_etcd)?,
                    kubernetes: module("kubernetes", CONTROL_PLANE_SPACE, build_kubernetes)?,
                })
            })
            .as_ref()
    }

    /// The programs, for a test that cannot go on without them.
    pub fn required() -> &'static Self {
        Self::find_or_build().unwrap_or_else(|error| panic!("{error}"))
    }

    /// `kube-apiserver`, `kube-controller-manager`, `kube-scheduler`, `kubelet`, `kubeadm`,
    /// `kubectl`, `pause`, `etcd`, `etcdctl` or `etcdutl`.
    pub fn path(&self, name: &str) -> PathBuf {
        if let Some(assets) = std::env::var_os("KUBEBUILDER_ASSETS") {
            let asset = Path::new(&assets).join(name);
            if asset.is_file() {
                return asset;
            }
        }
        if name.starts_with("etcd") {
            self.etcd.join(name)
        } else {
            self.kubernetes.join(name)
        }
    }
}

/// The program that asks kube-apiserver 1.`minor` for its verdict on configurations. Found, or built
/// in a minute or two.
pub fn judge(minor: u32) -> Result<PathBuf, Error> {
    let release = format!("1.{minor}");
    let folder = module(&format!("judge/{release}"), MODULE_SPACE, build_judge)?;
    Ok(folder.join(release))
}

/// kube-apiserver 1.33. Found, or built in six minutes.
pub fn kube_apiserver_before_hashes() -> Result<PathBuf, Error> {
    let folder = module(
        "kube-apiserver/1.33",
        CONTROL_PLANE_SPACE,
        build_kube_apiserver,
    )?;
    Ok(folder.join("1.33"))
}

/// The folder of `etcd`, `etcdctl` and `etcdutl` of a release of [`ETCD`]. Found, or built in a minute.
pub fn etcd(release: &str) -> Result<PathBuf, Error> {
    module(&format!("etcd/{release}"), MODULE_SPACE, build_etcd)
}

/// The program that encrypts and decrypts values with kube-apiserver's own transformers.
pub fn transformer() -> Result<PathBuf, Error> {
    Ok(module("transformer", MODULE_SPACE, build_judge)?.join("transformer"))
}

/// The client that kube-apiserver 1.`minor`, one of [`KMS_CLIENTS`], has for KMS plugins. Found, or built
/// in a minute.
pub fn kms_client(minor: u32) -> Result<PathBuf, Error> {
    let release = format!("1.{minor}");
    let folder = module(&format!("kms-client/{release}"), MODULE_SPACE, build_judge)?;
    Ok(folder.join(release))
}

/// The cache of everything that tests build: `${XDG_CACHE_HOME:-~/.cache}/atrest`.
pub fn cache() -> PathBuf {
    std::env::var_os("XDG_CACHE_HOME")
        .map(PathBuf::from)
        .or_else(|| std::env::home_dir().map(|home| home.join(".cache")))
        .unwrap_or_else(std::env::temp_dir)
        .join("atrest")
}

type Build = fn(source: &Path, target: &Path) -> io::Result<bool>;

fn module(name: &str, needed: u64, build: Build) -> Result<PathBuf, Error> {
    let modules = Path::new(env!("CARGO_MANIFEST_DIR")).join("control-plane");
    let source = modules.join(name);
    let folder = cache().join("control-plane");
    let failed = |error| Error::Cache(folder.clone(), error);

    let built = folder.join(digest(&modules, &source).map_err(failed)?);
    if built.is_dir() {
        return Ok(built);
    }
    fs::create_dir_all(&folder).map_err(failed)?;
    // One build at a time; the second one finds the first one's result.
    let lock = File::create(folder.join("lock")).map_err(failed)?;
    lock.lock().map_err(failed)?;
    if built.is_dir() {
        return Ok(built);
    }
    if Command::new("go")
        .arg("version")
        .stdout(Stdio::null())
        .status()
        .is_err()
    {
        return Err(Error::NoGo);
    }
    let space = rustix::fs::statvfs(&folder).map_err(|error| failed(error.into()))?;
    let free = space.f_bavail * space.f_frsize;
    if free < needed {
        return Err(Error::NoSpace {
            path: folder,
            free,
            needed,
        });
    }
    eprintln!("building {name} for the control plane: minutes the first time, never again");
    let new = built.with_extension("new");
    let _ = fs::remove_dir_all(&new);
    if !build(&source, &new).map_err(failed)? {
        return Err(Error::Build(name.to_owned()));
    }
    fs::rename(&new, &built).map_err(failed)?;
    Ok(built)
}

fn build_kubernetes(source: &Path, target: &Path) -> io::Result<bool> {
    build_release(source, target, KUBERNETES)
}

fn build_kube_apiserver(source: &Path, target: &Path) -> io::Result<bool> {
    build_release(source, target, BEFORE_HASHES)
}

/// The programs say which release they are.
fn build_release(source: &Path, target: &Path, release: &str) -> io::Result<bool> {
    let mut parts = release.trim_start_matches('v').split('.');
    let (major, minor) = (
        parts.next().unwrap_or_default(),
        parts.next().unwrap_or_default(),
    );
    let package = "k8s.io/component-base/version";
    let flags = format!(
        "-s -w -X {package}.gitVersion={release} -X {package}.gitMajor={major} -X {package}.gitMinor={minor}"
    );
    go_build(source, target, &["-ldflags", &flags], "./...")
}

fn build_etcd(source: &Path, target: &Path) -> io::Result<bool> {
    let built = go_build(source, target, &["-ldflags", "-s -w"], "tool")?;
    if built {
        fs::rename(target.join("server"), target.join("etcd"))?;
    }
    Ok(built)
}

fn build_judge(source: &Path, target: &Path) -> io::Result<bool> {
    go_build(source, target, &["-ldflags", "-s -w"], ".")
}

fn go_build(source: &Path, target: &Path, flags: &[&str], packages: &str) -> io::Result<bool> {
    let mut output = target.as_os_str().to_owned();
    output.push("/"); // a directory, although it is not there yet
    let status = Command::new("go")
        .args(["build", "-trimpath", "-buildvcs=false"])
        .args(flags)
        .args([OsStr::new("-o"), &output, OsStr::new(packages)])
        .current_dir(source)
        .env("CGO_ENABLED", "0")
        .status()?;
    Ok(status.success())
}

/// Of go.mod, go.sum and our sources, also those that modules in folders beside each other share:
/// the name of what they build.
fn digest(modules: &Path, source: &Path) -> io::Result<String> {
    let mut files = Vec::new();
    for shared in source.ancestors().skip(1) {
        if shared == modules {
            break;
        }
        files.extend(files_in(shared)?.0);
    }
    let mut folders = vec![source.to_owned()];
    while let Some(folder) = folders.pop() {
        let (here, below) = files_in(&folder)?;
        files.extend(here);
        folders.extend(below);
    }
    files.sort();
    let mut digest = Sha256::new();
    for file in files {
        let mut content = Vec::new();
        File::open(&file)?.read_to_end(&mut content)?;
        let within = file.strip_prefix(source).ok().map(Path::as_os_str);
        let name = within.or(file.file_name()).unwrap_or_default();
        for part in [name.as_encoded_bytes(), &content] {
            digest.update((part.len() as u64).to_be_bytes());
            digest.update(part);
        }
    }
    let mut name = HEXLOWER.encode(&digest.finalize());
    name.truncate(16);
    Ok(name)
}

/// The files and the folders of a folder.
fn files_in(folder: &Path) -> io::Result<(Vec<PathBuf>, Vec<PathBuf>)> {
    let mut found = (Vec::new(), Vec::new());
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        if entry.file_type()?.is_dir() {
            found.1.push(entry.path());
        } else {
            found.0.push(entry.path());
        }
    }
    Ok(found)
}
