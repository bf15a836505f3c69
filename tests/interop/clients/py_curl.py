"""libcurl's client, as `curl_cffi` brings and calls it."""

import contextlib
import time

from curl_cffi import CurlWsFlag, Session

from checks import AUTHORITY, BYTES, LARGE, LIMIT, TEXT, check, expect, tell, url


@contextlib.contextmanager
def ready(name, path="/"):
    with Session(verify=AUTHORITY, timeout=LIMIT) as session:
        client = session.ws_connect(url(name, path), headers={"Sec-WebSocket-Protocol": "interop"})
        expect(receive(client), b"welcome")
        yield client
        client.close()


def receive(client):
    """A whole message."""
    data, _ = client.recv()
    return bytes(data)


with check("text"), ready("text") as client:
    client.send(TEXT.encode(), CurlWsFlag.TEXT)
    expect(receive(client).decode(), TEXT)
for name, message in (("binary", BYTES), ("large", LARGE)):
    with check(name), ready(name) as client:
        client.send(message, CurlWsFlag.BINARY)
        expect(receive(client), message)
with check("fragments"), ready("fragments", "/fragments") as client:
    client.send(b"ab", CurlWsFlag.TEXT | CurlWsFlag.CONT)
    client.send(b"cd", CurlWsFlag.TEXT | CurlWsFlag.CONT)
    client.send(b"ef", CurlWsFlag.TEXT)
    expect(receive(client), b"3 pieces, 6 bytes")
tell("compression", "none", "it has none")
with check("ping") as note, ready("ping") as client:
    client.send(b"hello?", CurlWsFlag.PING)
    client.send(b"and go on", CurlWsFlag.TEXT)
    data, flags = client.recv()
    if flags & CurlWsFlag.PONG:
        expect(bytes(data), b"hello?")
    else:
        expect(bytes(data), b"and go on")
        note("its API does not report pongs")
with check("pong") as note, ready("pong") as client:
    client.send(b"/ping are you there?", CurlWsFlag.TEXT)
    # Its answer leaves with a later call, which `recv` does not make while nothing comes.
    time.sleep(0.2)
    client.send(b"next", CurlWsFlag.TEXT)
    answers = set()
    while len(answers) < 2:
        data, flags = client.recv()
        if not flags & CurlWsFlag.PING:
            answers.add(bytes(data))
    expect(answers, {b"pong are you there?", b"next"})
    note("the pong is sent with the next message")
with check("close"), ready("close") as client:
    client.send((4002).to_bytes(2, "big") + b"bye", CurlWsFlag.CLOSE)
    data, flags = client.recv()
    assert flags & CurlWsFlag.CLOSE, flags
    expect(bytes(data), (4002).to_bytes(2, "big") + b"bye")
with check("closed"), ready("closed") as client:
    client.send(b"/close 4001 enough", CurlWsFlag.TEXT)
    data, flags = client.recv()
    assert flags & CurlWsFlag.CLOSE, flags
    expect(bytes(data), (4001).to_bytes(2, "big") + b"enough")
with check("refusal"):
    try:
        with Session(verify=AUTHORITY, timeout=LIMIT) as session:
            session.ws_connect(url("refusal", "/refused"))
    except Exception as error:
        if "403" not in str(error):
            raise
    else:
        raise AssertionError("it opened")
