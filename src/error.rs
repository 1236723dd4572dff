//! What went wrong, and how far it got.

use std::fmt;
use std::io;
use std::net::SocketAddr;

use crate::Attempts;
use crate::text::Text;

/// The step that failed. Its name is that of the system call, as database logs know it from their "bind: %m".
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Step {
    /// No step failed: success.
    None = 0,
    /// A pointer or an option that cannot be used.
    Arguments = 1,
    /// The address is not numeric or not unicast, or its interface is missing, unknown or not allowed.
    Address = 2,
    /// socket(2)
    Socket = 3,
    /// setsockopt(2)
    Setsockopt = 4,
    /// bind(2)
    Bind = 5,
    /// listen(2)
    Listen = 6,
    /// getsockname(2)
    Getsockname = 7,
    /// A bug of the library; errno is ENOTRECOVERABLE.
    Internal = 8,
    /// connect(2)
    Connect = 9,
}

impl Step {
    pub(crate) const ALL: [(Self, &'static std::ffi::CStr); 10] = [
        (Self::None, c"none"),
        (Self::Arguments, c"arguments"),
        (Self::Address, c"address"),
        (Self::Socket, c"socket"),
        (Self::Setsockopt, c"setsockopt"),
        (Self::Bind, c"bind"),
        (Self::Listen, c"listen"),
        (Self::Getsockname, c"getsockname"),
        (Self::Internal, c"internal"),
        (Self::Connect, c"connect"),
    ];
}

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(Self::ALL[*self as usize].1.to_str().unwrap_or_default())
    }
}

/// Why a call failed. What it opened is closed again.
///
/// `Display` is one line for an operator, such as
/// `no port to listen on in 32768-60999: 28232 tried, 28230 in use, 2 lost to another listener`.
#[derive(Debug, thiserror::Error)]
#[error("{failure}")]
pub struct Error {
    failure: Failure,
    attempts: Attempts,
}

/// A step that failed, before the attempts are added to it.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Failure {
    /// A system call was refused.
    #[error("{step}: {}", Words(source))]
    Refused { step: Step, source: io::Error },
    /// No port of the range was won.
    #[error("{attempts}")]
    NoPort { step: Step, source: io::Error, attempts: Attempts },
    #[error("{what}: {address}")]
    BadAddress { what: &'static str, address: Text<64> },
    #[error("{0} is not an address of this host, or not yet (tentative)")]
    NotOfThisHost(Text<64>),
    /// Who holds the ports cannot be found out. No step of a call has failed.
    #[error("{what}: {}", Words(source))]
    NoCensus { what: &'static str, source: io::Error },
    /// An option or a pointer, and what it should be.
    #[error("{0}")]
    Argument(&'static str),
}

impl Failure {
    pub(crate) fn refused(step: Step, source: io::Error) -> Self {
        Self::Refused { step, source }
    }

    pub(crate) fn no_port(step: Step, errno: i32, attempts: &Attempts) -> Self {
        Self::NoPort { step, source: io::Error::from_raw_os_error(errno), attempts: attempts.clone() }
    }

    pub(crate) fn bad_address(what: &'static str, text: &[u8]) -> Self {
        Self::BadAddress { what, address: Text::of(format_args!("{}", text.escape_ascii())) }
    }

    pub(crate) fn not_of_this_host(address: SocketAddr) -> Self {
        Self::NotOfThisHost(match address {
            SocketAddr::V6(address) if address.scope_id() != 0 => {
                Text::of(format_args!("{}%{}", address.ip(), address.scope_id()))
            }
            _ => Text::of(format_args!("{}", address.ip())),
        })
    }

    pub(crate) fn step(&self) -> Step {
        match self {
            Self::Refused { step, .. } | Self::NoPort { step, .. } => *step,
            Self::BadAddress { .. } => Step::Address,
            Self::NotOfThisHost(_) => Step::Bind,
            Self::NoCensus { .. } => Step::None,
            Self::Argument(_) => Step::Arguments,
        }
    }

    pub(crate) fn errno(&self) -> i32 {
        match self {
            // An io::Error of this library comes from the system, or from a number.
            Self::Refused { source, .. } | Self::NoPort { source, .. } | Self::NoCensus { source, .. } => {
                source.raw_os_error().unwrap_or(libc::ENOTRECOVERABLE)
            }
            Self::BadAddress { .. } | Self::Argument(_) => libc::EINVAL,
            Self::NotOfThisHost(_) => libc::EADDRNOTAVAIL,
        }
    }

    /// Whether the host, or the sandbox around the process, has no such address family, so that another one may do.
    ///
    /// The kernel says EAFNOSUPPORT; seccomp filters, systemd's RestrictAddressFamilies= and sandboxes have other
    /// words.
    pub(crate) fn no_such_family(&self) -> bool {
        match self.step() {
            Step::Socket => matches!(
                self.errno(),
                libc::EAFNOSUPPORT
                    | libc::EPERM
                    | libc::EACCES
                    | libc::EPROTONOSUPPORT
                    | libc::EOPNOTSUPP
                    | libc::ENOSYS
                    | libc::EPFNOSUPPORT
                    | libc::ESOCKTNOSUPPORT
                    | libc::EINVAL
            ),
            Step::Bind => matches!(self.errno(), libc::EADDRNOTAVAIL | libc::EAFNOSUPPORT),
            _ => false,
        }
    }

    pub(crate) fn without_attempts(self) -> Error {
        Error::new(self, Attempts::default())
    }
}

/// Runs a call, and adds what was tried.
pub(crate) fn counted<T>(call: impl FnOnce(&mut Attempts) -> Result<T, Failure>) -> Result<(T, Attempts), Error> {
    let mut attempts = Attempts::default();
    match call(&mut attempts) {
        Ok(outcome) => Ok((outcome, attempts)),
        Err(failure) => Err(Error::new(failure, attempts)),
    }
}

impl Error {
    pub(crate) fn new(failure: Failure, attempts: Attempts) -> Self {
        Self { failure, attempts }
    }

    /// The step that failed.
    pub fn step(&self) -> Step {
        self.failure.step()
    }

    /// What the operating system said, or would say; [`io::Error::raw_os_error`] is always there.
    pub fn io_error(&self) -> io::Error {
        io::Error::from_raw_os_error(self.failure.errno())
    }

    #[cfg(feature = "c-api")]
    pub(crate) fn errno(&self) -> i32 {
        self.failure.errno()
    }

    /// The ports that were tried.
    pub fn attempts(&self) -> &Attempts {
        &self.attempts
    }

    /// Whether the call failed because there was no port, so that it matters who holds them: [`Options::census`].
    ///
    /// [`Options::census`]: crate::Options::census
    pub fn is_no_port(&self) -> bool {
        matches!(self.failure, Failure::NoPort { .. })
    }
}

impl From<Error> for io::Error {
    /// Keeps the errno, drops the rest.
    fn from(error: Error) -> Self {
        error.io_error()
    }
}

/// What an errno means, in the usual words.
///
/// Not strerror(3): its words follow the locale, and std allocates room for them, which aborts the process when memory
/// is short. These are the errors that the library's system calls have.
pub(crate) struct Words<'a>(pub(crate) &'a io::Error);

impl fmt::Display for Words<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let errno = self.0.raw_os_error().unwrap_or_default();
        f.write_str(match errno {
            libc::EACCES => "Permission denied",
            libc::EADDRINUSE => "Address already in use",
            libc::EADDRNOTAVAIL => "Cannot assign requested address",
            libc::EAFNOSUPPORT => "Address family not supported by protocol",
            libc::EAGAIN => "Resource temporarily unavailable",
            libc::EALREADY => "Operation already in progress",
            libc::EBADF => "Bad file descriptor",
            libc::ECONNREFUSED => "Connection refused",
            libc::ECONNRESET => "Connection reset by peer",
            libc::EFAULT => "Bad address",
            libc::EHOSTUNREACH => "No route to host",
            libc::EINPROGRESS => "Operation now in progress",
            libc::EINTR => "Interrupted system call",
            libc::EINVAL => "Invalid argument",
            libc::EISCONN => "Transport endpoint is already connected",
            libc::EMFILE => "Too many open files",
            libc::ENETUNREACH => "Network is unreachable",
            libc::ENFILE => "Too many open files in system",
            libc::ENOBUFS => "No buffer space available",
            libc::ENODEV => "No such device",
            libc::ENOENT => "No such file or directory",
            libc::ENOMEM => "Cannot allocate memory",
            libc::ENOTSOCK => "Socket operation on non-socket",
            libc::EOPNOTSUPP => "Operation not supported",
            libc::EPERM => "Operation not permitted",
            libc::EPROTONOSUPPORT => "Protocol not supported",
            libc::ETIMEDOUT => "Connection timed out",
            _ => return write!(f, "errno {errno}"),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_errno_has_the_words_of_libc_or_its_number() {
        let words = |errno| Words(&io::Error::from_raw_os_error(errno)).to_string();
        assert_eq!(words(libc::EMFILE), "Too many open files");
        assert_eq!(words(libc::ELOOP), format!("errno {}", libc::ELOOP));
        for errno in 1..134 {
            let (words, libc) = (words(errno), io::Error::from_raw_os_error(errno).to_string());
            assert!(words.starts_with("errno ") || libc.starts_with(&words), "{words}: {libc}");
        }
    }
}
