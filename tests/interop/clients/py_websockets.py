"""The client of `websockets`."""

import asyncio
import json
import ssl

import websockets
from websockets.asyncio.client import connect

from checks import AUTHORITY, BASE, BYTES, LARGE, LIMIT, LONG, TEXT, check, expect, expect_compressed, url

TLS = ssl.create_default_context(cafile=AUTHORITY) if BASE.startswith("wss:") else None


@__import__("contextlib").asynccontextmanager
async def ready(name, path="/"):
    async with asyncio.timeout(LIMIT):
        async with connect(url(name, path), ssl=TLS, subprotocols=["interop"], max_size=2 << 20) as client:
            expect(await client.recv(), "welcome")
            expect(client.subprotocol, "interop")
            yield client


async def main():
    for name, message in (("text", TEXT), ("binary", BYTES), ("large", LARGE)):
        with check(name):
            async with ready(name) as client:
                await client.send(message)
                expect(await client.recv(), message)
    with check("fragments"):
        async with ready("fragments", "/fragments") as client:
            await client.send(["ab", "cd", "ef"])
            # It ends with an empty frame.
            expect(await client.recv(), "4 pieces, 6 bytes")
    with check("compression"):
        async with ready("compression") as client:
            await client.send(LONG)
            expect(await client.recv(), LONG)
            await client.send("/info")
            expect_compressed(json.loads(await client.recv()))
    with check("ping"):
        async with ready("ping") as client:
            await (await client.ping("hello?"))
    with check("pong"):
        async with ready("pong") as client:
            await client.send("/ping are you there?")
            expect(await client.recv(), "pong are you there?")
    with check("close"):
        async with ready("close") as client:
            await client.close(4002, "bye")
            expect((client.close_code, client.close_reason), (4002, "bye"))
    with check("closed"):
        async with ready("closed") as client:
            await client.send("/close 4001 enough")
            try:
                await client.recv()
                raise AssertionError("a message")
            except websockets.ConnectionClosed as end:
                expect((end.rcvd.code, end.rcvd.reason), (4001, "enough"))
    with check("refusal"):
        try:
            async with connect(url("refusal", "/refused"), ssl=TLS):
                raise AssertionError("it opened")
        except websockets.InvalidStatus as error:
            expect(error.response.status_code, 403)


asyncio.run(main())
