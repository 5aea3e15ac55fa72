//! What a rotation keeps and what it removes: snapshots before and after, and what the old key could still
//! open.

use std::fs;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use atrest_tests::atrest::{self, Ended};
use atrest_tests::processes::{ControlPlane, Options};
use atrest_tests::programs::Programs;
use atrest_tests::{packages, schema, stored_values};
use serde_json::Value;
use sha2::{Digest, Sha256};

use crate::at_rest::put;
use crate::rotate::{FEW, key_names};

/// A rotation by a rotation.yaml.
struct Kept {
    plane: ControlPlane,
    file: PathBuf,
    dir: PathBuf,
}

impl Kept {
    fn start(options: Options) -> Self {
        let plane = ControlPlane::start(options);
        let dir = plane.directory().join("snapshots");
        let more = format!("snapshots: {{dir: {}}}\n", dir.display());
        let servers = plane.servers.len();
        let file = atrest::rotation_yaml(&plane, servers, &more);
        let data = plane.directory().join("etcd");
        assert!(data.join("member").is_dir());
        let text = fs::read_to_string(&file).unwrap();
        let text = text.replace(
            "stateDir:",
            &format!("  dataDir: {}\nstateDir:", data.display()),
        );
        fs::write(&file, text).unwrap();
        Self { plane, file, dir }
    }

    fn command(&self, action: &str, more: &[&str]) -> Command {
        atrest::rotate_by(&self.plane, &self.file, action, more)
    }

    fn rotate(&self, action: &str, more: &[&str]) -> Ended {
        self.command(action, more).output().unwrap().into()
    }

    fn config(&self) -> &Path {
        &self.plane.servers[0].encryption_config
    }

    fn manifest(&self) -> Vec<Value> {
        let text = fs::read(self.dir.join("manifest.json")).unwrap();
        let manifest: Value = serde_json::from_slice(&text).unwrap();
        assert_eq!(schema::faults(&manifest), Vec::<String>::new());
        for entry in manifest["snapshots"].as_array().unwrap() {
            let bytes = fs::read(self.dir.join(entry["file"].as_str().unwrap())).unwrap();
            let sha256 = data_encoding::HEXLOWER.encode(&Sha256::digest(bytes));
            assert_eq!(entry["sha256"], sha256.as_str());
        }
        manifest["snapshots"].as_array().unwrap().clone()
    }

    fn names(&self) -> Vec<String> {
        let entries = fs::read_dir(&self.dir).unwrap();
        let mut names: Vec<_> = entries
            .map(|it| it.unwrap().file_name().into_string().unwrap())
            .collect();
        names.sort();
        names
    }

    /// What `verify --rehearse` says of a listed snapshot.
    fn rehearse(&self, entry: &Value, config: &Path) -> Ended {
        let snapshot = self.dir.join(entry["file"].as_str().unwrap());
        let paths = [config, &snapshot].map(|it| it.display().to_string());
        let [config, snapshot] = &paths;
        atrest::run([
            "verify",
            "--rehearse",
            "--config",
            config,
            "--snapshot",
            snapshot,
        ])
    }

    fn certificate(&self, done: &Ended) -> Value {
        let mut lines = done.stdout.lines();
        let path = lines.find_map(|line| line.strip_prefix("certificate: "));
        let certificate = serde_json::from_slice(&fs::read(path.unwrap()).unwrap()).unwrap();
        assert_eq!(schema::faults(&certificate), Vec::<String>::new());
        certificate
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn snapshots_are_kept_that_can_be_restored_with_the_keys_that_they_name() {
    let kept = Kept::start(Options::default());
    let client = kept.plane.client(0).await;
    let stored = FEW.store(&client, "kept").await.unwrap();

    // Plaintext is kept where that is said, and not else.
    let refused = kept.rotate("run", &["--to", "secretbox"]).expect(2);
    assert!(
        refused.stderr.contains("would hold values in plaintext"),
        "{refused:?}"
    );
    assert!(!kept.dir.exists());
    let first = kept
        .rotate("run", &["--to", "secretbox", "--plaintext-snapshot"])
        .expect(0);
    assert!(
        first.stderr.contains("60 values in it are in plaintext"),
        "{}",
        first.stderr
    );
    let old = kept.config().with_extension("old");
    fs::copy(kept.config(), &old).unwrap();
    let second = kept.rotate("run", &[]).expect(0);

    let manifest = kept.manifest();
    let [plain, first_after, before, after] = &manifest[..] else {
        panic!("{manifest:?}");
    };
    assert_eq!(
        (&plain["which"], &plain["plaintext"]),
        (&"before".into(), &stored.len().into())
    );
    for (entry, config, which) in [
        (first_after, &*old, "after"),
        (before, &old, "before"),
        (after, kept.config(), "after"),
    ] {
        assert_eq!(
            (&entry["which"], &entry["plaintext"]),
            (&which.into(), &0.into())
        );
        assert_eq!(entry["keys"].as_array().unwrap().len(), 1, "{entry}");
        assert_eq!(entry["keys"][0]["key"], key_names(config)[0].as_str());
        // It says yes of the keys that the manifest names, and predicts the loss without.
        kept.rehearse(entry, config).expect(0);
    }
    assert!(before["keys"][0]["fingerprint"].is_string());
    for (entry, config) in [
        (plain, kept.config()),
        (before, kept.config()),
        (after, &*old),
    ] {
        let lost = kept.rehearse(entry, config).expect(1);
        assert!(
            lost.stdout.contains("60 unreadable: not restorable"),
            "{}",
            lost.stdout
        );
    }
    // etcdutl agrees that they are whole.
    for entry in &manifest {
        let mut etcdutl = Command::new(Programs::required().path("etcdutl"));
        etcdutl
            .args(["snapshot", "status"])
            .arg(kept.dir.join(entry["file"].as_str().unwrap()));
        assert!(etcdutl.output().unwrap().status.success());
    }
    let certificate = kept.certificate(&second);
    for (i, entry) in [before, after].into_iter().enumerate() {
        assert_eq!(certificate["snapshots"][i]["sha256"], entry["sha256"]);
    }

    // What nobody can read is seen by decrypting alone, before anything is changed.
    let config = fs::read(kept.config()).unwrap();
    let key = format!("k8s:enc:secretbox:v1:{}:", key_names(kept.config())[0]);
    kept.rotate("run", &["--max-duration", "2s"]).expect(4);
    let poison = [key.as_bytes(), &[7; 64]].concat();
    put(&kept.plane, "/registry/secrets/default/poison", &poison);
    let stopped = kept.rotate("resume", &[]).expect(4);
    assert!(
        stopped
            .stderr
            .contains("could not be restored with the servers' keys"),
        "{stopped:?}"
    );
    assert!(
        stopped.stderr.contains("/registry/secrets/default/poison"),
        "{stopped:?}"
    );
    assert_eq!(fs::read(kept.config()).unwrap(), config);
    assert_eq!(kept.names().len(), 5, "{:?}", kept.names());
    let gone = ["del", "/registry/secrets/default/poison"];
    assert!(
        kept.plane
            .etcdctl()
            .args(gone)
            .output()
            .unwrap()
            .status
            .success()
    );
    kept.rotate("resume", &[]).expect(0);
    assert_eq!(kept.manifest().len(), 6);
    stored.assert_readable(&client).await;
}

/// Judged by age itself, which is not the library that encrypts here.
#[tokio::test(flavor = "multi_thread")]
async fn plaintext_and_copies_of_keys_are_for_their_recipients_alone() {
    if !packages::available(&[("age", "age"), ("age-keygen", "age")]) {
        return;
    }
    let kept = Kept::start(Options::default());
    FEW.store(&kept.plane.client(0).await, "sealed")
        .await
        .unwrap();
    let identity = kept.plane.directory().join("identity");
    let mut keygen = Command::new("age-keygen");
    let made = keygen.arg("-o").arg(&identity).output().unwrap();
    let told = String::from_utf8(made.stderr).unwrap();
    let recipient = told.trim().strip_prefix("Public key: ").unwrap();
    let mut text = fs::read_to_string(&kept.file).unwrap();
    text += &format!("escrow: {{recipients: [{recipient}]}}\n");
    fs::write(&kept.file, &text).unwrap();
    let decrypt = |path: &Path| {
        let mut age = Command::new("age");
        let opened = age
            .arg("-d")
            .arg("-i")
            .arg(&identity)
            .arg(path)
            .output()
            .unwrap();
        assert!(opened.status.success(), "{}: {opened:?}", path.display());
        opened.stdout
    };

    let done = kept.rotate("run", &["--to", "secretbox"]).expect(0);
    assert!(!done.stderr.contains("are in plaintext"), "{}", done.stderr);
    let manifest = kept.manifest();
    let [before, after] = &manifest[..] else {
        panic!("{manifest:?}");
    };
    assert_eq!(
        (&before["encrypted"], &after["encrypted"]),
        (&true.into(), &false.into())
    );
    assert_eq!(before["plaintext"], 60);
    let opened = kept.plane.directory().join("opened.db");
    let sealed = kept.dir.join(before["file"].as_str().unwrap());
    fs::write(&opened, decrypt(&sealed)).unwrap();
    let bytes = fs::read(&sealed).unwrap();
    assert!(
        !bytes.windows(7).any(|it| it == b"sealed-"),
        "names are seen in it"
    );
    let paths = [kept.config(), &opened].map(|it| it.display().to_string());
    let counted = atrest::run(["verify", "--config", &paths[0], "--snapshot", &paths[1]]);
    assert!(counted.expect(1).stdout.contains("60  plaintext  identity"));
    kept.rehearse(after, kept.config()).expect(0);

    // The key itself: one file to go on with, and a copy that nobody here reads.
    let state = kept.plane.directory().join("state");
    let only = |folder: &str| {
        let mut entries = fs::read_dir(state.join(folder)).unwrap();
        let path = entries.next().unwrap().unwrap().path();
        assert!(entries.next().is_none(), "{folder}");
        path
    };
    let (plain, copy) = (only("escrow"), only("escrow-copy"));
    assert_eq!(copy.extension().unwrap(), "age");
    assert_eq!(decrypt(&copy), fs::read(&plain).unwrap());

    // What is no recipient is not shown: it may be a private key.
    let private = fs::read_to_string(&identity).unwrap();
    let private = private.lines().last().unwrap();
    fs::write(&kept.file, text.replace(recipient, private)).unwrap();
    let refused = kept.rotate("plan", &[]).expect(2);
    assert!(
        refused.stderr.contains("no recipient of age"),
        "{}",
        refused.stderr
    );
    assert!(!refused.stderr.contains(private));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_disk_at_the_snapshots_leaves_nothing_half() {
    if !rustix::process::geteuid().is_root() || !packages::available(&[("unshare", "util-linux")]) {
        eprintln!("skipped: mounting a full disk needs root");
        return;
    }
    let kept = Kept::start(Options::default());
    FEW.store(&kept.plane.client(0).await, "full")
        .await
        .unwrap();
    fs::create_dir(&kept.dir).unwrap();
    let config = fs::read(kept.config()).unwrap();
    let command = kept.command("run", &["--to", "secretbox", "--plaintext-snapshot"]);
    let script = "mount -t tmpfs -o size=256k tmpfs \"$1\"; full=$1; shift; \
                  status=0; \"$@\" || status=$?; ls -A \"$full\"; exit $status";
    let ended: Ended = Command::new("unshare")
        .args(["--mount", "sh", "-euc", script, "sh"])
        .arg(&kept.dir)
        .arg(command.get_program())
        .args(command.get_args())
        .env_remove("KUBECONFIG")
        .stdin(Stdio::null())
        .output()
        .unwrap()
        .into();
    assert_eq!(ended.status, Some(4), "{ended:?}");
    assert!(
        ended.stderr.contains("No space left on device"),
        "{ended:?}"
    );
    assert_eq!(ended.stdout.trim(), "", "nothing is left behind");
    assert_eq!(fs::read(kept.config()).unwrap(), config);
    kept.rotate("resume", &[]).expect(0);
    assert_eq!(kept.manifest().len(), 2);
}

/// Starts another member of the control plane's etcd, and waits until it serves.
fn add_member(plane: &ControlPlane, name: &str) -> Child {
    let [client, peer] = [(); 2].map(|()| {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        format!("https://{}", listener.local_addr().unwrap())
    });
    let mut add = plane.etcdctl();
    add.args(["member", "add", name, "--peer-urls", &peer]);
    let deadline = Instant::now() + Duration::from_secs(60);
    let added = loop {
        let output = add.output().unwrap();
        if output.status.success() {
            break String::from_utf8(output.stdout).unwrap();
        }
        // Until the member before is heard of often enough.
        assert!(
            Instant::now() < deadline,
            "{}",
            String::from_utf8_lossy(&output.stderr)
        );
    };
    let cluster = added
        .lines()
        .find_map(|it| it.strip_prefix("ETCD_INITIAL_CLUSTER="));
    let cluster = cluster.unwrap().trim_matches('"').to_owned();
    let pki = plane.directory().join("pki/etcd");
    let file = |name: &str| pki.join(name).display().to_string();
    let mut etcd = Command::new(Programs::required().path("etcd"));
    let data = plane.directory().join(name);
    for (flag, value) in [
        ("name", name.to_owned()),
        ("data-dir", data.display().to_string()),
        ("initial-cluster", cluster),
        ("initial-cluster-state", "existing".into()),
        ("initial-advertise-peer-urls", peer.clone()),
        ("listen-peer-urls", peer),
        ("advertise-client-urls", client.clone()),
        ("listen-client-urls", client.clone()),
        ("client-cert-auth", "true".into()),
        ("cert-file", file("server.crt")),
        ("key-file", file("server.key")),
        ("trusted-ca-file", file("ca.crt")),
        ("peer-client-cert-auth", "true".into()),
        ("peer-cert-file", file("peer.crt")),
        ("peer-key-file", file("peer.key")),
        ("peer-trusted-ca-file", file("ca.crt")),
    ] {
        etcd.arg(format!("--{flag}={value}"));
    }
    let log = fs::File::create(data.with_extension("log")).unwrap();
    etcd.stdin(Stdio::null())
        .stdout(log.try_clone().unwrap())
        .stderr(log);
    let member = plane.spawn(&mut etcd).unwrap();
    let mut health = plane.etcdctl();
    health.args(["--endpoints", &client, "endpoint", "health"]);
    while !health.output().unwrap().status.success() {
        assert!(Instant::now() < deadline, "{name} does not serve");
    }
    member
}

/// How many copies under a key `verify --history` finds in a snapshot of the running etcd.
fn copies_under(plane: &ControlPlane, config: &Path, key: &str) -> u64 {
    let saved = crate::history::snapshot(plane, &format!("copies-of-{key}.db"));
    let paths = [config, &saved].map(|it| it.display().to_string());
    let [config, saved] = &paths;
    let counted = atrest::run([
        "verify",
        "--history",
        "--output=json",
        "--config",
        config,
        "--snapshot",
        saved,
    ]);
    let counted = counted.expect(0).json();
    let residue = counted["residue"].as_array().unwrap().iter();
    let of_key = residue.filter(|it| it["key"] == key);
    of_key
        .map(|it| it["superseded"].as_u64().unwrap() + it["freed"].as_u64().unwrap())
        .sum()
}

#[tokio::test(flavor = "multi_thread")]
async fn what_the_old_key_opens_is_removed_from_three_members_of_etcd() {
    let kept = Kept::start(Options::default());
    let plane = &kept.plane;
    let others = ["second", "third"].map(|name| add_member(plane, name));
    let client = plane.client(0).await;
    let stored = FEW.store(&client, "scrubbed").await.unwrap();
    let more = ["--to", "secretbox", "--plaintext-snapshot", "--no-scrub"];
    let done = kept.rotate("run", &more).expect(0);
    assert_eq!(kept.certificate(&done)["scrub"], Value::Null);
    let old = key_names(kept.config()).remove(0);

    let done = kept.rotate("run", &["--no-scrub"]).expect(0);
    assert!(!done.stderr.contains("defragmented"));
    assert!(copies_under(plane, kept.config(), &old) >= stored.len() as u64);
    let middle = key_names(kept.config()).remove(0);

    let done = kept.rotate("run", &[]).expect(0);
    for name in [&old, &middle] {
        assert_eq!(copies_under(plane, kept.config(), name), 0, "{name}");
    }
    let certificate = kept.certificate(&done);
    let members = certificate["scrub"]["members"].as_array().unwrap();
    let mut names: Vec<_> = members
        .iter()
        .map(|it| it["member"].as_str().unwrap())
        .collect();
    // The first member was the leader before there were others.
    assert_eq!(names.pop(), Some("atrest"), "{members:?}");
    assert_eq!(names, ["second", "third"]);
    // The log of the member on this machine still has old values, and that is said.
    let residue = certificate["scrub"]["residue"].as_array().unwrap();
    let wal = residue.iter().filter(|it| it["key"] == old.as_str());
    let mut wal = wal.filter(|it| it["file"].as_str().unwrap().contains("/member/wal/"));
    assert!(
        wal.any(|it| it["count"].as_u64().unwrap() >= stored.len() as u64),
        "{residue:?}"
    );
    assert!(
        done.stderr.contains(&format!("under secretbox {old} in ")),
        "{}",
        done.stderr
    );
    let in_database = |it: &&Value| it["file"].as_str().unwrap().ends_with("/snap/db");
    assert_eq!(residue.iter().find(in_database), None);

    let prefix = format!("k8s:enc:secretbox:v1:{}:", key_names(kept.config())[0]);
    stored_values::assert_prefix(plane, stored.len(), &prefix);
    stored.assert_readable(&client).await;
    for mut member in others {
        member.kill().unwrap();
        member.wait().unwrap();
    }
}
