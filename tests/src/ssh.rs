//! A real sshd on loopback, and the configuration by which the system's ssh reaches it.
//!
//! OpenSSH takes the user's configuration from the home directory of passwd and from nowhere else, so a
//! program named `ssh`, first in `PATH`, hands the real one another file.

use std::ffi::OsString;
use std::fs;
use std::net::TcpStream;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use crate::keeper::Keeper;
use crate::packages::{self, Needed};
use crate::processes::free_ports;

/// What has to be installed.
pub const NEEDED: [Needed; 2] = [("sshd", "openssh-server"), ("ssh", "openssh-client")];

/// A running sshd; it and its sessions end with it.
pub struct Sshd {
    /// Where it listens on 127.0.0.1.
    pub port: u16,
    folder: PathBuf,
    process: Option<Child>,
    keeper: Keeper,
}

impl Sshd {
    /// Whether there can be one.
    pub fn is_available() -> bool {
        packages::available(&NEEDED)
    }

    /// Makes host and user keys, and starts it.
    pub fn start() -> Self {
        let keeper = Keeper::start();
        let folder = tempfile::Builder::new().prefix("atrest-sshd-").tempdir();
        let folder = folder
            .expect("the temporary directory can be written")
            .keep();
        keeper.remove(&folder);
        let [port] = free_ports::<1>();
        for key in ["host", "user", "another-host"] {
            let mut keygen = Command::new("ssh-keygen");
            keygen.args(["-q", "-t", "ed25519", "-N", "", "-f"]);
            let made = keygen.arg(folder.join(key)).status();
            assert!(made.is_ok_and(|status| status.success()), "{key}");
        }
        let mut sshd = Self {
            port,
            folder,
            process: None,
            keeper,
        };
        sshd.copy("user.pub", "authorized_keys");
        sshd.know("host.pub");
        sshd.configure();
        sshd.launch();
        sshd
    }

    /// `PATH` with an `ssh` that has this configuration.
    pub fn path(&self) -> OsString {
        let mut path = self.folder.join("bin").into_os_string();
        path.push(":");
        path.push(std::env::var_os("PATH").unwrap_or_default());
        path
    }

    /// `access` of rotation.yaml.
    pub fn access(&self) -> String {
        format!(
            "{{ssh: {{host: 127.0.0.1, user: {}, port: {}}}}}",
            user(),
            self.port
        )
    }

    /// Kills it and every session of it, as a power cut would.
    pub fn kill(&mut self) {
        if let Some(mut process) = self.process.take() {
            for pid in descendants(process.id()) {
                let pid = rustix::process::Pid::from_raw(pid).expect("a pid is positive");
                let _ = rustix::process::kill_process(pid, rustix::process::Signal::KILL);
            }
            let _ = process.wait();
        }
    }

    /// Starts it again where it was.
    pub fn launch(&mut self) {
        let log = fs::File::options()
            .create(true)
            .append(true)
            .open(self.folder.join("log"));
        // Where root separates privileges.
        let _ = fs::create_dir_all("/run/sshd");
        let process = Command::new("/usr/sbin/sshd")
            .args(["-D", "-e", "-f"])
            .arg(self.folder.join("sshd_config"))
            .stdin(Stdio::null())
            .stderr(log.expect("our directory"))
            .spawn()
            .expect("sshd is installed");
        self.keeper.end(process.id());
        self.process = Some(process);
        let deadline = Instant::now() + Duration::from_secs(30);
        while TcpStream::connect(("127.0.0.1", self.port)).is_err() {
            let log = fs::read_to_string(self.folder.join("log")).unwrap_or_default();
            assert!(Instant::now() < deadline, "sshd does not listen: {log}");
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// What every ssh was started with.
    pub fn argv(&self) -> String {
        fs::read_to_string(self.folder.join("argv")).unwrap_or_default()
    }

    /// Has a client that is about to replace a file run lines of sh first.
    pub fn hook(&self, script: &str) {
        self.write("hook", script, 0o600);
    }

    /// No more.
    pub fn unhook(&self) {
        let _ = fs::remove_file(self.folder.join("hook"));
    }

    /// From here on the client knows another host key than the server has.
    pub fn forget_host(&self) {
        self.know("another-host.pub");
    }

    /// The client knows the server again.
    pub fn know_host(&self) {
        self.know("host.pub");
    }

    fn know(&self, key: &str) {
        let key = fs::read_to_string(self.folder.join(key)).expect("made before");
        let line = format!("[127.0.0.1]:{} {key}", self.port);
        self.write("known_hosts", &line, 0o600);
    }

    fn configure(&self) {
        let folder = self.folder.display();
        let sshd = format!(
            "Port {}
ListenAddress 127.0.0.1
HostKey {folder}/host
AuthorizedKeysFile {folder}/authorized_keys
PidFile none
PasswordAuthentication no
KbdInteractiveAuthentication no
PermitRootLogin prohibit-password
StrictModes no
UsePAM no
MaxStartups 100
",
            self.port
        );
        self.write("sshd_config", &sshd, 0o600);
        let client = format!(
            "Host *
IdentityFile {folder}/user
IdentitiesOnly yes
UserKnownHostsFile {folder}/known_hosts
GlobalKnownHostsFile /dev/null
StrictHostKeyChecking yes
"
        );
        self.write("ssh_config", &client, 0o600);
        fs::create_dir_all(self.folder.join("bin")).expect("our directory");
        let script = format!(
            "#!/bin/sh
set -- -F {folder}/ssh_config \"$@\"
printf '%s\\n' \"$@\" >>{folder}/argv
case \"$*\" in
*\" 'replace' \"*) [ ! -e {folder}/hook ] || . {folder}/hook ;;
esac
exec /usr/bin/ssh \"$@\"
"
        );
        self.write("bin/ssh", &script, 0o755);
    }

    fn copy(&self, from: &str, to: &str) {
        let text = fs::read_to_string(self.folder.join(from)).expect("made before");
        self.write(to, &text, 0o600);
    }

    fn write(&self, name: &str, text: &str, mode: u32) {
        let path: &Path = &self.folder.join(name);
        fs::write(path, text)
            .and_then(|()| fs::set_permissions(path, fs::Permissions::from_mode(mode)))
            .expect("our directory");
    }
}

impl Drop for Sshd {
    fn drop(&mut self) {
        self.kill();
    }
}

fn user() -> String {
    let output = Command::new("id").arg("-un").output();
    let output = output.expect("coreutils are on every machine that runs the tests");
    String::from_utf8_lossy(&output.stdout).trim().to_owned()
}

/// The process and all that it started, itself last.
fn descendants(pid: u32) -> Vec<i32> {
    let children = fs::read_to_string(format!("/proc/{pid}/task/{pid}/children"));
    let mut found = Vec::new();
    for child in children.unwrap_or_default().split_whitespace() {
        if let Ok(child) = child.parse() {
            found.extend(descendants(child));
        }
    }
    found.extend(i32::try_from(pid));
    found
}
