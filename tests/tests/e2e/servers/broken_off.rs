//! Writes to a remote file that do not come to their end: it is the old one or the new one.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use atrest_tests::atrest::{self, Ended};
use atrest_tests::keeper::Keeper;
use atrest_tests::processes::{ControlPlane, Options};
use atrest_tests::secrets::Stored;
use atrest_tests::ssh::Sshd;
use atrest_tests::stored_values;

use super::{ONE_KEY, leftovers};
use crate::rotate::{FEW, key_names};

/// One API server whose file is behind an sshd, in a folder of its own.
struct Remote {
    plane: ControlPlane,
    stored: Stored,
    sshd: Sshd,
    folder: PathBuf,
    yaml: PathBuf,
    _keeper: Keeper,
}

impl Remote {
    async fn start() -> Self {
        let keeper = Keeper::start();
        let folder = tempfile::Builder::new().prefix("atrest-remote-").tempdir();
        let folder = folder.unwrap().keep();
        keeper.remove(&folder);
        if rustix::process::geteuid().is_root() {
            // Its own file system, which can be full.
            let mut mount = Command::new("mount");
            mount.args(["-t", "tmpfs", "-o", "size=64k,mode=0700", "tmpfs"]);
            assert!(mount.arg(&folder).status().unwrap().success());
            keeper.undo(&["umount", "--lazy", &folder.display().to_string()]);
        }
        let file = folder.join("config.yaml");
        fs::write(&file, ONE_KEY).unwrap();
        let flag = format!("--encryption-provider-config={}", file.display());
        let flags: &'static [&'static str] = vec![&*flag.leak()].leak();
        let mut plane = ControlPlane::start(Options {
            encryption_config: ONE_KEY.into(),
            api_server: flags,
            ..Options::default()
        });
        plane.servers[0].encryption_config = file;
        let stored = FEW.store(&plane.client(0).await, "remote").await.unwrap();
        let sshd = Sshd::start();
        let access = format!("access: {}", sshd.access());
        let yaml = atrest::rotation_yaml_of(&plane, &[&access], "");
        Self {
            plane,
            stored,
            sshd,
            folder,
            yaml,
            _keeper: keeper,
        }
    }

    fn file(&self) -> &Path {
        &self.plane.servers[0].encryption_config
    }

    fn command(&self, action: &str) -> Command {
        let mut command = atrest::rotate_by(&self.plane, &self.yaml, action, &[]);
        command.env("PATH", self.sshd.path());
        command
    }

    fn rotate(&self, action: &str) -> Ended {
        self.command(action).output().unwrap().into()
    }

    /// A run that stops at its first write, with these words, and leaves the file as it was.
    fn stops(&self, action: &str, words: &str) -> Ended {
        let before = fs::read(self.file()).unwrap();
        let ended = self.rotate(action).expect(4);
        assert!(ended.stderr.contains(words), "{}", ended.stderr);
        assert_eq!(fs::read(self.file()).unwrap(), before);
        ended
    }

    async fn ends(&self) {
        self.rotate("resume").expect(0);
        let keys = key_names(self.file());
        assert_eq!(keys.len(), 1);
        assert_ne!(keys[0], "first");
        let prefix = format!("k8s:enc:secretbox:v1:{}:", keys[0]);
        stored_values::assert_prefix(&self.plane, self.stored.len(), &prefix);
        let client = self.plane.client(0).await;
        self.stored.assert_readable(&client).await;
        assert_eq!(leftovers(&self.folder), Vec::<PathBuf>::new());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_remote_file_is_the_old_one_or_the_new_one() {
    if !Sshd::is_available() {
        return;
    }
    let mut remote = Remote::start().await;

    // Another host than the one that is known is not talked to, and what ssh says of it is told.
    remote.sshd.forget_host();
    let ended = remote.rotate("plan").expect(3);
    for told in ["127.0.0.1", "Host key verification failed", "BatchMode"] {
        assert!(ended.stderr.contains(told), "{}", ended.stderr);
    }
    remote.sshd.know_host();
    remote.rotate("plan").expect(0);

    // Somebody edits the file between the look and the write.
    let file = remote.file().display().to_string();
    let note = "# somebody was here";
    remote.sshd.hook(&format!("echo '{note}' >>{file}"));
    let ended = remote.rotate("run").expect(4);
    assert!(
        ended.stderr.contains("it changed since it was read"),
        "{}",
        ended.stderr
    );
    assert_eq!(
        fs::read_to_string(&file).unwrap(),
        format!("{ONE_KEY}{note}\n")
    );
    assert_eq!(leftovers(&remote.folder), Vec::<PathBuf>::new());
    remote.sshd.unhook();

    // The connection breaks off: what has arrived is not all.
    remote.sshd.hook("head -c 100 | /usr/bin/ssh \"$@\"; exit");
    remote.stops("resume", "the connection broke off");
    assert_eq!(leftovers(&remote.folder), Vec::<PathBuf>::new());

    // sshd and its sessions are killed while the bytes are on their way.
    let begun = remote.folder.join("begun");
    remote.sshd.hook(&format!(
        "{{ head -c 100; touch {}; sleep 60; }} | /usr/bin/ssh \"$@\"; exit",
        begun.display()
    ));
    let before = fs::read(&file).unwrap();
    let mut command = remote.command("resume");
    let child = command
        .stderr(std::process::Stdio::piped())
        .spawn()
        .unwrap();
    let deadline = Instant::now() + Duration::from_secs(60);
    while !begun.exists() {
        assert!(Instant::now() < deadline, "no write begins");
        std::thread::sleep(Duration::from_millis(20));
    }
    remote.sshd.kill();
    let ended = Ended::from(child.wait_with_output().unwrap()).expect(4);
    assert!(
        ended.stderr.contains("cannot be reached by ssh"),
        "{}",
        ended.stderr
    );
    assert_eq!(fs::read(&file).unwrap(), before);
    remote.sshd.unhook();
    remote.sshd.launch();

    // The disk is full.
    if rustix::process::geteuid().is_root() {
        let filler = remote.folder.join("filler");
        let _ = fs::write(&filler, vec![0; 1 << 20]); // it does not fit
        remote.stops("resume", "No space left on device");
        fs::remove_file(filler).unwrap();
    }

    // A link would be cut off from what it points to.
    let target = remote.folder.join("target.yaml");
    fs::rename(&file, &target).unwrap();
    symlink(&target, &file).unwrap();
    remote.stops("resume", "it is a symbolic link to");
    fs::rename(&target, &file).unwrap();

    remote.ends().await;
}
