//! The faults of Redis, one test for each.

use std::path::Path;

use wsloop_backplane_testing::{Fault, redis, trial};

fn try_fault(engine: Option<redis::Redis>, fault: Fault) {
    let Some(mut engine) = engine else {
        return;
    };
    let program = Path::new(env!("CARGO_BIN_EXE_wsloop-backplane-testing"));
    trial::must_pass(program, &mut engine, fault);
}

fn server() -> Option<redis::Redis> {
    redis::Redis::start(&[]).expect("it starts")
}

#[test]
fn the_server_is_killed_and_started_again() {
    try_fault(server(), Fault::Killed);
}

#[test]
fn the_server_is_frozen() {
    try_fault(server(), Fault::Frozen);
}

#[test]
fn the_server_is_restarted() {
    try_fault(server(), Fault::Restarted);
}

#[test]
fn the_server_closes_the_connections_with_subscriptions() {
    try_fault(server(), Fault::SubscribersKilled);
}

#[test]
fn the_server_closes_the_other_connections() {
    try_fault(server(), Fault::PublishersKilled);
}

#[test]
fn the_output_buffer_of_a_node_overruns() {
    let limit = ["--client-output-buffer-limit", "pubsub 32kb 0 0"];
    let engine = redis::Redis::start(&limit).expect("it starts");
    try_fault(engine, Fault::Overrun);
}

#[test]
fn the_network_swallows_everything() {
    try_fault(server(), Fault::Cut);
}

#[test]
fn a_sender_is_cut_off_and_drops_messages() {
    try_fault(server(), Fault::SenderCut);
}

#[test]
fn the_primary_fails_and_sentinel_names_another() {
    let engine = redis::Redis::with_sentinels().expect("they start");
    try_fault(engine, Fault::Failover);
}

#[test]
fn the_server_is_away_from_the_start() {
    try_fault(server(), Fault::AwayFromStart);
}

#[test]
fn a_node_is_killed() {
    try_fault(server(), Fault::NodeKilled);
}
