use super::*;

const NUMBER: u64 = 5;

fn addr(port: u16) -> SocketAddr {
    SocketAddr::from(([127, 0, 0, 2], port))
}

/// Returns the records of a connection without faults.
fn good() -> (ClientRecord, ServerRecord) {
    let client = ClientRecord {
        number: NUMBER,
        stage: Stage::Open,
        ending: Ending::Closed,
        is_slow: false,
        close_sent: Some(1000),
        close_received: Some(1000),
        requests: 0,
        pings: 2,
        pongs: 2,
        sent: 10,
        echoes: 10,
        pushes: 3,
        news: 4,
        topics: Box::default(),
    };
    let server = ServerRecord {
        number: Some(NUMBER),
        addr: addr(4000),
        why: Why::Peer,
        code: 1000,
        requests: 0,
        pings: 2,
        received: 10,
        echoed: 10,
        pushed: 3,
        news: 4,
        topics: Box::default(),
    };
    (client, server)
}

/// Returns the faults of a ledger that contains only this connection.
fn faults(client: ClientRecord, server: ServerRecord) -> Vec<String> {
    let (mut ledger, now) = (Ledger::default(), Instant::now());
    ledger.open(NUMBER, addr(4000));
    ledger.server(server, now);
    ledger.client(client, now);
    ledger.close();
    ledger.faults.first
}

/// Returns the faults after a change to the good connection.
fn after(change: impl FnOnce(&mut ClientRecord, &mut ServerRecord)) -> Vec<String> {
    let (mut client, mut server) = good();
    change(&mut client, &mut server);
    faults(client, server)
}

#[track_caller]
fn told(faults: &[String], what: &str) {
    assert!(
        faults.iter().any(|fault| fault.contains(what)),
        "{faults:?}"
    );
}

#[test]
fn a_good_connection_is_settled() {
    let (client, server) = good();
    let (mut ledger, now) = (Ledger::default(), Instant::now());
    ledger.open(NUMBER, addr(4000));
    ledger.client(client, now);
    assert_eq!(ledger.unsettled(), 1);
    ledger.server(server, now);
    assert_eq!(ledger.unsettled(), 0);
    ledger.close();
    assert_eq!(ledger.faults.count, 0);
    assert_eq!((ledger.totals.settled, ledger.totals.received), (1, 10));
    assert!(ledger.numbers.is_empty());
}

#[test]
fn each_count_that_differs_is_told() {
    told(&after(|client, _| client.sent += 1), "lost on the way in");
    told(&after(|client, _| client.sent -= 1), "received more");
    told(&after(|client, _| client.echoes -= 1), "echoes lost");
    told(&after(|client, _| client.echoes += 1), "more echoes");
    told(&after(|client, _| client.pushes -= 1), "pushes lost");
    told(&after(|client, _| client.pushes += 1), "more pushes");
    told(&after(|client, _| client.news -= 1), "news lost");
    told(&after(|client, _| client.news += 1), "more news");
    told(
        &after(|client, _| client.topics.counts[0] += 2),
        "0 were published",
    );
    told(&after(|client, _| client.pongs -= 1), "pongs lost");
    told(&after(|client, _| client.pongs += 1), "more pongs");
    told(&after(|client, _| client.pings += 1), "pings lost");
    told(&after(|client, _| client.pings -= 1), "more pings");
    told(&after(|client, _| client.requests += 1), "more answers");
    told(&after(|_, server| server.echoed -= 1), "not all was echoed");
    told(&after(|_, server| server.code = 1001), "codes differ");
    told(
        &after(|client, _| client.close_received = None),
        "codes differ",
    );
}

#[test]
fn what_was_closed_by_the_server_is_whole_on_the_way_out() {
    let closed = |client: &mut ClientRecord, server: &mut ServerRecord| {
        client.ending = Ending::Answered;
        server.why = Why::Local;
        // The server ignores messages that the client sends in the meantime.
        client.sent += 1;
    };
    assert_eq!(after(closed), [""; 0]);
    let lost = after(|client, server| {
        closed(client, server);
        client.echoes -= 1;
    });
    told(&lost, "echoes lost");
}

#[test]
fn of_what_was_killed_a_part_may_be_missing_but_only_at_the_end() {
    let killed = |client: &mut ClientRecord, server: &mut ServerRecord| {
        (client.ending, server.why) = (Ending::Reset, Why::Io);
        (server.received, server.echoed) = (8, 8);
        client.echoes = 7;
    };
    assert_eq!(after(killed), [""; 0]);
    let more = after(|client, server| {
        killed(client, server);
        client.echoes = 9;
    });
    told(&more, "more echoes");
}

#[test]
fn a_half_closed_connection_is_whole_in_both_directions() {
    let half = |client: &mut ClientRecord, server: &mut ServerRecord| {
        (client.ending, server.why) = (Ending::HalfClosed, Why::Eof);
    };
    assert_eq!(after(half), [""; 0]);
    let lost = after(|client, server| {
        half(client, server);
        client.sent += 1;
    });
    told(&lost, "lost on the way in");
}

#[test]
fn an_end_that_does_not_fit_is_told() {
    for (ending, why) in [
        (Ending::Closed, Why::Protocol),
        (Ending::Closed, Why::Eof),
        (Ending::Answered, Why::Silent),
        (Ending::Reset, Why::Protocol),
        (Ending::Lost, Why::Local),
        (Ending::Lost, Why::Io),
        (Ending::InHandshake, Why::Peer),
        (Ending::Refused, Why::Peer),
    ] {
        let faults = after(|client, server| (client.ending, server.why) = (ending, why));
        told(&faults, "does not fit");
    }
}

#[test]
fn a_missing_disconnect_is_told() {
    let (client, _) = good();
    let (mut ledger, now) = (Ledger::default(), Instant::now());
    ledger.open(NUMBER, addr(4000));
    ledger.client(client.clone(), now);
    ledger.overdue(now + PATIENCE);
    assert_eq!(ledger.faults.count, 0);
    ledger.overdue(now + PATIENCE + Duration::from_secs(1));
    told(&ledger.faults.first, "no Disconnect");
    assert_eq!(ledger.unsettled(), 0);

    let mut ledger = Ledger::default();
    ledger.open(NUMBER, addr(4000));
    ledger.client(client, now);
    ledger.close();
    told(&ledger.faults.first, "no Disconnect");
}

#[test]
fn a_disconnect_too_many_is_told_before_and_after_the_client_tells() {
    for at_once in [true, false] {
        let (client, server) = good();
        let (mut ledger, now) = (Ledger::default(), Instant::now());
        ledger.open(NUMBER, addr(4000));
        ledger.server(server.clone(), now);
        if at_once {
            ledger.server(server.clone(), now);
            ledger.client(client, now);
        } else {
            ledger.client(client, now);
            ledger.server(server, now);
        }
        told(&ledger.faults.first, "a Disconnect too many");
        assert_eq!(ledger.faults.count, 1);
    }
}

#[test]
fn who_named_no_number_is_found_by_the_address() {
    let (client, server) = good();
    let (mut ledger, now) = (Ledger::default(), Instant::now());
    let unnamed = |port| ServerRecord {
        number: None,
        addr: addr(port),
        why: Why::Eof,
        received: 0,
        echoed: 0,
        pushed: 0,
        news: 0,
        pings: 0,
        ..server.clone()
    };
    // Two connections with the same address, one after the other.
    for number in [1, 2] {
        ledger.open(number, addr(4000));
        let client = ClientRecord {
            number,
            stage: Stage::Connected,
            ending: Ending::InHandshake,
            close_sent: None,
            close_received: None,
            pongs: 0,
            sent: 0,
            echoes: 0,
            pushes: 0,
            news: 0,
            ..client.clone()
        };
        ledger.client(client, now);
    }
    ledger.server(unnamed(4001), now);
    told(&ledger.faults.first, "or of nobody");
    ledger.server(unnamed(4000), now);
    ledger.server(unnamed(4000), now);
    assert_eq!((ledger.faults.count, ledger.unsettled()), (1, 0));
    assert!(ledger.numbers.is_empty());
}

#[test]
fn a_message_of_who_came_from_elsewhere_is_told() {
    let (client, mut server) = good();
    server.addr = addr(4001);
    told(&faults(client, server), "came from");
}
