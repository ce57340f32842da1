//! See `envelope` in `tests/hostile/cases.rs`.

#![no_main]
#![allow(dead_code, reason = "each target runs one of the cases")]

#[path = "../../hostile/cases.rs"]
mod cases;
#[path = "../../hostile/shaper.rs"]
mod shaper;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| cases::envelope(bytes));
