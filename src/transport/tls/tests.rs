use std::collections::VecDeque;
use std::io::BufRead;

use rustls::crypto::aws_lc_rs;
use rustls::pki_types::{PrivateKeyDer, ServerName};
use rustls::version::{TLS12, TLS13};
use rustls::{ClientConfig, ClientConnection, RootCertStore, SupportedProtocolVersion};

use super::*;

/// The kernel's side of the server's socket. Every second call is interrupted by a signal.
#[derive(Default)]
struct Kernel {
    inbox: VecDeque<u8>,
    outbox: VecDeque<u8>,
    /// Capacity of the outbox, in bytes.
    room: usize,
    ended: bool,
    interrupted: bool,
    reads: usize,
    writes: usize,
}

impl Kernel {
    fn interrupt(&mut self) -> io::Result<()> {
        self.interrupted = !self.interrupted;
        match self.interrupted {
            true => Err(io::ErrorKind::Interrupted.into()),
            false => Ok(()),
        }
    }
}

impl Read for Kernel {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        self.interrupt()?;
        self.reads += 1;
        match self.inbox.is_empty() && !self.ended {
            true => Err(io::ErrorKind::WouldBlock.into()),
            false => self.inbox.read(buf),
        }
    }
}

impl Write for Kernel {
    fn write(&mut self, buf: &[u8]) -> io::Result<usize> {
        self.write_vectored(&[io::IoSlice::new(buf)])
    }

    fn write_vectored(&mut self, bufs: &[io::IoSlice<'_>]) -> io::Result<usize> {
        self.interrupt()?;
        self.writes += 1;
        let before = self.outbox.len();
        for buf in bufs {
            let free = self.room - self.outbox.len();
            self.outbox.extend(&buf[..free.min(buf.len())]);
        }
        match self.outbox.len() - before {
            0 => Err(io::ErrorKind::WouldBlock.into()),
            size => Ok(size),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// A server and a client, joined by bytes that travel `cut` at a time.
struct Pair {
    server: Tls,
    kernel: Kernel,
    client: ClientConnection,
    cut: usize,
    wire: VecDeque<u8>,
    plain: Vec<u8>,
    scratch: Vec<u8>,
    server_got: Vec<u8>,
    client_got: Vec<u8>,
}

impl Pair {
    fn new(version: &'static SupportedProtocolVersion, cut: usize) -> Self {
        let issued = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
        let cert = issued.cert.der();
        let key = PrivateKeyDer::try_from(issued.signing_key.serialize_der()).unwrap();
        let mut roots = RootCertStore::empty();
        roots.add(cert.clone()).unwrap();
        let provider = Arc::new(aws_lc_rs::default_provider());
        let config = ServerConfig::builder_with_provider(provider.clone())
            .with_protocol_versions(&[version])
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(vec![cert.clone()], key)
            .unwrap();
        let client = ClientConfig::builder_with_provider(provider)
            .with_protocol_versions(&[version])
            .unwrap()
            .with_root_certificates(roots)
            .with_no_client_auth();
        let name = ServerName::try_from("localhost").unwrap();
        let mut client = ClientConnection::new(Arc::new(client), name).unwrap();
        client.set_buffer_limit(None);
        Self {
            server: Tls::new(Arc::new(config)).unwrap(),
            kernel: Kernel {
                room: cut.max(16),
                ..Kernel::default()
            },
            client,
            cut,
            wire: VecDeque::new(),
            plain: vec![0; cut.min(512 << 10)],
            scratch: vec![0; 512 << 10],
            server_got: Vec::new(),
            client_got: Vec::new(),
        }
    }

    /// Makes a pair after its handshake, with the counters reset.
    fn open(version: &'static SupportedProtocolVersion) -> Self {
        let mut pair = Self::new(version, 2 << 20);
        pair.settle();
        assert!(!pair.server.is_handshaking());
        (pair.kernel.reads, pair.kernel.writes) = (0, 0);
        pair
    }

    /// Reads once on the server, with the checks that hold for every read.
    fn read(&mut self) -> io::Result<Received> {
        let (plain, scratch) = (&mut self.plain, &mut self.scratch);
        let got = self.server.read(&mut self.kernel, plain, scratch)?;
        self.server_got.extend(&plain[..got.bytes]);
        if got.drained && !got.eof {
            assert!(self.kernel.inbox.is_empty());
            assert!(self.server.session.reader().fill_buf().is_err());
        }
        Ok(got)
    }

    fn write(&mut self, bufs: &[&[u8]]) -> io::Result<usize> {
        let bufs: Vec<_> = bufs.iter().map(|buf| io::IoSlice::new(buf)).collect();
        self.server.write(&mut self.kernel, &bufs)
    }

    fn say(&mut self, bytes: &[u8]) {
        self.client.writer().write_all(bytes).unwrap();
    }

    /// Moves the client's ciphertext to the kernel.
    fn deliver(&mut self, cut: usize) -> usize {
        while self.client.wants_write() {
            self.client.write_tls(&mut self.wire).unwrap();
        }
        let size = cut.min(self.wire.len());
        self.kernel.inbox.extend(self.wire.drain(..size));
        size
    }

    /// Moves the server's ciphertext to the client.
    fn hear(&mut self) -> usize {
        let size = self.cut.min(self.kernel.outbox.len());
        let bytes: Vec<u8> = self.kernel.outbox.drain(..size).collect();
        let mut rest = &bytes[..];
        while !rest.is_empty() && self.client.read_tls(&mut rest).unwrap() > 0 {
            self.client.process_new_packets().unwrap();
            let _ = self.client.reader().read_to_end(&mut self.client_got);
        }
        size
    }

    /// Moves bytes both ways until none are left.
    fn settle(&mut self) {
        let mut moved = 1;
        while moved > 0 {
            moved = self.deliver(self.cut);
            while moved > 0 && !self.read().unwrap().drained {}
            self.server.flush(&mut self.kernel).unwrap();
            moved += self.hear();
        }
    }
}

fn pattern(size: usize) -> Vec<u8> {
    (0..size).map(|at| (at * 7 + at / 251) as u8).collect()
}

#[test]
fn every_cut_gives_the_same_session() {
    for cut in (1..70).chain([255, 1000, 4095, 4096, 4097, 20_000]) {
        let mut pair = Pair::new([&TLS12, &TLS13][cut % 2], cut);
        assert!(pair.server.is_handshaking());
        assert_eq!(pair.write(&[b"early"]).unwrap(), 0);
        pair.settle();
        assert!(!pair.server.is_handshaking() && !pair.client.is_handshaking());

        pair.say(b"to the server");
        assert_eq!(pair.write(&[b"to ", b"", b"the client"]).unwrap(), 13);
        pair.settle();
        assert_eq!(pair.server_got, b"to the server");
        assert_eq!(pair.client_got, b"to the client");

        pair.client.send_close_notify();
        pair.settle();
        assert!(pair.read().unwrap().eof);
        pair.server.close_notify(&mut pair.kernel).unwrap();
        pair.server.close_notify(&mut pair.kernel).unwrap();
        pair.settle();
        let state = pair.client.process_new_packets().unwrap();
        assert!(state.peer_has_closed() && !pair.server.wants_write());
        let error = pair.write(&[b"late"]).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::BrokenPipe);
    }
}

#[test]
fn a_mebibyte_each_way_through_small_cuts() {
    let data = pattern(1 << 20);
    for (version, cut, plain) in [
        (&TLS12, 1000, 64),
        (&TLS13, 777, 1 << 17),
        (&TLS13, 1 << 15, 33),
    ] {
        let mut pair = Pair::new(version, cut);
        pair.plain = vec![0; plain];
        pair.settle();
        pair.say(&data);
        let mut sent = 0;
        while sent < data.len() {
            let (head, tail) = data[sent..].split_at(10.min(data.len() - sent));
            sent += pair.write(&[head, b"", tail]).unwrap();
            pair.hear();
        }
        pair.settle();
        assert!(pair.server_got == data && pair.client_got == data);
    }
}

#[test]
fn large_records_cost_one_read_and_messages_one_write() {
    for version in [&TLS12, &TLS13] {
        let mut pair = Pair::open(version);
        for (reads, size) in [(1, 1), (2, 16 << 10), (3, 300 << 10)] {
            pair.say(&pattern(size));
            pair.deliver(usize::MAX);
            let got = pair.read().unwrap();
            assert_eq!((got.bytes, got.drained, got.eof), (size, true, false));
            assert_eq!(pair.kernel.reads, reads);
        }
        assert!(pair.server_got.ends_with(&pattern(300 << 10)));

        // The counts of writes are cumulative: 1 MiB leaves in pieces of `BUFFERED`.
        for (writes, size) in [(1, 20), (2, 16 << 10), (3, 64 << 10), (12, 1 << 20)] {
            let message = pattern(size);
            assert_eq!(pair.write(&[&[0x82; 10], &message]).unwrap(), size + 10);
            assert_eq!(pair.kernel.writes, writes);
            pair.settle();
            assert!(pair.client_got.ends_with(&message));
        }

        // A slow peer costs no more than one piece.
        pair.kernel.room = 1000;
        let data = pattern(1 << 20);
        assert_eq!(pair.write(&[&data]).unwrap(), BUFFERED);
        assert!(!pair.server.flush(&mut pair.kernel).unwrap() && pair.server.wants_write());
        assert_eq!(pair.write(&[&data]).unwrap(), 0);
        pair.settle();
        assert!(pair.client_got.ends_with(&data[..BUFFERED]));
    }
}

#[test]
fn a_read_that_fills_its_room_is_not_drained() {
    let mut pair = Pair::open(&TLS13);
    pair.say(&pattern(50_000));
    pair.scratch = vec![0; pair.deliver(usize::MAX)];
    // The kernel had exactly as much as there was room for: only the next read shows that.
    let got = pair.read().unwrap();
    assert_eq!((got.bytes, got.drained), (50_000, false));
    let got = pair.read().unwrap();
    assert_eq!((got.bytes, got.drained), (0, true));

    // With any room, everything arrives, and then the end.
    for room in [1, 16, 22, 1000, 16_384, 16_385, 50_000] {
        let mut pair = Pair::open(&TLS13);
        pair.plain = vec![0; room];
        pair.say(&pattern(50_000));
        pair.client.send_close_notify();
        pair.settle();
        assert!(pair.server_got == pattern(50_000) && pair.read().unwrap().eof);
    }
}

#[test]
fn the_end_of_the_stream_is_no_error() {
    // During the handshake, after it, and in the middle of a record.
    for (mut pair, size) in [
        (Pair::new(&TLS13, 1000), 10),
        (Pair::open(&TLS13), 0),
        (Pair::open(&TLS12), 10),
    ] {
        pair.say(b"cut short");
        pair.deliver(size);
        pair.kernel.ended = true;
        let got = pair.read().unwrap();
        assert_eq!((got.bytes, got.eof), (0, size == 0));
        assert!(pair.read().unwrap().eof);
    }
}

#[test]
fn what_is_not_tls_is_answered_by_an_alert() {
    for garbage in [
        &[0xff; 600][..],
        &[0; 5],
        // a handshake message of a type that no one defines
        &[0x16, 3, 1, 0, 4, 0xee, 0, 0, 0],
    ] {
        let mut pair = Pair::new(&TLS13, 1000);
        pair.kernel.inbox.extend(garbage);
        for _ in 0..2 {
            let error = pair.read().unwrap_err();
            assert_eq!(error.kind(), io::ErrorKind::InvalidData);
            assert!(error.get_ref().unwrap().is::<rustls::Error>());
            // one alert record of two bytes; level: fatal
            let sent = pair.kernel.outbox.make_contiguous();
            assert_eq!((sent.len(), &sent[..6]), (7, &[0x15, 3, 3, 0, 2, 2][..]));
        }
    }
}

#[test]
fn plain_http_is_told_and_nothing_of_tls_is_sent() {
    let mut pair = Pair::new(&TLS13, 1000);
    let request = b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n";
    pair.kernel.inbox.extend(request);
    let error = pair.read().unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::InvalidData);
    assert_eq!(pair.server.failure(&error), Some(TlsFailure::PlainHttp));
    assert!(pair.server.is_plain_http());
    // Further bytes are discarded, and the end is still found.
    pair.kernel.inbox.extend(request);
    assert_eq!(pair.read().unwrap().bytes, 0);
    pair.kernel.ended = true;
    assert!(pair.read().unwrap().eof);
    pair.server.close_notify(&mut pair.kernel).unwrap();
    assert!(pair.kernel.outbox.is_empty());
}

#[test]
fn plaintext_before_an_error_is_delivered() {
    for version in [&TLS12, &TLS13] {
        let mut pair = Pair::open(version);
        pair.say(b"last words");
        pair.deliver(usize::MAX);
        // a record that no key fits
        pair.kernel.inbox.extend([0x17, 3, 3, 0, 32]);
        pair.kernel.inbox.extend([0; 32]);
        let got = pair.read().unwrap();
        assert_eq!((got.bytes, got.drained), (10, false));
        assert!(!pair.kernel.outbox.is_empty(), "no alert");
        let errors = [
            pair.read().unwrap_err(),
            pair.write(&[b"late"]).unwrap_err(),
        ];
        assert!(
            errors
                .iter()
                .all(|error| error.kind() == io::ErrorKind::InvalidData)
        );
    }
}

#[test]
fn after_close_notify_only_the_end_is_looked_for() {
    let mut pair = Pair::open(&TLS13);
    pair.server.close_notify(&mut pair.kernel).unwrap();
    pair.kernel.inbox.extend([0x17, 3, 3, 0, 2, 0, 0]);
    let got = pair.read().unwrap();
    assert_eq!((got.bytes, got.drained, got.eof), (0, true, false));
    pair.kernel.ended = true;
    assert!(pair.read().unwrap().eof);
}

#[test]
fn what_would_only_cost_work_or_memory_ends() {
    let mut pair = Pair::open(&TLS13);
    for _ in 0..33 {
        pair.client.refresh_traffic_keys().unwrap();
    }
    pair.deliver(usize::MAX);
    let error = pair.read().unwrap_err().to_string();
    assert!(error.contains("TooManyKeyUpdateRequests"), "{error}");

    let mut pair = Pair::new(&TLS13, 1000);
    // a handshake message of 16 MiB
    let hello = [0x16, 3, 1, 0, 4, 1, 0xff, 0xff, 0xff];
    pair.kernel.inbox.extend(hello);
    let error = pair.read().unwrap_err().to_string();
    assert!(error.contains("HandshakePayloadTooLarge"), "{error}");
}
