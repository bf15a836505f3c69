"""The client of `websocket-client`."""

import contextlib

import websocket
from websocket import ABNF

from checks import AUTHORITY, BYTES, LARGE, LIMIT, TEXT, check, expect, tell, url

OPTIONS = {"sslopt": {"ca_certs": AUTHORITY}, "timeout": LIMIT, "subprotocols": ["interop"]}


@contextlib.contextmanager
def ready(name, path="/"):
    client = websocket.create_connection(url(name, path), **OPTIONS)
    with contextlib.closing(client):
        expect(client.recv(), "welcome")
        expect(client.getsubprotocol(), "interop")
        yield client


with check("text"), ready("text") as client:
    client.send(TEXT)
    expect(client.recv(), TEXT)
for name, message in (("binary", BYTES), ("large", LARGE)):
    with check(name), ready(name) as client:
        client.send_binary(message)
        expect(client.recv(), message)
with check("fragments"), ready("fragments", "/fragments") as client:
    client.send_frame(ABNF.create_frame("ab", ABNF.OPCODE_TEXT, 0))
    client.send_frame(ABNF.create_frame("cd", ABNF.OPCODE_CONT, 0))
    client.send_frame(ABNF.create_frame("ef", ABNF.OPCODE_CONT, 1))
    expect(client.recv(), "3 pieces, 6 bytes")
tell("compression", "none", "it has none")
with check("ping"), ready("ping") as client:
    client.ping("hello?")
    expect(client.recv_data(control_frame=True), (ABNF.OPCODE_PONG, b"hello?"))
with check("pong"), ready("pong") as client:
    client.send("/ping are you there?")
    expect(client.recv(), "pong are you there?")
with check("close"):
    client = websocket.create_connection(url("close"), **OPTIONS)
    expect(client.recv(), "welcome")
    client.send_close(4002, b"bye")
    expect(client.recv_data(control_frame=True), (ABNF.OPCODE_CLOSE, b"\x0f\xa2bye"))
    client.shutdown()
with check("closed"), ready("closed") as client:
    client.send("/close 4001 enough")
    expect(client.recv_data(control_frame=True), (ABNF.OPCODE_CLOSE, b"\x0f\xa1enough"))
with check("refusal"):
    try:
        websocket.create_connection(url("refusal", "/refused"), **OPTIONS)
        raise AssertionError("it opened")
    except websocket.WebSocketBadStatusException as error:
        expect(error.status_code, 403)
