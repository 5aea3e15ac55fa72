//! The manifest of a static pod: an annotation with the file's hash makes the kubelet start the pod anew,
//! and how the file is mounted decides whether the pod sees a new one.

use std::path::Path;

use serde_yaml::Value;

use super::settings::Server;
use crate::machine::Machine;
use crate::status::Failure;

/// Where kubeadm has it.
pub(super) const USUAL: &str = "/etc/kubernetes/manifests/kube-apiserver.yaml";

const ANNOTATION: &str = "atrest/encryption-config-sha256";
const FLAG: &str = "--encryption-provider-config";

/// Has the kubelet restart the pod, unless the manifest says already that it runs with this file. Nothing but
/// a dot-temporary ever stands beside it: the kubelet would take that for another pod.
pub(super) async fn restart(
    machine: &Machine,
    manifest: &Path,
    sha256: &str,
) -> Result<(), Failure> {
    let old = machine.read(manifest).await?;
    let unfit = || {
        Failure::stopped(format!(
            "{}: cannot be given an annotation",
            manifest.display()
        ))
        .hint(format!(
            "write its metadata as a block of lines, with one `{ANNOTATION}: \"\"` under annotations"
        ))
    };
    let text = std::str::from_utf8(old.expose()).map_err(|_| unfit())?;
    let new = annotated(text, sha256).ok_or_else(unfit)?;
    if new == text {
        return Ok(());
    }
    let new = atrest_core::secret::SecretBytes::new(new.into_bytes());
    let replaced = machine.replace(manifest, &new, Some(old.fingerprint()));
    replaced.await.map_err(|error| {
        Failure::stopped(error).hint("the manifest is as it was; atrest rotate resume goes on")
    })
}

/// Refuses a pod that mounts the file by itself: the mount holds the old file, whatever has its name.
pub(super) async fn check(
    machine: &Machine,
    manifest: Option<&Path>,
    server: &Server,
) -> Result<(), Failure> {
    let path = manifest.unwrap_or(Path::new(USUAL));
    let read = machine.read(path).await;
    let read = match manifest {
        Some(_) => read?,
        // It may run as something else.
        None => match read {
            Ok(read) => read,
            Err(_) => return Ok(()),
        },
    };
    let pod = serde_yaml::from_slice::<Value>(read.expose()).unwrap_or_default();
    let flag = flag(&pod);
    if manifest.is_some() && flag.is_none() {
        return Err(
            Failure::unusable(format!("{}: no container has {FLAG}", path.display()))
                .hint("reload.staticPod is the manifest of this API server"),
        );
    }
    match flag.and_then(|flag| pinned(&pod, flag, &server.file)) {
        None => Ok(()),
        Some(volume) => Err(Failure::unusable(format!(
            "{}: {} mounts {} by itself, and would keep the old one for as long as it runs",
            server.name,
            path.display(),
            server.file.display(),
        ))
        .hint(patch(&volume, &server.file, flag.unwrap_or_default()))),
    }
}

/// The path in the container.
fn flag(pod: &Value) -> Option<&str> {
    containers(pod).find_map(flag_of)
}

fn containers(pod: &Value) -> impl Iterator<Item = &Value> {
    items(&pod["spec"]["containers"])
}

fn items(value: &Value) -> impl Iterator<Item = &Value> {
    value.as_sequence().into_iter().flatten()
}

fn flag_of(container: &Value) -> Option<&str> {
    let mut words = items(&container["command"])
        .chain(items(&container["args"]))
        .filter_map(Value::as_str);
    while let Some(word) = words.next() {
        match word.strip_prefix(FLAG) {
            Some("") => return words.next(),
            Some(rest) if rest.starts_with('=') => return rest.strip_prefix('='),
            _ => {}
        }
    }
    None
}

/// The volume by which the container has the file alone.
fn pinned(pod: &Value, flag: &str, file: &Path) -> Option<String> {
    let container = containers(pod).find(|it| flag_of(it).is_some())?;
    let mount = items(&container["volumeMounts"])
        .filter(|mount| mount["mountPath"].as_str().map(Path::new) == Some(Path::new(flag)))
        .find_map(|mount| mount["name"].as_str())?;
    let volume = items(&pod["spec"]["volumes"]).find(|it| it["name"].as_str() == Some(mount))?;
    let host = volume["hostPath"]["path"].as_str()?;
    (Path::new(host) == file).then(|| mount.to_owned())
}

fn patch(volume: &str, file: &Path, flag: &str) -> String {
    let folder = |path: &Path| path.parent().unwrap_or(path).display().to_string();
    format!(
        "mount its directory instead, which must hold nothing that the pod should not see:
    volumes:
    - name: {volume}
      hostPath: {{path: {}, type: Directory}}
    volumeMounts:
    - name: {volume}
      mountPath: {}
      readOnly: true",
        folder(file),
        folder(Path::new(flag)),
    )
}

/// The manifest with the annotation, every other byte as it was; `None` where it is not written in a way that
/// allows it.
fn annotated(text: &str, sha256: &str) -> Option<String> {
    let edited = edited(text, sha256)?;
    let parse = |text: &str| serde_yaml::from_str::<Value>(text).ok();
    // What the edit means is checked by a parser: nothing else may have changed.
    let (mut expected, new) = (parse(text)?, parse(&edited)?);
    let annotations = &mut expected.get_mut("metadata")?.as_mapping_mut()?;
    let annotations = annotations
        .entry("annotations".into())
        .or_insert(Value::Null);
    if annotations.is_null() {
        *annotations = Value::Mapping(serde_yaml::Mapping::new());
    }
    annotations
        .as_mapping_mut()?
        .insert(ANNOTATION.into(), sha256.into());
    (expected == new).then_some(edited)
}

fn edited(text: &str, sha256: &str) -> Option<String> {
    let lines: Vec<_> = text.split_inclusive('\n').collect();
    let line = format!("{ANNOTATION}: \"{sha256}\"\n");
    let metadata = lines.iter().position(|it| key(it) == Some("metadata"))?;
    let fields = block(&lines, metadata);
    let indent = fields.clone().find_map(|at| indented(lines[at]))?;
    let is_annotations =
        |at: &usize| indented(lines[*at]) == Some(indent) && key(lines[*at]) == Some("annotations");
    let Some(annotations) = fields.clone().find(is_annotations) else {
        let (field, entry) = (" ".repeat(indent), " ".repeat(2 * indent));
        let new = format!("{field}annotations:\n{entry}{line}");
        return Some(insert(&lines, metadata + 1, 0, &new));
    };
    let entries = block(&lines, annotations);
    let deeper = entries.clone().find_map(|at| indented(lines[at]));
    let new = format!("{}{line}", " ".repeat(deeper.unwrap_or(2 * indent)));
    let known = entries
        .clone()
        .find(|at| key(lines[*at]) == Some(ANNOTATION));
    Some(match known {
        Some(known) => insert(&lines, known, 1, &new),
        None => insert(&lines, annotations + 1, 0, &new),
    })
}

/// The lines below one that are indented further.
fn block(lines: &[&str], at: usize) -> std::ops::Range<usize> {
    let outer = indented(lines[at]).unwrap_or_default();
    let rest = lines[at + 1..].iter();
    let length = rest.take_while(|line| indented(line).is_none_or(|it| it > outer));
    at + 1..at + 1 + length.count()
}

/// How far a line that says something is indented.
fn indented(line: &str) -> Option<usize> {
    let said = line.trim_start_matches(' ');
    let is_empty = said.trim().is_empty() || said.starts_with('#');
    (!is_empty).then(|| line.len() - said.len())
}

/// The key that a line begins a block or a scalar with.
fn key(line: &str) -> Option<&str> {
    let (key, _) = line.split_once(':')?;
    Some(key.trim().trim_matches(['"', '\'']))
}

fn insert(lines: &[&str], at: usize, replaced: usize, new: &str) -> String {
    let (before, after) = (&lines[..at], &lines[at + replaced..]);
    // A last line without its end gets one.
    let glue = match before.last() {
        Some(last) if !last.ends_with('\n') => "\n",
        _ => "",
    };
    format!("{}{glue}{new}{}", before.concat(), after.concat())
}

#[cfg(test)]
mod tests {
    use super::*;

    const POD: &str = "\
# by kubeadm
apiVersion: v1
kind: Pod
metadata:
  annotations:
    kubeadm.kubernetes.io/kube-apiserver.advertise-address.endpoint: 10.0.0.11:6443 # ours

  labels:
    component: kube-apiserver
  name: kube-apiserver
spec:
  containers:
  - command:
    - kube-apiserver
    - --encryption-provider-config=/etc/enc/config.yaml
    volumeMounts:
    - {name: enc, mountPath: /etc/enc}
  volumes:
  - name: enc
    hostPath: {path: /etc/kubernetes/enc, type: Directory}
";

    #[test]
    fn nothing_but_the_annotation_changes() {
        let hash = "12e4".repeat(16);
        let line = format!("    {ANNOTATION}: \"{hash}\"\n");
        let first = annotated(POD, &hash).unwrap();
        assert_eq!(
            first,
            POD.replace("  annotations:\n", &format!("  annotations:\n{line}"))
        );
        assert_eq!(annotated(&first, &hash).unwrap(), first);
        let other = annotated(&first, &"0".repeat(64)).unwrap();
        assert_eq!(other, first.replace(&hash, &"0".repeat(64)));
    }

    #[test]
    fn annotations_may_be_missing() {
        for manifest in [
            "metadata:\n  name: a\nspec: {}\n",
            "kind: Pod\nmetadata:\n    # of the pod\n    name: a",
            "metadata:\n  name: a\n  annotations:\n",
            "metadata:\n  annotations:\n\nspec: {}\n",
        ] {
            let new = annotated(manifest, "ab").unwrap();
            assert!(new.contains(": \"ab\"\n"), "{new}");
            for line in manifest.lines() {
                assert!(new.lines().any(|it| it == line), "{line:?} of {new}");
            }
        }
    }

    #[test]
    fn what_cannot_be_edited_line_by_line_is_refused() {
        for manifest in [
            "{\"metadata\": {\"name\": \"a\"}}",
            "metadata: {name: a}\n",
            "metadata:\n  annotations: {a: b}\n",
            "metadata:\n  name: |\n    annotations:\n  annotations: {}\n",
            "kind: Pod\n",
            "metadata:\n",
            "a: [\n",
            "",
        ] {
            assert_eq!(annotated(manifest, "ab"), None, "{manifest}");
        }
    }

    #[test]
    fn a_file_that_is_mounted_by_itself_is_found() {
        let pod = |text: &str| serde_yaml::from_str::<Value>(text).unwrap();
        let file = Path::new("/etc/kubernetes/enc/config.yaml");
        let is_pinned = |text: &str| {
            let pod = pod(text);
            pinned(&pod, flag(&pod).unwrap(), file)
        };
        assert_eq!(is_pinned(POD), None);
        let alone = POD
            .replace("mountPath: /etc/enc", "mountPath: /etc/enc/config.yaml")
            .replace("enc, type: Directory", "enc/config.yaml, type: File");
        assert_eq!(is_pinned(&alone), Some("enc".into()));
        // Without a type it is the same.
        assert_eq!(
            is_pinned(&alone.replace(", type: File", "")),
            Some("enc".into())
        );
        let apart = alone.replace("config=/etc", "config\n    - /etc");
        assert_eq!(is_pinned(&apart), Some("enc".into()));
        let told = patch("enc", file, "/etc/enc/config.yaml");
        assert!(
            told.contains("path: /etc/kubernetes/enc,") && told.contains("mountPath: /etc/enc\n")
        );
    }
}
