//! See `bodies` in `tests/hostile/http.rs`.

#![no_main]
#![allow(dead_code, reason = "each target runs one of the cases")]

#[path = "../../hostile/http.rs"]
mod http;
#[path = "../../hostile/shaper.rs"]
mod shaper;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| http::bodies(bytes));
