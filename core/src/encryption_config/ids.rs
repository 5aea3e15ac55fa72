//! The ids of findings and the class of fault that each is.
//!
//! `AR-C0NN` is rule NN of validation and loading, in kube-apiserver's order; `AR-D0NN` is what
//! stops it from reading the file in the first place. An id never changes its meaning.

use super::finding::Kind;

type Id = (&'static str, Kind);

pub(super) const EMPTY: Id = ("AR-D001", Kind::Malformed);
pub(super) const YAML: Id = ("AR-D002", Kind::Malformed);
pub(super) const JSON: Id = ("AR-D003", Kind::Malformed);
pub(super) const NO_KIND: Id = ("AR-D004", Kind::RequiredValue);
pub(super) const NO_API_VERSION: Id = ("AR-D005", Kind::RequiredValue);
pub(super) const NOT_THIS_KIND: Id = ("AR-D006", Kind::InvalidValue);
pub(super) const UNKNOWN: Id = ("AR-D007", Kind::UnknownField);
pub(super) const DUPLICATE: Id = ("AR-D008", Kind::DuplicateField);
pub(super) const WRONG_TYPE: Id = ("AR-D009", Kind::WrongType);
pub(super) const DURATION: Id = ("AR-D010", Kind::InvalidValue);
pub(super) const INTEGER: Id = ("AR-D011", Kind::InvalidValue);
pub(super) const YAML_VALUE: Id = ("AR-D012", Kind::Malformed);
pub(super) const TOO_LARGE: Id = ("AR-D013", Kind::Unsupported);

pub(super) const NO_ENTRIES: Id = ("AR-C002", Kind::RequiredValue);
pub(super) const NO_RESOURCES: Id = ("AR-C003", Kind::RequiredValue);
pub(super) const NO_PROVIDERS: Id = ("AR-C004", Kind::RequiredValue);
pub(super) const RESOURCE_TWICE: Id = ("AR-C005", Kind::InvalidValue);
pub(super) const OVERLAP: Id = ("AR-C006", Kind::InvalidValue);
pub(super) const CAPITALS: Id = ("AR-C007", Kind::InvalidValue);
pub(super) const STAR: Id = ("AR-C008", Kind::InvalidValue);
pub(super) const NO_REST_API: Id = ("AR-C009", Kind::InvalidValue);
pub(super) const EVENTS_GROUP: Id = ("AR-C010", Kind::InvalidValue);
pub(super) const EXTENSIONS_GROUP: Id = ("AR-C011", Kind::InvalidValue);
pub(super) const ACROSS_GROUPS: Id = ("AR-C012", Kind::InvalidValue);
pub(super) const NO_PROVIDER: Id = ("AR-C013", Kind::InvalidValue);
pub(super) const TWO_PROVIDERS: Id = ("AR-C014", Kind::InvalidValue);
pub(super) const NO_KEYS: Id = ("AR-C015", Kind::RequiredValue);
pub(super) const NO_KEY_NAME: Id = ("AR-C016", Kind::RequiredValue);
pub(super) const NO_SECRET: Id = ("AR-C017", Kind::RequiredValue);
pub(super) const NOT_BASE64: Id = ("AR-C018", Kind::InvalidValue);
pub(super) const KEY_LENGTH: Id = ("AR-C019", Kind::InvalidValue);
pub(super) const NO_KMS_NAME: Id = ("AR-C020", Kind::RequiredValue);
pub(super) const COLON_IN_NAME: Id = ("AR-C021", Kind::InvalidValue);
pub(super) const KMS_NAME_TWICE: Id = ("AR-C022", Kind::InvalidValue);
pub(super) const TIMEOUT: Id = ("AR-C023", Kind::InvalidValue);
pub(super) const NO_ENDPOINT: Id = ("AR-C024", Kind::InvalidValue);
pub(super) const ENDPOINT_URL: Id = ("AR-C025", Kind::InvalidValue);
pub(super) const ENDPOINT_SCHEME: Id = ("AR-C026", Kind::InvalidValue);
pub(super) const CACHESIZE_V2: Id = ("AR-C027", Kind::InvalidValue);
pub(super) const CACHESIZE_ZERO: Id = ("AR-C028", Kind::InvalidValue);
pub(super) const KMS_VERSION: Id = ("AR-C029", Kind::InvalidValue);
pub(super) const MASKED: Id = ("AR-C030", Kind::Unsupported);
pub(super) const KMS_V1_OFF: Id = ("AR-C031", Kind::Unsupported);
pub(super) const KMS_V2_OFF: Id = ("AR-C032", Kind::Unsupported);
