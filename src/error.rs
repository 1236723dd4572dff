//! What went wrong, and how far it got.

use std::ffi::CStr;
use std::fmt;
use std::io;
use std::time::Duration;

use crate::if_inet6::Absent;
use crate::{Attempts, Census};

/// The step that failed. Its `Display` is the name of the system call, as database logs know it from their "bind: %m".
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Step {
    /// The options (or, from C, the pointers) cannot be used.
    Arguments = 1,
    /// The address is not numeric, not unicast, or its interface is missing, unknown, or one too many.
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
    /// connect(2)
    Connect = 9,
}

impl Step {
    /// The step's name: `arguments`, `address`, `socket`, `setsockopt`, `bind`, `listen`, `getsockname` or
    /// `connect`.
    pub fn name(self) -> &'static str {
        STEP_NAMES[self as usize].to_str().unwrap_or_default()
    }
}

/// By the numbers that C has for the steps, two of which Rust has no use for.
pub(crate) const STEP_NAMES: [&CStr; 10] = [
    c"none",
    c"arguments",
    c"address",
    c"socket",
    c"setsockopt",
    c"bind",
    c"listen",
    c"getsockname",
    c"internal",
    c"connect",
];

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// Why a call failed. What it opened is closed again.
///
/// `Display` is one line for an operator, such as
/// `no port to listen on in 32768-60999: 28232 tried, 28230 in use, 2 lost to another listener`.
#[derive(Debug, thiserror::Error)]
#[error("{}", Line(self))]
pub struct Error {
    step: Step,
    source: io::Error,
    cause: Cause,
    attempts: Attempts,
    elapsed: Duration,
}

/// What the io::Error alone does not say.
#[derive(Debug)]
pub(crate) enum Cause {
    /// The step was refused; the io::Error says it all.
    Refused,
    /// No port of the range was won; the attempts say why.
    NoPort,
    /// What is wrong with the address, and its text, quoted.
    BadAddress(&'static str, String),
    /// The address is not one of this host's.
    NotOfThisHost(Absent),
    /// An option (or pointer) that cannot be used, and what it should be.
    Option(&'static str),
}

/// A step that failed, before the attempts and the time are added to it.
#[derive(Debug)]
pub(crate) struct Failure {
    pub(crate) step: Step,
    pub(crate) source: io::Error,
    pub(crate) cause: Cause,
}

impl Failure {
    pub(crate) fn refused(step: Step, source: io::Error) -> Self {
        Self { step, source, cause: Cause::Refused }
    }

    pub(crate) fn errno(&self) -> Option<i32> {
        self.source.raw_os_error()
    }

    /// connect() has begun, and has not ended: the socket must be left alone.
    pub(crate) fn goes_on(&self) -> bool {
        self.step == Step::Connect && matches!(self.errno(), Some(libc::EINPROGRESS | libc::EINTR))
    }

    pub(crate) fn no_port(step: Step, errno: i32) -> Self {
        Self { step, source: io::Error::from_raw_os_error(errno), cause: Cause::NoPort }
    }

    /// Who holds the ports cannot be found out. It is no call that opens something which fails; the step means nothing.
    pub(crate) fn no_census(what: &'static str, errno: i32) -> Self {
        Self { step: Step::Socket, source: io::Error::from_raw_os_error(errno), cause: Cause::Option(what) }
    }

    /// Whether the host, or the sandbox around the process, has no such address family, so that another one may do.
    ///
    /// The kernel says EAFNOSUPPORT; seccomp filters, systemd's RestrictAddressFamilies= and sandboxes have other
    /// words.
    pub(crate) fn no_such_family(&self) -> bool {
        match (self.step, self.errno()) {
            (Step::Socket, Some(errno)) => matches!(
                errno,
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
            (Step::Bind, Some(errno)) => matches!(errno, libc::EADDRNOTAVAIL | libc::EAFNOSUPPORT),
            _ => false,
        }
    }

    pub(crate) fn bad_address(what: &'static str, text: &[u8]) -> Self {
        let source = io::Error::from_raw_os_error(libc::EINVAL);
        Self { step: Step::Address, source, cause: Cause::BadAddress(what, quoted(text)) }
    }

    /// Finds out more, where there is more to say. It may take a descriptor.
    pub(crate) fn explained(mut self) -> Self {
        if let Cause::NotOfThisHost(absent) = &mut self.cause {
            absent.look_up();
        }
        self
    }

    pub(crate) fn option(what: &'static str) -> Self {
        let source = io::Error::from_raw_os_error(libc::EINVAL);
        Self { step: Step::Arguments, source, cause: Cause::Option(what) }
    }
}

impl Error {
    pub(crate) fn new(failure: Failure, attempts: Attempts, elapsed: Duration) -> Self {
        let Failure { step, source, cause } = failure;
        Self { step, source, cause, attempts, elapsed }
    }

    /// The step that failed.
    pub fn step(&self) -> Step {
        self.step
    }

    /// What the operating system said; [`io::Error::raw_os_error`] is always there.
    pub fn io_error(&self) -> &io::Error {
        &self.source
    }

    /// The ports that were tried.
    pub fn attempts(&self) -> &Attempts {
        &self.attempts
    }

    /// How long the call took.
    pub fn elapsed(&self) -> Duration {
        self.elapsed
    }

    /// Whether ports are all that was missing, so that it matters who holds them: [`Options::census`] says it.
    ///
    /// [`Options::census`]: crate::Options::census
    pub fn is_want_of_ports(&self) -> bool {
        matches!(self.cause, Cause::NoPort)
    }

    /// Who holds the ports, when ports in use are why the call failed.
    pub(crate) fn holders(&self) -> Option<Census> {
        if self.is_want_of_ports() { self.attempts.holders() } else { None }
    }

    /// The error as one line that says who holds the ports, such as `no port to listen on in 40000-40063: 64 tried, 64
    /// in use: 50 in TIME_WAIT without SO_REUSEADDR (the next is free in 3 s, all in 41 s), 12 connections, 2
    /// listeners`.
    ///
    /// The census should have been taken right after the call, with its options.
    pub fn explained_by<'a>(&'a self, census: &'a Census) -> impl fmt::Display + 'a {
        Explained(self, census)
    }
}

/// The error and who holds the ports, as one line.
struct Explained<'a>(&'a Error, &'a Census);

impl fmt::Display for Explained<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self(error, census) = self;
        write!(f, "{error}")?;
        if error.is_want_of_ports() { census.fmt_in_use(&error.attempts, f) } else { Ok(()) }
    }
}

impl From<Error> for io::Error {
    /// Keeps the errno, drops the rest.
    fn from(error: Error) -> Self {
        error.source
    }
}

/// The error as one line.
struct Line<'a>(&'a Error);

impl fmt::Display for Line<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Error { step, source, cause, attempts, .. } = self.0;
        match cause {
            Cause::NoPort => attempts.fmt_no_port(f),
            Cause::BadAddress(what, text) => write!(f, "{what}: {text}"),
            Cause::NotOfThisHost(absent) => absent.fmt(f),
            Cause::Option(what) => f.write_str(what),
            Cause::Refused => write!(f, "{step}: {}", errno_words(source.raw_os_error().unwrap_or_default())),
        }
    }
}

/// What an errno means, in the usual words.
///
/// Not strerror(3): its words follow the locale, and std allocates room for them, which aborts the process when memory
/// is short.
pub(crate) fn errno_words(errno: i32) -> impl fmt::Display {
    struct Words(i32);
    impl fmt::Display for Words {
        fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            match known_errno(self.0) {
                Some(words) => f.write_str(words),
                None => write!(f, "errno {}", self.0),
            }
        }
    }
    Words(errno)
}

/// All that Linux has: a seccomp filter may answer a system call with any of them.
fn known_errno(errno: i32) -> Option<&'static str> {
    Some(match errno {
        libc::E2BIG => "Argument list too long",
        libc::EACCES => "Permission denied",
        libc::EADDRINUSE => "Address already in use",
        libc::EADDRNOTAVAIL => "Cannot assign requested address",
        libc::EADV => "Advertise error",
        libc::EAFNOSUPPORT => "Address family not supported by protocol",
        libc::EAGAIN => "Resource temporarily unavailable",
        libc::EALREADY => "Operation already in progress",
        libc::EBADE => "Invalid exchange",
        libc::EBADF => "Bad file descriptor",
        libc::EBADFD => "File descriptor in bad state",
        libc::EBADMSG => "Bad message",
        libc::EBADR => "Invalid request descriptor",
        libc::EBADRQC => "Invalid request code",
        libc::EBADSLT => "Invalid slot",
        libc::EBFONT => "Bad font file format",
        libc::EBUSY => "Device or resource busy",
        libc::ECANCELED => "Operation canceled",
        libc::ECHILD => "No child processes",
        libc::ECHRNG => "Channel number out of range",
        libc::ECOMM => "Communication error on send",
        libc::ECONNABORTED => "Software caused connection abort",
        libc::ECONNREFUSED => "Connection refused",
        libc::ECONNRESET => "Connection reset by peer",
        libc::EDEADLK => "Resource deadlock avoided",
        libc::EDESTADDRREQ => "Destination address required",
        libc::EDOM => "Numerical argument out of domain",
        libc::EDOTDOT => "RFS specific error",
        libc::EDQUOT => "Disk quota exceeded",
        libc::EEXIST => "File exists",
        libc::EFAULT => "Bad address",
        libc::EFBIG => "File too large",
        libc::EHOSTDOWN => "Host is down",
        libc::EHOSTUNREACH => "No route to host",
        libc::EHWPOISON => "Memory page has hardware error",
        libc::EIDRM => "Identifier removed",
        libc::EILSEQ => "Invalid or incomplete multibyte or wide character",
        libc::EINPROGRESS => "Operation now in progress",
        libc::EINTR => "Interrupted system call",
        libc::EINVAL => "Invalid argument",
        libc::EIO => "Input/output error",
        libc::EISCONN => "Transport endpoint is already connected",
        libc::EISDIR => "Is a directory",
        libc::EISNAM => "Is a named type file",
        libc::EKEYEXPIRED => "Key has expired",
        libc::EKEYREJECTED => "Key was rejected by service",
        libc::EKEYREVOKED => "Key has been revoked",
        libc::EL2HLT => "Level 2 halted",
        libc::EL2NSYNC => "Level 2 not synchronized",
        libc::EL3HLT => "Level 3 halted",
        libc::EL3RST => "Level 3 reset",
        libc::ELIBACC => "Can not access a needed shared library",
        libc::ELIBBAD => "Accessing a corrupted shared library",
        libc::ELIBEXEC => "Cannot exec a shared library directly",
        libc::ELIBMAX => "Attempting to link in too many shared libraries",
        libc::ELIBSCN => ".lib section in a.out corrupted",
        libc::ELNRNG => "Link number out of range",
        libc::ELOOP => "Too many levels of symbolic links",
        libc::EMEDIUMTYPE => "Wrong medium type",
        libc::EMFILE => "Too many open files",
        libc::EMLINK => "Too many links",
        libc::EMSGSIZE => "Message too long",
        libc::EMULTIHOP => "Multihop attempted",
        libc::ENAMETOOLONG => "File name too long",
        libc::ENAVAIL => "No XENIX semaphores available",
        libc::ENETDOWN => "Network is down",
        libc::ENETRESET => "Network dropped connection on reset",
        libc::ENETUNREACH => "Network is unreachable",
        libc::ENFILE => "Too many open files in system",
        libc::ENOANO => "No anode",
        libc::ENOBUFS => "No buffer space available",
        libc::ENOCSI => "No CSI structure available",
        libc::ENODATA => "No data available",
        libc::ENODEV => "No such device",
        libc::ENOENT => "No such file or directory",
        libc::ENOEXEC => "Exec format error",
        libc::ENOKEY => "Required key not available",
        libc::ENOLCK => "No locks available",
        libc::ENOLINK => "Link has been severed",
        libc::ENOMEDIUM => "No medium found",
        libc::ENOMEM => "Cannot allocate memory",
        libc::ENOMSG => "No message of desired type",
        libc::ENONET => "Machine is not on the network",
        libc::ENOPKG => "Package not installed",
        libc::ENOPROTOOPT => "Protocol not available",
        libc::ENOSPC => "No space left on device",
        libc::ENOSR => "Out of streams resources",
        libc::ENOSTR => "Device not a stream",
        libc::ENOSYS => "Function not implemented",
        libc::ENOTBLK => "Block device required",
        libc::ENOTCONN => "Transport endpoint is not connected",
        libc::ENOTDIR => "Not a directory",
        libc::ENOTEMPTY => "Directory not empty",
        libc::ENOTNAM => "Not a XENIX named type file",
        libc::ENOTRECOVERABLE => "State not recoverable",
        libc::ENOTSOCK => "Socket operation on non-socket",
        libc::ENOTTY => "Inappropriate ioctl for device",
        libc::ENOTUNIQ => "Name not unique on network",
        libc::ENXIO => "No such device or address",
        libc::EOPNOTSUPP => "Operation not supported",
        libc::EOVERFLOW => "Value too large for defined data type",
        libc::EOWNERDEAD => "Owner died",
        libc::EPERM => "Operation not permitted",
        libc::EPFNOSUPPORT => "Protocol family not supported",
        libc::EPIPE => "Broken pipe",
        libc::EPROTO => "Protocol error",
        libc::EPROTONOSUPPORT => "Protocol not supported",
        libc::EPROTOTYPE => "Protocol wrong type for socket",
        libc::ERANGE => "Numerical result out of range",
        libc::EREMCHG => "Remote address changed",
        libc::EREMOTE => "Object is remote",
        libc::EREMOTEIO => "Remote I/O error",
        libc::ERESTART => "Interrupted system call should be restarted",
        libc::ERFKILL => "Operation not possible due to RF-kill",
        libc::EROFS => "Read-only file system",
        libc::ESHUTDOWN => "Cannot send after transport endpoint shutdown",
        libc::ESOCKTNOSUPPORT => "Socket type not supported",
        libc::ESPIPE => "Illegal seek",
        libc::ESRCH => "No such process",
        libc::ESRMNT => "Srmount error",
        libc::ESTALE => "Stale file handle",
        libc::ESTRPIPE => "Streams pipe error",
        libc::ETIME => "Timer expired",
        libc::ETIMEDOUT => "Connection timed out",
        libc::ETOOMANYREFS => "Too many references: cannot splice",
        libc::ETXTBSY => "Text file busy",
        libc::EUCLEAN => "Structure needs cleaning",
        libc::EUNATCH => "Protocol driver not attached",
        libc::EUSERS => "Too many users",
        libc::EXDEV => "Invalid cross-device link",
        libc::EXFULL => "Exchange full",
        _ => return None,
    })
}

/// How much of a refused address is quoted; the longest real one (IPv6 with an interface name) has 61 characters.
const LONGEST_QUOTE: usize = 64;

/// What is printable of a text, in double quotes and cut to a length fit for a log line. Empty when memory is short: an
/// allocation that fails must not abort a database backend.
fn quoted(text: &[u8]) -> String {
    let mut quoted = String::new();
    if quoted.try_reserve_exact(LONGEST_QUOTE + "\"\"...".len()).is_err() {
        return quoted;
    }
    let printable = |&byte: &u8| if byte == b' ' || byte.is_ascii_graphic() { byte as char } else { '?' };
    quoted.push('"');
    quoted.extend(text.iter().take(LONGEST_QUOTE).map(printable));
    quoted.push('"');
    if text.len() > LONGEST_QUOTE {
        quoted.push_str("...");
    }
    quoted
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_quote_is_printable_and_short() {
        assert_eq!(quoted(b""), "\"\"");
        assert_eq!(quoted(b"db host"), "\"db host\"");
        assert_eq!(quoted(b"a\0\n\xff\x1b["), "\"a????[\"");
        assert_eq!(quoted(&[b'x'; 4096]), format!("\"{}\"...", "x".repeat(64)));
    }
}
