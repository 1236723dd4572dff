//! The layout of what crosses the C ABI. `c_tests/contract/layout.c` says the same from the C side; a change of either
//! is another ABI, and needs a struct that grows at its end and a library that knows both sizes.

use std::mem::{align_of, offset_of, size_of};

use ic_listener::ffi::{
    IC_LISTENER_MESSAGE_SIZE, IcListenerCensus, IcListenerCensusSource, IcListenerOptions, IcListenerPortOrigin,
    IcListenerReport, IcListenerStep,
};

const WORD: usize = size_of::<usize>();

#[test]
fn options_are_laid_out_as_c_expects() {
    assert_eq!(offset_of!(IcListenerOptions, size), 0);
    assert_eq!(offset_of!(IcListenerOptions, address), WORD);
    assert_eq!(offset_of!(IcListenerOptions, backlog), 2 * WORD);
    assert_eq!(offset_of!(IcListenerOptions, port_min), 2 * WORD + 4);
    assert_eq!(offset_of!(IcListenerOptions, port_max), 2 * WORD + 8);
    assert_eq!(offset_of!(IcListenerOptions, listen_retries), 2 * WORD + 12);
    assert_eq!((size_of::<IcListenerOptions>(), align_of::<IcListenerOptions>()), (2 * WORD + 16, WORD));
}

#[test]
#[cfg(target_pointer_width = "64")]
fn the_report_is_laid_out_as_c_expects() {
    assert_eq!(offset_of!(IcListenerReport, size), 0);
    assert_eq!(offset_of!(IcListenerReport, error), 8);
    assert_eq!(offset_of!(IcListenerReport, step), 12);
    assert_eq!(offset_of!(IcListenerReport, family), 16);
    assert_eq!(offset_of!(IcListenerReport, origin), 20);
    assert_eq!(offset_of!(IcListenerReport, port_min), 24);
    assert_eq!(offset_of!(IcListenerReport, port_max), 28);
    assert_eq!(offset_of!(IcListenerReport, ports_tried), 32);
    assert_eq!(offset_of!(IcListenerReport, ports_in_use), 36);
    assert_eq!(offset_of!(IcListenerReport, ports_forbidden), 40);
    assert_eq!(offset_of!(IcListenerReport, listens_lost), 44);
    assert_eq!(offset_of!(IcListenerReport, elapsed_ns), 48);
    assert_eq!(offset_of!(IcListenerReport, message), 56);
    assert_eq!(offset_of!(IcListenerReport, census_source), 312);
    assert_eq!(offset_of!(IcListenerReport, census_complete), 316);
    assert_eq!(offset_of!(IcListenerReport, ports_listening), 320);
    assert_eq!(offset_of!(IcListenerReport, ports_bound), 324);
    assert_eq!(offset_of!(IcListenerReport, ports_connected), 328);
    assert_eq!(offset_of!(IcListenerReport, ports_closing), 332);
    assert_eq!(offset_of!(IcListenerReport, ports_time_wait), 336);
    assert_eq!(offset_of!(IcListenerReport, ports_unknown), 340);
    assert_eq!(offset_of!(IcListenerReport, time_wait_next_s), 344);
    assert_eq!(offset_of!(IcListenerReport, time_wait_last_s), 348);
    assert_eq!(offset_of!(IcListenerReport, connections_taken), 352);
    assert_eq!(offset_of!(IcListenerReport, ports_reserved), 356);
    assert_eq!((size_of::<IcListenerReport>(), align_of::<IcListenerReport>()), (360, 8));
    assert_eq!(IC_LISTENER_MESSAGE_SIZE, 256);
}

#[test]
#[cfg(target_pointer_width = "64")]
fn the_census_is_laid_out_as_c_expects() {
    assert_eq!(offset_of!(IcListenerCensus, size), 0);
    assert_eq!(offset_of!(IcListenerCensus, error), 8);
    assert_eq!(offset_of!(IcListenerCensus, source), 12);
    assert_eq!(offset_of!(IcListenerCensus, complete), 16);
    assert_eq!(offset_of!(IcListenerCensus, port_min), 20);
    assert_eq!(offset_of!(IcListenerCensus, port_max), 24);
    assert_eq!(offset_of!(IcListenerCensus, ports), 28);
    assert_eq!(offset_of!(IcListenerCensus, ports_listening), 32);
    assert_eq!(offset_of!(IcListenerCensus, ports_bound), 36);
    assert_eq!(offset_of!(IcListenerCensus, ports_connected), 40);
    assert_eq!(offset_of!(IcListenerCensus, ports_closing), 44);
    assert_eq!(offset_of!(IcListenerCensus, ports_time_wait), 48);
    assert_eq!(offset_of!(IcListenerCensus, ports_unheld), 52);
    assert_eq!(offset_of!(IcListenerCensus, time_wait_next_s), 56);
    assert_eq!(offset_of!(IcListenerCensus, time_wait_last_s), 60);
    assert_eq!(offset_of!(IcListenerCensus, elapsed_ns), 64);
    assert_eq!(offset_of!(IcListenerCensus, message), 72);
    assert_eq!((size_of::<IcListenerCensus>(), align_of::<IcListenerCensus>()), (328, 8));
}

#[test]
fn enums_are_ints_with_these_values() {
    assert_eq!((size_of::<IcListenerStep>(), size_of::<IcListenerPortOrigin>()), (4, 4));
    assert_eq!(size_of::<IcListenerCensusSource>(), 4);
    let steps = [
        IcListenerStep::None,
        IcListenerStep::Arguments,
        IcListenerStep::Address,
        IcListenerStep::Socket,
        IcListenerStep::Setsockopt,
        IcListenerStep::Bind,
        IcListenerStep::Listen,
        IcListenerStep::Getsockname,
        IcListenerStep::Internal,
    ];
    assert_eq!(steps.map(|step| step as i32), [0, 1, 2, 3, 4, 5, 6, 7, 8]);
    let origins = [
        IcListenerPortOrigin::None,
        IcListenerPortOrigin::Free,
        IcListenerPortOrigin::Reused,
        IcListenerPortOrigin::PickedByKernel,
    ];
    assert_eq!(origins.map(|origin| origin as i32), [0, 1, 2, 3]);
    let sources = [IcListenerCensusSource::None, IcListenerCensusSource::Netlink, IcListenerCensusSource::Proc];
    assert_eq!(sources.map(|source| source as i32), [0, 1, 2]);
}
