//! How much of the sent data a peer has acknowledged, according to the kernel (sock_diag(7)).
//!
//! The kernel buffers up to some megabytes for a peer, and drains them as fast as the peer reads.
//! Only the kernel knows how fast that is. `SIOCOUTQ` (tcp(7)) would tell in one call, but `ioctl`
//! is `unsafe`; netlink costs some microseconds.

use std::io;
use std::net::SocketAddr;

use netlink_packet_core::{NLM_F_REQUEST, NetlinkHeader, NetlinkMessage, NetlinkPayload};
use netlink_packet_sock_diag::SockDiagMessage;
use netlink_packet_sock_diag::constants::{AF_INET, AF_INET6, IPPROTO_TCP};
use netlink_packet_sock_diag::inet::nlas::Nla;
use netlink_packet_sock_diag::inet::{
    ExtensionFlags, InetRequest, InetResponse, SocketId, StateFlags,
};
use netlink_sys::protocols::NETLINK_SOCK_DIAG;

use super::{Delivery, Socket};

/// Queries the kernel about sockets.
#[derive(Default)]
pub(crate) struct Deliveries {
    diag: Option<netlink_sys::Socket>,
    /// Set when a query fails, after which no more are sent.
    is_missing: bool,
    asked: u32,
}

impl Deliveries {
    /// Returns the state of the bytes that the kernel accepted for `socket`; `None` if it is not
    /// known, as for Unix sockets.
    pub(crate) fn of(&mut self, socket: &Socket) -> Option<Delivery> {
        let stream = match socket {
            Socket::Tcp(stream) => stream,
            Socket::Unix(_) => return None,
            #[cfg(test)]
            Socket::Simulated(wire) => return wire.delivery(),
        };
        if self.is_missing {
            return None;
        }
        let (local, peer) = (stream.local_addr().ok()?, stream.peer_addr().ok()?);
        let asked = self.ask(local, peer);
        if let Err(error) = &asked
            && error.kind() != io::ErrorKind::NotFound
        {
            self.is_missing = true;
            self.diag = None;
        }
        asked.ok()
    }

    fn ask(&mut self, local: SocketAddr, peer: SocketAddr) -> io::Result<Delivery> {
        let diag = match self.diag.take() {
            Some(diag) => diag,
            None => netlink_sys::Socket::new(NETLINK_SOCK_DIAG)?,
        };
        diag.set_non_blocking(true)?;
        self.asked = self.asked.wrapping_add(1);
        diag.send(&request(local, peer, self.asked), 0)?;
        let mut answer = [0; 4096];
        let size = diag.recv(&mut &mut answer[..], 0)?;
        self.diag = Some(diag);
        let answer = answer.get(..size).unwrap_or_default();
        let message = NetlinkMessage::<SockDiagMessage>::deserialize(answer)
            .map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error))?;
        match message.payload {
            _ if message.header.sequence_number != self.asked => {
                Err(io::ErrorKind::InvalidData.into())
            }
            NetlinkPayload::InnerMessage(SockDiagMessage::InetResponse(socket)) => {
                delivery(&socket).ok_or_else(|| io::ErrorKind::InvalidData.into())
            }
            NetlinkPayload::Error(error) => Err(error.to_io()),
            _ => Err(io::ErrorKind::InvalidData.into()),
        }
    }
}

/// Encodes a query for one socket, identified by its addresses.
fn request(local: SocketAddr, peer: SocketAddr, number: u32) -> Vec<u8> {
    let (family, any) = match local {
        SocketAddr::V4(_) => (AF_INET, SocketId::new_v4()),
        SocketAddr::V6(_) => (AF_INET6, SocketId::new_v6()),
    };
    let socket_id = SocketId {
        source_port: local.port(),
        destination_port: peer.port(),
        source_address: local.ip(),
        destination_address: peer.ip(),
        // Matches any cookie (INET_DIAG_NOCOOKIE).
        cookie: [0xff; 8],
        ..any
    };
    let mut header = NetlinkHeader::default();
    header.flags = NLM_F_REQUEST;
    header.sequence_number = number;
    let request = InetRequest {
        family,
        protocol: IPPROTO_TCP,
        extensions: ExtensionFlags::INFO,
        states: StateFlags::all(),
        socket_id,
    };
    let request = SockDiagMessage::InetRequest(request);
    let mut message = NetlinkMessage::new(header, NetlinkPayload::from(request));
    message.finalize();
    let mut bytes = vec![0; message.buffer_len()];
    message.serialize(&mut bytes);
    bytes
}

fn delivery(socket: &InetResponse) -> Option<Delivery> {
    let info = socket.nlas.iter().find_map(|nla| match nla {
        Nla::TcpInfo(info) => Some(info),
        _ => None,
    })?;
    let acknowledged = info.get(BYTES_ACKED..)?.first_chunk()?;
    Some(Delivery {
        acknowledged: u64::from_ne_bytes(*acknowledged),
        waiting: socket.header.send_queue as usize,
    })
}

/// Offset of `tcpi_bytes_acked` in `struct tcp_info` of <linux/tcp.h>, since Linux 4.1.
const BYTES_ACKED: usize = 120;

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};
    use std::net::{TcpListener, TcpStream};

    use super::*;

    #[test]
    fn the_kernel_tells_what_a_peer_has_taken() {
        // The last is an IPv4 peer of a dual-stack listener; a machine may have no IPv6.
        for (addr, host) in [
            ("127.0.0.1:0", "127.0.0.1"),
            ("[::1]:0", "::1"),
            ("[::]:0", "127.0.0.1"),
        ] {
            let Ok(listener) = TcpListener::bind(addr) else {
                assert!(addr.starts_with('['), "{addr}");
                continue;
            };
            let port = listener.local_addr().unwrap().port();
            let mut peer = TcpStream::connect((host, port)).unwrap();
            let (stream, _) = listener.accept().unwrap();
            stream.set_nonblocking(true).unwrap();
            let mut socket = Socket::Tcp(mio::net::TcpStream::from_std(stream));
            let mut deliveries = Deliveries::default();
            let before = deliveries.of(&socket).unwrap();
            assert_eq!(before.waiting, 0);
            // More than the peer's kernel buffers.
            let mut sent = 0;
            while let Ok(size) = socket.write(&[7; 100_000]) {
                sent += size;
            }
            let full = deliveries.of(&socket).unwrap();
            assert!(full.waiting > 0, "{full:?}");
            let all = (full.acknowledged - before.acknowledged) as usize + full.waiting;
            assert_eq!(all, sent);
            let mut got = vec![0; sent];
            peer.read_exact(&mut got).unwrap();
            let end = deliveries.of(&socket).unwrap();
            assert!(end.acknowledged > full.acknowledged);
            // A socket that does not exist.
            let (local, peer) = (
                "127.0.0.1:1".parse().unwrap(),
                "127.0.0.1:2".parse().unwrap(),
            );
            let error = deliveries.ask(local, peer).unwrap_err();
            assert_eq!(error.kind(), io::ErrorKind::NotFound);
        }
    }
}
