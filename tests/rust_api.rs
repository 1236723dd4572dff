//! What a Rust program gets. The kernel's side of the promises is tested from C, where the users are; see `c_tests/`.

use std::cell::RefCell;
use std::collections::BTreeSet;
use std::ffi::c_int;
use std::io::{self, ErrorKind, Read, Write};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener, TcpStream, UdpSocket};

use ic_listener::{Holders, Options, PortOrigin, Step, setup_listener};
use socket2::{Domain, SockAddr, SockRef, Socket, Type};

#[test]
fn a_listener_takes_connections() {
    let opened = setup_listener().unwrap();
    assert_eq!(opened.socket.local_addr().unwrap().port(), opened.port);
    assert_eq!(opened.socket.accept().unwrap_err().kind(), ErrorKind::WouldBlock);

    let mut client = TcpStream::connect((Ipv4Addr::LOCALHOST, opened.port)).unwrap();
    client.write_all(b"hello").unwrap();
    drop(client);
    let (mut accepted, _) = opened.socket.accept().unwrap();
    accepted.set_nonblocking(false).unwrap();
    let mut received = String::new();
    accepted.read_to_string(&mut received).unwrap();
    assert_eq!(received, "hello");
}

#[test]
fn the_report_of_a_success_says_how_it_came_about() {
    let opened = Options::new().address(Ipv4Addr::LOCALHOST).backlog(1).open_tcp().unwrap();
    assert_eq!(opened.origin, PortOrigin::Free);
    // A call that succeeds at once does not read the range.
    assert!(opened.attempts.range().is_none_or(|range| range.contains(&opened.port)));
}

#[test]
fn the_report_counts_what_bind_answered() {
    let first = Options::new().address(Ipv4Addr::LOCALHOST).open_tcp().unwrap();
    let options = Options::new().address(Ipv4Addr::LOCALHOST).ports(first.port..=first.port.saturating_add(3));
    let mut held = Vec::new();
    loop {
        ANSWERS.take();
        let outcome = options.open_tcp();
        let answers = ANSWERS.take();
        let won = outcome.as_ref().map(|opened| opened.port).ok();
        let attempts = outcome.as_ref().map_or_else(|error| error.attempts(), |opened| &opened.attempts);
        let asked: BTreeSet<u16> = answers.iter().map(|&(port, _)| port).collect();
        let in_use = answers.iter().filter(|&&(port, errno)| errno == libc::EADDRINUSE && Some(port) != won);
        let in_use: BTreeSet<u16> = in_use.map(|&(port, _)| port).collect();
        assert_eq!((attempts.tried as usize, attempts.in_use as usize), (asked.len(), in_use.len()));
        match outcome {
            Ok(opened) => held.push(opened.socket),
            Err(_) => break,
        }
    }
    assert!(held.len() <= 3, "{held:?}");
}

thread_local! {
    /// The port and the errno of each bind() of this thread.
    static ANSWERS: RefCell<Vec<(u16, i32)>> = const { RefCell::new(Vec::new()) };
}

/// Takes the place of libc's bind() in this program, to see how it answers.
///
/// # Safety
///
/// As for bind(2).
#[unsafe(no_mangle)]
unsafe extern "C" fn bind(fd: c_int, address: *const libc::sockaddr, length: libc::socklen_t) -> c_int {
    // SAFETY: the caller's promises are those that the system call asks for.
    let result = unsafe { libc::syscall(libc::SYS_bind, fd, address, length) };
    let errno = if result == 0 { 0 } else { io::Error::last_os_error().raw_os_error().unwrap() };
    // SAFETY: an address of either family has its port there, in network byte order; no others are bound here.
    let port = u16::from_be(unsafe { (*address.cast::<libc::sockaddr_in>()).sin_port });
    ANSWERS.with_borrow_mut(|answers| answers.push((port, errno)));
    if result != 0 {
        // SAFETY: errno is this thread's; Vec may have changed it.
        unsafe { *libc::__errno_location() = errno };
    }
    result as c_int
}

#[test]
fn an_address_and_ports_are_kept_to() {
    let opened = Options::new().address(Ipv6Addr::LOCALHOST).open_tcp().unwrap();
    let address = opened.socket.local_addr().unwrap();
    assert_eq!(address.ip(), IpAddr::V6(Ipv6Addr::LOCALHOST));

    let again = Options::new().address(Ipv6Addr::LOCALHOST).ports(opened.port..=opened.port).open_tcp().unwrap_err();
    assert_eq!((again.step(), again.io_error().raw_os_error()), (Step::Bind, Some(libc::EADDRINUSE)));
    assert_eq!(again.to_string(), format!("no port to listen on in {0}-{0}: 1 tried, 1 in use", opened.port));
    let attempts = again.attempts();
    assert_eq!((attempts.tried, attempts.in_use, attempts.listens_lost), (1, 1, 0));
    assert!(again.is_no_port());
    let census = Options::new().address(Ipv6Addr::LOCALHOST).ports(opened.port..=opened.port).census().unwrap();
    assert_eq!(again.explained_by(&census).to_string(), format!("{again}: 1 listener"));

    drop(opened.socket);
    Options::new().address(Ipv6Addr::LOCALHOST).ports(address.port()..=address.port()).open_tcp().unwrap();
}

#[test]
fn errors_say_what_is_wrong() {
    for (options, step, errno, line) in [
        (
            Options::new().address(Ipv4Addr::BROADCAST),
            Step::Address,
            libc::EINVAL,
            "not a unicast address: 255.255.255.255",
        ),
        (Options::new().backlog(-1), Step::Arguments, libc::EINVAL, "the backlog is negative"),
        (
            Options::new().ports(0..=9),
            Step::Arguments,
            libc::EINVAL,
            "the lowest port must be 1 or above, and the highest not below the lowest",
        ),
        (
            Options::new().address(Ipv4Addr::new(192, 0, 2, 1)),
            Step::Bind,
            libc::EADDRNOTAVAIL,
            "192.0.2.1 is not an address of this host, or not yet (tentative)",
        ),
    ] {
        let error = options.open_tcp().unwrap_err();
        assert_eq!((error.step(), error.io_error().raw_os_error()), (step, Some(errno)), "{options:?}");
        assert_eq!(error.to_string(), line);
        assert_eq!(io::Error::from(error).raw_os_error(), Some(errno));
    }
}

#[test]
fn an_address_may_be_a_text() {
    let opened = Options::new().address_text("::1").unwrap().open_tcp().unwrap();
    assert_eq!(opened.socket.local_addr().unwrap().ip(), IpAddr::V6(Ipv6Addr::LOCALHOST));
    let elsewhere = Options::new().address_text("fe80::1%lo").unwrap().open_tcp().unwrap_err();
    assert_eq!(elsewhere.to_string(), "fe80::1%1 is not an address of this host, or not yet (tentative)");
    let error = Options::new().address_text("db1").unwrap_err();
    assert_eq!((error.step(), error.io_error().raw_os_error()), (Step::Address, Some(libc::EINVAL)));
    assert_eq!(error.to_string(), "not a numeric address: db1");
}

#[test]
fn a_udp_socket_is_alone_on_its_port() {
    let opened = Options::new().address(Ipv4Addr::LOCALHOST).open_udp().unwrap();
    assert_eq!(opened.origin, PortOrigin::Free);
    assert!(!SockRef::from(&opened.socket).reuse_address().unwrap());
    let rival = Socket::new(Domain::IPV4, Type::DGRAM, None).unwrap();
    rival.set_reuse_address(true).unwrap();
    let address = SockAddr::from(opened.socket.local_addr().unwrap());
    assert_eq!(rival.bind(&address).unwrap_err().kind(), ErrorKind::AddrInUse);

    let client = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    client.send_to(b"hello", (Ipv4Addr::LOCALHOST, opened.port)).unwrap();
    let mut received = [0; 16];
    let length = opened.socket.recv(&mut received).unwrap();
    assert_eq!(&received[..length], b"hello");
}

#[test]
fn errors_and_sockets_can_go_to_other_threads() {
    fn sendable<T: Send + Sync + 'static>() {}
    sendable::<ic_listener::Error>();
    sendable::<ic_listener::Opened<TcpListener>>();
    sendable::<Options>();
}

#[test]
fn a_census_counts_each_port_of_the_options_once() {
    let opened = Options::new().address(Ipv4Addr::LOCALHOST).open_tcp().unwrap();
    let only_this = Options::new().ports(opened.port..=opened.port);
    let client = TcpStream::connect(("127.0.0.1", opened.port)).unwrap();
    let census = only_this.clone().address(Ipv4Addr::LOCALHOST).census().unwrap();
    assert_eq!((census.range.clone(), census.ports, census.complete), (opened.port..=opened.port, 1, true));
    assert_eq!((census.holders.listening, census.holders.total(), census.unseen()), (1, 1, 0));
    assert_eq!(census.to_string(), format!("1 port in {0}-{0}: 1 listener, 0 without a holder", opened.port));
    drop(client);

    let elsewhere = only_this.address(Ipv4Addr::new(127, 0, 0, 2)).census().unwrap();
    assert_eq!(elsewhere.holders, Holders::default());
    assert_eq!(elsewhere.unseen(), 1);

    let host = Options::new().census().unwrap();
    let text = std::fs::read_to_string("/proc/sys/net/ipv4/ip_local_port_range").unwrap();
    let ends: Vec<u16> = text.split_whitespace().map(|end| end.parse().unwrap()).collect();
    assert_eq!(host.range, ends[0]..=ends[1]);
}

#[test]
fn a_census_of_options_that_cannot_be_used_is_refused() {
    for options in
        [Options::new().address(Ipv4Addr::BROADCAST), Options::new().backlog(-1), Options::new().ports(0..=7)]
    {
        assert_eq!(options.census().unwrap_err().raw_os_error(), Some(libc::EINVAL), "{options:?}");
    }
}

#[test]
fn bind_listen_and_connect_are_those_of_any_socket() {
    let any = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
    let listener = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
    let bound = ic_listener::bind(&listener, &any).unwrap();
    assert!(bound.attempts.tried > 0);
    ic_listener::listen(&listener, 8).unwrap();
    assert!(listener.is_listener().unwrap() && listener.reuse_address().unwrap());

    let client = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
    let address = listener.local_addr().unwrap().as_socket().unwrap();
    let connected = ic_listener::connect(&client, &address).unwrap();
    assert_eq!(connected.origin, PortOrigin::PickedByKernel);
    assert!(client.reuse_address().unwrap());
    assert_eq!(client.peer_addr().unwrap().as_socket(), Some(address));

    let error = ic_listener::connect(&client, &address).unwrap_err();
    assert_eq!(error.step(), Step::Connect);
    assert_eq!(error.io_error().raw_os_error(), Some(libc::EISCONN));
    let error = ic_listener::bind(&client, &any).unwrap_err();
    assert_eq!((error.step(), error.io_error().raw_os_error()), (Step::Bind, Some(libc::EINVAL)));
    let error = ic_listener::listen(&client, 8).unwrap_err();
    assert_eq!((error.step(), error.io_error().raw_os_error()), (Step::Listen, Some(libc::EINVAL)));
}
