//! Interconnect listener ports for database backends.
//!
//! A backend that takes part in a distributed query needs a listener on a port of the host's ephemeral range that no
//! other socket has. Asking the kernel for one (bind() to port 0) fails as soon as TIME_WAIT and outgoing connections
//! fill the range, although most of those ports could be listened on; this library finds them. While one port of the
//! range can be listened on the caller gets it, and when none can, the error says why. How it goes about it, and what
//! it costs, is described in `src/strategy.rs`.
//!
//! C programs use `include/ic_listener.h`; Rust programs use this:
//!
//! ```
//! # fn main() -> Result<(), ic_listener::Error> {
//! use ic_listener::Options;
//!
//! let opened = Options::new().address("127.0.0.1").backlog(256).open_tcp()?;
//! println!("listening on port {}", opened.port);
//! let listener: std::net::TcpListener = opened.socket;
//! # Ok(())
//! # }
//! ```
//!
//! # Threads, processes, signals
//!
//! Every function may be called from any thread and from a forked child, any number of times. Nothing here blocks,
//! sleeps, prints, starts threads, installs signal handlers or reads the environment. Sockets are non-blocking and
//! close-on-exec; a forked child inherits them as it does any other.

#![deny(unsafe_code)]

mod address;
mod attempts;
mod census;
mod drop_in;
mod error;
#[allow(unsafe_code)]
pub mod ffi;
mod if_inet6;
mod kind;
mod listener;
mod options;
mod port_order;
mod port_range;
mod proc_net_tcp;
mod sock_diag;
mod strategy;
#[allow(unsafe_code)]
mod sys;

pub use attempts::{Attempts, Family, PortOrigin};
pub use census::{Census, CensusSource, Holders};
pub use drop_in::{Done, bind, connect, listen};
pub use error::{Error, Step};
pub use options::{DEFAULT_BACKLOG, DEFAULT_LISTEN_RETRIES, Opened, Options, setup_listener, share_port};
