//! What kube-apiserver takes and nobody should want. None of them changes the verdict: a warning is
//! about values that are likely in plaintext, lost or at risk, an info is advice.

table! {
    /// The first provider is `identity`: what is written is stored in plaintext.
    ///
    /// The first provider of an entry writes, all of them read (`k8s.io/apiserver`
    /// `pkg/storage/value/transformer.go`). With `identity` in front, whatever stands behind it only
    /// reads what is encrypted already; each update stores the object in plaintext. That is right on
    /// the way out of encryption, and in the first step of it, and at no other time.
    ///
    /// Put the provider that is to write in front and rewrite what is stored:
    ///
    /// ```yaml
    /// providers:
    ///   - secretbox: {keys: [...]}
    ///   - identity: {}
    /// ```
    IDENTITY_FIRST: "AR-L001" Lint Warning InvalidValue;

    /// No entry covers Secrets.
    ///
    /// A resource that no entry names is stored as it is. The server does not ask whether
    /// `secrets` is among those that are named, and starts without a word. Secrets are covered by
    /// `secrets`, by `*.` and by `*.*`.
    ///
    /// ```yaml
    /// resources:
    ///   - resources: [secrets]
    /// ```
    SECRETS_UNCOVERED: "AR-L002" Lint Warning RequiredValue;

    /// `identity` stands behind a provider that encrypts.
    ///
    /// It lets the server read what was stored in plaintext before, which is needed until all is
    /// rewritten. After that it only hides values that somebody put into etcd in plaintext: without
    /// `identity` the server refuses to read them.
    ///
    /// Take it out when `atrest verify` finds no plaintext, not sooner.
    IDENTITY_LAST: "AR-L003" Lint Info InvalidValue;

    /// An entry with `identity` alone changes nothing.
    ///
    /// What no entry names is stored as it is already. An entry of this kind has a use only before a
    /// wildcard that would encrypt the resource, where it is the way to leave it out (the lookup
    /// takes the exact name first: `transformerFromOverrides` in `k8s.io/apiserver`
    /// `pkg/server/options/encryptionconfig/config.go`).
    ///
    /// Take the entry out, or give it a provider that encrypts.
    IDENTITY_ALONE: "AR-L004" Lint Info InvalidValue;

    /// Two entries have the same keys in another order.
    ///
    /// The first key of the first provider writes. Where one entry writes with the new key and
    /// another one still with the old, a rotation was left half done: the old key stays in use, and
    /// taking it out loses what the second entry wrote.
    ///
    /// Give the entries one order, reload, and rewrite what is stored (`atrest rotate` does).
    ORDER_DIFFERS: "AR-L005" Lint Warning InvalidValue;

    /// A provider or key is in a chain twice.
    ///
    /// The server tries providers in order and takes the first that can read the value. A second
    /// one that is equal is never asked for anything that the first could not read, either.
    ///
    /// Take the later one out.
    LINK_TWICE: "AR-L006" Lint Info DuplicateField;

    /// Two keys of a provider have one name and other bytes.
    ///
    /// A stored value tells its key by the provider and the name alone
    /// (`k8s:enc:aescbc:v1:<name>:`), so the server has to try both. AES-CBC has no authentication:
    /// about one of 256 tries with the wrong key succeeds and returns garbage.
    ///
    /// Give each key a name of its own. A key that has written keeps its name: rename the other one.
    PREFIX_TWICE: "AR-L007" Lint Warning DuplicateField;

    /// A key's name is used for other bytes in another entry.
    ///
    /// Legal, as each entry has its own chain. But the name is all that stands in front of a stored
    /// value and in the server's metrics: neither tells which of the two keys is meant, and no
    /// resource can move from one entry to the other.
    ///
    /// Give each key a name of its own, as with a date in it: `key-2026-07`.
    NAME_REUSED: "AR-L008" Lint Info DuplicateField;

    /// Two keys have the same bytes.
    ///
    /// A second name does not make a second key: a rotation from one to the other changes
    /// nothing for whoever has the first. One key in two ciphers is nothing that their proofs of
    /// security are about.
    ///
    /// Make a key of its own for each: `head -c 32 /dev/urandom | base64`.
    BYTES_TWICE: "AR-L009" Lint Warning DuplicateField;

    /// A resource is in several entries.
    ///
    /// The server puts the providers of all of them into one chain, in the order of the file: the
    /// first provider of the first entry writes, and what the later ones name only reads
    /// (`getTransformerOverridesAndKMSPluginProbes` in `k8s.io/apiserver`
    /// `pkg/server/options/encryptionconfig/config.go`). Who edits the second entry expects it to
    /// decide.
    ///
    /// Name the resource once, with all providers that it needs.
    RESOURCE_IN_TWO_ENTRIES: "AR-L010" Lint Warning DuplicateField;

    /// An entry cannot read what the wildcard over it writes.
    ///
    /// The exact name is looked up first, then `*.<group>`, then `*.*`, whatever their order in the
    /// file, and the chains do not add up. What was stored while only the wildcard covered the
    /// resource cannot be read, and one such object makes each list of the resource fail.
    ///
    /// Repeat the wildcard's provider at the end of the entry until all is rewritten, then take it
    /// out. Where the entry was there from the start, nothing needs to be done.
    WILDCARD_NOT_READ: "AR-L011" Lint Info InvalidValue;

    /// An entry says what the wildcard over it says already.
    ///
    /// The resource would have the same chain without the entry. The two have to be kept equal by
    /// hand: a rotation that edits one of them is half a rotation.
    ///
    /// Take the entry out, or leave it in on purpose with `--allow AR-L012`.
    SAME_AS_WILDCARD: "AR-L012" Lint Info DuplicateField;

    /// An entry keeps many keys or plugins.
    ///
    /// Old keys read what they wrote. When all is rewritten, they are of use only to whoever steals
    /// the file together with an old backup. Each KMS plugin has to be healthy for the server to be
    /// ready.
    ///
    /// Rewrite what is stored, have `atrest verify` say which keys are still needed, and take out
    /// the others.
    MANY_LINKS: "AR-L013" Lint Info InvalidValue;

    /// AES-CBC writes.
    ///
    /// AES-CBC does not notice changed ciphertext, and a server that says whether the padding was
    /// right can be used to decrypt (a padding oracle); Kubernetes' documentation calls it weak and
    /// does not recommend it. As a reader behind another provider it is fine.
    ///
    /// Put secretbox or KMS v2 in front, keep aescbc behind it until all is rewritten:
    /// `atrest rotate --to secretbox`.
    AESCBC_WRITES: "AR-L014" Lint Warning InvalidValue;

    /// AES-GCM writes, and wants rotation.
    ///
    /// Its nonces are random: NIST SP 800-38D (section 8.3) allows 2^32 messages under a key,
    /// Kubernetes' documentation wants a new key after 200,000 writes. Each update of an object
    /// counts, and so does each server. Two messages under one nonce give away what both hold.
    ///
    /// Rotate on a schedule (`atrest rotate`), or use secretbox, whose nonces are long enough.
    AESGCM_WRITES: "AR-L015" Lint Info InvalidValue;

    /// An AES key has fewer than 32 bytes.
    ///
    /// The server takes 16 and 24 bytes for aescbc and aesgcm; for aescbc the documentation knows
    /// 32 only. 16 random bytes are out of reach of any search today. 32 cost nothing more.
    ///
    /// Make the next key with `head -c 32 /dev/urandom | base64`.
    SHORT_KEY: "AR-L016" Lint Info InvalidValue;

    /// A key is printed in documentation.
    ///
    /// It decrypts all that it wrote for everybody who has read the page.
    ///
    /// Make a new key (`atrest generate --from FILE`), put it in front, rewrite what is stored, and
    /// take this one out.
    PUBLISHED_KEY: "AR-L017" Lint Warning InvalidValue;

    /// A key does not look random.
    ///
    /// It is text, repeats itself, or counts. Whoever has a copy of etcd can try words and patterns
    /// at will. A password or a hex string that was encoded in base64 is not what is wanted, though
    /// it has the right length: the bytes themselves must be random.
    ///
    /// Make a key with `head -c 32 /dev/urandom | base64`, put it in front, rewrite what is stored,
    /// and take this one out.
    GUESSABLE_KEY: "AR-L018" Lint Warning InvalidValue;

    /// The name of a key looks like a key.
    ///
    /// Names are no secret: they stand in clear in front of each stored value and in the server's
    /// metrics. Perhaps `name` and `secret` were mixed up.
    ///
    /// If it is a key, replace it; in any case give the key a plain name, such as `key-2026-07`.
    KEY_AS_NAME: "AR-L019" Lint Warning InvalidValue;

    /// The name of a key has a colon.
    ///
    /// A stored value begins with `k8s:enc:secretbox:v1:<name>:`. With a colon in the name, nobody
    /// can tell from the value alone where the name ends; with keys `a` and `a:b` the server has to
    /// try both.
    ///
    /// Use letters, digits and dashes in the next key's name. A key that has written keeps its name.
    COLON_IN_KEY_NAME: "AR-L020" Lint Info InvalidValue;

    /// The name of a key is easy to mistake.
    ///
    /// Blanks, control characters, other scripts, or another key's name in other case: the server
    /// compares bytes, people do not.
    ///
    /// Use lower-case letters, digits and dashes in the next key's name. A key that has written
    /// keeps its name.
    ODD_KEY_NAME: "AR-L021" Lint Info InvalidValue;

    /// KMS v1 is deprecated.
    ///
    /// Since 1.28; since 1.29 it is off unless the server has `--feature-gates=KMSv1=true`. Each
    /// write is a call of the plugin, and after a rotation of its key nothing tells which values are
    /// under the old one.
    ///
    /// Run the plugin's v2 (most speak both), put it in front under a new name, keep v1 behind it
    /// until all is rewritten:
    ///
    /// ```yaml
    /// - kms: {apiVersion: v2, name: vault-v2, endpoint: "unix:///run/kms/v2.sock"}
    /// ```
    KMS_V1: "AR-L022" Lint Warning InvalidValue;

    /// A KMS plugin without `apiVersion` is taken for v1.
    ///
    /// The default is the deprecated version (`k8s.io/apiserver` `pkg/apis/apiserver/v1/defaults.go`),
    /// which is off since 1.29. A plugin that speaks v2 alone then fails each write.
    ///
    /// Write `apiVersion: v2`. Where v1 has written already, it stays behind with
    /// `apiVersion: v1` until all is rewritten.
    KMS_V1_UNSAID: "AR-L023" Lint Warning RequiredValue;

    /// The timeout of a KMS plugin is longer than a request lives.
    ///
    /// kube-apiserver ends a request after 60 s (`--request-timeout`). While the plugin is away each
    /// call waits for the whole timeout, and so does each client: a short one fails soon, and says
    /// so. Default: 3 s.
    ///
    /// Leave `timeout` out, or stay within a few seconds.
    TIMEOUT_LONG: "AR-L024" Lint Warning InvalidValue;

    /// The timeouts of all KMS plugins add up.
    ///
    /// The health check asks the plugins one after the other (v1 takes two calls), and kubeadm's
    /// readiness probe gives up after 15 s: plugins that are slow together take the server out of
    /// service. After a reload the server waits up to twice the sum.
    ///
    /// Shorten the timeouts (the default is 3 s), or take out plugins that are not needed any more.
    TIMEOUTS_TOGETHER: "AR-L025" Lint Info InvalidValue;

    /// The timeout of a KMS plugin is shorter than a call may take.
    ///
    /// Kubernetes asks plugins to encrypt within 100 ms; behind many of them is a service on the
    /// network. A call that is cut off is a write that fails, or a Secret that cannot be read.
    /// Perhaps `ms` stands where `s` was meant.
    ///
    /// Leave `timeout` out for 3 s.
    TIMEOUT_SHORT: "AR-L026" Lint Warning InvalidValue;

    /// The `cachesize` of a KMS v1 plugin is unusual.
    ///
    /// With v1 each object has its own data key. A cache that holds fewer than there are Secrets, or
    /// none (a negative size), makes each list a call of the plugin for each object. The default is
    /// 1000.
    ///
    /// Leave it out, or write a number somewhat above that of the objects.
    CACHESIZE: "AR-L027" Lint Info InvalidValue;

    /// The endpoint of a KMS plugin dials another place than it reads.
    ///
    /// The endpoint is a URL, and only its path is dialled (`k8s.io/kms` `pkg/util/util.go`). With
    /// two slashes the first directory is taken for a host and dropped: `unix://run/kms.sock` dials
    /// `/kms.sock`. `?` and `#` end the path.
    ///
    /// ```yaml
    /// endpoint: unix:///run/kms.sock
    /// ```
    DIALS_ELSEWHERE: "AR-L028" Lint Warning InvalidValue;

    /// The endpoint of a KMS plugin has no address.
    ///
    /// The server takes `unix:kms.sock`, `unix://@name` and `unix:///` and then dials the empty
    /// address, a directory or a socket without a name: each call fails.
    ///
    /// Write three slashes and an absolute path: `unix:///run/kms.sock`.
    DIALS_NOTHING: "AR-L029" Lint Warning InvalidValue;

    /// The endpoint of a KMS plugin has percent escapes.
    ///
    /// They are decoded before the address is dialled: `unix:///run/a%20b` is `/run/a b`. Other
    /// programs that read the file may not do so.
    ///
    /// Choose a path of letters, digits, dashes and dots.
    ESCAPES_IN_ENDPOINT: "AR-L030" Lint Info InvalidValue;

    /// A KMS plugin listens on an abstract socket.
    ///
    /// `unix:///@name` is in no directory, so no mode or owner guards it: every process in the
    /// network namespace can connect and have keys decrypted, or take the name before the plugin does
    /// and be given them. It has a use with API servers up to 1.31 and plugins in Rust, which cannot
    /// talk over a path.
    ///
    /// Use a path in a directory of root's: `unix:///run/kms/kms.sock`.
    ABSTRACT_SOCKET: "AR-L031" Lint Warning InvalidValue;

    /// The socket's path is longer than Linux takes.
    ///
    /// `sun_path` has 108 bytes (unix(7)): 107 for a path and its end, 108 for an abstract name and
    /// its `@`. Neither can the plugin listen there nor the server dial.
    ///
    /// Choose a shorter path.
    SOCKET_TOO_LONG: "AR-L032" Lint Warning InvalidValue;

    /// The socket is in a directory where everybody may create files.
    ///
    /// While the plugin is not running, any local user can put a socket of that name there and be
    /// given data keys in plaintext. Kubernetes' documentation uses `/tmp` in its examples.
    ///
    /// Use a directory of root's: `unix:///run/kms/kms.sock`.
    SOCKET_FOR_ALL: "AR-L033" Lint Warning InvalidValue;

    /// Two KMS plugins with other names have one socket.
    ///
    /// The name stands in front of each value, the socket answers for both. That is right only while
    /// one name takes over from the other; a copy whose endpoint was forgotten looks the same.
    ///
    /// Check the endpoint, or take out the name under which nothing is stored any more.
    SOCKET_TWICE: "AR-L034" Lint Info DuplicateField;

    /// Two KMS v1 plugins have one name.
    ///
    /// Both write the same prefix, so no value tells which plugin can decrypt it. A server with
    /// `--encryption-provider-config-automatic-reload` refuses the file.
    ///
    /// Give each its own name; one that has written keeps its name.
    KMS_V1_NAME_TWICE: "AR-L035" Lint Warning DuplicateField;

    /// There is no such resource.
    ///
    /// The server does not look up what it is asked to encrypt: a misspelled name covers nothing,
    /// and says nothing. A name without a dot is in the core group; a custom resource needs its
    /// group, `widgets.example.com`.
    ///
    /// `kubectl api-resources -o name` prints the names in the form that is wanted.
    NO_SUCH_RESOURCE: "AR-L036" Lint Warning InvalidValue;

    /// A resource is named by its singular, kind or short name.
    ///
    /// The file wants the plural, as in the API's paths: `secrets`, not `secret`. The server takes
    /// the other one for a resource that it has not got yet, and encrypts nothing.
    ///
    /// `kubectl api-resources -o name` prints the names in the form that is wanted.
    SINGULAR: "AR-L037" Lint Warning InvalidValue;

    /// A subresource cannot be encrypted on its own.
    ///
    /// `secrets/status` is RBAC's way of writing. What is stored is the object as a whole, and it is
    /// looked up under the resource's name.
    ///
    /// Write the resource alone: `deployments.apps`.
    SUBRESOURCE: "AR-L038" Lint Warning InvalidValue;

    /// A version or a path is in the name of a resource.
    ///
    /// A resource is stored once, whatever versions the API has. `v1/secrets`,
    /// `apps/v1/deployments` and `deployments.v1.apps` match nothing.
    ///
    /// Write the plural, a dot and the group: `deployments.apps`; in the core group the plural alone.
    VERSION_IN_NAME: "AR-L039" Lint Warning InvalidValue;

    /// Several resources are in one string.
    ///
    /// The server takes `secrets,configmaps` for the name of one resource, which does not exist:
    /// neither is encrypted.
    ///
    /// ```yaml
    /// resources: [secrets, configmaps]
    /// ```
    SEVERAL_IN_ONE: "AR-L040" Lint Warning InvalidValue;

    /// The name of a resource is empty or has blanks.
    ///
    /// Names are compared byte by byte; nothing is trimmed. An item without a value (`- ` or null)
    /// becomes the empty name. Neither matches anything.
    ///
    /// Write the plain name, or take the item out.
    BLANK_NAME: "AR-L041" Lint Warning InvalidValue;

    /// A resource is not in this group.
    ///
    /// What stands before the first dot is the resource, all behind it is its group; without a dot it
    /// is the core group. `deployments` and `secrets.apps` match nothing, and a namespace cannot be
    /// named here at all.
    ///
    /// Write `deployments.apps`, and `secrets` without a group.
    WRONG_GROUP: "AR-L042" Lint Warning InvalidValue;

    /// This wildcard matches nothing.
    ///
    /// There are three: `*.` for the core group, `*.apps` for another one, `*.*` for all. The star
    /// stands for the whole of a name: `secrets*` and `*.*.example.com` are plain names of resources
    /// that do not exist.
    ///
    /// Use one of the three, or name the resources.
    HALF_WILDCARD: "AR-L043" Lint Warning InvalidValue;

    /// A resource is never stored, or never encrypted.
    ///
    /// Reviews and bindings are answered and forgotten; the allocators of service addresses have no
    /// REST API, and the server refuses their plain names for that reason, though not with a dot
    /// behind.
    ///
    /// Take it out.
    NOT_STORED: "AR-L044" Lint Warning InvalidValue;

    /// Events or Leases are encrypted.
    ///
    /// They are the most written objects of a cluster, live for an hour or are rewritten every few
    /// seconds, and hold no secrets. Each write costs a call (KMS v1), or counts against the
    /// bounds of AES-GCM.
    ///
    /// Where a wildcard covers them, leave them out with an entry before it:
    ///
    /// ```yaml
    /// - resources: [events, leases.coordination.k8s.io]
    ///   providers: [{identity: {}}]
    /// ```
    HIGH_CHURN: "AR-L045" Lint Info InvalidValue;

    /// The server ignores all documents but the first.
    ///
    /// It reads one YAML document and stops; what follows `---` or `...` is not even parsed. An entry
    /// that was appended as a document of its own protects nothing.
    ///
    /// Put all entries into the `resources` of the first document.
    LATER_DOCUMENT: "AR-L046" Lint Warning InvalidValue;

    /// The kind is that of 1.12 and before.
    ///
    /// `kind: EncryptionConfig` with `apiVersion: v1` still works; no documentation mentions it, and
    /// other tools do not know it.
    ///
    /// ```yaml
    /// apiVersion: apiserver.config.k8s.io/v1
    /// kind: EncryptionConfiguration
    /// ```
    OLD_KIND: "AR-L047" Lint Info InvalidValue;

    /// Others than its owner can read a file with keys.
    ///
    /// Who has the file and a copy of etcd, or of a backup, has every Secret. The CIS benchmark
    /// wants 0600.
    ///
    /// `chmod 600 FILE`. Take the keys for known if untrusted users or agents were on the machine.
    FILE_READABLE: "AR-L048" Lint Warning InvalidValue;

    /// Others than its owner can change the file.
    ///
    /// Who writes the file decides what the server encrypts with: a key of their own, or `identity`.
    ///
    /// `chmod 600 FILE`.
    FILE_WRITABLE: "AR-L049" Lint Warning InvalidValue;

    /// The file belongs to another user than root.
    ///
    /// An owner can change the file whatever its mode says. Said only where root asks, as on a
    /// control-plane node.
    ///
    /// `chown root:root FILE`, or the user that kube-apiserver runs as and nobody else has.
    FILE_OWNER: "AR-L050" Lint Warning InvalidValue;

    /// The file is a symbolic link.
    ///
    /// Tools that replace a file by renaming leave the link's target as it was, so the server reads
    /// the old one or the new one depending on the path that it was given. A hostPath volume of the
    /// link mounts the target of the moment.
    ///
    /// Name the file itself in `--encryption-provider-config`. Fine for the links that a ConfigMap or
    /// Secret volume makes.
    FILE_SYMLINK: "AR-L051" Lint Info InvalidValue;

    /// Others can write to the file's directory.
    ///
    /// Who may write there can put a file of their own in the place of this one, whatever the file's
    /// own mode and owner.
    ///
    /// `chown root:root DIRECTORY; chmod 700 DIRECTORY`.
    DIRECTORY_WRITABLE: "AR-L052" Lint Warning InvalidValue;

    /// The file is among the static pods' manifests.
    ///
    /// The kubelet reads every file there that does not begin with a dot as a pod: it logs an error
    /// again and again, and a copy that an editor leaves is read, too.
    ///
    /// Move it to a directory of its own, such as `/etc/kubernetes/encryption`, and change the
    /// volume of kube-apiserver's manifest.
    AMONG_MANIFESTS: "AR-L053" Lint Warning InvalidValue;

    /// The cluster does not serve this resource.
    ///
    /// Asked with `--kubeconfig`. The entry covers nothing today. It is right where the custom
    /// resource is installed later; otherwise it is a misspelled name, or one of an API that is gone.
    ///
    /// `kubectl api-resources -o name` prints what there is.
    NOT_SERVED: "AR-L054" Lint Warning InvalidValue;

    /// A custom resource that seems to hold secrets is not covered.
    ///
    /// Asked with `--kubeconfig`. Its name has a word such as secret, credential, password or token.
    /// Custom resources are stored in plaintext unless an entry names them.
    ///
    /// Look at an object; if it holds secrets, add `plural.group` to an entry and rewrite what is
    /// stored. Otherwise `--allow AR-L055`.
    SECRETS_IN_CUSTOM_RESOURCE: "AR-L055" Lint Warning RequiredValue;

    /// A resource that often holds secrets is not covered.
    ///
    /// Asked with `--kubeconfig`. Nothing in a ConfigMap is meant to be secret, and in most clusters
    /// something is: connection strings, kubeconfigs, licence keys.
    ///
    /// Add `configmaps` to an entry and rewrite what is stored, or `--allow AR-L056`.
    SECRETS_BY_HABIT: "AR-L056" Lint Info RequiredValue;

    /// Two servers' files mean the same and differ in their bytes.
    ///
    /// With `--same`. Comments or formatting differ. The servers report the SHA-256 of the file in
    /// `apiserver_encryption_config_controller_last_config_info` (1.34 and later), so they seem to run
    /// different configurations, and `atrest rotate` has to treat them so.
    ///
    /// Copy one file to all servers, byte by byte.
    SAME_BUT_FORM: "AR-L057" Lint Info InvalidValue;

    /// Two servers' files differ, and each server can read what the other writes.
    ///
    /// With `--same`. That is how it is in the middle of a rotation: one server is a step ahead.
    /// Outside of one, a server was forgotten: the next key that is taken out may be one that it
    /// still writes with.
    ///
    /// Finish the rotation on all servers (`atrest rotate status`), or copy the newer file.
    SAME_BUT_STEP: "AR-L058" Lint Warning InvalidValue;

    /// One server cannot read what the other one writes.
    ///
    /// With `--same`. A client that reaches the other server gets an error for the object, and each
    /// list of the resource fails as a whole: controllers and kubelets stop at it.
    ///
    /// Add the missing key or provider as a reader on every server first, and only then let any
    /// server write with it.
    SAME_UNREADABLE: "AR-L059" Lint Warning InvalidValue;
}
