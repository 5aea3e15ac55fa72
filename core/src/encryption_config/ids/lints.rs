//! What kube-apiserver takes and nobody should want.

table! {
    /// The first provider is `identity`: what is written is stored in plaintext.
    IDENTITY_FIRST: "AR-L001" Lint Warning InvalidValue;
}
