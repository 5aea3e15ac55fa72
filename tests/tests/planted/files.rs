//! Good configurations with secrets wherever the server takes some.

use serde_json::json;

use crate::random::Random;

pub(crate) struct File {
    pub(crate) source: Vec<u8>,
    pub(crate) secrets: Vec<String>,
}

impl File {
    /// For messages.
    pub(crate) fn text(&self) -> String {
        String::from_utf8_lossy(&self.source).into_owned()
    }
}

/// A file that the server accepts, every fourth one in JSON, every fifth one of the old kind.
pub(crate) fn good(random: &mut Random, i: usize) -> File {
    let mut file = if i % 4 == 3 {
        json(random)
    } else {
        yaml(random)
    };
    if i % 5 == 4 {
        let text = file.text().replace("apiserver.config.k8s.io/v1", "v1");
        let text = text.replace("EncryptionConfiguration", "EncryptionConfig");
        file.source = text.into_bytes();
    }
    file
}

/// Keeps what it hands out.
struct Planter<'a> {
    random: &'a mut Random,
    secrets: Vec<String>,
}

impl Planter<'_> {
    fn plant(&mut self, make: impl FnOnce(&mut Random) -> String) -> String {
        let secret = make(self.random);
        self.secrets.push(secret.clone());
        secret
    }

    fn key(&mut self, length: usize) -> String {
        self.plant(|random| random.key(length))
    }

    fn any(&mut self) -> String {
        self.plant(Random::any)
    }

    fn alphanumeric(&mut self) -> String {
        self.plant(Random::alphanumeric)
    }

    /// In double quotes.
    fn quoted(&mut self) -> String {
        json!(self.any()).to_string()
    }
}

fn yaml(random: &mut Random) -> File {
    let mut p = Planter {
        random,
        secrets: Vec::new(),
    };
    let source = format!(
        "\
# {}
apiVersion: apiserver.config.k8s.io/v1
kind: EncryptionConfiguration
resources:
- resources: [secrets]
  providers:
  - aescbc:
      keys:
      - name: key1 # {}
        secret: {}
      - name: {}
        secret: \"{}\"
  - aesgcm:
      keys:
      - {{name: old, secret: '{}'}}
      - name: key2
        secret: |
          {}
      - &{} {{name: {}, secret: {}}}
  - secretbox: {{keys: [{{name: k, secret: {}}}, {{name: \"{}\", secret: !!str {}}}]}}
- resources: [configmaps]
  providers:
  - kms: {{apiVersion: v2, name: plugin, endpoint: 'unix://u:{}@h/k?{}#{}', timeout: 3s}}
  - secretbox:
      keys:
      # {}
      - name: key3
        secret: {}
---
{}: [{}]
# {}
",
        p.any(),
        p.any(),
        p.key(32),
        p.quoted(),
        p.key(16),
        p.key(24),
        p.key(32),
        p.alphanumeric(),
        p.quoted(),
        p.key(32),
        p.key(32),
        p.key(32),
        p.key(32),
        p.alphanumeric(),
        p.alphanumeric(),
        p.alphanumeric(),
        p.any(),
        p.key(32),
        p.alphanumeric(),
        p.any(),
        p.any(),
    );
    File {
        source: source.into_bytes(),
        secrets: p.secrets,
    }
}

fn json(random: &mut Random) -> File {
    let mut planter = Planter {
        random,
        secrets: Vec::new(),
    };
    let mut keys = |count: usize, length: usize| -> Vec<_> {
        let key = |_| json!({"name": planter.any(), "secret": planter.key(length)});
        (0..count).map(key).collect()
    };
    let providers = json!([
        {"aescbc": {"keys": keys(4, 32)}},
        {"aesgcm": {"keys": keys(3, 16)}},
        {"secretbox": {"keys": keys(3, 32)}},
        {"identity": {}},
    ]);
    let file = json!({
        "kind": "EncryptionConfiguration",
        "apiVersion": "apiserver.config.k8s.io/v1",
        "resources": [{"resources": ["secrets"], "providers": providers}],
    });
    let mut source = serde_json::to_vec_pretty(&file).unwrap();
    source.push(b'\n');
    File {
        source,
        secrets: planter.secrets,
    }
}
