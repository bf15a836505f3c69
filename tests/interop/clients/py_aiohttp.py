"""The client of `aiohttp`."""

import asyncio
import contextlib
import json
import ssl

import aiohttp

from checks import AUTHORITY, BASE, BYTES, LARGE, LIMIT, LONG, TEXT, check, expect, expect_compressed, tell, url

TLS = ssl.create_default_context(cafile=AUTHORITY) if BASE.startswith("wss:") else None


@contextlib.asynccontextmanager
async def ready(name, path="/", **options):
    async with asyncio.timeout(LIMIT), aiohttp.ClientSession() as session:
        opening = session.ws_connect(url(name, path), ssl=TLS, protocols=["interop"], max_msg_size=2 << 20, **options)
        async with opening as client:
            expect(await client.receive_str(), "welcome")
            expect(client.protocol, "interop")
            yield client


async def main():
    with check("text"):
        async with ready("text") as client:
            await client.send_str(TEXT)
            expect(await client.receive_str(), TEXT)
    for name, message in (("binary", BYTES), ("large", LARGE)):
        with check(name):
            async with ready(name) as client:
                await client.send_bytes(message)
                expect(await client.receive_bytes(), message)
    tell("fragments", "none", "its interface has no fragments")
    with check("compression"):
        async with ready("compression", compress=15) as client:
            await client.send_str(LONG)
            expect(await client.receive_str(), LONG)
            await client.send_str("/info")
            expect_compressed(json.loads(await client.receive_str()))
    with check("ping"):
        async with ready("ping", autoping=False) as client:
            await client.ping(b"hello?")
            message = await client.receive()
            expect((message.type, bytes(message.data)), (aiohttp.WSMsgType.PONG, b"hello?"))
    with check("pong"):
        async with ready("pong") as client:
            await client.send_str("/ping are you there?")
            expect(await client.receive_str(), "pong are you there?")
    with check("close"):
        async with ready("close") as client:
            await client.close(code=4002, message=b"bye")
            expect(client.close_code, 4002)
    with check("closed"):
        async with ready("closed") as client:
            await client.send_str("/close 4001 enough")
            message = await client.receive()
            expect((message.type, message.data, message.extra), (aiohttp.WSMsgType.CLOSE, 4001, "enough"))
    with check("refusal"):
        try:
            async with aiohttp.ClientSession() as session, session.ws_connect(url("refusal", "/refused"), ssl=TLS):
                raise AssertionError("it opened")
        except aiohttp.WSServerHandshakeError as error:
            expect(error.status, 403)


asyncio.run(main())
