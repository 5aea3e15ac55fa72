//! What a node runs on: namespaces and a root of its own, entered with `nsenter`.

use std::ffi::OsStr;
use std::fs::{self, File};
use std::io::{BufRead, BufReader};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use crate::keeper::Keeper;
use crate::programs::Programs;

const SCRIPT: &str = include_str!("machine.sh");

/// Where programs are, however short the PATH of a user is.
const PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// What programs look for in `/etc`.
const COPIED_FROM_ETC: [&str; 6] = [
    "group",
    "hosts",
    "ld.so.cache",
    "nsswitch.conf",
    "os-release",
    "resolv.conf",
];

/// Root's home: that of the host stays the host's.
pub(super) const HOME: &str = "/var/lib/root";

/// The network that machines hang on, a namespace without a way out.
pub(super) struct Hub {
    holder: u32,
}

impl Hub {
    /// The bridge's address, every machine's default gateway.
    const ADDRESS: &str = "10.77.0.1";

    pub(super) fn start(keeper: &Keeper, programs: &Programs) -> Self {
        let script = format!(
            "ip link set lo up && ip link add hub type bridge && ip addr add {}/24 dev hub \
             && ip link set hub up && echo up && exec \"$0\"",
            Self::ADDRESS
        );
        let mut command = host("unshare");
        command
            .args(["--net", "sh", "-ec", &script])
            .arg(programs.path("pause"));
        Self {
            holder: spawn_until_up(keeper, &mut command),
        }
    }

    /// A program of the host that sees this network instead of the host's.
    pub(super) fn command(&self, program: impl AsRef<OsStr>) -> Command {
        let mut command = host("nsenter");
        command
            .args(["--target", &self.holder.to_string(), "--net", "--"])
            .arg(program);
        command
    }
}

/// The machine that a node is on. It ends, with every process and mount in it, when its first
/// process does.
pub(super) struct Machine {
    directory: PathBuf,
    init: u32,
}

impl Machine {
    /// Starts it in a directory of its own and connects it to the hub.
    pub(super) fn start(
        keeper: &Keeper,
        programs: &Programs,
        hub: &Hub,
        directory: PathBuf,
        name: &str,
        address: &str,
    ) -> Self {
        for folder in ["root", "etc", "run", "var/lib", "var/log", "var/tmp"] {
            fs::create_dir_all(directory.join(folder)).expect("our directory");
        }
        for name in COPIED_FROM_ETC {
            // Of some systems one or the other is not there.
            let _ = fs::copy(
                Path::new("/etc").join(name),
                directory.join("etc").join(name),
            );
        }
        fs::create_dir_all(directory.join(HOME.trim_start_matches('/'))).expect("our directory");
        let users = fs::read_to_string("/etc/passwd").unwrap_or_default();
        let users = users.replace(":/root:", &format!(":{HOME}:"));
        fs::write(directory.join("etc/passwd"), users).expect("our directory");
        let mut command = host("unshare");
        command
            .args(["--net", "--uts", "--mount", "--ipc", "--pid"])
            .args(["--fork", "--kill-child=KILL", "sh", "-c", SCRIPT, "sh"])
            .args([directory.as_os_str(), name.as_ref()])
            .arg(programs.path("pause"));
        let parent = spawn_until_up(keeper, &mut command);
        let init = child_of(parent);
        // unshare itself waits for this one and ends with it.
        keeper.end(init);

        let machine = Self { directory, init };
        run(hub
            .command("ip")
            .args(["link", "add", name, "type", "veth"])
            .args(["peer", "name", "eth0", "netns", &init.to_string()]));
        run(hub
            .command("ip")
            .args(["link", "set", name, "master", "hub", "up"]));
        let address = format!("{address}/24");
        for words in [
            &["addr", "add", &address, "dev", "eth0"][..],
            &["link", "set", "eth0", "up"],
            // The kubelet takes a node without a default route for one without a network.
            &["route", "add", "default", "via", Hub::ADDRESS],
        ] {
            run(machine.command("ip").args(words));
        }
        machine
    }

    /// A program of the host, run on the machine.
    pub(super) fn command(&self, program: impl AsRef<OsStr>) -> Command {
        let mut command = host("nsenter");
        command
            .args(["--target", &self.init.to_string()])
            .args(["--net", "--uts", "--mount", "--ipc", "--pid", "--"])
            .arg(program)
            .env("HOME", HOME);
        command
    }

    /// Where a path of the machine below `/etc`, `/var` or `/run` is on the host.
    pub(super) fn path(&self, inside: &str) -> PathBuf {
        let relative = inside.trim_start_matches('/');
        assert!(
            ["etc", "var", "run"]
                .iter()
                .any(|own| Path::new(relative).starts_with(own)),
            "{inside} is the host's own"
        );
        self.directory.join(relative)
    }

    /// Starts a program that runs until the machine's end. It logs to a file
    /// beside the machine's `/etc`.
    pub(super) fn service(&self, name: &str, program: &Path, arguments: &[&str]) -> Service {
        let log = self.log(name);
        let output = File::options()
            .create(true)
            .append(true)
            .open(&log)
            .expect("our directory");
        let (stdout, stderr) = output
            .try_clone()
            .map(|copy| (copy, output))
            .expect("our directory");
        let mut command = self.command(program);
        let child = command
            .args(arguments)
            .stdout(stdout)
            .stderr(stderr)
            // A Ctrl-C ends the test; the keeper ends this.
            .process_group(0)
            .spawn();
        Service {
            child: child.unwrap_or_else(|error| panic!("{command:?}: {error}")),
        }
    }

    /// The processes on it but the first, as the host counts.
    pub(super) fn processes(&self) -> Vec<u32> {
        let namespace = |pid: u32| fs::read_link(format!("/proc/{pid}/ns/pid")).ok();
        let own = namespace(self.init);
        pids()
            .filter(|pid| *pid != self.init && namespace(*pid) == own)
            .collect()
    }

    /// Where a service logs.
    pub(super) fn log(&self, service: &str) -> PathBuf {
        self.directory.join(format!("{service}.log"))
    }
}

/// A program that runs on a machine.
pub(super) struct Service {
    child: Child,
}

impl Service {
    /// Whether it ended by itself.
    pub(super) fn has_ended(&mut self) -> bool {
        !matches!(self.child.try_wait(), Ok(None))
    }
}

/// A program of the host.
pub(super) fn host(program: &str) -> Command {
    let mut command = Command::new(program);
    command.env("PATH", PATH).stdin(Stdio::null());
    command
}

/// Runs a command that has to succeed, and returns what it printed.
pub fn run(command: &mut Command) -> String {
    let output = command
        .output()
        .unwrap_or_else(|error| panic!("{command:?}: {error}"));
    assert!(
        output.status.success(),
        "{command:?}: {}\n{}{}",
        output.status,
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr),
    );
    String::from_utf8(output.stdout).expect("what programs print is UTF-8")
}

/// Spawns what prints a line when it has set itself up; the keeper ends it.
fn spawn_until_up(keeper: &Keeper, command: &mut Command) -> u32 {
    let mut child = command
        .stdout(Stdio::piped())
        .process_group(0)
        .spawn()
        .unwrap_or_else(|error| panic!("{command:?}: {error}"));
    keeper.end(child.id());
    assert_eq!(
        first_line(&mut child),
        "up",
        "{command:?}: its words are above"
    );
    child.id()
}

fn first_line(child: &mut Child) -> String {
    let mut line = String::new();
    if let Some(output) = child.stdout.take() {
        let _ = BufReader::new(output).read_line(&mut line);
    }
    line.trim_end().to_owned()
}

/// The one child of a process.
fn child_of(parent: u32) -> u32 {
    let parent = parent.to_string();
    pids()
        .find(|pid| {
            let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
            // State and parent stand behind the command's name, which is in parentheses.
            stat.rsplit_once(')')
                .is_some_and(|(_, rest)| rest.split_whitespace().nth(1) == Some(&parent))
        })
        .expect("it printed that it is up")
}

fn pids() -> impl Iterator<Item = u32> {
    let processes = fs::read_dir("/proc").expect("/proc is mounted");
    processes.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok())
}
