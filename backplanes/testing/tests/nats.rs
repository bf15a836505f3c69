//! The faults of NATS, one test for each.

use std::path::Path;

use wsloop_backplane_testing::{Fault, nats, trial};

fn try_fault(configuration: &str, fault: Fault) {
    let engine = nats::Nats::start(configuration).expect("it starts");
    let Some(mut engine) = engine else {
        return;
    };
    let program = Path::new(env!("CARGO_BIN_EXE_wsloop-backplane-testing"));
    trial::must_pass(program, &mut engine, fault);
}

#[test]
fn the_server_is_killed_and_started_again() {
    try_fault("", Fault::Killed);
}

#[test]
fn the_server_is_frozen() {
    try_fault("", Fault::Frozen);
}

#[test]
fn the_server_is_restarted() {
    try_fault("", Fault::Restarted);
}

#[test]
fn a_node_is_a_slow_consumer() {
    let limits = "max_payload: 64KB\nmax_pending: 256KB\nwrite_deadline: \"100ms\"";
    try_fault(limits, Fault::Overrun);
}

#[test]
fn the_network_swallows_everything() {
    try_fault("", Fault::Cut);
}

#[test]
fn a_sender_is_cut_off_and_drops_messages() {
    try_fault("", Fault::SenderCut);
}

#[test]
fn the_server_is_away_from_the_start() {
    try_fault("", Fault::AwayFromStart);
}

#[test]
fn a_node_is_killed() {
    try_fault("", Fault::NodeKilled);
}
