//! The kit of `tests/corpus/at-rest`. `ATREST_BLESS=1` has upstream write it anew; else upstream is
//! asked whether it still says of each file what stands in it.

use std::collections::BTreeMap;
use std::fs;

use atrest_core::at_rest::Trust;
use atrest_core::encryption_config::{
    EncryptionConfiguration, Format, Key, Provider, ResourceEntry, render,
};
use atrest_core::secret::SecretBytes;
use atrest_proto::stored::EncryptedObject;
use atrest_tests::transformer::{Answer, Transformer};
use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use prost::Message;
use serde_json::Value;

use crate::case::{self, Case, Expect, cases, configuration, digest, fields_and_bytes, files, kit};

const PLACE: &str = "/registry/secrets/default/db";
const OBJECT: &[u8] =
    br#"{"apiVersion":"v1","kind":"Secret","metadata":{"name":"db","namespace":"default"}}"#;

#[test]
fn upstream_reads_the_kit_as_it_says() {
    if std::env::var_os("ATREST_BLESS").is_some() {
        make_values();
    }
    let mut upstream = Upstream::default();
    let cases = cases();
    for case in &cases {
        let name = &case.name;
        let read = upstream.read(&case.configuration, &case.storage_key, &case.value);
        match (&read, &case.expect) {
            (Ok(answer), Expect::Opens | Expect::Stale) => {
                assert_eq!(answer.stale, case.expect == Expect::Stale, "{name}");
                assert_eq!(digest(&answer.data), case.plaintext, "{name}");
            }
            (Err(words), Expect::Fails(_)) => assert_eq!(*words, case.upstream, "{name}"),
            _ => panic!("{name}: {:?}, and upstream says {read:?}", case.expect),
        }
    }
    println!("{} values", cases.len());
}

#[test]
fn upstream_decodes_the_kits_objects_as_they_say() {
    let mut codecs = Transformer::start(&sent(&configuration("identity.yaml")));
    if std::env::var_os("ATREST_BLESS").is_some() {
        make_objects(&mut codecs);
    }
    for path in files(&kit().join("objects")) {
        let name = case::name(&path);
        let (fields, stored) = fields_and_bytes(&path);
        match codecs.decode(&stored) {
            Ok(manifest) => {
                let manifest: Value = serde_json::from_slice(&manifest).unwrap();
                let expected: Value = serde_json::from_str(&fields["manifest"]).unwrap();
                assert_eq!(manifest, expected, "{name}");
            }
            Err(words) => assert_eq!(said(&words), fields["upstream"], "{name}"),
        }
    }
}

/// A process for each configuration.
#[derive(Default)]
struct Upstream(BTreeMap<String, Transformer>);

impl Upstream {
    fn of(&mut self, configuration: &EncryptionConfiguration) -> &mut Transformer {
        let text = sent(configuration);
        let start = || Transformer::start(&text);
        self.0.entry(text.clone()).or_insert_with(start)
    }

    /// What it makes of a value, or its words for why not.
    fn read(&mut self, file: &str, storage_key: &str, value: &[u8]) -> Result<Answer, String> {
        let transformer = self.of(&configuration(file));
        transformer
            .read(storage_key, value)
            .map_err(|words| said(&words))
    }

    /// A value that this provider writes.
    fn write(&mut self, provider: &Provider, plaintext: &[u8]) -> Vec<u8> {
        let configuration = EncryptionConfiguration {
            resources: vec![ResourceEntry {
                resources: vec!["secrets".into()],
                providers: vec![provider.clone()],
            }],
        };
        let written = self.of(&configuration).write(PLACE, plaintext);
        written.unwrap().data
    }

    /// What stands behind the key's name.
    fn body(&mut self, provider: &Provider, plaintext: &[u8]) -> Vec<u8> {
        let value = self.write(provider, plaintext);
        value[prefix(provider).len()..].to_vec()
    }
}

/// As the process takes it: with `V1` and `V2` for the plugins' endpoints.
fn sent(configuration: &EncryptionConfiguration) -> String {
    let text = render(configuration, Format::Yaml);
    let text = std::str::from_utf8(text.expose()).unwrap();
    text.replace("unix:///kms1.sock", "V1")
        .replace("unix:///kms2.sock", "V2")
}

/// Go's protobuf puts spaces of another kind into its errors in half of all builds, so that nobody
/// compares them.
fn said(words: &str) -> String {
    words.replace(['\u{a0}', '\n'], " ")
}

/// A provider of a configuration of the kit, with one of its keys.
fn provider(file: &str, place: usize, key: usize) -> Provider {
    let mut provider = configuration(file).resources[0].providers[place].clone();
    if let Some(keys) = provider.keys_mut() {
        *keys = vec![keys[key].clone()];
    }
    provider
}

/// A key that a plugin would have wrapped.
fn unwrapped(provider: fn(Vec<Key>) -> Provider, length: usize) -> (Provider, Vec<u8>) {
    let bytes: Vec<u8> = (1..=length as u8).collect();
    let key = Key {
        name: "k".into(),
        secret: SecretBytes::new(bytes.clone()),
    };
    (provider(vec![key]), bytes)
}

fn prefix(provider: &Provider) -> Vec<u8> {
    let name = provider.keys().first().map_or("", |key| &key.name);
    match provider {
        Provider::AesCbc(_) => format!("k8s:enc:aescbc:v1:{name}:"),
        Provider::AesGcm(_) => format!("k8s:enc:aesgcm:v1:{name}:"),
        Provider::Secretbox(_) => format!("k8s:enc:secretbox:v1:{name}:"),
        Provider::Kms(kms) => format!("k8s:enc:kms:{}:{}:", kms.api_version, kms.name),
        Provider::Identity => String::new(),
    }
    .into_bytes()
}

/// What we want to show; upstream has to agree.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Intent {
    Opens,
    Stale,
    Fails,
}

use Intent::{Fails, Opens, Stale};

/// The kit that is made.
struct Maker {
    upstream: Upstream,
    cases: Vec<Case>,
    /// The folder and the configuration of what is added next.
    group: &'static str,
    reader: &'static str,
}

impl Maker {
    fn add(&mut self, name: &str, what: &str, intent: Intent, value: &[u8]) {
        self.add_at(name, what, intent, PLACE, value);
    }

    fn add_by(&mut self, reader: &'static str, add: (&str, &str, Intent, &[u8])) {
        let (name, what, intent, value) = add;
        let before = std::mem::replace(&mut self.reader, reader);
        self.add(name, what, intent, value);
        self.reader = before;
    }

    fn add_at(&mut self, name: &str, what: &str, intent: Intent, place: &str, value: &[u8]) {
        let mut case = Case {
            name: format!("{}/{name}", self.group),
            what: what.into(),
            expect: Expect::Opens,
            upstream: String::new(),
            configuration: self.reader.into(),
            storage_key: place.into(),
            plaintext: String::new(),
            value: value.into(),
        };
        let seen = match self.upstream.read(self.reader, place, value) {
            Ok(answer) => {
                case.plaintext = digest(&answer.data);
                if answer.stale {
                    case.expect = Expect::Stale;
                }
                if answer.stale { Stale } else { Opens }
            }
            Err(words) => {
                case.upstream = words;
                let ours = case.read(Trust::Upstream);
                let ours = ours.expect_err(&format!("{}: upstream does not read it", case.name));
                case.expect = Expect::Fails(ours.to_string());
                Fails
            }
        };
        // By chance a wrong key makes something of CBC, once in 256 times: make the kit once more.
        assert_eq!(seen, intent, "{}: {what}; {}", case.name, case.upstream);
        assert!(self.cases.iter().all(|other| other.name != case.name));
        self.cases.push(case);
    }

    /// Cuts and changes of each part of a body that is authenticated.
    fn damage(
        &mut self,
        of: &str,
        body: &[u8],
        parts: &[(&str, usize)],
        wrap: &dyn Fn(&[u8]) -> Vec<u8>,
    ) {
        let mut start = 0;
        for (part, length) in parts {
            let slug = part.replace(' ', "-");
            let last = start + length - 1;
            for (name, what, end) in [
                ("before", "cut off before", start),
                ("in", "cut off a byte before the end of", last),
            ] {
                let what = format!("{of}{what} the {part}");
                let name = format!("{of}cut-{name}-{slug}");
                self.add(&slugged(&name), &what, Fails, &wrap(&body[..end]));
            }
            for (name, at) in [("first", start), ("last", last)] {
                let what = format!("{of}the {name} byte of the {part} is another one");
                let name = format!("{of}{name}-of-{slug}-changed");
                let mut body = body.to_vec();
                body[at] ^= 0x10;
                self.add(&slugged(&name), &what, Fails, &wrap(&body));
            }
            start = last + 1;
        }
        assert_eq!(start, body.len(), "the parts are the whole");
        let longer = [body, b"\0"].concat();
        let name = slugged(&format!("{of}one-byte-more"));
        self.add(&name, &format!("{of}one byte more"), Fails, &wrap(&longer));
    }

    /// Other places, for what is bound to its own.
    fn moved(&mut self, of: &str, intent: Intent, value: &[u8]) {
        let places = [
            ("name", "/registry/secrets/default/db2"),
            ("namespace", "/registry/secrets/other/db"),
            ("resource", "/registry/configmaps/default/db"),
            ("prefix", "/kubernetes.io/secrets/default/db"),
            ("case", "/registry/secrets/default/DB"),
            ("slash", "/registry/secrets/default/db/"),
            ("nowhere", ""),
        ];
        // Of what is bound to no place, one is enough.
        let count = if intent == Fails { places.len() } else { 1 };
        for (name, place) in &places[..count] {
            let what = format!("{of}read under another storage key: {name}");
            let name = slugged(&format!("{of}moved-{name}"));
            self.add_at(&name, &what, intent, place, value);
        }
    }

    /// What stands before a body that is whole.
    fn prefixes(&mut self, provider: &Provider, value: &[u8]) {
        let whole = prefix(provider);
        let body = &value[whole.len()..];
        let text = String::from_utf8(whole.clone()).unwrap();
        let parts: Vec<_> = text.split(':').collect();
        let [_, _, kind, version, name, _] = parts[..] else {
            panic!("{text}");
        };
        let other = if kind == "aesgcm" { "aescbc" } else { "aesgcm" };
        for (slug, what, prefix) in [
            (
                "prefix-alone",
                "nothing but the prefix and the name",
                text.clone(),
            ),
            ("no-name", "no name", format!("k8s:enc:{kind}:{version}:")),
            (
                "empty-name",
                "an empty name",
                format!("k8s:enc:{kind}:{version}::"),
            ),
            (
                "no-colon",
                "no colon behind the name",
                text.trim_end_matches(':').into(),
            ),
            (
                "longer-name",
                "a name that begins with the key's",
                format!("k8s:enc:{kind}:{version}:{name}x:"),
            ),
            (
                "shorter-name",
                "the beginning of the key's name",
                format!("k8s:enc:{kind}:{version}:{}:", &name[..2]),
            ),
            (
                "other-version",
                "a version that never was",
                format!("k8s:enc:{kind}:v0:{name}:"),
            ),
            (
                "other-provider",
                "the prefix of another provider",
                format!("k8s:enc:{other}:v1:{name}:"),
            ),
            ("prefix-twice", "the prefix twice", text.repeat(2)),
            ("space", "a space before the body", format!("{text} ")),
        ] {
            let body = if slug == "prefix-alone" { b"" } else { body };
            let value = [prefix.as_bytes(), body].concat();
            self.add(slug, what, Fails, &value);
        }
        let what = "read without the provider that wrote it";
        self.add_by("identity.yaml", ("no-provider", what, Fails, value));
        let (what, intent) = match kind == "kms" && version == "v2" {
            true => ("before other providers", Opens),
            false => ("behind another provider", Stale),
        };
        self.add_by("every.yaml", ("in-a-chain", what, intent, value));
    }
}

fn slugged(name: &str) -> String {
    name.replace(": ", "-").replace(' ', "-")
}

fn make_values() {
    let mut maker = Maker {
        upstream: Upstream::default(),
        cases: Vec::new(),
        group: "",
        reader: "",
    };
    identity(&mut maker);
    aesgcm(&mut maker);
    aescbc(&mut maker);
    secretbox(&mut maker);
    names(&mut maker);
    kms1(&mut maker);
    kms2(&mut maker);
    for path in files(&kit()) {
        if path.is_dir() && !path.ends_with("objects") {
            fs::remove_dir_all(path).unwrap();
        }
    }
    for case in &maker.cases {
        write(case);
    }
    let readable = |case: &&Case| case.upstream.is_empty() && case.storage_key == PLACE;
    let seed = |case: &Case| {
        // Which of the target's chains.
        let chain = if case.configuration == "colons.yaml" {
            12
        } else {
            0
        };
        (case.name.clone(), [&[chain], &*case.value].concat())
    };
    let seeds: Vec<_> = maker.cases.iter().filter(readable).map(seed).collect();
    write_seeds("stored_value", &seeds);
}

/// What the fuzzer begins with, in `core/fuzz/corpus`.
fn write_seeds(target: &str, seeds: &[(String, Vec<u8>)]) {
    let folder = kit().join("../../../core/fuzz/corpus").join(target);
    let _ = fs::remove_dir_all(&folder);
    fs::create_dir_all(&folder).unwrap();
    for (name, bytes) in seeds {
        fs::write(folder.join(name.replace('/', "-")), bytes).unwrap();
    }
}

fn write(case: &Case) {
    let expect = match &case.expect {
        Expect::Opens => "opens".to_owned(),
        Expect::Stale => "stale".to_owned(),
        Expect::Fails(reason) => format!("fails: {reason}"),
    };
    write_file(
        &case.name,
        &[
            ("what", &case.what),
            ("expect", &expect),
            ("upstream", &case.upstream),
            ("configuration", &case.configuration),
            ("storage-key", &case.storage_key),
            ("plaintext-sha256", &case.plaintext),
        ],
        &case.value,
    );
}

fn write_file(name: &str, fields: &[(&str, &str)], bytes: &[u8]) {
    let mut text = String::new();
    for (name, value) in fields.iter().filter(|(_, value)| !value.is_empty()) {
        text.push_str(&format!("{name}: {value}\n"));
    }
    text.push('\n');
    for line in BASE64_STANDARD.encode(bytes).as_bytes().chunks(76) {
        text.push_str(std::str::from_utf8(line).unwrap());
        text.push('\n');
    }
    let path = kit().join(name);
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(path, text).unwrap();
}

fn identity(maker: &mut Maker) {
    (maker.group, maker.reader) = ("identity", "identity.yaml");
    maker.add("json", "an object as JSON", Opens, OBJECT);
    maker.add("protobuf", "the magic of protobuf", Opens, b"k8s\0\x0a\0");
    maker.add("empty", "nothing", Opens, b"");
    maker.add("binary", "bytes that are no text", Opens, b"\xff\0\x80");
    maker.add("short", "all but the last colon", Opens, b"k8s:enc");
    maker.add("capitals", "other letters", Opens, b"K8S:ENC:aesgcm");
    maker.add("space", "a space before", Opens, b" k8s:enc:aesgcm:v1:k32:");
    for (name, what, value) in [
        ("reserved", "the reserved prefix alone", &b"k8s:enc:"[..]),
        (
            "unknown",
            "a provider that never was",
            b"k8s:enc:rot13:v1:k:xyz",
        ),
        ("aescbc", "a prefix of aescbc", b"k8s:enc:aescbc:v1:k:xyz"),
        (
            "kms",
            "a version of KMS that never was",
            b"k8s:enc:kms:v3:plug:xyz",
        ),
        (
            "identity",
            "identity writes no prefix",
            b"k8s:enc:identity:v1:xyz",
        ),
    ] {
        maker.add(&format!("encrypted-{name}"), what, Fails, value);
        let name = format!("encrypted-{name}-in-a-chain");
        maker.add_by("every.yaml", (&name, what, Fails, value));
    }
    let what = "plaintext behind providers that encrypt";
    maker.add_by("every.yaml", ("in-a-chain", what, Stale, OBJECT));
    let what = "plaintext where nothing reads it";
    maker.add_by("aesgcm.yaml", ("not-in-the-chain", what, Fails, OBJECT));
}

/// Each key, and lengths of plaintext.
fn whole(maker: &mut Maker, keys: usize) {
    for key in 0..keys {
        let provider = provider(maker.reader, 0, key);
        let name = provider.keys()[0].name.clone();
        let value = maker.upstream.write(&provider, OBJECT);
        let intent = if key == 0 { Opens } else { Stale };
        maker.add(
            &format!("by-{name}"),
            &format!("written by {name}"),
            intent,
            &value,
        );
    }
    let first = provider(maker.reader, 0, 0);
    for length in [0, 1, 15, 16, 17, 255] {
        let value = maker.upstream.write(&first, &vec![b'x'; length]);
        let what = format!("{length} bytes of plaintext");
        maker.add(&format!("{length}-bytes"), &what, Opens, &value);
    }
    let value = maker.upstream.write(&first, OBJECT);
    let what = "the name is right, the key is another one";
    maker.add_by("other.yaml", ("other-bytes", what, Fails, &value));
    let second = provider(maker.reader, 0, 1);
    let swapped = [&prefix(&second), &value[prefix(&first).len()..]].concat();
    maker.add("other-name", "the name of another key", Fails, &swapped);
    maker.prefixes(&first, &value);
}

fn aesgcm(maker: &mut Maker) {
    (maker.group, maker.reader) = ("aesgcm", "aesgcm.yaml");
    whole(maker, 3);
    let provider = provider(maker.reader, 0, 0);
    let body = maker.upstream.body(&provider, OBJECT);
    let prefix = prefix(&provider);
    let wrap = |body: &[u8]| [&prefix, body].concat();
    let parts = [("nonce", 12), ("ciphertext", OBJECT.len()), ("tag", 16)];
    maker.damage("", &body, &parts, &wrap);
    maker.moved("", Fails, &wrap(&body));
    maker.add("zeros", "nothing but zeros", Fails, &wrap(&[0; 64]));
    let swapped = [&body[12..], &body[..12]].concat();
    maker.add(
        "nonce-last",
        "the nonce behind the tag",
        Fails,
        &wrap(&swapped),
    );
}

fn secretbox(maker: &mut Maker) {
    (maker.group, maker.reader) = ("secretbox", "secretbox.yaml");
    whole(maker, 2);
    let provider = provider(maker.reader, 0, 0);
    let body = maker.upstream.body(&provider, OBJECT);
    let prefix = prefix(&provider);
    let wrap = |body: &[u8]| [&prefix, body].concat();
    let parts = [("nonce", 24), ("tag", 16), ("ciphertext", OBJECT.len())];
    maker.damage("", &body, &parts, &wrap);
    maker.moved("", Opens, &wrap(&body));
    let swapped = [&body[..24], &body[40..], &body[24..40]].concat();
    maker.add(
        "tag-last",
        "the tag behind the ciphertext",
        Fails,
        &wrap(&swapped),
    );
}

fn aescbc(maker: &mut Maker) {
    (maker.group, maker.reader) = ("aescbc", "aescbc.yaml");
    whole(maker, 3);
    let provider = provider(maker.reader, 0, 0);
    let prefix = prefix(&provider);
    let wrap = |body: &[u8]| [&prefix, body].concat();
    // Two blocks, the second one of which is padding.
    let body = maker.upstream.body(&provider, b"sixteen bytes...");
    for end in [1, 15, 16, 17, 31, 33, 47] {
        let what = format!("{end} bytes of IV and blocks");
        maker.add(&format!("cut-to-{end}"), &what, Fails, &wrap(&body[..end]));
    }
    let what = "cut off at a block: the rest ends with no padding";
    maker.add("cut-to-32", what, Fails, &wrap(&body[..32]));
    maker.add(
        "one-byte-more",
        "no whole block",
        Fails,
        &wrap(&[&body, &b"\0"[..]].concat()),
    );
    maker.moved("", Opens, &wrap(&body));
    // The last byte of a block changes the one of the block behind it.
    for (name, what, padding) in [
        ("padding-0", "padding of no length", 0),
        ("padding-1", "padding that is shorter is padding too", 1),
        ("padding-15", "padding of which the bytes differ", 15),
        (
            "padding-17",
            "padding that is longer than a block and differs",
            17,
        ),
        ("padding-33", "padding that is longer than all", 33),
        ("padding-255", "padding that is longer than all", 255),
    ] {
        let mut body = body.clone();
        body[31] ^= 16 ^ padding;
        let intent = if padding == 1 { Opens } else { Fails };
        maker.add(name, what, intent, &wrap(&body));
    }
    let mut changed = body.clone();
    changed[0] ^= 1;
    let what = "a byte of the IV is another one, and so one of the plaintext: nothing notices";
    maker.add("first-of-iv-changed", what, Opens, &wrap(&changed));
    let mut changed = body.clone();
    changed[16 + 3] ^= 1;
    let what = "a byte of the first block changes one of the padding";
    maker.add("padding-changed", what, Fails, &wrap(&changed));
    let three = maker.upstream.body(&provider, &[b'x'; 40]);
    let mut changed = three.clone();
    changed[16] ^= 1;
    let what = "a changed block is garbage, and the rest is read";
    maker.add("first-of-block-changed", what, Opens, &wrap(&changed));
    let swapped = [&three[..16], &three[32..48], &three[16..32], &three[48..]].concat();
    maker.add(
        "blocks-swapped",
        "the last block is garbage",
        Fails,
        &wrap(&swapped),
    );
    // What upstream pads again, without that.
    let long = [&b"xxxxxxxxxxxx"[..], &[20; 20]].concat();
    let padded = maker.upstream.body(&provider, &long);
    let what = "padding that is longer than a block";
    maker.add("padding-20", what, Opens, &wrap(&padded[..48]));
    let padded = maker.upstream.body(&provider, &[32; 32]);
    maker.add(
        "padding-alone",
        "nothing but padding",
        Opens,
        &wrap(&padded[..48]),
    );
}

/// Names of which one is the beginning of another one, and one name over two keys.
fn names(maker: &mut Maker) {
    (maker.group, maker.reader) = ("names", "colons.yaml");
    for place in 0..3 {
        let first = provider(maker.reader, place, 0);
        let second = provider(maker.reader, place, 1);
        let kind = String::from_utf8(prefix(&first)).unwrap();
        let kind = kind.split(':').nth(2).unwrap().to_owned();
        let by_first = maker.upstream.write(&first, OBJECT);
        let by_second = maker.upstream.write(&second, OBJECT);
        let intent = if place == 0 { Opens } else { Stale };
        maker.add(&format!("{kind}-a"), "written by a", intent, &by_first);
        let what = "written by a:b, and a is asked first";
        maker.add(&format!("{kind}-a-b"), what, Stale, &by_second);
        let longer = [&prefix(&second), &by_first[prefix(&first).len()..]].concat();
        let what = "written by a, under the name a:b";
        maker.add(&format!("{kind}-a-as-a-b"), what, Fails, &longer);
        let shorter = [&prefix(&first), &by_second[prefix(&second).len()..]].concat();
        let what = "written by a:b, under the name a";
        maker.add(&format!("{kind}-a-b-as-a"), what, Fails, &shorter);
        let cut = &by_second[..prefix(&second).len()];
        maker.add(&format!("{kind}-a-b-alone"), "no body", Fails, cut);
    }
    let plugin = provider(maker.reader, 3, 0);
    let value = maker.upstream.write(&plugin, OBJECT);
    maker.add("kms1-a-b", "a plugin's name with a colon", Stale, &value);
    let body = &value[prefix(&plugin).len()..];
    let shorter = [&b"k8s:enc:kms:v1:a:"[..], body].concat();
    maker.add(
        "kms1-a",
        "the beginning of the plugin's name",
        Fails,
        &shorter,
    );

    maker.reader = "twice.yaml";
    for (place, kind) in ["aesgcm", "secretbox"].iter().enumerate() {
        for (key, intent) in [(0, if place == 0 { Opens } else { Stale }), (1, Stale)] {
            let provider = provider(maker.reader, place, key);
            let value = maker.upstream.write(&provider, OBJECT);
            let name = format!("{kind}-twice-{}", key + 1);
            let what = format!("one name over two keys, written by key {}", key + 1);
            maker.add(&name, &what, intent, &value);
            let mut changed = value.clone();
            *changed.last_mut().unwrap() ^= 1;
            let what = "one name over two keys, neither of which reads it";
            maker.add(&format!("{name}-changed"), what, Fails, &changed);
        }
    }
}

fn wrapped(word: &str, key: &[u8]) -> Vec<u8> {
    let masked: Vec<_> = key.iter().map(|byte| byte ^ 0x5a).collect();
    [word.as_bytes(), &masked].concat()
}

fn kms1(maker: &mut Maker) {
    (maker.group, maker.reader) = ("kms1", "kms1.yaml");
    let plugin = provider(maker.reader, 0, 0);
    let prefix = prefix(&plugin);
    let wrap = |body: &[u8]| [&prefix, body].concat();
    let envelope = |length: usize, wrapped: &[u8], payload: &[u8]| {
        let length = (length as u16).to_be_bytes();
        [&prefix, &length[..], wrapped, payload].concat()
    };
    let body = maker.upstream.body(&plugin, OBJECT);
    let value = wrap(&body);
    maker.add("whole", "written by the plugin", Opens, &value);
    let parts = [
        ("length", 2),
        ("wrapped key", "v1wrapped:".len() + 32),
        ("nonce", 12),
        ("ciphertext", OBJECT.len()),
        ("tag", 16),
    ];
    maker.damage("", &body, &parts, &wrap);
    maker.moved("", Fails, &value);
    maker.prefixes(&plugin, &value);
    let empty = maker.upstream.write(&plugin, b"");
    maker.add("0-bytes", "no plaintext", Opens, &empty);

    for length in [16, 24, 32] {
        let (gcm, key) = unwrapped(Provider::AesGcm, length);
        let payload = maker.upstream.body(&gcm, OBJECT);
        let key = wrapped("v1wrapped:", &key);
        let value = envelope(key.len(), &key, &payload);
        let what = format!("a data-encryption key of {length} bytes");
        maker.add(&format!("key-of-{length}"), &what, Opens, &value);
        let (cbc, _) = unwrapped(Provider::AesCbc, length);
        let payload = maker.upstream.body(&cbc, OBJECT);
        let value = envelope(key.len(), &key, &payload);
        let what = format!("as Kubernetes 1.24 wrote it, a key of {length} bytes");
        maker.add(&format!("cbc-key-of-{length}"), &what, Stale, &value);
    }
    let (cbc, key) = unwrapped(Provider::AesCbc, 32);
    let payload = maker.upstream.body(&cbc, b"sixteen bytes...");
    let key = wrapped("v1wrapped:", &key);
    let old = envelope(key.len(), &key, &payload);
    maker.moved("cbc: ", Stale, &old);
    let what = "as Kubernetes 1.24 wrote it, behind another provider";
    maker.add_by("every.yaml", ("cbc-in-a-chain", what, Stale, &old));
    for end in [0, 1, 12, 15, 17, 28, 31, 32, 33, 47] {
        let value = envelope(key.len(), &key, &payload[..end]);
        let what = format!("as Kubernetes 1.24 wrote it, cut off behind {end} bytes");
        maker.add(&format!("cbc-cut-to-{end}"), &what, Fails, &value);
    }
    let mut changed = payload.clone();
    changed[31] ^= 16;
    let value = envelope(key.len(), &key, &changed);
    maker.add("cbc-padding-0", "padding of no length", Fails, &value);

    let (gcm, _) = unwrapped(Provider::AesGcm, 32);
    let payload = maker.upstream.body(&gcm, OBJECT);
    for (name, what, length) in [
        ("length-0", "it says that there is no wrapped key", 0),
        ("length-1", "it says that the wrapped key is shorter", 1),
        (
            "length-less",
            "it says that the wrapped key is a byte shorter",
            key.len() - 1,
        ),
        (
            "length-more",
            "it says that the wrapped key is a byte longer",
            key.len() + 1,
        ),
        (
            "length-all",
            "it says that all is the wrapped key",
            key.len() + payload.len(),
        ),
        (
            "length-beyond",
            "it says more than there is",
            key.len() + payload.len() + 1,
        ),
        ("length-most", "it says the most that can be said", 0xffff),
        (
            "length-swapped",
            "the length is little-endian",
            key.len() << 8,
        ),
    ] {
        maker.add(name, what, Fails, &envelope(length, &key, &payload));
    }
    for (name, what, key) in [
        (
            "key-of-0",
            "a data-encryption key of no bytes",
            wrapped("v1wrapped:", b""),
        ),
        (
            "key-of-17",
            "a data-encryption key of 17 bytes",
            wrapped("v1wrapped:", &[7; 17]),
        ),
        (
            "key-of-33",
            "a data-encryption key of 33 bytes",
            wrapped("v1wrapped:", &[7; 33]),
        ),
        (
            "key-of-v2",
            "a key that a plugin of the second API wrapped",
            wrapped("wrapped:", &[7; 32]),
        ),
        ("key-in-clear", "a key that no plugin wrapped", vec![7; 32]),
    ] {
        maker.add(name, what, Fails, &envelope(key.len(), &key, &payload));
    }
    let as_v2 = [&b"k8s:enc:kms:v2:plug:"[..], &body].concat();
    maker.add("as-v2", "the prefix of the second API", Fails, &as_v2);
    let what = "the prefix of the second API, with both there";
    maker.add_by("every.yaml", ("as-v2-in-a-chain", what, Fails, &as_v2));
}

fn kms2(maker: &mut Maker) {
    (maker.group, maker.reader) = ("kms2", "kms2.yaml");
    let plugin = provider(maker.reader, 0, 0);
    let prefix = prefix(&plugin);
    let wrap = |body: &[u8]| [&prefix, body].concat();
    let encode = |object: &EncryptedObject| wrap(&object.encode_to_vec());
    let body = maker.upstream.body(&plugin, OBJECT);
    let written = EncryptedObject::decode(&*body).unwrap();
    assert_eq!(written.encrypted_dek_source_type, 1);
    let value = wrap(&body);
    maker.add("seed", "written by the plugin", Opens, &value);
    let with_data = |data: &[u8]| EncryptedObject {
        encrypted_data: data.to_vec(),
        ..written.clone()
    };
    let parts = [
        ("info", 32),
        ("nonce", 12),
        ("ciphertext", OBJECT.len()),
        ("tag", 16),
    ];
    let data = written.encrypted_data.clone();
    maker.damage("", &data, &parts, &|data| encode(&with_data(data)));
    maker.moved("", Fails, &value);
    maker.prefixes(&plugin, &value);
    let empty = maker.upstream.write(&plugin, b"");
    maker.add("0-bytes", "no plaintext", Opens, &empty);

    // What Kubernetes up to 1.28 wrote.
    let (gcm, key) = unwrapped(Provider::AesGcm, 32);
    let data = maker.upstream.body(&gcm, OBJECT);
    let old = EncryptedObject {
        encrypted_data: data.clone(),
        encrypted_dek_source: wrapped("wrapped:", &key),
        encrypted_dek_source_type: 0,
        ..written.clone()
    };
    maker.add("key", "as Kubernetes 1.28 wrote it", Stale, &encode(&old));
    let parts = [("nonce", 12), ("ciphertext", OBJECT.len()), ("tag", 16)];
    maker.damage("key: ", &data, &parts, &|data| {
        encode(&EncryptedObject {
            encrypted_data: data.to_vec(),
            ..old.clone()
        })
    });
    maker.moved("key: ", Fails, &encode(&old));
    for length in [16, 24] {
        let (gcm, key) = unwrapped(Provider::AesGcm, length);
        let object = EncryptedObject {
            encrypted_data: maker.upstream.body(&gcm, OBJECT),
            encrypted_dek_source: wrapped("wrapped:", &key),
            ..old.clone()
        };
        let what = format!("a key of {length} bytes");
        maker.add(&format!("key-of-{length}"), &what, Stale, &encode(&object));
    }
    // Written with CBC under a plugin of the first API only.
    let (cbc, key) = unwrapped(Provider::AesCbc, 32);
    let object = EncryptedObject {
        encrypted_data: maker.upstream.body(&cbc, OBJECT),
        encrypted_dek_source: wrapped("wrapped:", &key),
        ..old.clone()
    };
    maker.add(
        "key-cbc",
        "a cipher that this API never had",
        Fails,
        &encode(&object),
    );

    type Change = fn(&mut EncryptedObject);
    let changes: &[(&str, &str, Intent, Change)] = &[
        (
            "other-key-id",
            "a key_id that is not the plugin's any more",
            Stale,
            |it| {
                it.key_id = "key-id-0".into();
            },
        ),
        ("key-id-of-1024", "the longest key_id", Stale, |it| {
            it.key_id = "k".repeat(1024)
        }),
        ("key-id-of-1025", "a key_id that is too long", Fails, |it| {
            it.key_id = "k".repeat(1025)
        }),
        ("no-key-id", "no key_id", Fails, |it| it.key_id.clear()),
        ("no-data", "no data", Fails, |it| it.encrypted_data.clear()),
        ("no-source", "no wrapped key", Fails, |it| {
            it.encrypted_dek_source.clear()
        }),
        (
            "source-of-1025",
            "a wrapped key that is too long",
            Fails,
            |it| {
                it.encrypted_dek_source.resize(1025, 0);
            },
        ),
        (
            "source-of-v1",
            "a key that a plugin of the first API wrapped",
            Fails,
            |it| {
                it.encrypted_dek_source.splice(..0, *b"v1");
            },
        ),
        (
            "source-in-clear",
            "a seed that no plugin wrapped",
            Fails,
            |it| {
                it.encrypted_dek_source = vec![7; 32];
            },
        ),
        ("source-changed", "another seed", Fails, |it| {
            *it.encrypted_dek_source.last_mut().unwrap() ^= 1;
        }),
        ("seed-of-31", "a seed that is too short", Fails, |it| {
            it.encrypted_dek_source.pop();
        }),
        ("seed-of-33", "a seed with a byte more", Fails, |it| {
            it.encrypted_dek_source.push(0)
        }),
        ("seed-as-key", "a seed, taken for a key", Fails, |it| {
            it.encrypted_dek_source_type = 0
        }),
        ("type-2", "a type that is to come", Fails, |it| {
            it.encrypted_dek_source_type = 2
        }),
        ("type-minus-1", "a type below all", Fails, |it| {
            it.encrypted_dek_source_type = -1
        }),
        ("no-annotations", "no annotations", Opens, |it| {
            it.annotations.clear()
        }),
        ("annotations", "annotations of valid names", Opens, |it| {
            for name in ["dev.k8s.io.", "10.0.0.1", "a.b"] {
                it.annotations.insert(name.into(), b"\xff".to_vec());
            }
        }),
        (
            "annotation-com",
            "an annotation's name is no domain name",
            Fails,
            |it| {
                it.annotations.insert("com".into(), Vec::new());
            },
        ),
        (
            "annotation-empty",
            "an annotation without a name",
            Fails,
            |it| {
                it.annotations.insert(String::new(), Vec::new());
            },
        ),
        (
            "annotation-capital",
            "an annotation's name has a capital letter",
            Fails,
            |it| {
                it.annotations.insert("Dev.k8s.io".into(), Vec::new());
            },
        ),
        (
            "annotation-label",
            "an annotation's name has a label of 64 letters",
            Fails,
            |it| {
                it.annotations
                    .insert(format!("{}.io", "a".repeat(64)), Vec::new());
            },
        ),
        (
            "annotation-name",
            "an annotation's name has 255 letters",
            Fails,
            |it| {
                it.annotations.insert("a.".repeat(127) + "a", Vec::new());
            },
        ),
        (
            "annotations-too-large",
            "more than 32 KiB of annotations",
            Fails,
            |it| {
                it.annotations.insert("a.b".into(), vec![0; 32 << 10]);
            },
        ),
    ];
    for (name, what, intent, change) in changes {
        let mut object = written.clone();
        change(&mut object);
        maker.add(name, what, *intent, &encode(&object));
    }
    let mut object = old.clone();
    object.encrypted_dek_source_type = 1;
    maker.add(
        "key-as-seed",
        "a key, taken for a seed",
        Fails,
        &encode(&object),
    );
    object = old.clone();
    object.encrypted_dek_source = wrapped("wrapped:", &[7; 17]);
    maker.add("key-of-17", "a key of 17 bytes", Fails, &encode(&object));

    // The message itself.
    let with = |more: &[u8]| [&value, more].concat();
    maker.add(
        "field-unknown",
        "a field that is to come",
        Opens,
        &with(b"\x32\x01x"),
    );
    maker.add(
        "field-twice",
        "the last key_id counts",
        Stale,
        &with(b"\x12\x01k"),
    );
    let what = "a key_id that is no UTF-8";
    maker.add("key-id-no-text", what, Fails, &with(b"\x12\x01\xff"));
    maker.add(
        "field-0",
        "a field of the number 0",
        Fails,
        &with(b"\x02\0"),
    );
    maker.add(
        "field-cut-off",
        "a field is cut off",
        Fails,
        &with(b"\x32\x02x"),
    );
    maker.add(
        "field-of-no-type",
        "a field of a type that is none",
        Fails,
        &with(b"\x37"),
    );
    maker.add(
        "tag-cut-off",
        "the last field has no length",
        Fails,
        &with(b"\x32"),
    );
    // Passed over, as what is not known.
    for (name, what, bytes) in [
        ("type-of-data", "data that is a number", &b"\x08\x01"[..]),
        ("type-of-key-id", "a key_id that is a number", b"\x10\x01"),
        (
            "type-of-source",
            "a wrapped key of four bytes without a length",
            b"\x1d\x01\0\0\0",
        ),
        (
            "type-of-annotations",
            "annotations of eight bytes without a length",
            b"\x21\0\0\0\0\0\0\0\0",
        ),
        ("type-of-type", "a type that is text", b"\x2a\x01x"),
        (
            "type-in-annotation",
            "an annotation's value that is a number",
            b"\x22\x07\x0a\x03a.b\x10\x01",
        ),
        ("group", "a group of old", b"\x33\x08\x01\x34"),
    ] {
        maker.add(name, what, Opens, &with(bytes));
    }
    let what = "an annotation whose name is a number has none";
    maker.add("type-of-name", what, Fails, &with(b"\x22\x02\x08\x01"));
    maker.add(
        "group-open",
        "a group without an end",
        Fails,
        &with(b"\x33\x08\x01"),
    );
    maker.add("group-closed", "the end of no group", Fails, &with(b"\x34"));
    let what = "a type of more bits: the low ones count";
    maker.add(
        "type-large",
        what,
        Opens,
        &with(b"\x28\x81\x80\x80\x80\x10"),
    );
    maker.add(
        "length-beyond",
        "a length that has no end",
        Fails,
        &with(&[0xff; 11]),
    );
    maker.add(
        "cut-in-half",
        "cut off",
        Fails,
        &value[..prefix.len() + body.len() / 2],
    );
    maker.add(
        "cut-by-one",
        "the last byte is missing",
        Fails,
        &value[..value.len() - 1],
    );
    maker.add(
        "empty-message",
        "nothing but a type",
        Fails,
        &wrap(b"\x28\x01"),
    );
    maker.add("no-message", "text", Fails, &wrap(b"hunter2"));
    let as_v1 = [&b"k8s:enc:kms:v1:plug:"[..], &body].concat();
    maker.add("as-v1", "the prefix of the first API", Fails, &as_v1);
    let what = "the prefix of the first API, with both there";
    maker.add_by("every.yaml", ("as-v1-in-a-chain", what, Fails, &as_v1));
}

fn make_objects(codecs: &mut Transformer) {
    let secret = codecs
        .encode(include_bytes!("objects/secret.json"))
        .unwrap();
    let config_map = codecs
        .encode(include_bytes!("objects/configmap.json"))
        .unwrap();
    let bare = codecs
        .encode(br#"{"apiVersion":"v1","kind":"Secret"}"#)
        .unwrap();
    let json = include_bytes!("objects/secret.json").to_vec();
    let widget = br#"{"apiVersion":"example.com/v1","kind":"Widget","metadata":{"name":"w","namespace":"default","uid":"u"},"spec":{"size":3,"list":[1,null,{"a":"b"}]}}"#.to_vec();
    let _ = fs::remove_dir_all(kit().join("objects"));
    let mut seeds = Vec::new();
    let mut add = |name: &str, what: &str, stored: &[u8]| {
        let (expect, manifest, upstream) = match codecs.decode(stored) {
            Ok(manifest) => (
                "opens".to_owned(),
                String::from_utf8(manifest).unwrap(),
                String::new(),
            ),
            Err(words) => {
                let ours = atrest_core::at_rest::manifest(stored);
                let ours =
                    ours.expect_err(&format!("{name}: upstream does not decode it: {words}"));
                (format!("fails: {ours}"), String::new(), said(&words))
            }
        };
        let fields = [
            ("what", what),
            ("expect", &expect),
            ("upstream", &upstream),
            ("manifest", manifest.trim()),
        ];
        write_file(&format!("objects/{name}"), &fields, stored);
        seeds.push((name.to_owned(), stored.to_vec()));
    };
    add("secret", "a Secret with all that it can have", &secret);
    add("configmap", "a ConfigMap", &config_map);
    add("bare", "a Secret with nothing in it", &bare);
    add("json", "a Secret as JSON", &json);
    add("widget", "a custom resource", &widget);

    add("nothing", "no bytes", b"");
    add("text", "no object", b"hunter2");
    add("magic-cut-off", "a part of the magic", &secret[..3]);
    add(
        "magic-alone",
        "the magic and nothing behind it",
        &secret[..4],
    );
    add(
        "magic-changed",
        "another magic",
        &[b"k8s\x01", &secret[4..]].concat(),
    );
    add("no-magic", "no magic", &secret[4..]);
    add("cut-in-half", "cut off", &secret[..secret.len() / 2]);
    add(
        "cut-by-five",
        "the last bytes are missing",
        &secret[..secret.len() - 5],
    );
    add(
        "field-cut-off",
        "a field is cut off",
        &[&secret, &b"\x0a\x7f"[..]].concat(),
    );
    // `\n` and its length stand before the kind.
    add(
        "kind-cut-off",
        "a kind that is longer than all",
        &[&secret[..4], b"\x0a\x7f", &secret[6..]].concat(),
    );
    let nameless = [&secret[..4], &secret[6 + usize::from(secret[5])..]].concat();
    add("no-kind", "no kind", &nameless);
    let raw = secret.windows(8).rposition(|it| it == b"password").unwrap();
    let mut changed = secret.clone();
    changed[raw - 1] = 0x7f;
    add(
        "name-of-data-too-long",
        "a name in the data is longer than the data",
        &changed,
    );
    add(
        "json-cut-off",
        "JSON that is cut off",
        &json[..json.len() / 2],
    );
    add(
        "json-and-more",
        "JSON with something behind it",
        &[&json, &b"x"[..]].concat(),
    );
    add("json-no-object", "JSON of a list", b"[]");
    add("json-empty", "JSON without a kind", b"{}");
    add(
        "json-kind-number",
        "JSON with a number for a kind",
        br#"{"apiVersion":"v1","kind":1}"#,
    );
    write_seeds("object", &seeds);
}
