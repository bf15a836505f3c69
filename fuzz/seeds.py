#!/usr/bin/env python3
"""Writes the seeds, the initial inputs of all targets, to corpus/TARGET/seed-*.

The `run` function of each target documents the format of its inputs.
"""

import pathlib
import struct
import zlib

HERE = pathlib.Path(__file__).parent
UPGRADE = (
    "Host: server.example.com\r\nUpgrade: websocket\r\nConnection: keep-alive, Upgrade\r\n"
    "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n"
)


def short(number):
    return struct.pack("<H", number)


def text(value):
    return bytes([len(value)]) + value.encode()


def frame(first, payload=b"", key=b"\x37\xfa\x21\x3d"):
    size = len(payload)
    if size < 126:
        head = bytes([first, 0x80 | size])
    elif size < 1 << 16:
        head = bytes([first, 0xFE]) + struct.pack(">H", size)
    else:
        head = bytes([first, 0xFF]) + struct.pack(">Q", size)
    return head + key + bytes(byte ^ key[at % 4] for at, byte in enumerate(payload))


def chosen(first, form, size, rest=b""):
    return bytes([first, form]) + short(size) + rest


def deflated(payload, bits=15, level=6):
    stream = zlib.compressobj(level, zlib.DEFLATED, -bits)
    return (stream.compress(payload) + stream.flush(zlib.Z_SYNC_FLUSH))[:-4]


EURO = "x\u00e9\u20ac\U0001f980".encode()

STREAMS = {
    "hello": frame(0x81, b"Hello"),
    "kinds": frame(0x82, b"\0\xff") + frame(0x89, b"ping") + frame(0x8A) + frame(0x81),
    "fragments": frame(0x01, EURO[:2]) + frame(0x89, b"?") + frame(0x00, EURO[2:5]) + frame(0x80, EURO[5:]),
    "medium": frame(0x81, b"m" * 126) + frame(0x82, b"n" * 300, b"\0" * 4),
    "close": frame(0x88, b"\x03\xe8bye") + frame(0x81, b"late"),
    "close-empty": frame(0x88),
    "close-bad": frame(0x88, b"\x03\xed"),
    "close-utf8": frame(0x88, b"\x03\xe8\xff"),
    "utf8-bad": frame(0x81, b"ab\xed\xa0\x80cd"),
    "utf8-cut": frame(0x01, EURO[:2]) + frame(0x80, b"z"),
    "not-minimal": b"\x82\xfe\x00\x05\0\0\0\0hello",
    "top-bit": b"\x82\xff\x80\0\0\0\0\0\0\0\0\0\0\0",
    "unmasked": b"\x81\x05hello",
    "reserved": frame(0xC1, deflated(b"hello hello hello")) + frame(0x83),
    "compressed": frame(0x41, b"\xf2\x48") + frame(0x80, b"\xcd\xc9\xc9\x07\x00"),
    "unexpected": frame(0x80, b"x"),
    "interleaved": frame(0x01, b"x") + frame(0x81, b"y"),
}
CHOSEN = {
    "large": chosen(0x82, 0x0B, 0x1000, b"\x07") + chosen(0x81, 0x07, 0x4000),
    "large-fragments": chosen(0x01, 0x07, 0x2000) + chosen(0x89, 0, 2, b"hi") + chosen(0x80, 0x17, 0x2000),
    "small": chosen(0x81, 0, 5, b"hello") + chosen(0x82, 0x16, 0x300) + chosen(0x88, 0, 0),
    "long-form": chosen(0x8A, 0xC0, 0) + chosen(0x81, 0xC0, 0),
}


def streams(*settings):
    for name, stream in STREAMS.items():
        for setting in settings:
            yield f"{name}-{setting:02x}", bytes([setting]) + short(7) + stream
    for name, stream in CHOSEN.items():
        for setting in settings:
            yield f"{name}-{setting:02x}", bytes([0x80 | setting]) + short(9) + stream


def handshake():
    for name, lines in {
        "plain": "GET / HTTP/1.1\r\nHost: a\r\n\r\n",
        "chat": f"GET /chat?a=b HTTP/1.1\r\n{UPGRADE}Sec-WebSocket-Protocol: chat, b\r\n\r\n",
        "absolute": f"GET ws://server.example.com/ HTTP/1.1\r\n{UPGRADE}Origin: null\r\nCookie: a=b\r\n\r\n",
        "behind": f"GET / HTTP/1.1\r\n{UPGRADE}\r\nGET / HTTP/1.1\r\n{UPGRADE}\r\n",
        "body": f"GET / HTTP/1.1\r\n{UPGRADE}Content-Length: 1\r\n\r\n",
        "folded": "GET / HTTP/1.1\r\nHost: a\r\n b\r\n\r\n",
        "bare-lf": "GET / HTTP/1.1\nHost: a\n\n",
        "old": f"GET / HTTP/1.0\r\n{UPGRADE}\r\n",
        "post": f"POST / HTTP/1.1\r\n{UPGRADE}\r\n",
        "two-hosts": f"GET / HTTP/1.1\r\nHost: a\r\n{UPGRADE}\r\n",
        "fragment": f"GET /#a HTTP/1.1\r\n{UPGRADE}\r\n",
    }.items():
        yield name, b"\0" + short(5) + text("X-Name") + text("value") + lines.encode()
        yield f"{name}-small", b"\5" + short(5) + text("chat") + text("a\r\nb: c") + lines.encode()
    for seed in range(4):
        yield f"good-{seed}", b"\x80" + short(seed) + text("Allow") + text("b") + b"0123456789abcdef"


def forwarded():
    for name, (settings, lines) in {
        "list": (0, ["6.6.6.6, 192.0.2.7, 10.0.0.2"]),
        "list-lines": (6, ["https", "192.0.2.7:81", "[2001:db8:a::1]:80 , ::ffff:172.16.1.2,,"]),
        "list-unknown": (4, ["a.test", "192.0.2.7, unknown, 10.0.0.2"]),
        "elements": (1, ["for=6.6.6.6, for=192.0.2.7;proto=https;host=a.test, for=10.0.0.2"]),
        "quoted": (1, ['for="[2001:db8::7]:81";by=_a;host="a\\",for=6.6.6.6", for="10.0.0.2:1"']),
        "open": (1, ['for=6.6.6.6;x="', "for=\\"]),
        "twice": (1, ["for=192.0.2.7;for=6.6.6.6;Proto=HTTP", "for=10.0.0.3"]),
    }.items():
        yield name, bytes([settings]) + b"".join(map(text, lines))


def proxy_header():
    tcp4 = bytes([192, 0, 2, 7, 198, 51, 100, 1]) + struct.pack(">HH", 56324, 443)

    def version_2(command, family, rest):
        return b"\r\n\r\n\0\r\nQUIT\n" + struct.pack(">BBH", command, family, len(rest)) + rest

    yield "v1-tcp4", b"PROXY TCP4 192.0.2.7 198.51.100.1 56324 443\r\nGET / HTTP/1.1\r\n"
    yield "v1-tcp6", b"PROXY TCP6 2001:db8::7 2001:db8::1 1 65535\r\n"
    yield "v1-unknown", b"PROXY UNKNOWN ffff::1 ffff::2 1 2\r\n"
    yield "v2-tcp4", version_2(0x21, 0x11, tcp4) + b"GET / HTTP/1.1\r\n"
    yield "v2-tcp6", version_2(0x21, 0x21, bytes(range(36)))
    yield "v2-local", version_2(0x20, 0, b"")
    yield "v2-unix", version_2(0x21, 0x31, b"/" * 216)
    yield "v2-udp", version_2(0x21, 0x12, tcp4)
    yield "v2-ssl", version_2(0x21, 0x11, tcp4 + b"\1\0\2h2" + b"\x20\0\5\3\0\0\0\0")
    yield "v2-short", version_2(0x21, 0x11, tcp4[:4])


def http():
    for name, request in {
        "get": "GET /a HTTP/1.1\r\nHost: a\r\n\r\n" * 2,
        "head": "HEAD / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n",
        "old": "\r\nGET / HTTP/1.0\r\nConnection: keep-alive\r\n\r\n",
        "length": "PUT /a HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nhelloGET / HTTP/1.1\r\nHost: a\r\n\r\n",
        "continue": "PUT /a HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\nContent-Length: 5\r\n\r\nhello",
        "chunks": "PUT /a HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n1;a=b\r\n!\r\n0\r\nT: v\r\n\r\nGET /",
        "both": "PUT / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\nContent-Length: 3\r\n\r\n0\r\n\r\n",
        "twice": "PUT / HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\nContent-Length: 3\r\n\r\nabc",
        "identity": "PUT / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: identity\r\n\r\n",
        "chunks-bad": "PUT / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n0x1\r\na\r\n",
        "star": "OPTIONS * HTTP/1.1\r\nHost: a\r\n\r\n",
        "upgrade": f"GET / HTTP/1.1\r\n{UPGRADE}\r\n\x81\x80abcd",
    }.items():
        for setting, status in ((0, 200), (4, 405), (0x10, 304)):
            yield f"{name}-{setting:02x}", bytes([setting]) + short(3) + short(status) + text("A") + text("b") + request.encode()


def extensions():
    for name, header in {
        "chrome": "permessage-deflate; client_max_window_bits",
        "all": "permessage-deflate;server_no_context_takeover;client_no_context_takeover;server_max_window_bits=10;client_max_window_bits=11",
        "quoted": 'permessage-deflate; server_max_window_bits="1\\2" , permessage-deflate',
        "passed-over": "x-webkit-deflate-frame, permessage-deflate; server_max_window_bits=8,,permessage-deflate; a=b\npermessage-deflate",
        "malformed": "permessage-deflate; =1",
        "empty": ", ,",
    }.items():
        for setting in (b"\0\6\6", b"\1\2\3", b"\2\6\1"):
            yield f"{name}-{setting[0]}", setting + header.encode()


def deflate():
    again = b"the same again and again, " * 9
    for name, message in {
        "empty": b"\0",
        "fixed": deflated(b"hello"),
        "dynamic": deflated(bytes(at * at >> 3 & 255 for at in range(900)) + again),
        "stored": deflated(b"stored", level=0),
        "final": bytes.fromhex("f348cdc9c90700") + b"\0",
        "bomb": deflated(b"\0" * 300_000),
        "far": deflated(again, bits=9)[:20],
    }.items():
        yield f"inflate-{name}", b"\1\xff" + message
        yield f"inflate-{name}-limits", b"\x28\xff" + message
    twice = deflated(again)
    yield "inflate-twice", b"\1" + bytes([len(twice)]) + twice + bytes([len(twice)]) + twice
    messages = (
        bytes([0o01]) + text("hello") + bytes([0o51]) + text("word ") + b"\x50"
        + bytes([0o42]) + short(0x900) + short(5) + b"\x0f" + bytes([0o31]) + short(0xF000) + short(300)
        + bytes([0o61]) + bytes([0o04]) + text("alone alone alone")
    )
    parts = (
        bytes([0xC1]) + text("in three parts") + bytes([0xC0]) + text("in three parts")
        + bytes([0xE9]) + text("word ") + b"\x50" + bytes([0xC3]) + text("one is lost")
        + bytes([0xA9]) + text("word ") + b"\x50" + bytes([0x80]) + text("gathered, gathered")
    )
    for level in (0, 1, 3, 6, 9):
        for bits in (0, 3, 6):
            yield f"deflate-{level}-{bits + 9}", bytes([0x80 | level, bits]) + messages
        yield f"deflate-{level}-parts", bytes([0x80 | level, 6]) + parts
    yield "deflate-32k", b"\x81\x06" + bytes([0o70, 130]) + b"sixteen letters." + bytes([0o20]) + short(0xFFFF) + b"a"


def server():
    def client(number, does, how=0, rest=b""):
        return bytes([does | number << 4, how]) + rest

    turn = bytes([0, 0])

    def opened(number=0, request=0):
        return bytes([0x21, request]) + turn

    def says(number, payload, kind=5, how=0):
        return client(number, kind, len(payload) | how, payload)

    def topic(what, name, key=0, size=1, form=0):
        """Bytes of an operation: 0 to 5 are of the first connection, 6 publishes."""
        names = ("plain", "latest", "oldest", "newest", "error", "close", "history")
        return bytes([15 | what << 4, names.index(name) + 7 * key + 21 * size + 63 * form])

    def does(order):
        return bytes([13, order])

    def policy(name, key=0):
        """A client that does not read subscribes, and misses messages."""
        return bytes([0x31, 0]) + turn + topic(0, name) + topic(6, name, key, 0) * 5 + turn + (
            topic(6, name, key, 0) * 2 + topic(6, name, 2 if key else 0) * 2 + client(0, 9, 255) + turn + topic(6, name, key)
        )

    hello = says(0, b"hello") + turn
    full = does(0x53) * 5 + turn
    words = does(0x75)
    for name, (settings, steps) in {
        "echo": (0, opened() + hello + client(0, 9, 255)),
        "cut": (0, opened() + says(0, b"in two pieces", how=0x80) + turn),
        "two": (0, opened() + opened(1) + hello + says(1, b"other") + bytes([12, 9]) + turn),
        "deflate": (4, opened(0, 1) + says(0, b"a" * 100) + turn + hello),
        "dedicated": (4 | 1 << 12, opened(0, 2) + says(0, b"a" * 100) + turn + says(0, b"a" * 100) + turn),
        "pieces": (8, opened() + client(0, 7, 0x02, b"ab") + turn + client(0, 7, 0x03, b"abc") + turn),
        "request": (0, bytes([1, 0]) + client(0, 3, 3) + turn + hello),
        "plain": (2, bytes([1, 0]) + client(0, 3, 8) + turn + client(0, 3, 8) + turn + client(0, 3, 0) + turn),
        "bad": (1 << 10, bytes([1, 0]) + client(0, 3, 4) + turn),
        "rubbish": (0, bytes([1, 0]) + client(0, 4, 4, b"\n\n\n\n") + turn),
        "slow": (1 << 7 | 1 << 4, bytes([0x31, 0]) + turn + bytes([2, 6]) + hello + hello + client(0, 9, 9) + turn),
        "slow-newest": (1 << 7 | 2 << 4, bytes([0x31, 0]) + turn + bytes([2, 6]) + hello + hello),
        "slow-oldest": (1 << 7 | 3 << 4, bytes([0x31, 0]) + turn + bytes([2, 6]) + hello + hello + client(0, 9, 99) + turn),
        "few": (1, opened() + opened() + opened() + client(0, 11) + turn),
        "leave": (0, opened() + says(0, b"bye") + client(0, 10) + turn + turn),
        "defer": (0, bytes([2, 0x32]) + opened() + turn + bytes([14, 0]) + turn + hello),
        "large": (0, opened() + client(0, 8, 0, chosen(0x82, 0x0B, 0x20)) + turn + turn),
        "share": (1 << 11, opened() + says(0, b"1") * 9 + turn + turn),
        "orders": (0, opened() + b"".join(bytes([2, order]) + hello for order in (8, 13, 10, 7, 4, 5, 2))),
        "parts": (4, opened(0, 1) + b"".join(bytes([2, order | 0x40]) + hello for order in (16, 17, 17, 18))),
        "parts-dedicated": (4 | 1 << 12, opened(0, 1) + b"".join(bytes([2, order]) + hello for order in (19, 0x34, 0x33, 0x35, 16, 18))),
        "pieces-deflate": (4 | 8 | 1 << 6, opened(0, 1) + says(0, deflated(b"a" * 2000), 7, 0) + turn),
        "close": (0, opened() + client(0, 7, 0x02 | 4, b"\x03\xe8") + turn),
        "fails": (0, opened() + bytes([2, 1]) + hello + turn),
        "neighbour": (0, opened() + opened() + bytes([2, 11]) + hello + turn),
        "topics": (0, opened() + opened(1) + topic(0, "plain") + topic(2, "plain") + topic(3, "plain") + turn + topic(1, "plain")),
        "topics-orders": (0, opened() + b"".join(bytes([2, how, 2, order]) + hello for order, how in ((22, 0), (24, 0), (25, 21), (22, 6), (24, 6), (23, 0)))),
        "topics-limits": (1 << 13, opened() + topic(0, "plain") + topic(0, "latest") + topic(0, "error") + topic(6, "history") + turn),
        "topics-history": (0, opened() + topic(6, "history") * 4 + bytes([0x4F, 3]) + topic(6, "history") + topic(1, "history") + bytes([0x5F, 2]) + turn),
        "topics-plain": (1 << 7 | 1 << 4, policy("plain")),
        "topics-latest": (1 << 7, policy("latest", 1)),
        "topics-oldest": (1 << 7, policy("oldest")),
        "topics-newest": (1 << 7, policy("newest")),
        "topics-error": (1 << 7, policy("error")),
        "topics-close": (1 << 7, policy("close")),
        "topics-deflate": (4, opened(0, 1) + topic(0, "latest") + topic(6, "latest", 1) + topic(6, "latest", 1, 2) + turn),
        "topics-replaced": (4 | 1 << 12, bytes([0x31, 1]) + turn + topic(0, "latest") + full + words + topic(6, "latest", 1, 1, 1) + words + topic(6, "latest", 1) + words + turn),
        "shutdown": (0, opened() + opened() + bytes([2, 15]) + hello + turn),
    }.items():
        yield name, short(settings) + steps


TARGETS = {
    "deflate": deflate,
    "extensions": extensions,
    "forwarded": forwarded,
    "frames": lambda: streams(0, 0x1A),
    "handshake": handshake,
    "http": http,
    "proxy_header": proxy_header,
    "server": server,
    "tungstenite": lambda: streams(1),
}

for target, seeds in TARGETS.items():
    corpus = HERE / "corpus" / target
    corpus.mkdir(parents=True, exist_ok=True)
    for old in corpus.glob("seed-*"):
        old.unlink()
    for name, seed in seeds():
        (corpus / f"seed-{name}").write_bytes(seed)
