//! The C library: what `ic_listener::ffi` exports. library.mk builds it.

pub use ic_listener::ffi;
