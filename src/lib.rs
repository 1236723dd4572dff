//! Listener ports for database backends, also on hosts that seem to have none left.
//!
//! A backend that takes part in a distributed query needs a listener on a port of the host's ephemeral range that no
//! other socket has. Asking the kernel for one (bind() to port 0) fails as soon as TIME_WAIT and outgoing connections
//! fill the range, although most of those ports could be listened on; this library finds them. While one port of the
//! range can be listened on the caller gets it, and when none can, the error says why. How it goes about it is
//! described in `src/strategy.rs`, and what it costs in `docs/why.md`.
//!
//! C programs use `include/ic_listener.h`; Rust programs use this:
//!
//! ```
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let opened = ic_listener::Options::new().address(std::net::Ipv4Addr::LOCALHOST).backlog(256).open_tcp()?;
//! println!("listening on port {}", opened.port);
//! let listener: std::net::TcpListener = opened.socket; // Non-blocking.
//!
//! let socket = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None)?;
//! ic_listener::connect(&socket, &listener.local_addr()?)?;
//! # Ok(())
//! # }
//! ```
//!
//! # Threads, processes, signals
//!
//! Every function may be called from any thread and from a forked child, any number of times. Nothing here blocks
//! (but [`connect`] on a blocking socket), sleeps, prints, starts threads, installs signal handlers or reads the
//! environment. Sockets that it opens are non-blocking and close-on-exec; a forked child inherits them as it does any
//! other.

#![deny(unsafe_code, missing_docs)]
// The rest is for the C API.
#![cfg_attr(not(feature = "c-api"), allow(dead_code))]

#[cfg(not(target_os = "linux"))]
compile_error!("ic-listener is for Linux only: it relies on Linux's rules about ports");

mod address;
mod attempts;
mod callers_socket;
mod census;
mod claim;
mod connection;
mod drop_in;
mod error;
mod explanation;
#[cfg(feature = "c-api")]
#[allow(unsafe_code)]
pub mod ffi;
mod listener;
mod options;
mod port_order;
mod port_range;

mod strategy;
#[allow(unsafe_code)]
mod sys;
mod text;

pub use attempts::{Attempts, PortOrigin};
#[doc(hidden)]
pub use census::Entry as SeenSocket;
pub use census::{Census, CensusSource, Holders};
pub use drop_in::{Outcome, bind, connect, listen, local_addr};
pub use error::{Error, Step};
pub use options::{DEFAULT_BACKLOG, Opened, Options, setup_listener};
