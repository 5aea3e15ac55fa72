//! The units in `examples/atrest-kms` as systemd's own tools see them. There is no systemd that runs
//! here as the first process.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use atrest_tests::plugin::Plugin;
use atrest_tests::{binaries, packages, programs};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

const SOCKET: &str = include_str!("../../../examples/atrest-kms/atrest-kms.socket");
const SERVICE: &str = include_str!("../../../examples/atrest-kms/atrest-kms.service");

/// In tenths: `systemd-analyze security` calls up to 2.0 safe.
const EXPOSURE: &str = "12";

/// The value of a setting that stands once.
fn setting<'a>(unit: &'a str, name: &str) -> &'a str {
    let values = unit
        .lines()
        .filter_map(|line| line.strip_prefix(name)?.strip_prefix('='));
    let [value] = values.collect::<Vec<_>>()[..] else {
        panic!("{name} stands once");
    };
    value
}

/// What stands behind `atrest-kms` in ExecStart=, with the files of a plugin of the test.
fn arguments(plugin: &Plugin) -> Vec<String> {
    let (program, arguments) = setting(SERVICE, "ExecStart").split_once(' ').unwrap();
    assert!(program.ends_with("/atrest-kms"));
    let mut arguments: Vec<_> = arguments.split(' ').map(str::to_owned).collect();
    // The test's keyring is not sealed.
    arguments.retain(|word| !word.starts_with("--key-file="));
    for word in &mut arguments {
        if word.starts_with("--keyring=") {
            *word = format!("--keyring={}", plugin.keyring_file().display());
        }
    }
    arguments
}

fn until(what: &str, mut holds: impl FnMut() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(60);
    while !holds() {
        assert!(Instant::now() < deadline, "in vain: {what}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// kube-apiserver's client calls, and is answered.
fn assert_answers(plugin: &Plugin) {
    let client = programs::kms_client(37).unwrap_or_else(|error| panic!("{error}"));
    let output = Command::new(client)
        .arg("heads")
        .args([plugin.socket().with_extension("client"), plugin.socket()])
        .arg("5")
        .output()
        .unwrap();
    let answer: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(answer["answered"], 15, "{answer}");
}

fn end(mut process: Child) {
    kill_process(Pid::from_child(&process), Signal::TERM).unwrap();
    process.wait().unwrap();
}

#[test]
fn systemd_passes_the_socket_to_the_units_command() {
    if !packages::available(&[("systemd-socket-activate", "systemd")]) {
        return;
    }
    let plugin = Plugin::with_keyring();
    let mut arguments = arguments(&plugin);
    // Whether memory can be locked is the machine's affair.
    arguments.retain(|word| word != "--require-locked-memory");
    let activated = Command::new("systemd-socket-activate")
        .arg(format!("--listen={}", plugin.socket().display()))
        .arg(binaries::path("atrest-kms"))
        .args(arguments)
        .stdin(Stdio::null())
        .spawn()
        .unwrap();
    // Its first connection starts the plugin.
    until("somebody listens", || {
        UnixStream::connect(plugin.socket()).is_ok()
    });
    assert_answers(&plugin);
    end(activated);
}

fn succeed(command: &mut Command) -> Output {
    let output = command.output().unwrap();
    let said = [&output.stdout[..], &output.stderr].concat();
    let said = String::from_utf8_lossy(&said);
    assert!(output.status.success(), "{command:?}: {said}");
    output
}

#[test]
fn the_units_are_valid_and_expose_little() {
    if !packages::available(&[("systemd-analyze", "systemd")]) {
        return;
    }
    assert_eq!(setting(SOCKET, "ListenStream"), "/run/atrest-kms/kms.sock");
    assert_eq!(setting(SOCKET, "SocketMode"), "0600");
    let folder = tempfile::tempdir().unwrap();
    let unit = |name: &str, content: &str| {
        let path = folder.path().join(name);
        fs::write(&path, content).unwrap();
        path
    };
    let program = setting(SERVICE, "ExecStart").split(' ').next().unwrap();
    let here = binaries::path("atrest-kms").to_str().unwrap();
    let service = unit("atrest-kms.service", &SERVICE.replace(program, here));
    let socket = unit("atrest-kms.socket", SOCKET);
    let verified = succeed(
        Command::new("systemd-analyze")
            .args(["verify", "--man=no", "--recursive-errors=no"])
            .args([&socket, &service]),
    );
    assert_eq!(String::from_utf8_lossy(&verified.stderr), "");
    let judged = succeed(
        Command::new("systemd-analyze")
            .args(["security", "--no-pager", "--offline=true"])
            .arg(format!("--threshold={EXPOSURE}"))
            .arg(&service),
    );
    let judged = String::from_utf8_lossy(&judged.stdout);
    println!("{}", judged.lines().last().unwrap_or_default());
}

/// The system calls that a set of systemd's allows, those of the sets in it too.
fn allowed(set: &str) -> BTreeSet<String> {
    let output = succeed(Command::new("systemd-analyze").args(["syscall-filter", "--no-pager"]));
    let text = String::from_utf8(output.stdout).unwrap();
    let mut sets: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
    let mut name = "";
    for line in text.lines().filter(|line| !line.trim().starts_with('#')) {
        match line.strip_prefix("    ") {
            Some(member) => sets.entry(name).or_default().push(member),
            None => name = line,
        }
    }
    let mut calls = BTreeSet::new();
    let mut rest = vec![set, "@default"];
    while let Some(name) = rest.pop() {
        for member in &sets[name] {
            match member.starts_with('@') {
                true => rest.push(member),
                false => drop(calls.insert((*member).to_owned())),
            }
        }
    }
    calls
}

/// The system calls in the table that `strace -c` wrote.
fn called(table: &Path) -> BTreeSet<String> {
    let table = fs::read_to_string(table).unwrap();
    let rows = table
        .lines()
        .skip(2)
        .take_while(|line| !line.starts_with('-'));
    let names = rows.filter_map(|line| line.split_whitespace().last());
    names.map(str::to_owned).collect()
}

#[test]
fn the_plugin_makes_no_system_call_that_its_unit_forbids() {
    if !packages::available(&[("systemd-analyze", "systemd"), ("strace", "strace")]) {
        return;
    }
    let allowed = allowed(setting(SERVICE, "SystemCallFilter"));
    assert!(allowed.contains("mlockall") && !allowed.contains("ptrace"));
    let plugin = Plugin::with_keyring();
    let folder = tempfile::tempdir().unwrap();
    let table = folder.path().join("calls");
    let log = folder.path().join("log");
    let mut traced = Command::new("strace")
        .args(["-f", "-c", "-o"])
        .arg(&table)
        .arg("--")
        .arg(binaries::path("atrest-kms"))
        .arg("serve")
        .arg("--socket")
        .arg(plugin.socket())
        .arg("--keyring")
        .arg(plugin.keyring_file())
        .stdin(Stdio::null())
        .stderr(fs::File::create(&log).unwrap())
        .spawn()
        .unwrap();
    until("it listens", || {
        UnixStream::connect(plugin.socket()).is_ok()
    });
    assert_answers(&plugin);
    // A changed keyring, too.
    plugin.keyring(&["add"]);
    plugin.keyring(&["activate"]);
    until("the changed keyring is served", || {
        let log = fs::read_to_string(&log).unwrap();
        log.contains("serving the changed keyring")
    });
    let children = format!("/proc/{0}/task/{0}/children", traced.id());
    let children = fs::read_to_string(children).unwrap();
    let pid: i32 = children.trim().parse().unwrap();
    kill_process(Pid::from_raw(pid).unwrap(), Signal::TERM).unwrap();
    traced.wait().unwrap();
    let called = called(&table);
    assert!(
        called.contains("accept4") && called.len() > 30,
        "{called:?}"
    );
    let forbidden: Vec<_> = called.difference(&allowed).collect();
    assert!(forbidden.is_empty(), "{forbidden:?}");
}
