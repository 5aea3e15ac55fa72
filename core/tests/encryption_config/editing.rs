//! Edits change what they are about, and no other byte.

use atrest_core::encryption_config::{
    Change, EditError, EncryptionConfiguration, Key, Kms, KmsVersion, Provider, Refusal,
    ResourceEntry, Server, judge, rewrite,
};
use atrest_core::secret::SecretBytes;

const SERVER: Server = Server {
    minor: Server::NEWEST,
    kmsv1: true,
    kmsv2: true,
    automatic_reload: false,
};

fn read(source: &str) -> EncryptionConfiguration {
    let judgement = judge(source.as_bytes(), &SERVER);
    judgement
        .configuration
        .unwrap_or_else(|| panic!("{:?} in\n{source}", judgement.findings))
}

/// 32 letters.
fn key(letter: char) -> Key {
    Key {
        name: letter.into(),
        secret: SecretBytes::new(vec![letter as u8; 32]),
    }
}

/// The base64 of a key of one letter.
fn secret(letter: char) -> String {
    use base64::Engine;
    base64::prelude::BASE64_STANDARD.encode([letter as u8; 32])
}

/// `@a` is the secret of key a.
fn filled(source: &str) -> String {
    let mut parts = source.split('@');
    let mut filled = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        let letter = part.chars().next().unwrap();
        filled += &secret(letter);
        filled += &part[letter.len_utf8()..];
    }
    filled
}

fn try_edit(source: &str, changes: &[Change]) -> Result<String, EditError> {
    let source = filled(source);
    let mut to = read(&source);
    for change in changes {
        to = to.changed(change).unwrap();
    }
    let edited = rewrite(source.as_bytes(), &to, &SERVER)?;
    let edited = String::from_utf8(edited.expose().to_vec()).unwrap();
    assert_eq!(read(&edited), to);
    Ok(edited)
}

#[track_caller]
fn check(source: &str, changes: &[Change], expected: &str) {
    match try_edit(source, changes) {
        Ok(edited) => assert_eq!(edited, filled(expected), "\n{edited}"),
        Err(error) => panic!("{error}"),
    }
}

const fn promote_provider(provider: usize) -> Change {
    Change::PromoteProvider { entry: 0, provider }
}

const fn promote_key(key: usize) -> Change {
    Change::PromoteKey {
        entry: 0,
        provider: 0,
        key,
    }
}

const fn drop_key(key: usize) -> Change {
    Change::DropKey {
        entry: 0,
        provider: 0,
        key,
    }
}

fn add_key(letter: char) -> Change {
    Change::AddKey {
        entry: 0,
        provider: 0,
        key: key(letter),
    }
}

fn entry(resource: &str, provider: Provider) -> ResourceEntry {
    ResourceEntry {
        resources: vec![resource.into()],
        providers: vec![provider],
    }
}

fn plugin() -> Provider {
    Provider::Kms(Kms {
        api_version: KmsVersion::V2,
        name: "plugin".into(),
        endpoint: "unix:///run/kms.sock".into(),
        timeout: Kms::DEFAULT_TIMEOUT,
        cachesize: None,
    })
}

/// As people write it who keep notes.
const NOTES: &str = "\
# of cluster one
apiVersion: apiserver.config.k8s.io/v1
kind:   EncryptionConfiguration   # one of them
resources:
# all that is secret
- resources: [secrets, configmaps]
  providers:     # the first one writes

  # our keys
  - secretbox:
      keys:
      # of March
      - name: a # leaves soon
        secret: \"@a\"
        # nobody knows why

      # of June

      - name:   b
        secret: '@b'
  # for what is old
  - identity: {} # plain

# the end
";

#[test]
fn a_rotation_keeps_every_comment() {
    let with_c = NOTES.replace(
        "        secret: '@b'\n",
        "        secret: '@b'\n      - name: c\n        secret: \"@c\"\n",
    );
    check(NOTES, &[add_key('c')], &with_c);
    let c_first = "\
# of cluster one
apiVersion: apiserver.config.k8s.io/v1
kind:   EncryptionConfiguration   # one of them
resources:
# all that is secret
- resources: [secrets, configmaps]
  providers:     # the first one writes

  # our keys
  - secretbox:
      keys:
      - name: c
        secret: \"@c\"

      # of June

      # of March
      - name: a # leaves soon
        secret: \"@a\"
        # nobody knows why
      - name:   b
        secret: '@b'
  # for what is old
  - identity: {} # plain

# the end
";
    check(&with_c, &[promote_key(2)], c_first);
    let only_c = "\
# of cluster one
apiVersion: apiserver.config.k8s.io/v1
kind:   EncryptionConfiguration   # one of them
resources:
# all that is secret
- resources: [secrets, configmaps]
  providers:     # the first one writes

  # our keys
  - secretbox:
      keys:
      - name: c
        secret: \"@c\"

      # of June

# the end
";
    let changes = [
        drop_key(1),
        drop_key(1),
        Change::DropProvider {
            entry: 0,
            provider: 1,
        },
    ];
    check(c_first, &changes, only_c);
}

#[test]
fn what_moves_takes_its_comments_along() {
    let identity_first = "\
# of cluster one
apiVersion: apiserver.config.k8s.io/v1
kind:   EncryptionConfiguration   # one of them
resources:
# all that is secret
- resources: [secrets, configmaps]
  providers:     # the first one writes

  # for what is old
  - identity: {} # plain
  # our keys
  - secretbox:
      keys:
      # of March
      - name: a # leaves soon
        secret: \"@a\"
        # nobody knows why

      # of June

      - name:   b
        secret: '@b'

# the end
";
    check(NOTES, &[promote_provider(1)], identity_first);
}

#[test]
fn entries_are_split_and_added_in_the_style_of_the_file() {
    let source = "\
apiVersion: apiserver.config.k8s.io/v1
kind: EncryptionConfiguration
resources:
    -   resources:
            -   'secrets'
            -   configmaps
        providers:
            -   aesgcm:
                    keys:
                        -   {name: a, secret: @a}
            -   identity: {}
    -   resources: ['*.*']
        providers:
            -   identity: {}";
    let expected = "\
apiVersion: apiserver.config.k8s.io/v1
kind: EncryptionConfiguration
resources:
    -   resources:
            -   configmaps
        providers:
            -   aesgcm:
                    keys:
                        -   {name: a, secret: @a}
            -   identity: {}
    -   resources:
            -   'secrets'
        providers:
            -   aesgcm:
                    keys:
                        -   {name: a, secret: @a}
            -   identity: {}
    -   resources:
            -   'events'
        providers:
            -   kms:
                    apiVersion: v2
                    name: plugin
                    endpoint: \"unix:///run/kms.sock\"
    -   resources: ['*.*']
        providers:
            -   identity: {}";
    let changes = [
        Change::SplitResource {
            entry: 0,
            resource: "secrets".into(),
        },
        Change::AddEntry(entry("events", plugin())),
    ];
    check(source, &changes, expected);
}

#[test]
fn json_stays_json() {
    let compact = r#"{"kind":"EncryptionConfiguration","apiVersion":"apiserver.config.k8s.io/v1","resources":[{"resources":["secrets"],"providers":[{"aescbc":{"keys":[{"name":"a","secret":"@a"}]}},{"identity":{}}]}]}"#;
    check(
        compact,
        &[add_key('b'), promote_key(1), promote_provider(1)],
        r#"{"kind":"EncryptionConfiguration","apiVersion":"apiserver.config.k8s.io/v1","resources":[{"resources":["secrets"],"providers":[{"identity":{}},{"aescbc":{"keys":[{"name":"b","secret":"@b"},{"name":"a","secret":"@a"}]}}]}]}"#,
    );
    let pretty = r#"{
	"kind": "EncryptionConfiguration",
	"apiVersion": "apiserver.config.k8s.io/v1",
	"resources": [
		{
			"resources": ["secrets"],
			"providers": [
				{
					"aescbc": {
						"keys": [
							{
								"name": "a",
								"secret": "@a"
							}
						]
					}
				},
				{ "identity": {} }
			]
		}
	]
}
"#;
    let expected = r#"{
	"kind": "EncryptionConfiguration",
	"apiVersion": "apiserver.config.k8s.io/v1",
	"resources": [
		{
			"resources": ["secrets"],
			"providers": [
				{
					"aescbc": {
						"keys": [
							{
								"name": "a",
								"secret": "@a"
							},
							{
								"name": "b",
								"secret": "@b"
							}
						]
					}
				},
				{
					"secretbox": {
						"keys": [
							{
								"name": "c",
								"secret": "@c"
							}
						]
					}
				},
				{ "identity": {} }
			]
		},
		{
			"resources": ["events"],
			"providers": [
				{
					"identity": {}
				}
			]
		}
	]
}
"#;
    let add = Change::AddProvider {
        entry: 0,
        provider: Provider::Secretbox(vec![key('c')]),
    };
    let events = Change::AddEntry(entry("events", Provider::Identity));
    check(pretty, &[add_key('b'), add, events], expected);
}

#[test]
fn flow_lists_over_lines_keep_their_comments() {
    let source = "\
---
apiVersion: apiserver.config.k8s.io/v1
kind: EncryptionConfiguration
resources:
  - resources: [secrets]
    providers: [
      # old
      {secretbox: {keys: [{name: a, secret: @a}]}},  # goes

      # plain
      identity: {}   # stays
    ]
---
not: [read
";
    let expected = "\
---
apiVersion: apiserver.config.k8s.io/v1
kind: EncryptionConfiguration
resources:
  - resources: [secrets]
    providers: [
      # plain
      identity: {},   # stays

      # old
      {secretbox: {keys: [{name: a, secret: @a}, {name: b, secret: @b}]}}  # goes
    ]
---
not: [read
";
    check(source, &[add_key('b'), promote_provider(1)], expected);
}

#[test]
fn line_breaks_and_the_end_of_the_file_stay() {
    let source = "\u{feff}apiVersion: apiserver.config.k8s.io/v1\r\nkind: EncryptionConfiguration\r\n\
         resources:\r\n  - resources:\r\n      - secrets\r\n    providers:\r\n      - identity: {}\r\n\r\n\
         \x20     - secretbox:\r\n          keys:\r\n            - name: a\r\n              secret: @a";
    let expected = "\u{feff}apiVersion: apiserver.config.k8s.io/v1\r\nkind: EncryptionConfiguration\r\n\
         resources:\r\n  - resources:\r\n      - secrets\r\n    providers:\r\n      - secretbox:\r\n          \
         keys:\r\n            - name: a\r\n              secret: @a\r\n\r\n      - kms:\r\n          \
         apiVersion: v2\r\n          name: plugin\r\n          endpoint: \"unix:///run/kms.sock\"\r\n\r\n\
         \x20     - identity: {}";
    let add = Change::AddProvider {
        entry: 0,
        provider: plugin(),
    };
    check(source, &[promote_provider(1), add], expected);
}

const ANCHORS: &str = "\
apiVersion: apiserver.config.k8s.io/v1
kind: EncryptionConfiguration
resources:
- resources: [secrets]
  providers: &chain
  - secretbox: # ours
      keys:
      - &key {name: a, secret: @a}
  - identity: {}
- resources: [configmaps]
  providers: *chain
- resources: [events]
  providers:
  - aesgcm: {keys: [*key]}
";

#[test]
fn what_is_shared_is_edited_once_if_all_change_alike() {
    let everywhere = [0, 1].map(|entry| Change::AddKey {
        entry,
        provider: 0,
        key: key('b'),
    });
    let expected = ANCHORS.replace(
        "@a}\n  - identity",
        "@a}\n      - {name: b, secret: @b}\n  - identity",
    );
    check(ANCHORS, &everywhere, &expected);
}

#[test]
fn what_is_shared_is_written_out_where_it_differs() {
    let expected = ANCHORS
        .replace(
            "@a}\n  - identity",
            "@a}\n      - {name: b, secret: @b}\n  - identity",
        )
        .replace(
            "*chain",
            "[{secretbox: {keys: [{name: a, secret: @a}]}}, {identity: {}}]",
        );
    check(ANCHORS, &[add_key('b')], &expected);
    // The key with the anchor leaves.
    let expected = ANCHORS
        .replace("&key {name: a, secret: @a}", "{name: b, secret: @b}")
        .replace(
            "*chain",
            "[{secretbox: {keys: [{name: a, secret: @a}]}}, {identity: {}}]",
        )
        .replace("[*key]", "[{name: a, secret: @a}]");
    check(ANCHORS, &[add_key('b'), drop_key(0)], &expected);
}

#[test]
fn an_alias_of_a_default_is_written_out() {
    let source = "\
apiVersion: apiserver.config.k8s.io/v1
kind: EncryptionConfiguration
resources:
- resources: [secrets]
  providers:
  - kms: {apiVersion: v2, name: old, endpoint: unix:///old, timeout: &default 3000ms}
  - kms: {apiVersion: v2, name: new, endpoint: unix:///new, timeout: *default}
";
    let drop = Change::DropProvider {
        entry: 0,
        provider: 0,
    };
    let expected = source
        .replace("  - kms: {apiVersion: v2, name: old, endpoint: unix:///old, timeout: &default 3000ms}\n", "")
        .replace("*default", "\"3000ms\"");
    check(source, &[drop], &expected);
}

#[test]
fn merged_mappings_are_written_out() {
    let source = "\
apiVersion: apiserver.config.k8s.io/v1
kind: EncryptionConfiguration
resources:
- &base
  resources: [secrets]
  providers: [secretbox: &box {keys: [{name: a, secret: @a}]}]
- resources: [configmaps]
  providers:
  - secretbox:
      <<: *box
";
    let expected = "\
apiVersion: apiserver.config.k8s.io/v1
kind: EncryptionConfiguration
resources:
- &base
  resources: [secrets]
  providers: [secretbox: &box {keys: [{name: a, secret: @a}, {name: b, secret: @b}]}]
- resources: [configmaps]
  providers:
  - secretbox:
      {keys: [{name: a, secret: @a}]}
";
    check(source, &[add_key('b')], expected);
}

#[test]
fn a_plugin_is_changed_field_by_field() {
    let source = "\
apiVersion: apiserver.config.k8s.io/v1
kind: EncryptionConfiguration
resources:
- resources: [secrets]
  providers:
  - kms:
      # the plugin
      name: plugin
      endpoint: 'unix:///run/kms.sock' # on this host
      # it is slow
      timeout: 10s
      apiVersion: v2
";
    let with = |endpoint: &str, seconds| {
        let Provider::Kms(mut kms) = plugin() else {
            unreachable!("plugin() makes one")
        };
        kms.endpoint = endpoint.into();
        kms.timeout = std::time::Duration::from_secs(seconds);
        [Change::ReplaceProvider {
            entry: 0,
            provider: 0,
            with: Provider::Kms(kms),
        }]
    };
    let expected = source.replace("unix:///run/kms.sock", "unix:///run/other.sock");
    check(source, &with("unix:///run/other.sock", 10), &expected);
    let expected = source.replace("      # it is slow\n      timeout: 10s\n", "");
    check(source, &with("unix:///run/kms.sock", 3), &expected);
    let again = expected.clone() + "      timeout: \"7s\"\n";
    check(&expected, &with("unix:///run/kms.sock", 7), &again);
}

#[test]
fn the_legacy_kind_is_not_touched() {
    let source = "kind: EncryptionConfig\napiVersion: v1\nresources:\n- resources: [secrets]\n  providers:\n  \
                  - identity: {}\n";
    let add = Change::AddProvider {
        entry: 0,
        provider: plugin(),
    };
    let edited = try_edit(source, &[add]).unwrap();
    assert!(edited.starts_with(source), "{edited}");
}

#[test]
fn a_comment_is_refused_rather_than_lost() {
    let source = "\
apiVersion: apiserver.config.k8s.io/v1
kind: EncryptionConfiguration
resources:
- resources: [secrets]
  providers: [identity: {}, # plain
    {secretbox: {keys: [{name: a, secret: @a}]}}]
";
    assert!(matches!(
        try_edit(source, &[promote_provider(1)]),
        Err(EditError::Obstacle { line: 5, .. })
    ));
    let utf16: Vec<u8> = std::iter::once(0xfeff)
        .chain(filled(source).replace(" # plain", "").encode_utf16())
        .flat_map(u16::to_le_bytes)
        .collect();
    let to = judge(&utf16, &SERVER).configuration.unwrap();
    let to = to.changed(&promote_provider(1)).unwrap();
    assert_eq!(rewrite(&utf16, &to, &SERVER), Err(EditError::Utf16));
}

#[test]
fn what_would_be_rejected_is_refused() {
    let source = filled(NOTES);
    let now = read(&source);
    let refused = |change: Change| now.changed(&change).unwrap_err();
    assert_eq!(refused(promote_provider(2)), Refusal::NotThere);
    assert_eq!(refused(promote_key(2)), Refusal::NotThere);
    assert_eq!(refused(add_key('a')), Refusal::NameTaken("a".into()));
    let short = Key {
        name: "short".into(),
        secret: SecretBytes::new(vec![0; 16]),
    };
    assert!(matches!(
        refused(Change::AddKey {
            entry: 0,
            provider: 0,
            key: short
        }),
        Refusal::Rejected(_)
    ));
    let covered = Change::AddEntry(entry("secrets", Provider::Identity));
    assert_eq!(refused(covered), Refusal::Covered("secrets".into()));
    let one = now.changed(&drop_key(0)).unwrap();
    assert_eq!(one.changed(&drop_key(0)), Err(Refusal::Last("key")));
}

#[test]
fn new_entries_come_before_the_wildcards_that_include_them() {
    let source = "\
apiVersion: apiserver.config.k8s.io/v1
kind: EncryptionConfiguration
resources:
- resources: [secrets]
  providers: [identity: {}]

- resources: ['*.apps']
  providers: [identity: {}]

- resources: ['*.*']
  providers: [identity: {}]
";
    let expected = "\
apiVersion: apiserver.config.k8s.io/v1
kind: EncryptionConfiguration
resources:
- resources: [secrets]
  providers: [identity: {}]

- resources: [deployments.apps]
  providers: [{kms: {apiVersion: v2, name: plugin, endpoint: \"unix:///run/kms.sock\"}}]

- resources: ['*.apps']
  providers: [identity: {}]

- resources: ['*.']
  providers: [{identity: {}}]

- resources: ['*.*']
  providers: [identity: {}]
";
    let changes = [
        Change::AddEntry(entry("deployments.apps", plugin())),
        Change::AddEntry(entry("*.", Provider::Identity)),
    ];
    check(source, &changes, expected);
}

#[test]
fn a_provider_is_added_where_it_harms_nobody() {
    let source = filled(
        "\
apiVersion: apiserver.config.k8s.io/v1
kind: EncryptionConfiguration
resources:
- resources: [secrets, configmaps]
  providers:
  - secretbox: {keys: [{name: a, secret: @a}]}
- resources: ['*.apps']
  providers: [identity: {}]
",
    );
    let now = read(&source);
    let names = ["secrets", "deployments.apps", "configmaps", "events"].map(str::to_owned);
    let provider = Provider::Secretbox(vec![key('b')]);
    let extended = now.extended(&names, &provider, true).unwrap();
    assert_eq!(extended.reads, &names[..3]);
    assert_eq!(extended.writes, &names[3..]);
    let edited = rewrite(source.as_bytes(), &extended.configuration, &SERVER).unwrap();
    let expected = filled(
        "\
apiVersion: apiserver.config.k8s.io/v1
kind: EncryptionConfiguration
resources:
- resources: [secrets, configmaps]
  providers:
  - secretbox: {keys: [{name: a, secret: @a}, {name: b, secret: @b}]}
- resources: [deployments.apps]
  providers:
  - identity: {}
  - secretbox: {keys: [{name: b, secret: @b}]}
- resources: ['*.apps']
  providers: [identity: {}]
- resources: [events]
  providers:
  - secretbox: {keys: [{name: b, secret: @b}]}
  - identity: {}
",
    );
    assert_eq!(String::from_utf8_lossy(edited.expose()), expected);
    // A plugin's name is for one entry alone.
    assert!(matches!(
        now.extended(&names, &plugin(), true),
        Err(Refusal::Rejected(_))
    ));
}
