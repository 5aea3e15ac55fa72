//! A machine that is reached by the system's OpenSSH client, whose own configuration decides on keys, host
//! keys and jumps. Bytes of files cross on stdin and stdout alone.

use std::path::Path;
use std::process::{Output, Stdio};
use std::time::Duration;

use atrest_core::secret::{Fingerprint, SecretBytes};
use serde::{Deserialize, Serialize};
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::process::{Child, ChildStdin, Command};
use tokio::sync::Mutex;

use super::{Error, Reason};

const SCRIPT: &str = include_str!("file.sh");

/// How long ssh may take to connect, and one act on a file.
const CONNECT: Duration = Duration::from_secs(20);
const ACT: Duration = Duration::from_secs(60);

/// Whatever the user's configuration says of these. Nothing here weakens it.
const OPTIONS: [&str; 5] = [
    "BatchMode=yes",
    "ConnectTimeout=10",
    "ControlPersist=no",
    "ServerAliveInterval=5",
    "ServerAliveCountMax=3",
];

/// `access: {ssh: ...}` of rotation.yaml.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub(crate) struct Ssh {
    /// A name or address, or a `Host` of the user's ssh_config.
    pub(crate) host: String,
    #[serde(default)]
    pub(crate) user: Option<String>,
    #[serde(default)]
    pub(crate) port: Option<u16>,
    /// Whether everything there is done by `sudo -n`.
    #[serde(default)]
    pub(crate) sudo: bool,
}

impl Ssh {
    /// What ssh would take for one of its flags is no host, and no user.
    pub(crate) fn is_well_formed(&self) -> bool {
        let is_name = |name: &String| {
            !name.is_empty() && !name.starts_with('-') && !name.contains(char::is_whitespace)
        };
        is_name(&self.host) && self.user.as_ref().is_none_or(is_name)
    }
}

/// The machine, with the connection that all acts share.
pub(crate) struct Remote {
    ssh: Ssh,
    master: Mutex<Option<Master>>,
}

/// An ssh that others go through. It ends with this process, in whatever way that ends: `cat` over there
/// reads to the end of our pipe.
struct Master {
    child: Child,
    /// Of mode 0700.
    folder: tempfile::TempDir,
    _stdin: Option<ChildStdin>,
}

impl Remote {
    pub(super) fn new(ssh: Ssh) -> Self {
        Self {
            ssh,
            master: Mutex::new(None),
        }
    }

    pub(super) async fn read(&self, path: &Path) -> Result<SecretBytes, Error> {
        self.file("read", path, &[], &[]).await
    }

    pub(super) async fn mode(&self, path: &Path) -> Result<u32, Error> {
        let mode = self.file("mode", path, &[], &[]).await?;
        let mode = std::str::from_utf8(mode.expose()).ok().map(str::trim);
        let mode = mode.and_then(|mode| u32::from_str_radix(mode, 8).ok());
        mode.ok_or_else(|| self.failed(path, Reason::Said("stat prints no mode".into())))
    }

    pub(super) async fn replace(
        &self,
        path: &Path,
        bytes: &SecretBytes,
        expected: Option<Fingerprint>,
    ) -> Result<(), Error> {
        let expected = expected.map_or_else(|| "-".into(), |expected| expected.to_string());
        let arguments = [bytes.fingerprint().to_string(), expected];
        let act = self.file("replace", path, &arguments, bytes.expose());
        act.await.map(|_| ())
    }

    pub(super) async fn remove_leftover(&self, path: &Path) -> Result<(), Error> {
        self.file("clean", path, &[], &[]).await.map(|_| ())
    }

    pub(super) async fn run(&self, argv: &[String], limit: Duration) -> Result<SecretBytes, Error> {
        let output = self.ssh(argv, &[], limit).await?;
        match output.status.code() {
            Some(0) => Ok(SecretBytes::new(output.stdout)),
            Some(255) => Err(self.unreachable(&output.stderr)),
            // sudo says this in its own words, and no program of the operator's has run.
            Some(1) if output.stderr.starts_with(b"sudo: ") => {
                Err(self.unreachable(&output.stderr))
            }
            _ => Err(Error::Program {
                program: format!(
                    "{} on {}",
                    argv.first().map_or("", String::as_str),
                    self.ssh.host
                ),
                reason: format!("it ended with {}", output.status),
            }),
        }
    }

    async fn file(
        &self,
        act: &str,
        path: &Path,
        arguments: &[String],
        bytes: &[u8],
    ) -> Result<SecretBytes, Error> {
        let Some(text) = path.to_str() else {
            return Err(self.failed(path, Reason::Said("its name is not UTF-8".into())));
        };
        let mut argv = ["sh", "-c", SCRIPT, "atrest", act, text]
            .map(str::to_owned)
            .to_vec();
        argv.extend_from_slice(arguments);
        let output = self.ssh(&argv, bytes, ACT).await?;
        let said = || said(&output.stderr);
        let reason = match output.status.code() {
            Some(0) => return Ok(SecretBytes::new(output.stdout)),
            Some(64) => Reason::Missing,
            Some(65) => Reason::Unfit(said()),
            Some(66) => Reason::Symlink(said()),
            Some(67) => Reason::DataVolume,
            Some(68) => Reason::Changed,
            Some(69) => Reason::Incomplete,
            Some(70) => Reason::Said(said()),
            // Of ssh, of sudo, or of a shell that knows no such program.
            _ => return Err(self.unreachable(&output.stderr)),
        };
        Err(self.failed(path, reason))
    }

    async fn ssh(&self, argv: &[String], bytes: &[u8], limit: Duration) -> Result<Output, Error> {
        let control = self.control().await?;
        let mut command = self.command(&control, "no");
        let sudo = ["sudo", "-n", "--"].map(str::to_owned);
        let words = sudo.iter().filter(|_| self.ssh.sudo).chain(argv);
        let words: Vec<_> = words.map(|word| quoted(word)).collect();
        command.arg(words.join(" "));
        let act = async {
            let mut child = command.spawn()?;
            let mut stdin = child.stdin.take();
            let feed = async {
                if let Some(stdin) = &mut stdin {
                    // Where the other side has ended, its status says why.
                    let _ = stdin.write_all(bytes).await;
                    let _ = stdin.shutdown().await;
                }
                drop(stdin);
            };
            let ((), output) = tokio::join!(feed, child.wait_with_output());
            output
        };
        match tokio::time::timeout(limit, act).await {
            Ok(Ok(output)) => Ok(output),
            Ok(Err(error)) => Err(self.cannot_start(&error)),
            Err(_) => Err(self.error(format!("no answer within {} s", limit.as_secs()))),
        }
    }

    /// The socket of the connection that all share, which is made anew where it broke.
    async fn control(&self) -> Result<String, Error> {
        let mut master = self.master.lock().await;
        if let Some(known) = &mut *master
            && matches!(known.child.try_wait(), Ok(None))
        {
            return Ok(known.control());
        }
        *master = None;
        Ok(master.insert(self.connect().await?).control())
    }

    async fn connect(&self) -> Result<Master, Error> {
        // Short: a socket's name has room for 108 bytes.
        let folder = tempfile::Builder::new().prefix("atrest-").tempdir();
        let folder = folder.map_err(|error| self.cannot_start(&error))?;
        let control = folder.path().join("ssh").display().to_string();
        let mut command = self.command(&control, "yes");
        command.arg("echo ready && exec cat");
        let mut child = command.spawn().map_err(|error| self.cannot_start(&error))?;
        let (stdin, stdout) = (child.stdin.take(), child.stdout.take());
        let mut ready = String::new();
        let read = async {
            match stdout {
                Some(stdout) => BufReader::new(stdout).read_line(&mut ready).await,
                None => Ok(0),
            }
        };
        let read = tokio::time::timeout(CONNECT, read).await;
        match read {
            Ok(Ok(_)) if ready == "ready\n" => Ok(Master {
                child,
                folder,
                _stdin: stdin,
            }),
            Ok(_) => {
                drop(stdin);
                let ended = tokio::time::timeout(CONNECT, child.wait_with_output()).await;
                match ended {
                    Ok(Ok(output)) => Err(self.unreachable(&output.stderr)),
                    _ => Err(self.error("it does not run `echo ready`".into())),
                }
            }
            Err(_) => Err(self.error(format!("no answer within {} s", CONNECT.as_secs()))),
        }
    }

    fn command(&self, control: &str, master: &str) -> Command {
        let mut command = Command::new("ssh");
        command.arg("-T").args(["-S", control]);
        for option in OPTIONS {
            command.args(["-o", option]);
        }
        command.args(["-o", &format!("ControlMaster={master}")]);
        if let Some(port) = self.ssh.port {
            command.args(["-p", &port.to_string()]);
        }
        if let Some(user) = &self.ssh.user {
            command.args(["-l", user]);
        }
        command.args(["--", &self.ssh.host]);
        command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .kill_on_drop(true);
        command
    }

    fn failed(&self, path: &Path, reason: Reason) -> Error {
        Error::Remote {
            host: self.ssh.host.clone(),
            path: path.to_owned(),
            reason,
        }
    }

    fn unreachable(&self, stderr: &[u8]) -> Error {
        self.error(said(stderr))
    }

    fn cannot_start(&self, error: &std::io::Error) -> Error {
        self.error(format!("cannot run ssh: {error}"))
    }

    fn error(&self, said: String) -> Error {
        Error::Ssh {
            host: self.ssh.host.clone(),
            said,
        }
    }
}

impl Master {
    fn control(&self) -> String {
        self.folder.path().join("ssh").display().to_string()
    }
}

/// The last lines of what a program said, in one.
fn said(stderr: &[u8]) -> String {
    const LINES: usize = 3;

    let text = String::from_utf8_lossy(stderr);
    let lines = text.lines().map(str::trim).filter(|line| !line.is_empty());
    let mut last: Vec<_> = lines.rev().take(LINES).collect();
    last.reverse();
    match last.is_empty() {
        true => "it said nothing".into(),
        false => last.join("; ").replace(char::is_control, "?"),
    }
}

/// A word for the shell over there.
fn quoted(word: &str) -> String {
    format!("'{}'", word.replace('\'', r"'\''"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_reach_the_program_as_they_are() {
        assert_eq!(quoted("a b"), "'a b'");
        assert_eq!(quoted("it's $HOME"), r"'it'\''s $HOME'");
    }

    #[test]
    fn what_ssh_would_take_for_a_flag_is_no_host() {
        let ssh = |host: &str, user: Option<&str>| Ssh {
            host: host.into(),
            user: user.map(Into::into),
            port: None,
            sudo: false,
        };
        assert!(ssh("10.0.0.1", Some("admin")).is_well_formed());
        for bad in [
            ssh("-oProxyCommand=x", None),
            ssh("", None),
            ssh("a b", None),
            ssh("a", Some("-l")),
        ] {
            assert!(!bad.is_well_formed(), "{bad:?}");
        }
    }

    #[test]
    fn the_last_lines_are_told_without_control_characters() {
        let stderr = b"1\n\n@@@\r\nHost key\x1b[31m failed.\n2\n";
        assert_eq!(said(stderr), "@@@; Host key?[31m failed.; 2");
        assert_eq!(said(b""), "it said nothing");
    }
}
