//! A server on its own thread, with valid and invalid clients of all kinds, over real sockets.
//!
//! These tests form one program, so that it is built and linked once. Tests that count allocations
//! or exhaust descriptors are separate programs.

#[path = "../support/mod.rs"]
mod support;

mod address_limits;
mod adopt;
mod binding;
mod broadcast;
mod build_errors;
mod busy_poll;
mod certificates;
mod client_certificates;
mod close_handshake;
#[cfg(feature = "deflate")]
mod compressed_parts;
#[cfg(feature = "deflate")]
mod compressed_pieces;
mod connection_phases;
mod counters;
mod cut_at_once;
mod deferred_answers;
#[cfg(feature = "deflate")]
mod deflate;
mod disconnect_by_the_server;
mod drain;
mod echo;
mod error_before_disconnect;
mod examples;
mod failing_handlers;
mod fairness;
mod foreign_poll;
mod fragments;
mod going_down;
mod half_close;
mod handlers_never_nest;
mod handlers_of_one_connection;
mod handshake_control;
mod handshake_forms;
mod handshake_refusals;
mod handshake_timeout;
mod health_checks;
mod http_error;
mod inherited;
mod large_messages;
mod listeners;
mod listening;
mod loops;
mod max_connections;
mod memory_budget;
mod message_parts;
mod multicore;
mod one_disconnect_per_connect;
mod order_of_events;
mod origins;
mod other_threads;
mod own_loop;
mod pausing;
mod plain_http;
mod plain_http_limits;
mod protocol_errors;
mod proxies;
mod real_clients;
mod request_details;
mod request_smuggling;
mod response_splitting;
mod security;
mod sending;
mod server_thread;
mod settings;
mod several_handlers;
mod shutdown;
mod silence;
mod slow_consumer;
mod slow_links;
mod socket_options;
mod start_tick_shutdown;
mod subprotocols;
mod timers;
mod tls;
mod topics;
mod tungstenite_client;
mod typed_data;
mod utf8_at_every_cut;
mod vetoes;
mod watches;
mod what_handlers_return;
mod when_sent;
