//! The command line of a static pod, and where its files are on the host.

use serde_yaml::Value;

/// A static pod of one container.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct StaticPod {
    program: String,
    command: Vec<String>,
    flags: Vec<(String, String)>,
    /// In the pod, on the host.
    mounts: Vec<(String, String)>,
}

impl StaticPod {
    /// Reads a manifest. `None`: it is none that a kubelet would run, as one that was cut off.
    pub fn read(source: &[u8]) -> Option<Self> {
        let document: Value = serde_yaml::from_slice(source).ok()?;
        let spec = document.get("spec")?;
        let container = spec.get("containers")?.get(0)?;
        for required in ["name", "image"] {
            container.get(required)?.as_str()?;
        }
        let words = |field: &str| {
            let list = container.get(field).and_then(Value::as_sequence);
            list.into_iter().flatten().filter_map(Value::as_str)
        };
        let words = words("command").chain(words("args"));
        let command: Vec<_> = words.map(str::to_owned).collect();
        let mut words = command.iter().map(String::as_str);
        let program = words.next()?.rsplit('/').next()?.to_owned();
        let mut flags: Vec<(String, String)> = Vec::new();
        let mut is_open = false;
        for word in words {
            match word.strip_prefix("--") {
                Some(flag) => {
                    let (name, value) = flag.split_once('=').unwrap_or((flag, ""));
                    is_open = !flag.contains('=');
                    flags.push((name.to_owned(), value.to_owned()));
                }
                None if is_open => {
                    is_open = false;
                    if let Some(last) = flags.last_mut() {
                        last.1 = word.to_owned();
                    }
                }
                None => {}
            }
        }
        Some(Self {
            program,
            flags,
            command: command.clone(),
            mounts: mounts(spec, container)?,
        })
    }

    /// `kube-apiserver`, `etcd`, ...
    pub fn program(&self) -> &str {
        &self.program
    }

    /// Whether this is its command line, as `/proc` has it: each word ended by a zero.
    pub fn is_run_by(&self, line: &[u8]) -> bool {
        let words = line
            .strip_suffix(b"\0")
            .unwrap_or(line)
            .split(|byte| *byte == 0);
        let name = |path: &[u8]| path.rsplit(|byte| *byte == b'/').next().map(<[u8]>::to_vec);
        let mut own = self.command.iter().map(|word| word.as_bytes());
        let mut words = words.peekable();
        words.next().and_then(name) == own.next().and_then(name) && words.eq(own)
    }

    /// The value of a flag; the last one counts.
    pub fn flag(&self, name: &str) -> Option<&str> {
        let found = self.flags.iter().rev().find(|flag| flag.0 == name);
        found.map(|flag| flag.1.as_str())
    }

    /// The values of a flag that may be repeated.
    pub fn flags(&self, name: &str) -> impl Iterator<Item = &str> {
        let found = self.flags.iter().filter(move |flag| flag.0 == name);
        found.map(|flag| flag.1.as_str())
    }

    /// Where the file of a flag is on the host: its own path, where no mount says otherwise.
    pub fn file(&self, flag: &str) -> Option<String> {
        self.flag(flag).map(|path| self.on_host(path))
    }

    /// Where a file is on the host.
    pub fn on_host(&self, path: &str) -> String {
        let inside = |mount: &str| {
            let rest = path.strip_prefix(mount)?;
            (rest.is_empty() || rest.starts_with('/')).then(|| rest.to_owned())
        };
        let over = self.mounts.iter().filter(|(pod, _)| inside(pod).is_some());
        let innermost = over.max_by_key(|(pod, _)| pod.len());
        innermost.map_or_else(
            || path.to_owned(),
            |(pod, host)| format!("{host}{}", inside(pod).unwrap_or_default()),
        )
    }
}

/// `None` where a volume is not there.
fn mounts(spec: &Value, container: &Value) -> Option<Vec<(String, String)>> {
    let list = |value: Option<&Value>| value.and_then(Value::as_sequence).cloned();
    let volumes = list(spec.get("volumes")).unwrap_or_default();
    let text = |value: &Value, name: &str| Some(value.get(name)?.as_str()?.to_owned());
    let trimmed = |path: String| path.trim_end_matches('/').to_owned();
    let mut mounts = Vec::new();
    for mount in list(container.get("volumeMounts")).unwrap_or_default() {
        let (pod, name) = (text(&mount, "mountPath")?, text(&mount, "name")?);
        let volume = volumes
            .iter()
            .find(|volume| text(volume, "name").as_deref() == Some(&name))?;
        let Some(host) = volume.get("hostPath") else {
            continue;
        };
        let below = text(&mount, "subPath").map_or(String::new(), |path| format!("/{path}"));
        let host = trimmed(text(host, "path")?);
        mounts.push((trimmed(pod), format!("{host}{below}")));
    }
    Some(mounts)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn flags_are_read_as_the_program_reads_them() {
        let pod = StaticPod::read(
            b"spec:
  containers:
  - command: [/usr/bin/kube-apiserver, --a=1, --b, two, --a=3, --list=x, --list=y, --bare]
    args: [--c=/pki/ca.crt]
    image: i
    name: a
    volumeMounts:
    - {name: pki, mountPath: /pki/}
    - {name: other, mountPath: /pki/other}
  volumes:
  - {name: pki, hostPath: {path: /etc/kubernetes/pki}}
  - {name: other, hostPath: {path: /srv}}
",
        )
        .unwrap();
        assert_eq!(pod.program(), "kube-apiserver");
        let line = b"/bin/kube-apiserver\0--a=1\0--b\0two\0--a=3\0--list=x\0--list=y\0--bare\0--c=/pki/ca.crt\0";
        assert!(pod.is_run_by(line));
        assert!(!pod.is_run_by(&line[..line.len() - 2]));
        assert!(!pod.is_run_by(b"etcd\0--a=1\0"));
        assert_eq!((pod.flag("a"), pod.flag("b")), (Some("3"), Some("two")));
        assert_eq!(pod.flag("bare"), Some(""));
        assert_eq!(pod.flags("list").collect::<Vec<_>>(), ["x", "y"]);
        assert_eq!(pod.file("c").unwrap(), "/etc/kubernetes/pki/ca.crt");
        assert_eq!(pod.on_host("/pki/other/a"), "/srv/a");
        assert_eq!(pod.on_host("/pkix/a"), "/pkix/a");
    }

    #[test]
    fn what_is_no_pod_is_none() {
        for source in [
            "",
            "a: 1",
            "spec: {containers: []}",
            "{",
            "spec: {containers: [{}]}",
            "spec: {containers: [{name: a, command: [a]}]}",
            "spec: {containers: [{image: i, command: [a]}]}",
            "spec: {containers: [{name: a, command: [a], image: i, volumeMounts: [{name: v, mountPath: /v}]}]}",
        ] {
            assert_eq!(StaticPod::read(source.as_bytes()), None, "{source}");
        }
    }
}
