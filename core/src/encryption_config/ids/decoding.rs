//! What stops kube-apiserver from reading the file.

table! {
    /// The file has no byte.
    ///
    /// kube-apiserver refuses a file of length zero before it looks at anything else
    /// (`encryptionconfig/config.go`, `loadConfig`). A file of blanks or comments alone is not empty
    /// in this sense: it does not say its kind, see AR-D004.
    ///
    /// An empty file is what is left when a copy failed or a disk was full. Take the file from
    /// another API server of this cluster or from a backup. A new one, with new keys, is right only
    /// for a cluster that has not encrypted anything yet: `atrest generate` writes it.
    EMPTY: "AR-D001" Server Error Malformed;

    /// The file is not YAML.
    ///
    /// The file is read as YAML 1.1 by Go's library, unless it begins with a brace. The usual
    /// causes are a tab in the indentation, a quote or bracket that is not closed, a list item that
    /// is not in line with the others, and a byte that is no UTF-8 or a control character, in a
    /// comment, too. The place is where the reader gave up; the cause is often on the line before.
    ///
    /// Indent with blanks only, items of one list alike, and put text with `: ` or ` #` in quotes:
    ///
    ///     resources:
    ///     - resources: [secrets]
    ///       providers:
    ///       - identity: {}
    YAML: "AR-D002" Server Error Malformed;

    /// The file begins with a brace and is not JSON.
    ///
    /// Where the first character that is no blank is `{`, kube-apiserver reads the whole file as
    /// JSON and never tries YAML. So there may be no comments, no single quotes, no names without
    /// quotes, no comma before a closing bracket, and nothing behind the last brace.
    ///
    /// Mend the JSON. If the file was meant as YAML in braces, a comment line before the brace makes
    /// it YAML:
    ///
    ///     # this is YAML
    ///     {apiVersion: apiserver.config.k8s.io/v1, kind: EncryptionConfiguration, resources: []}
    JSON: "AR-D003" Server Error Malformed;

    /// The file does not say its kind.
    ///
    /// The kind and the apiVersion tell the server what the rest means. They must be in the first
    /// document of the file; one that begins with an empty document has none. kube-apiserver's own
    /// message for this quotes the whole file, keys included: do not paste it anywhere.
    ///
    /// Begin the file with
    ///
    ///     apiVersion: apiserver.config.k8s.io/v1
    ///     kind: EncryptionConfiguration
    NO_KIND: "AR-D004" Server Error RequiredValue;

    /// The file does not say its apiVersion.
    ///
    /// The kind alone is not enough: the server looks up group, version and kind together. Like
    /// that of a missing kind, kube-apiserver's own message quotes the whole file, keys included.
    ///
    /// Begin the file with
    ///
    ///     apiVersion: apiserver.config.k8s.io/v1
    ///     kind: EncryptionConfiguration
    NO_API_VERSION: "AR-D005" Server Error RequiredValue;

    /// The file is not an EncryptionConfiguration.
    ///
    /// There is one version of this API, `apiserver.config.k8s.io/v1`, and one old alias: the pair
    /// `apiVersion: v1` and `kind: EncryptionConfig`. The two cannot be mixed, and other kinds of
    /// the group, such as AdmissionConfiguration, belong to other flags of kube-apiserver.
    ///
    /// Write
    ///
    ///     apiVersion: apiserver.config.k8s.io/v1
    ///     kind: EncryptionConfiguration
    NOT_THIS_KIND: "AR-D006" Server Error InvalidValue;

    /// The API has no field of this name here.
    ///
    /// Since 1.31 kube-apiserver refuses names that it does not know, at any depth. Up to 1.30 it
    /// dropped them without a word, so that `cacheSize: 5` set nothing. Case counts; there is no
    /// `metadata`; and a field that is indented too little belongs to another object than the one
    /// that was meant. A name that may be a key, because a line lost its colon, is not shown.
    ///
    /// Correct the name, or indent the line as the API has it:
    ///
    ///     providers:
    ///     - aescbc:
    ///         keys:
    ///         - name: key1
    ///           secret: ...
    UNKNOWN: "AR-D007" Server Error UnknownField;

    /// A field is there twice.
    ///
    /// Of two fields with one name only one can count. Since 1.31 kube-apiserver refuses the file;
    /// up to 1.30 it silently took the last one, which may have been another key than the first. A
    /// merge key (`<<`) counts, too: what it brings may not be written beside it again.
    ///
    /// Keep one of the two. Two keys are two items of the list:
    ///
    ///     keys:
    ///     - {name: key2, secret: ...}
    ///     - {name: key1, secret: ...}
    DUPLICATE: "AR-D008" Server Error DuplicateField;

    /// A value is of another type than its field.
    ///
    /// YAML 1.1 gives types to text without quotes: `yes`, `no`, `on` and `off` are booleans, and
    /// digits are a number. The name `1` of a key is then not the text that the API wants, and the
    /// server stops. The same happens where a list is written as a single value, or a mapping
    /// without its braces or lines.
    ///
    /// Put text that could be something else in quotes, and begin each item of a list with a dash:
    ///
    ///     keys:
    ///     - name: "1"
    ///       secret: ...
    WRONG_TYPE: "AR-D009" Server Error WrongType;

    /// The timeout is not a duration.
    ///
    /// The timeout of a KMS plugin is text in the form of Go's `time.ParseDuration`: numbers, each
    /// with a unit out of `ns`, `us`, `ms`, `s`, `m`, `h`. A number without a unit is refused, and so
    /// are days, capital units and blanks between number and unit.
    ///
    ///     kms:
    ///       apiVersion: v2
    ///       name: plugin
    ///       endpoint: unix:///run/plugin/kms.sock
    ///       timeout: 3s
    DURATION: "AR-D010" Server Error InvalidValue;

    /// The cachesize is not a whole number of 32 bits.
    ///
    /// The server takes whole numbers from -2147483648 to 2147483647, without quotes. YAML 1.1 reads
    /// `010` as eight, `1_000` as a thousand and `1e3` as a thousand, too.
    ///
    /// Write a plain number, or leave the field out for 1000. Only v1 of the plugin API has it:
    ///
    ///     kms:
    ///       apiVersion: v1
    ///       name: plugin
    ///       endpoint: unix:///run/plugin/kms.sock
    ///       cachesize: 1000
    INTEGER: "AR-D011" Server Error InvalidValue;

    /// YAML that has no meaning for the server.
    ///
    /// The file is good YAML as far as its form goes, but it cannot be turned into an object: an
    /// alias without an anchor or inside of itself, a tag that does not fit its value, a field whose
    /// name is no text, a `<<` that merges no mapping, `.inf` or `.nan`, or so many aliases that Go's
    /// library takes the file for an attack.
    ///
    /// Write the values out, each where it belongs:
    ///
    ///     keys:
    ///     - name: key1
    ///       secret: ...
    YAML_VALUE: "AR-D012" Server Error Malformed;

    /// The file is larger than any configuration.
    ///
    /// This is a limit of atrest, not of kube-apiserver: 16 MiB, 500,000 values, 100 levels. A
    /// configuration with an entry for each of 300 resources, and 100 keys in each, has about three
    /// megabytes.
    ///
    /// Check that the path names the configuration, and not an archive, a log or a device. Entries
    /// with the same providers can be one entry with many resources:
    ///
    ///     resources:
    ///     - resources: [secrets, configmaps, widgets.example.com]
    ///       providers:
    ///       - identity: {}
    TOO_LARGE: "AR-D013" Server Error Unsupported;
}
