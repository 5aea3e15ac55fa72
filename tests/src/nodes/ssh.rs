//! A way into nodes as administrators have it: sshd, a user who may become root, a key.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use super::READY;
use super::machine::{HOME, Machine, Service, host, run};

/// Who may come in.
pub const USER: &str = "maintainer";
const USER_ID: u32 = 47_101;
const USER_HOME: &str = "/var/lib/maintainer";

/// What `sudo` asks before it lets anybody do anything.
const PAM: &str = "\
auth required pam_permit.so
account required pam_permit.so
session required pam_permit.so
";

/// The user's key pair, a host key for every node, and a list of those.
pub(super) struct Keys {
    folder: PathBuf,
}

impl Keys {
    pub(super) fn make(folder: &Path, addresses: &[String]) -> Self {
        fs::create_dir_all(folder).expect("our directory");
        let keys = Self {
            folder: folder.to_owned(),
        };
        keys.generate("id_ed25519");
        let mut known = String::new();
        for address in addresses {
            let public = keys.generate(address);
            known += &format!("{address} {public}");
        }
        fs::write(folder.join("known_hosts"), known).expect("our directory");
        keys
    }

    /// Returns the public half.
    fn generate(&self, name: &str) -> String {
        let path = self.folder.join(name);
        run(host("ssh-keygen")
            .args(["-q", "-t", "ed25519", "-N", "", "-C", "test", "-f"])
            .arg(path));
        self.read(&format!("{name}.pub"))
    }

    fn read(&self, name: &str) -> String {
        fs::read_to_string(self.folder.join(name)).expect("just written")
    }
}

/// Writes what sshd, sudo and ssh look for.
pub(super) fn configure(machine: &Machine, keys: &Keys, name: &str, address: &str) {
    let append = |inside: &str, lines: &str| {
        let path = machine.path(inside);
        let old = fs::read_to_string(&path).unwrap_or_default();
        fs::write(path, old + lines).expect("our directory");
    };
    append(
        "/etc/passwd",
        &format!("{USER}:x:{USER_ID}:{USER_ID}::{USER_HOME}:/bin/sh\n"),
    );
    append("/etc/group", &format!("{USER}:x:{USER_ID}:\n"));
    // A password that no input gives; with `!` the account would be closed.
    append(
        "/etc/shadow",
        &format!("root:*:20000::::::\n{USER}:*:20000::::::\n"),
    );
    append("/etc/hosts", &format!("{address} {name}\n"));
    let file = |inside: &str, mode: &str, content: &str| {
        let path = machine.path(inside);
        fs::create_dir_all(path.parent().expect("below /etc or /var")).expect("our directory");
        fs::write(&path, content).expect("our directory");
        run(host("chmod").arg(mode).arg(&path));
    };
    file("/etc/pam.d/sudo", "0644", PAM);
    file(
        "/etc/sudoers",
        "0440",
        &format!("{USER} ALL=(ALL) NOPASSWD: ALL\n"),
    );
    file("/etc/ssh/host_key", "0600", &keys.read(address));
    file(
        "/etc/ssh/sshd_config",
        "0644",
        &format!(
            "\
ListenAddress {address}
HostKey /etc/ssh/host_key
PidFile none
PasswordAuthentication no
KbdInteractiveAuthentication no
AuthorizedKeysFile .ssh/authorized_keys
AllowUsers {USER}
MaxStartups 100
UseDNS no
"
        ),
    );
    let authorized = format!("{USER_HOME}/.ssh/authorized_keys");
    file(&authorized, "0600", &keys.read("id_ed25519.pub"));
    run(host("chown")
        .args(["-R", &format!("{USER_ID}:{USER_ID}")])
        .arg(machine.path(USER_HOME)));
    file(
        &format!("{HOME}/.ssh/id_ed25519"),
        "0600",
        &keys.read("id_ed25519"),
    );
    file(
        &format!("{HOME}/.ssh/known_hosts"),
        "0600",
        &keys.read("known_hosts"),
    );
    run(host("chmod")
        .args(["-R", "go="])
        .arg(machine.path(&format!("{HOME}/.ssh"))));
}

/// Starts sshd, and returns when it listens.
pub(super) fn start(machine: &Machine) -> Service {
    run(machine
        .command("install")
        .args(["-d", "-m", "0755", "/run/sshd"]));
    let log = machine.log("sshd");
    let words = || fs::read_to_string(&log).unwrap_or_default();
    let listening = || words().matches("Server listening on").count();
    let before = listening();
    let mut service = machine.service("sshd", Path::new("/usr/sbin/sshd"), &["-D", "-e"]);
    let start = Instant::now();
    while listening() == before {
        assert!(
            !service.has_ended() && start.elapsed() < READY,
            "sshd does not listen: {}",
            words()
        );
        std::thread::sleep(Duration::from_millis(20));
    }
    service
}
