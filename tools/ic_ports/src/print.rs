//! What was found, in words and as JSON.

use std::fmt::{Display, Write};
use std::net::{IpAddr, SocketAddr};

use ic_listener::{Census, CensusSource, Holders};
use serde::Serialize;

use crate::destinations::{Connections, Destination, Destinations};
use crate::processes::Processes;
use crate::survey::{Reach, Survey};
use crate::trial::{Answer, Connection, Left, Listener};

/// How many processes are listed in words; JSON has all.
const PROCESSES_LISTED: usize = 10;

pub fn text(survey: &Survey) -> String {
    let mut lines = String::new();
    let mut line = |text: &str| {
        lines.push_str(text);
        lines.push('\n');
    };
    match &survey.census {
        Ok(census) => {
            line(&format!("ports       {}", range_in_words(census, survey.named)));
            line(&format!("address     {}", survey.address.as_deref().unwrap_or("all of this host")));
            line(&format!("seen by     {}", source_name(census.source)));
            line("");
            line("ports held  by");
            for (count, kind) in holders_in_words(census) {
                line(&format!("{count:10}  {kind}"));
            }
            if !census.complete {
                line("            (and more, which half a second of CPU time was too short for)");
            }
        }
        Err(why) => line(&format!("who holds the ports cannot be seen: {why}")),
    }
    let Processes { holding, not_seen } = &survey.processes;
    if !holding.is_empty() || *not_seen > 0 {
        line("");
        line("ports held  by process");
        for process in holding.iter().take(PROCESSES_LISTED) {
            line(&format!("{:10}  {} ({})", process.ports, process.name, process.pid));
        }
        let more = &holding[holding.len().min(PROCESSES_LISTED)..];
        if !more.is_empty() {
            line(&format!("{:10}  {} more", more.iter().map(|process| process.ports).sum::<usize>(), more.len()));
        }
        if *not_seen > 0 {
            line(&format!("{not_seen:10}  others that cannot be seen: another user's, or a container's"));
        }
    }
    if let Some(Destinations { most, more }) = &survey.destinations {
        for (index, destination) in most.iter().enumerate() {
            if index == 0 {
                line("\n connected   TIME_WAIT  to");
            }
            let Destination { address, port, connections: Connections { connections, time_wait } } = destination;
            line(&format!("{connections:10}  {time_wait:10}  {}", SocketAddr::from((*address, *port))));
        }
        if *more > 0 {
            line(&format!("{:24}{more} more", ""));
        }
    }
    line("");
    line(&format!("a listener can be opened: {}", listener_in_words(&survey.listener)));
    if let Some(connection) = &survey.connection {
        line(&format!("a connection can be made: {}", connection_in_words(connection)));
    }
    lines
}

fn range_in_words(census: &Census, named: bool) -> String {
    let range = format!("{}-{}", census.range.start(), census.range.end());
    if named { range } else { format!("{range} (net.ipv4.ip_local_port_range), {} of them reserved", census.reserved) }
}

fn source_name(source: CensusSource) -> &'static str {
    match source {
        CensusSource::Netlink => "netlink",
        CensusSource::Proc => "/proc/net/tcp",
        _ => "another source",
    }
}

fn holders_in_words(census: &Census) -> [(u32, String); 6] {
    let Holders { listening, bound, connected, closing, time_wait, time_wait_next_s, time_wait_last_s, .. } =
        census.holders;
    let ends = match time_wait {
        0 => String::new(),
        1 => format!(", free in {time_wait_last_s} s"),
        _ => format!(", the next is free in {time_wait_next_s} s, all in {time_wait_last_s} s"),
    };
    let or_bound = if census.source == CensusSource::Netlink { "" } else { ", or sockets that are only bound" };
    [
        (listening, "listeners".to_owned()),
        (bound, "sockets that are bound, and neither listen nor connect".to_owned()),
        (connected, "connections".to_owned()),
        (closing, "connections that are closing".to_owned()),
        (time_wait, format!("TIME_WAIT{ends}")),
        (census.unseen(), format!("no holder that can be seen{or_bound}")),
    ]
}

fn listener_in_words(listener: &Listener) -> String {
    match (&listener.answer, listener.free, listener.by_sharing) {
        (Answer::Yes, Some(free), Some(by_sharing)) => format!("yes, {free} free, {by_sharing} by sharing"),
        (Answer::Yes, ..) => "yes".to_owned(),
        (Answer::No { reason }, ..) => format!("no, {reason}"),
        (Answer::Unknown { reason }, ..) => format!("unknown, {reason}"),
    }
}

fn connection_in_words(Connection { connect, ic_listener_connect }: &Connection) -> String {
    match (connect, ic_listener_connect) {
        (Answer::Yes, Answer::Yes) => "yes".to_owned(),
        (_, Answer::Yes) => "yes, by ic_listener_connect(); connect() finds no port".to_owned(),
        (_, Answer::No { reason }) => format!("no, {reason}"),
        (_, Answer::Unknown { reason }) => format!("unknown, {reason}"),
    }
}

pub fn reach_text(reach: &Reach) -> String {
    let mut lines = format!("to          {}\n", reach.to);
    let mut line = |name: &str, value: &dyn Display| {
        let _ = writeln!(lines, "{name:12}{value}");
    };
    match &reach.from {
        Ok(from) => line("from", from),
        Err(why) => line("from", &format_args!("nowhere: {why}")),
    }
    match &reach.census {
        Ok(census) => line("ports", &range_in_words(census, false)),
        Err(why) => line("ports", &format_args!("unknown: {why}")),
    }
    if let Some(Connections { connections, time_wait }) = reach.connections {
        line("connections", &format_args!("{connections}, and {time_wait} in TIME_WAIT"));
    }
    let number = |count: Option<u32>| count.map_or_else(|| "?".to_owned(), |count| count.to_string());
    let Left { by_connect, by_name } = reach.left;
    let _ = writeln!(lines, "\nports left  by");
    let _ = writeln!(lines, "{:>10}  connect()", number(by_connect));
    let _ = writeln!(lines, "{:>10}  bind() by name, as ic_listener_connect() does", number(by_name));
    let _ = writeln!(lines, "\na connection can be made: {}", connection_in_words(&reach.connection));
    lines
}

/// Documented in ic_ports(1). Members are only added.
#[derive(Serialize)]
struct Json<'a> {
    address: Option<&'a str>,
    range: Option<JsonRange>,
    holders: Option<JsonHolders>,
    holders_error: Option<&'a str>,
    processes: &'a Processes,
    destinations: Option<&'a Destinations>,
    listener: &'a Listener,
    connection: Option<&'a Connection>,
}

/// The same for --to.
#[derive(Serialize)]
struct JsonReach<'a> {
    to: SocketAddr,
    from: Option<&'a IpAddr>,
    range: Option<JsonRange>,
    connections: Option<usize>,
    time_wait: Option<usize>,
    left: &'a Left,
    connection: &'a Connection,
}

#[derive(Serialize)]
struct JsonRange {
    min: u16,
    max: u16,
    ports: u32,
    reserved: u32,
    named: bool,
}

#[derive(Serialize)]
struct JsonHolders {
    source: &'static str,
    complete: bool,
    listening: u32,
    bound: u32,
    connected: u32,
    closing: u32,
    time_wait: u32,
    time_wait_next_s: u32,
    time_wait_last_s: u32,
    unseen: u32,
}

impl JsonRange {
    fn of(census: &Census, named: bool) -> Self {
        let (min, max) = (*census.range.start(), *census.range.end());
        Self { min, max, ports: census.ports, reserved: census.reserved, named }
    }
}

pub fn json(survey: &Survey) -> String {
    let census = survey.census.as_ref().ok();
    let json = Json {
        address: survey.address.as_deref(),
        range: census.map(|census| JsonRange::of(census, survey.named)),
        holders: census.map(|census| JsonHolders {
            source: source_name(census.source),
            complete: census.complete,
            listening: census.holders.listening,
            bound: census.holders.bound,
            connected: census.holders.connected,
            closing: census.holders.closing,
            time_wait: census.holders.time_wait,
            time_wait_next_s: census.holders.time_wait_next_s,
            time_wait_last_s: census.holders.time_wait_last_s,
            unseen: census.unseen(),
        }),
        holders_error: survey.census.as_ref().err().map(String::as_str),
        processes: &survey.processes,
        destinations: survey.destinations.as_ref(),
        listener: &survey.listener,
        connection: survey.connection.as_ref(),
    };
    object(&json)
}

pub fn reach_json(reach: &Reach) -> String {
    object(&JsonReach {
        to: reach.to,
        from: reach.from.as_ref().ok(),
        range: reach.census.as_ref().ok().map(|census| JsonRange::of(census, false)),
        connections: reach.connections.map(|counts| counts.connections),
        time_wait: reach.connections.map(|counts| counts.time_wait),
        left: &reach.left,
        connection: &reach.connection,
    })
}

fn object(json: &impl Serialize) -> String {
    // Cannot fail: numbers, strings and None.
    serde_json::to_string_pretty(json).unwrap_or_default() + "\n"
}
