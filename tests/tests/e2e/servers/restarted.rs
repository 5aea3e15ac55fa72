//! Servers that load a file only when they start.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use atrest_tests::atrest::{self, Ended};
use atrest_tests::processes::{ControlPlane, Options};
use atrest_tests::ssh::Sshd;
use atrest_tests::stored_values;

use super::{ONE_KEY, leftovers};
use crate::rotate::{FEW, key_names};

/// The manifest of a static pod as kubeadm writes it, as far as it is about the file.
fn manifest(mount: &Path, path: &Path) -> String {
    format!(
        "# by kubeadm
apiVersion: v1
kind: Pod
metadata:
  labels:
    component: kube-apiserver # what Services select
  name: kube-apiserver
spec:
  containers:
  - command:
    - kube-apiserver
    - --encryption-provider-config={}
    name: kube-apiserver
    volumeMounts:
    - mountPath: {}
      name: encryption
  volumes:
  - hostPath:
      path: {}
    name: encryption
",
        path.display(),
        mount.display(),
        mount.display(),
    )
}

/// Two API servers of no automatic reload: one that a command restarts, and one that a kubelet does, which
/// the test stands in for.
struct Restarted {
    plane: ControlPlane,
    asked: PathBuf,
    manifest: PathBuf,
}

impl Restarted {
    /// Runs a rotation to its end, and returns how often each server was restarted.
    fn serve(&mut self, mut rotate: Command) -> (Ended, [usize; 2]) {
        let stderr = Stdio::piped();
        let mut child = rotate
            .stdout(Stdio::piped())
            .stderr(stderr)
            .spawn()
            .unwrap();
        let mut restarts = [0, 0];
        let mut runs_with = fs::read_to_string(&self.manifest).unwrap();
        while child.try_wait().unwrap().is_none() {
            if self.asked.exists() {
                fs::remove_file(&self.asked).unwrap();
                self.plane.restart(0);
                restarts[0] += 1;
            }
            let manifest = fs::read_to_string(&self.manifest).unwrap();
            if manifest != runs_with {
                runs_with = manifest;
                self.plane.restart(1);
                restarts[1] += 1;
            }
            std::thread::sleep(std::time::Duration::from_millis(50));
        }
        (child.wait_with_output().unwrap().into(), restarts)
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn servers_are_restarted_one_after_the_other_by_command_and_by_annotation() {
    if !Sshd::is_available() {
        return;
    }
    let plane = ControlPlane::start(Options {
        servers: 2,
        encryption_config: ONE_KEY.into(),
        api_server: &["--encryption-provider-config-automatic-reload=false"],
        ..Options::default()
    });
    let stored = FEW
        .store(&plane.client(0).await, "restarted")
        .await
        .unwrap();
    let sshd = Sshd::start();
    let folder = plane.directory().join("manifests");
    fs::create_dir(&folder).unwrap();
    let pod = folder.join("kube-apiserver.yaml");
    let asked = plane.directory().join("restart");
    let command = format!("reload: {{command: [touch, {}]}}", asked.display());
    let annotated = format!(
        "access: {}, reload: {{staticPod: {}}}",
        sshd.access(),
        pod.display()
    );
    let yaml = atrest::rotation_yaml_of(&plane, &[&command, &annotated], "");
    let mut restarted = Restarted {
        plane,
        asked,
        manifest: pod.clone(),
    };
    let rotate = |plane: &ControlPlane, action: &str| {
        let mut command = atrest::rotate_by(plane, &yaml, action, &[]);
        command.env("PATH", sshd.path());
        command
    };

    // A pod that mounts the file by itself would keep the old one.
    let file = restarted.plane.servers[1].encryption_config.clone();
    fs::write(&pod, manifest(&file, &file)).unwrap();
    let refused: Ended = rotate(&restarted.plane, "run").output().unwrap().into();
    let told = refused.expect(2).stderr;
    let directory = file.parent().unwrap().display();
    for part in [
        "by itself".to_owned(),
        format!("hostPath: {{path: {directory}, type: Directory}}"),
        format!("mountPath: {directory}\n"),
    ] {
        assert!(told.contains(&part), "{part}: {told}");
    }

    let before = manifest(file.parent().unwrap(), &file);
    fs::write(&pod, &before).unwrap();
    let run = rotate(&restarted.plane, "run");
    let (ended, restarts) = restarted.serve(run);
    ended.expect(0);
    assert_eq!(restarts, [3, 3]);
    let keys = key_names(&file);
    assert_eq!(keys.len(), 1);
    let prefix = format!("k8s:enc:secretbox:v1:{}:", keys[0]);
    stored_values::assert_prefix(&restarted.plane, stored.len(), &prefix);
    for server in &restarted.plane.servers {
        stored.assert_readable(&server.client().await).await;
    }
    let after = fs::read_to_string(&pod).unwrap();
    let added: Vec<_> = after
        .lines()
        .filter(|line| !before.lines().any(|it| it == *line))
        .collect();
    assert_eq!(added[0], "  annotations:");
    assert!(added[1].contains("atrest/encryption-config-sha256: \""));
    assert_eq!(
        (added.len(), after.lines().count()),
        (2, before.lines().count() + 2)
    );
    assert_eq!(leftovers(&folder), Vec::<PathBuf>::new());
}
