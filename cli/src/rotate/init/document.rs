//! The text of a rotation.yaml that explains itself.

use std::fmt::Write as _;
use std::path::Path;

use super::Found;
use crate::machine::Access;
use crate::rotate::reload::Reload;
use crate::rotate::settings::Server;

const HEAD: &str = "\
# What a rotation of this cluster's encryption keys needs to know. `atrest rotate plan` shows what a run
# would do with it; unknown fields are errors.
apiVersion: atrest/v1
kind: Rotation

# Every API server of the cluster: one that is missing goes on writing with the old key.
servers:
";

/// The fields of a server, explained once.
const SERVER: &str = "\
# url: its own address, never a load balancer's
# file: its EncryptionConfiguration on its machine, in a directory that its pod mounts as a whole
# access: local, manual (you are told what to do), or {ssh: {host, user, port, sudo}}
# reload: automatic (it reads the file again by itself), {command: [...]}, or {staticPod: MANIFEST}
# plugin: {socket, keyring} of its KMS plugin, for `to: {provider: kms}`
";

/// The file.
pub(super) fn render(found: &Found) -> String {
    let mut out = HEAD.to_owned();
    out += SERVER;
    for server in &found.servers {
        render_server(server, &mut out);
    }
    out += "\n# Where the API servers store; the client certificate is theirs.\netcd:\n";
    let _ = writeln!(out, "  endpoints: {}", list(&found.endpoints));
    for (field, value) in &found.etcd {
        let _ = writeln!(out, "  {field}: {}", scalar(value));
    }
    out += "\n# Such as [secrets]; none is all that the EncryptionConfiguration covers, or secrets where there is none.\n";
    out += "resources: []\n\n# aescbc, aesgcm, secretbox, kms or identity; without it a new key of the provider in use.\n";
    match &found.to {
        Some(to) => {
            let _ = writeln!(out, "to: {{provider: {}}}", scalar(to));
        }
        None => out += "to: {}\n",
    }
    out += "\n# Where the new key is kept besides, before any server has it. Name another disk for the copy.\nescrow:\n";
    let copies: Vec<_> = found
        .copies
        .iter()
        .map(|it| it.display().to_string())
        .collect();
    let _ = writeln!(out, "  file: {}", path(&found.escrow));
    let _ = writeln!(out, "  copies: {}", list(&copies));
    out += "\n# maxRate (objects a second), maxInFlight, gentle: true lets other clients go first.\nlimits: {}\n";
    out += "\n# The journal of runs and their lock.\n";
    let _ = writeln!(out, "stateDir: {}", path(&found.state_dir));
    out
}

fn render_server(server: &Server, out: &mut String) {
    let _ = writeln!(out, "- name: {}", scalar(&server.name));
    if let Some(url) = &server.url {
        let _ = writeln!(out, "  url: {}", scalar(url));
    }
    let _ = writeln!(out, "  file: {}", path(&server.file));
    let access = match &server.access {
        Access::Local => "local".to_owned(),
        Access::Manual => "manual".to_owned(),
        Access::Ssh(ssh) => {
            let user = ssh.user.as_deref().unwrap_or("root");
            let (host, user) = (scalar(&ssh.host), scalar(user));
            format!(
                "{{ssh: {{host: {host}, user: {user}, sudo: {}}}}}",
                ssh.sudo
            )
        }
    };
    let _ = writeln!(out, "  access: {access}");
    let reload = match &server.reload {
        Reload::StaticPod(manifest) => format!("{{staticPod: {}}}", path(manifest)),
        _ => "automatic".to_owned(),
    };
    let _ = writeln!(out, "  reload: {reload}");
    if let Some(socket) = &server.socket {
        let _ = writeln!(out, "  plugin: {{socket: {}}}", path(socket));
    }
}

fn path(path: &Path) -> String {
    scalar(&path.to_string_lossy())
}

fn list(items: &[String]) -> String {
    let items: Vec<_> = items.iter().map(|item| scalar(item)).collect();
    format!("[{}]", items.join(", "))
}

/// Plain where nobody can read anything else in it, else as JSON has it, which is YAML.
fn scalar(text: &str) -> String {
    let is_word = text.starts_with(|first: char| first.is_ascii_alphabetic() || first == '/')
        && text
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || b"/._-:".contains(&byte))
        && !text.ends_with(':')
        && !["true", "false", "yes", "no", "on", "off", "null", "y", "n"]
            .contains(&text.to_ascii_lowercase().as_str());
    match is_word {
        true => text.to_owned(),
        false => serde_json::Value::from(text).to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::machine::Ssh;

    fn server(name: &str, access: Access, reload: Reload) -> Server {
        Server {
            name: name.into(),
            url: Some(format!("https://{name}:6443")),
            tls_server_name: None,
            ca_file: None,
            file: "/etc/kubernetes/enc/config.yaml".into(),
            access,
            reload,
            socket: Some("/run/atrest-kms/kms.sock".into()),
        }
    }

    #[test]
    fn what_is_written_is_what_rotate_reads() {
        let ssh = Ssh {
            host: "10.0.0.12".into(),
            user: Some("no".into()),
            port: None,
            sudo: true,
        };
        let found = Found {
            servers: vec![
                server("cp-1", Access::Local, Reload::Automatic),
                server(
                    "12",
                    Access::Ssh(ssh),
                    Reload::StaticPod("/m: #.yaml".into()),
                ),
                server("a\"b: {c}", Access::Manual, Reload::Automatic),
            ],
            etcd: vec![("caFile", "/ca.crt".into()), ("prefix", "/registry".into())],
            endpoints: vec!["https://[::1]:2379".into()],
            to: Some("secretbox".into()),
            state_dir: "/var/lib/atrest".into(),
            escrow: "/e".into(),
            copies: vec!["/c d".into()],
        };
        // The last one's file is that of another one only by its path.
        let read = crate::rotate::settings::tests::servers_of(&render(&found));
        assert_eq!(read, found.servers);
    }
}
