//! Whatever stands where an object should: it is read or refused, and its manifest says the same.
#![no_main]

use atrest_core::at_rest::{Object, manifest};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let object = Object::parse(bytes);
    let manifest = manifest(bytes);
    if let (Ok(object), Ok(manifest)) = (&object, &manifest) {
        let said = serde_json::to_vec(manifest).expect("a value is JSON");
        assert_eq!(Object::parse(&said).as_ref(), Ok(object));
    }
    // Errors are of a few kinds and hold nothing of the bytes.
    if let Err(error) = manifest {
        assert!(error.to_string().len() < 100);
    }
});
