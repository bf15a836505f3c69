"""The client of `wsproto`, which has no I/O of its own."""

import contextlib
import json
import socket
import ssl
import urllib.parse

from wsproto import ConnectionType, WSConnection
from wsproto.events import (
    AcceptConnection,
    BytesMessage,
    CloseConnection,
    Ping,
    Pong,
    RejectConnection,
    Request,
    TextMessage,
)
from wsproto.extensions import PerMessageDeflate

from checks import AUTHORITY, BYTES, LARGE, LIMIT, LONG, TEXT, check, expect, expect_compressed, url


class Client:
    def __init__(self, name, path="/", extensions=()):
        parts = urllib.parse.urlsplit(url(name, path))
        self.socket = socket.create_connection((parts.hostname, parts.port), timeout=LIMIT)
        if parts.scheme == "wss":
            context = ssl.create_default_context(cafile=AUTHORITY)
            self.socket = context.wrap_socket(self.socket, server_hostname=parts.hostname)
        self.protocol = WSConnection(ConnectionType.CLIENT)
        self.send(
            Request(
                host=parts.netloc,
                target=f"{parts.path}?{parts.query}",
                subprotocols=["interop"],
                extensions=list(extensions),
            )
        )

    def send(self, event):
        self.socket.sendall(self.protocol.send(event))

    def next(self):
        while True:
            for event in self.protocol.events():
                if isinstance(event, Ping):
                    self.send(event.response())
                else:
                    return event
            self.protocol.receive_data(self.socket.recv(65536) or None)

    def message(self):
        whole = None
        while True:
            event = self.next()
            whole = event.data if whole is None else whole + event.data
            if event.message_finished:
                return whole


@contextlib.contextmanager
def ready(name, path="/", extensions=()):
    client = Client(name, path, extensions)
    with contextlib.closing(client.socket):
        accepted = client.next()
        assert isinstance(accepted, AcceptConnection), accepted
        expect(accepted.subprotocol, "interop")
        expect(client.message(), "welcome")
        yield client


with check("text"), ready("text") as client:
    client.send(TextMessage(TEXT))
    expect(client.message(), TEXT)
for name, message in (("binary", BYTES), ("large", LARGE)):
    with check(name), ready(name) as client:
        client.send(BytesMessage(message))
        expect(client.message(), message)
with check("fragments"), ready("fragments", "/fragments") as client:
    client.send(TextMessage("ab", message_finished=False))
    client.send(TextMessage("cd", message_finished=False))
    client.send(TextMessage("ef"))
    expect(client.message(), "3 pieces, 6 bytes")
with check("compression"), ready("compression", extensions=[PerMessageDeflate()]) as client:
    client.send(TextMessage(LONG))
    expect(client.message(), LONG)
    client.send(TextMessage("/info"))
    expect_compressed(json.loads(client.message()))
with check("ping"), ready("ping") as client:
    client.send(Ping(b"hello?"))
    event = client.next()
    assert isinstance(event, Pong), event
    expect(bytes(event.payload), b"hello?")
with check("pong"), ready("pong") as client:
    client.send(TextMessage("/ping are you there?"))
    expect(client.message(), "pong are you there?")
with check("close"), ready("close") as client:
    client.send(CloseConnection(4002, "bye"))
    event = client.next()
    assert isinstance(event, CloseConnection), event
    expect((event.code, event.reason), (4002, "bye"))
with check("closed"), ready("closed") as client:
    client.send(TextMessage("/close 4001 enough"))
    event = client.next()
    assert isinstance(event, CloseConnection), event
    expect((event.code, event.reason), (4001, "enough"))
    client.send(event.response())
with check("refusal"):
    client = Client("refusal", "/refused")
    event = client.next()
    assert isinstance(event, RejectConnection), event
    expect(event.status_code, 403)
