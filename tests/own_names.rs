//! The functions have their C names in the C library only: a Rust program may have functions of these names.
#![cfg(not(feature = "c-api"))]

/// # Safety
///
/// None is needed.
#[unsafe(no_mangle)]
pub extern "C" fn setup_listener() -> i32 {
    42
}

#[test]
fn a_program_has_its_own_setup_listener() {
    assert!(ic_listener::setup_listener().is_ok());
    assert_eq!(setup_listener(), 42);
}
