//! Any bytes as a GGUF file: opened, and walked over to the last element if they open.
#![no_main]

#[path = "../../crates/gguf/tests/common/mod.rs"]
mod common;

use hob_gguf::Gguf;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    if let Ok(file) = Gguf::from_bytes(bytes.to_vec()) {
        common::walk(&file);
        common::walk(&common::rewrite(&file));
    }
});
