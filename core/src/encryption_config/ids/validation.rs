//! The rules of validation and loading: `AR-C0NN` is rule NN, in kube-apiserver's order.

table! {
    /// The file has no entry.
    NO_ENTRIES: "AR-C002" Server Error RequiredValue;

    /// An entry names no resource.
    NO_RESOURCES: "AR-C003" Server Error RequiredValue;

    /// An entry has no provider.
    NO_PROVIDERS: "AR-C004" Server Error RequiredValue;

    /// An entry names a resource twice.
    RESOURCE_TWICE: "AR-C005" Server Error InvalidValue;

    /// A wildcard and what it includes are in one entry.
    OVERLAP: "AR-C006" Server Error InvalidValue;

    /// The name of a resource has capital letters.
    CAPITALS: "AR-C007" Server Error InvalidValue;

    /// `*` is no wildcard of this file.
    STAR: "AR-C008" Server Error InvalidValue;

    /// A resource has no REST API.
    NO_REST_API: "AR-C009" Server Error InvalidValue;

    /// Events are named by the wrong group.
    EVENTS_GROUP: "AR-C010" Server Error InvalidValue;

    /// The group `extensions` is gone.
    EXTENSIONS_GROUP: "AR-C011" Server Error InvalidValue;

    /// One resource of all groups.
    ACROSS_GROUPS: "AR-C012" Server Error InvalidValue;

    /// An element of `providers` has no provider.
    NO_PROVIDER: "AR-C013" Server Error InvalidValue;

    /// An element of `providers` has more than one provider.
    TWO_PROVIDERS: "AR-C014" Server Error InvalidValue;

    /// A provider has no key.
    NO_KEYS: "AR-C015" Server Error RequiredValue;

    /// A key has no name.
    NO_KEY_NAME: "AR-C016" Server Error RequiredValue;

    /// A key has no secret.
    NO_SECRET: "AR-C017" Server Error RequiredValue;

    /// The secret of a key is not base64.
    NOT_BASE64: "AR-C018" Server Error InvalidValue;

    /// The secret of a key has a length that the cipher has no use for.
    KEY_LENGTH: "AR-C019" Server Error InvalidValue;

    /// A KMS plugin has no name.
    NO_KMS_NAME: "AR-C020" Server Error RequiredValue;

    /// The name of a KMS v2 plugin has a colon.
    COLON_IN_NAME: "AR-C021" Server Error InvalidValue;

    /// Two KMS plugins have one name.
    KMS_NAME_TWICE: "AR-C022" Server Error InvalidValue;

    /// The timeout of a KMS plugin is not positive.
    TIMEOUT: "AR-C023" Server Error InvalidValue;

    /// A KMS plugin has no endpoint.
    NO_ENDPOINT: "AR-C024" Server Error InvalidValue;

    /// The endpoint of a KMS plugin is no URL.
    ENDPOINT_URL: "AR-C025" Server Error InvalidValue;

    /// The endpoint of a KMS plugin is no unix socket.
    ENDPOINT_SCHEME: "AR-C026" Server Error InvalidValue;

    /// KMS v2 has no cachesize.
    CACHESIZE_V2: "AR-C027" Server Error InvalidValue;

    /// The cachesize is zero.
    CACHESIZE_ZERO: "AR-C028" Server Error InvalidValue;

    /// The plugin API has no such version.
    KMS_VERSION: "AR-C029" Server Error InvalidValue;

    /// An earlier wildcard hides a resource.
    MASKED: "AR-C030" Server Error Unsupported;

    /// KMS v1 is off in this server.
    KMS_V1_OFF: "AR-C031" Server Error Unsupported;

    /// KMS v2 is off in this server.
    KMS_V2_OFF: "AR-C032" Server Error Unsupported;
}
