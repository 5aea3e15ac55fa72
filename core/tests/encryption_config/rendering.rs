//! What is rendered is read back as it was, by strict servers and by lenient ones.

use std::time::Duration;

use atrest_core::encryption_config::{
    EncryptionConfiguration, Format, Key, Kms, KmsVersion, Provider, ResourceEntry, Server, judge,
    render,
};
use atrest_core::secret::SecretBytes;
use proptest::prelude::*;

use crate::SECRET;

#[test]
fn yaml_is_laid_out_for_people() {
    let secret = SecretBytes::new(b"no key, but as long as one is...".to_vec());
    let configuration = EncryptionConfiguration {
        resources: vec![ResourceEntry {
            resources: vec!["secrets".into(), "*.apps".into()],
            providers: vec![
                Provider::AesCbc(vec![Key {
                    name: "key1".into(),
                    secret,
                }]),
                Provider::Kms(Kms {
                    api_version: KmsVersion::V2,
                    name: "yes".into(),
                    endpoint: "unix:///run/kms.sock".into(),
                    timeout: Duration::from_millis(90_500),
                    cachesize: Some(7), // not for v2
                }),
                Provider::Identity,
            ],
        }],
    };
    let rendered = render(&configuration, Format::Yaml);
    let expected = format!(
        "\
apiVersion: apiserver.config.k8s.io/v1
kind: EncryptionConfiguration
resources:
  - resources:
      - secrets
      - \"*.apps\"
    providers:
      - aescbc:
          keys:
            - name: key1
              secret: {SECRET}
      - kms:
          apiVersion: v2
          name: \"yes\"
          endpoint: \"unix:///run/kms.sock\"
          timeout: \"1m30.5s\"
      - identity: {{}}
"
    );
    assert_eq!(String::from_utf8_lossy(rendered.expose()), expected);
}

fn text() -> impl Strategy<Value = String> {
    let tricky = [
        "yes",
        "n",
        "~",
        "null",
        "1",
        "0x1f",
        "1e3",
        ".5",
        "<<",
        "a: b",
        "a #b",
        "- a",
        "!x",
        "&x",
        "*x",
        "|",
        ">",
        "%x",
        "@x",
        "`x",
        "\"",
        "\\",
        "'",
        "{a}",
        "[a]",
        "a,b",
        " a",
        "a ",
        "\n",
        "\t",
        "\u{0}",
        "\u{7f}",
        "\u{85}",
        "\u{2028}",
        "\u{feff}",
        "\u{fffe}",
        "ä",
        "😀",
        "---",
        "...",
        "2001-01-01",
        "=",
        "/",
        "true",
    ];
    prop_oneof![
        prop::sample::select(tricky.to_vec()).prop_map(str::to_owned),
        "[a-z]{1,8}",
        any::<String>().prop_filter("not empty", |text| !text.is_empty()),
    ]
}

fn keys(lengths: &'static [usize]) -> impl Strategy<Value = Vec<Key>> {
    let secret = prop::sample::select(lengths)
        .prop_flat_map(|length| prop::collection::vec(any::<u8>(), length));
    let key = (text(), secret).prop_map(|(name, secret)| Key {
        name,
        secret: SecretBytes::new(secret),
    });
    prop::collection::vec(key, 1..3)
}

fn provider() -> impl Strategy<Value = Provider> {
    let plugin = (
        any::<bool>(),
        text(),
        1_u64..i64::MAX as u64,
        prop::option::of(1..i32::MAX),
    );
    let plugin = plugin.prop_map(|(is_v1, name, timeout, cachesize)| Kms {
        api_version: if is_v1 {
            KmsVersion::V1
        } else {
            KmsVersion::V2
        },
        name: if is_v1 {
            name
        } else {
            name.replace(':', "") + "x"
        },
        endpoint: "unix:///run/kms.sock".into(),
        timeout: Duration::from_nanos(timeout),
        cachesize: cachesize.filter(|_| is_v1),
    });
    prop_oneof![
        keys(&[16, 24, 32]).prop_map(Provider::AesCbc),
        keys(&[16, 24, 32]).prop_map(Provider::AesGcm),
        keys(&[32]).prop_map(Provider::Secretbox),
        plugin.prop_map(Provider::Kms),
        Just(Provider::Identity),
    ]
}

proptest! {
    #[test]
    fn what_is_rendered_is_read_back(
        providers in prop::collection::vec(provider(), 1..4),
        resource in text(),
    ) {
        let configuration = EncryptionConfiguration {
            resources: vec![ResourceEntry {
                resources: vec![resource.to_lowercase(), "a.b".into()],
                providers,
            }],
        };
        // Names of plugins can collide, resources can be wildcards; then there is nothing to read.
        let server = Server { kmsv1: true, ..Server::default() };
        for format in [Format::Yaml, Format::Json] {
            let bytes = render(&configuration, format);
            for server in [server, Server { minor: 30, ..server }] {
                let judgement = judge(bytes.expose(), &server);
                let decoded = judgement.findings.iter().all(|it| it.id.starts_with("AR-C"));
                prop_assert!(decoded, "{:?}", judgement.findings);
                if let Some(read) = judgement.configuration {
                    prop_assert_eq!(&read, &configuration);
                }
            }
        }
    }
}
