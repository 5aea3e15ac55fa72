//! What stops kube-apiserver from reading the file.

table! {
    /// The file has no byte.
    EMPTY: "AR-D001" Server Error Malformed;

    /// The file is not YAML.
    YAML: "AR-D002" Server Error Malformed;

    /// The file begins with a brace and is not JSON.
    JSON: "AR-D003" Server Error Malformed;

    /// The file does not say its kind.
    NO_KIND: "AR-D004" Server Error RequiredValue;

    /// The file does not say its apiVersion.
    NO_API_VERSION: "AR-D005" Server Error RequiredValue;

    /// The file is not an EncryptionConfiguration.
    NOT_THIS_KIND: "AR-D006" Server Error InvalidValue;

    /// The API has no field of this name here.
    UNKNOWN: "AR-D007" Server Error UnknownField;

    /// A field is there twice.
    DUPLICATE: "AR-D008" Server Error DuplicateField;

    /// A value is of another type than its field.
    WRONG_TYPE: "AR-D009" Server Error WrongType;

    /// The timeout is not a duration.
    DURATION: "AR-D010" Server Error InvalidValue;

    /// The cachesize is not a whole number of 32 bits.
    INTEGER: "AR-D011" Server Error InvalidValue;

    /// YAML that has no meaning for the server.
    YAML_VALUE: "AR-D012" Server Error Malformed;

    /// The file is larger than any configuration.
    TOO_LARGE: "AR-D013" Server Error Unsupported;
}
