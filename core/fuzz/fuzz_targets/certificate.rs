//! The files of a node, whatever is in them: they are read or refused.
#![no_main]

use atrest_core::check::{Certificate, PublicKey, StaticPod, Usage, acl, pem, private};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|input: &[u8]| {
    if let Ok(certificate) = Certificate::parse(input) {
        certificate_holds(&certificate, input);
    }
    for block in pem::blocks(input).unwrap_or_default() {
        let der = block.content.expose();
        if let Ok(certificate) = Certificate::parse(der) {
            certificate_holds(&certificate, der);
        }
        let _ = PublicKey::parse(der);
        let _ = private(&block.label, der);
    }
    if let Some(pod) = StaticPod::read(input) {
        assert!(!pod.program().contains('/'));
        let _ = (
            pod.file("tls-cert-file"),
            pod.on_host("/etc/kubernetes/pki/ca.crt"),
        );
        let _ = pod.is_run_by(input);
    }
    let _ = acl(input);
});

fn certificate_holds(certificate: &Certificate, der: &[u8]) {
    assert_eq!(certificate.der, der);
    assert!(
        der.windows(certificate.signed().len())
            .any(|it| it == certificate.signed())
    );
    assert!(!certificate.not_after.to_string().starts_with('@'));
    let _ = (certificate.may_sign(), certificate.lifetime());
    let _ = certificate.may_serve_for(&Usage::Server);
    for name in &certificate.names {
        let _ = certificate.is_for(&name.to_string());
    }
}
