//! The rules of validation and loading: `AR-C0NN` is rule NN, in kube-apiserver's order.

table! {
    /// The file has no entry.
    ///
    /// The list `resources` is missing, null or empty (`validation_encryption.go`). A server that
    /// shall not encrypt anything is started without `--encryption-provider-config`, or with an
    /// entry whose only provider is `identity`.
    ///
    ///     resources:
    ///     - resources: [secrets]
    ///       providers:
    ///       - secretbox:
    ///           keys:
    ///           - {name: key1, secret: ...}
    ///       - identity: {}
    NO_ENTRIES: "AR-C002" Server Error RequiredValue;

    /// An entry names no resource.
    ///
    /// Each entry says what it is for: names of resources in lower case and plural, with the group
    /// behind a dot unless it is the core group, or one of the wildcards `*.`, `*.apps`, `*.*`. The
    /// list cannot be left out to mean everything.
    ///
    ///     resources:
    ///     - resources: [secrets, widgets.example.com]
    ///       providers:
    ///       - identity: {}
    NO_RESOURCES: "AR-C003" Server Error RequiredValue;

    /// An entry has no provider.
    ///
    /// The first provider of an entry writes, all of them are tried for reading. With none the
    /// server could do neither. Often the list is there, but indented as if it belonged elsewhere.
    ///
    /// Give the entry a provider; `identity` means no encryption:
    ///
    ///     - resources: [events]
    ///       providers:
    ///       - identity: {}
    NO_PROVIDERS: "AR-C004" Server Error RequiredValue;

    /// An entry names a resource twice.
    ///
    /// `secrets` and `secrets.` are the same resource: what stands before the first dot is the name,
    /// what follows is the group, and the core group's is empty. The server refuses a list with both
    /// rather than to guess what was meant.
    ///
    /// Keep one of the two. Another group is another resource:
    ///
    ///     resources: [events, ingresses.networking.k8s.io]
    RESOURCE_TWICE: "AR-C005" Server Error InvalidValue;

    /// A wildcard and what it includes are in one entry.
    ///
    /// Within one list the wildcard says all there is to say; the server refuses the rest as masked,
    /// whatever the order. `*.` includes the core group, `*.apps` that group, `*.*` everything.
    ///
    /// Take out what is included, or, if it shall have providers of its own, give it an entry before
    /// that of the wildcard:
    ///
    ///     resources:
    ///     - resources: [secrets]
    ///       providers: [{secretbox: {keys: [{name: key1, secret: ...}]}}]
    ///     - resources: ['*.']
    ///       providers: [{identity: {}}]
    OVERLAP: "AR-C006" Server Error InvalidValue;

    /// The name of a resource has capital letters.
    ///
    /// Entries name resources, not kinds: the name is the one in the URL of the API, plural and in
    /// lower case. `kubectl api-resources` shows it in its first column.
    ///
    ///     resources: [secrets, configmaps]
    CAPITALS: "AR-C007" Server Error InvalidValue;

    /// `*` is no wildcard of this file.
    ///
    /// A star alone could mean the core group or everything, so the server refuses it. A star needs
    /// quotes, for without them it begins an alias in YAML.
    ///
    /// Write one of these, in an entry of its own:
    ///
    ///     - '*.'
    ///     - '*.apps'
    ///     - '*.*'
    STAR: "AR-C008" Server Error InvalidValue;

    /// A resource has no REST API.
    ///
    /// `apiserveripinfo`, `serviceipallocations` and `servicenodeportallocations` are records that
    /// kube-apiserver keeps in etcd for itself. They are not served by the API, and never encrypted.
    ///
    /// Take the name out. The Services that they are about can be encrypted:
    ///
    ///     resources: [services]
    NO_REST_API: "AR-C009" Server Error InvalidValue;

    /// Events are named by the wrong group.
    ///
    /// Events are served by the core group and by `events.k8s.io`, and stored once, as `events` of
    /// the core group. An entry for the other name would never be used.
    ///
    /// Write the name without a group. It holds for both ways to read them:
    ///
    ///     resources: [events]
    EVENTS_GROUP: "AR-C010" Server Error InvalidValue;

    /// The group `extensions` is gone.
    ///
    /// What was in it has been in other groups for years: Deployments, DaemonSets and ReplicaSets in
    /// `apps`, Ingresses and NetworkPolicies in `networking.k8s.io`. An entry for the old group would
    /// protect nothing, so the server refuses it.
    ///
    ///     resources: [deployments.apps, ingresses.networking.k8s.io]
    EXTENSIONS_GROUP: "AR-C011" Server Error InvalidValue;

    /// A resource cannot be named for all groups at once.
    ///
    /// The star of a group takes all groups and therefore all resources, `*.*`. A name with all
    /// groups, `jobs.*`, is nothing that the server could look up.
    ///
    /// Name each group that has the resource:
    ///
    ///     resources: [jobs.batch, jobs.example.com]
    ACROSS_GROUPS: "AR-C012" Server Error InvalidValue;

    /// An element of `providers` has no provider.
    ///
    /// Each element of the list is a mapping with exactly one of aescbc, aesgcm, identity, kms and
    /// secretbox. A provider whose value is missing counts as not there: `identity:` without braces
    /// is null.
    ///
    ///     providers:
    ///     - secretbox:
    ///         keys:
    ///         - {name: key1, secret: ...}
    ///     - identity: {}
    NO_PROVIDER: "AR-C013" Server Error InvalidValue;

    /// An element of `providers` has more than one provider.
    ///
    /// The order of the providers is that of the list, and within one element there is none. Usually
    /// a dash is missing. kube-apiserver's own message for this quotes the element with its keys in
    /// clear: if it was logged, treat those keys as known and rotate them.
    ///
    /// Give each provider a dash of its own:
    ///
    ///     providers:
    ///     - aescbc:
    ///         keys:
    ///         - {name: key1, secret: ...}
    ///     - identity: {}
    TWO_PROVIDERS: "AR-C014" Server Error InvalidValue;

    /// A provider has no key.
    ///
    /// aescbc, aesgcm and secretbox need at least one key. The first one writes, and of all of them
    /// the name tells which one a stored value needs. `atrest generate` writes a file with a fresh
    /// key.
    ///
    ///     secretbox:
    ///       keys:
    ///       - name: key1
    ///         secret: ...
    NO_KEYS: "AR-C015" Server Error RequiredValue;

    /// A key has no name.
    ///
    /// The name stands in front of each value that the key wrote, and is how the server finds the
    /// key again. It is public. Once values are stored under a name it cannot be changed without
    /// rewriting them.
    ///
    /// Choose a short name without a colon, a date for one:
    ///
    ///     keys:
    ///     - name: 20261122-0f3a9c41
    ///       secret: ...
    NO_KEY_NAME: "AR-C016" Server Error RequiredValue;

    /// A key has no secret.
    ///
    /// The secret is missing, null or empty. It holds the key's bytes in base64, with the padding.
    /// Templates leave it empty where a variable was not set.
    ///
    /// If values are stored under this key, look for it in the file of another API server or in the
    /// escrow; a new secret under the old name cannot read them. A new key is made by
    /// `head -c 32 /dev/urandom | base64`, or by `atrest generate` with the file around it:
    ///
    ///     - name: key1
    ///       secret: ...
    NO_SECRET: "AR-C017" Server Error RequiredValue;

    /// The secret of a key is not base64.
    ///
    /// The server decodes as Go's `base64.StdEncoding` does: letters, digits, `+` and `/`, padding
    /// with `=` required. Line breaks are passed over, blanks and tabs are not, so a literal block
    /// (`|`) works and a folded one (`>`) with several lines does not. The URL form with `-` and `_`,
    /// hex, and a passphrase as it is are refused.
    ///
    /// Encode the bytes of the key: `head -c 32 /dev/urandom | base64` makes one of 32 bytes.
    ///
    ///     - name: key1
    ///       secret: AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=
    NOT_BASE64: "AR-C018" Server Error InvalidValue;

    /// The secret of a key has a length that the cipher has no use for.
    ///
    /// Once decoded, secretbox takes 32 bytes; aescbc and aesgcm take 16, 24 or 32. What counts are
    /// the bytes after decoding: a newline that `echo` adds makes 33. And 32 digits of hex, encoded
    /// once more, pass with half of the strength that 32 random bytes have.
    ///
    /// Use 32 random bytes: `head -c 32 /dev/urandom | base64`.
    ///
    ///     - name: key1
    ///       secret: AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=
    KEY_LENGTH: "AR-C019" Server Error InvalidValue;

    /// A KMS plugin has no name.
    ///
    /// The name stands in front of each value that the plugin encrypted (`k8s:enc:kms:v2:NAME:`),
    /// and in metrics. Once values are stored under a name it cannot be changed without rewriting
    /// them.
    ///
    ///     kms:
    ///       apiVersion: v2
    ///       name: plugin
    ///       endpoint: unix:///run/plugin/kms.sock
    NO_KMS_NAME: "AR-C020" Server Error RequiredValue;

    /// The name of a KMS v2 plugin has a colon.
    ///
    /// In front of a stored value the name ends at a colon, so it can have none itself. Only v1 of
    /// the plugin API, which is off since 1.29, took such names.
    ///
    /// Choose another name, with dashes. If values are stored under the old one, which only v1 can
    /// have written, keep that provider as it is behind the new one until they are rewritten:
    ///
    ///     kms:
    ///       apiVersion: v2
    ///       name: cloud-plugin
    ///       endpoint: unix:///run/plugin/kms.sock
    COLON_IN_NAME: "AR-C021" Server Error InvalidValue;

    /// Two KMS plugins have one name.
    ///
    /// Values and metrics know a plugin by its name alone. With v2 each name must be the only one in
    /// the whole file, also across entries and against plugins of v1 that come before; with automatic
    /// reload this holds for v1, too. Entries cannot share one plugin by naming it twice: put their
    /// resources into one entry.
    ///
    ///     resources:
    ///     - resources: [secrets, configmaps]
    ///       providers:
    ///       - kms: {apiVersion: v2, name: plugin, endpoint: 'unix:///run/plugin/kms.sock'}
    KMS_NAME_TWICE: "AR-C022" Server Error InvalidValue;

    /// The timeout of a KMS plugin is not positive.
    ///
    /// A call that may take no time never succeeds. Zero does not mean without limit here: there is
    /// no such setting, for a write to the API waits for the plugin.
    ///
    /// Leave the field out for 3 seconds, or write how long a call may take:
    ///
    ///     kms:
    ///       apiVersion: v2
    ///       name: plugin
    ///       endpoint: unix:///run/plugin/kms.sock
    ///       timeout: 3s
    TIMEOUT: "AR-C023" Server Error InvalidValue;

    /// A KMS plugin has no endpoint.
    ///
    /// The endpoint says where the plugin listens: on a unix socket of the same machine, as a URL
    /// with three slashes before the path.
    ///
    ///     kms:
    ///       apiVersion: v2
    ///       name: plugin
    ///       endpoint: unix:///run/plugin/kms.sock
    NO_ENDPOINT: "AR-C024" Server Error InvalidValue;

    /// The endpoint of a KMS plugin is no URL.
    ///
    /// Go's `url.Parse` cannot make sense of it: there is a control character, a blank before the
    /// scheme, a percent sign without two hex digits, a port that is no number. The endpoint itself
    /// is not shown here, since a URL can hold a password.
    ///
    ///     kms:
    ///       apiVersion: v2
    ///       name: plugin
    ///       endpoint: unix:///run/plugin/kms.sock
    ENDPOINT_URL: "AR-C025" Server Error InvalidValue;

    /// The endpoint of a KMS plugin is no unix socket.
    ///
    /// kube-apiserver speaks to plugins over unix sockets and nothing else. A path alone has no
    /// scheme and is refused, too. A key service elsewhere is reached by a plugin on this machine
    /// that passes the calls on.
    ///
    ///     kms:
    ///       apiVersion: v2
    ///       name: plugin
    ///       endpoint: unix:///run/plugin/kms.sock
    ENDPOINT_SCHEME: "AR-C026" Server Error InvalidValue;

    /// KMS v2 has no cachesize.
    ///
    /// v1 asks the plugin for each key that is not in its cache, and `cachesize` bounds that cache.
    /// v2 derives its keys from a seed that it holds in memory, so that there is nothing to bound.
    ///
    /// Take the field out:
    ///
    ///     kms:
    ///       apiVersion: v2
    ///       name: plugin
    ///       endpoint: unix:///run/plugin/kms.sock
    CACHESIZE_V2: "AR-C027" Server Error InvalidValue;

    /// The cachesize is zero.
    ///
    /// Zero could mean the default or no cache, so the server refuses it. Leave the field out for
    /// 1000 keys, write a positive number, or a negative one for no cache at all; then each read
    /// waits for the plugin.
    ///
    ///     kms:
    ///       apiVersion: v1
    ///       name: plugin
    ///       endpoint: unix:///run/plugin/kms.sock
    ///       cachesize: -1
    CACHESIZE_ZERO: "AR-C028" Server Error InvalidValue;

    /// The plugin API has no such version.
    ///
    /// The versions are `v1` and `v2`. Without the field it is `v1`, which servers from 1.29 on have
    /// turned off. `v1beta1` is the name of v1 on the wire and is not written here.
    ///
    ///     kms:
    ///       apiVersion: v2
    ///       name: plugin
    ///       endpoint: unix:///run/plugin/kms.sock
    KMS_VERSION: "AR-C029" Server Error InvalidValue;

    /// An earlier wildcard hides a resource.
    ///
    /// The loader goes through the entries in order (`encryptionconfig/config.go`). A resource, or a
    /// wildcard, that an earlier entry's wildcard includes could be meant to be encrypted by either,
    /// so the server refuses to start. A wildcard that is there twice hides itself.
    ///
    /// Order the entries from the narrowest to the widest: resources, `*.apps`, `*.*`.
    ///
    ///     resources:
    ///     - resources: [secrets]
    ///       providers: [{secretbox: {keys: [{name: key1, secret: ...}]}}]
    ///     - resources: ['*.*']
    ///       providers: [{identity: {}}]
    MASKED: "AR-C030" Server Error Unsupported;

    /// KMS v1 is off in this server.
    ///
    /// v1 of the plugin API is deprecated and off by default since 1.29. It is also what a provider
    /// has that gives no `apiVersion`. Most plugins speak v2 by now; values that v1 wrote need v1 to
    /// be read.
    ///
    /// For a new plugin write v2. To read old values start the server with
    /// `--feature-gates=KMSv1=true`, with v2 before v1 in the list, and rewrite them.
    ///
    ///     providers:
    ///     - kms: {apiVersion: v2, name: new, endpoint: 'unix:///run/new/kms.sock'}
    ///     - kms: {apiVersion: v1, name: old, endpoint: 'unix:///run/old/kms.sock'}
    KMS_V1_OFF: "AR-C031" Server Error Unsupported;

    /// KMS v2 is off in this server.
    ///
    /// Up to 1.28 the feature gate KMSv2 can be turned off; from 1.29 on it cannot, and from 1.32 on
    /// there is no such gate. A server with the gate off has no v2.
    ///
    /// Take `KMSv2=false` out of the server's `--feature-gates`, on every API server of the cluster,
    /// before the file names a plugin with
    ///
    ///     apiVersion: v2
    KMS_V2_OFF: "AR-C032" Server Error Unsupported;
}
