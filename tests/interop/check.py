"""Runs the clients against the server, and the recipes of docs/deployment.md; README.md tells how."""

import concurrent.futures
import contextlib
import json
import os
import pathlib
import platform
import re
import shutil
import signal
import socket
import ssl
import subprocess
import sys
import tempfile
import time

from processes import Process

HERE = pathlib.Path(__file__).resolve().parent
ROOT = HERE.parent.parent
WORK = ROOT / "target" / "interop"
CLIENTS = HERE / "clients"
PYTHON = WORK / "venv" / "bin" / "python"
NODE = WORK / "npm" / "node_modules" / ".bin" / "node"
LIMIT = 180

CHECKS = {
    "text": "text",
    "binary": "binary",
    "large": "1 MiB",
    "fragments": "fragments",
    "compression": "compression",
    "ping": "ping by the client",
    "pong": "ping by the server",
    "close": "close by the client",
    "closed": "close by the server",
    "refusal": "refusal",
}

# Each client: its command, how its version is found, and what it has no means for.
STANDARD = {"fragments", "ping"}
CLIENT_TABLE = {
    "java.net.http": (["java", CLIENTS / "Client.java"], ["java", "-version"], {"compression"}),
    "Python websockets": ([PYTHON, CLIENTS / "py_websockets.py"], "websockets", set()),
    "Python aiohttp": ([PYTHON, CLIENTS / "py_aiohttp.py"], "aiohttp", {"fragments"}),
    "Python websocket-client": ([PYTHON, CLIENTS / "py_websocket_client.py"], "websocket-client", {"compression"}),
    "Python wsproto": ([PYTHON, CLIENTS / "py_wsproto.py"], "wsproto", set()),
    "libcurl (by curl_cffi)": ([PYTHON, CLIENTS / "py_curl.py"], [PYTHON, "-c", "import curl_cffi; print(curl_cffi.Curl().version().decode())"], {"compression"}),
    "node ws": ([NODE, CLIENTS / "node_ws.js"], "ws/package.json", set()),
    "node undici": ([NODE, CLIENTS / "node_standard.js", "undici"], "undici/package.json", STANDARD),
    "node, built in": ([NODE, CLIENTS / "node_standard.js", "builtin"], [NODE, "--version"], STANDARD),
    "Perl Mojo::UserAgent": (["/usr/bin/perl", CLIENTS / "mojo.pl"], "Mojolicious", set()),
    "Perl AnyEvent::WebSocket::Client": (
        ["/usr/bin/perl", CLIENTS / "anyevent.pl"],
        "AnyEvent::WebSocket::Client",
        {"fragments", "compression"},
    ),
    "Perl Protocol::WebSocket": (
        ["/usr/bin/perl", CLIENTS / "protocol_websocket.pl"],
        "Protocol::WebSocket",
        {"compression"},
    ),
    "libwebsockets": ([WORK / "lws"], ["dpkg-query", "-W", "-f", "${Version}", "libwebsockets-dev"], set()),
    "Chromium": ([PYTHON, CLIENTS / "chromium.py"], ["/usr/bin/chromium", "--no-sandbox", "--version"], STANDARD),
}

failures = []


def fail(text):
    failures.append(text)
    print(f"FAILED: {text}", file=sys.stderr, flush=True)


def version_of(source):
    """What a client or a proxy says that it is."""
    if isinstance(source, str) and source.endswith("package.json"):
        return json.loads((WORK / "npm" / "node_modules" / source).read_text())["version"]
    if isinstance(source, str) and ("::" in source or source == "Mojolicious"):
        source = ["/usr/bin/perl", f"-M{source}", "-e", f"print {source}->VERSION"]
    elif isinstance(source, str):
        code = f"import importlib.metadata; print(importlib.metadata.version({source!r}))"
        source = [PYTHON, "-c", code]
    done = subprocess.run(source, capture_output=True, text=True, timeout=60, check=True)
    found = re.search(r"\d+(\.\w+)+", done.stdout + done.stderr)
    return found[0] if found else "unknown"


def free_ports(count):
    sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    ports = [one.getsockname()[1] for one in sockets]
    for one in sockets:
        one.close()
    return ports


def wait_for_port(process, port):
    end = time.monotonic() + 15
    while time.monotonic() < end and process.process.poll() is None:
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
            return
        time.sleep(0.05)
    raise RuntimeError(f"{process.name} does not listen; " + " | ".join(process.lines[-20:]))


def recipe(name, replaced):
    """A block of the guide; each text in `replaced` has to occur in it."""
    guide = (ROOT / "docs" / "deployment.md").read_text(encoding="utf-8")
    found = re.search(rf"<!-- recipe: {re.escape(name)} -->\n```\w*\n(.*?)```", guide, re.S)
    if not found:
        raise RuntimeError(f"docs/deployment.md has no recipe {name}")
    text = found[1]
    return with_replaced(name, text, replaced)


def with_replaced(name, text, replaced):
    """The text with other parts; each text in `replaced` has to occur in it."""
    for old, new in replaced.items():
        if old not in text:
            raise RuntimeError(f"the recipe {name} has no {old!r}")
        text = text.replace(old, str(new))
    return text


def make_certificate(directory):
    """A certificate and its key, and both in one file, as HAProxy wants them."""
    chain, key, both = (directory / name for name in ("chat.pem", "chat.key", "both.pem"))
    command = ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"]
    command += ["-keyout", key, "-out", chain, "-days", "30", "-subj", "/CN=localhost"]
    command += ["-addext", "subjectAltName=DNS:localhost,IP:127.0.0.1"]
    subprocess.run(command, check=True, capture_output=True, timeout=60)
    both.write_text(chain.read_text() + key.read_text())
    return chain, key, both


class World:
    """The server, and the proxies in front of it."""

    def __init__(self, stack):
        self.stack = stack
        self.directory = pathlib.Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="wsloop-interop-")))
        self.chain, self.key, self.both = make_certificate(self.directory)
        binary = ROOT / "target" / "debug" / "examples" / "interop"
        self.server = self.start("the server", [binary, self.directory, self.chain, self.key])
        self.ports = json.loads(self.server.wait_for(lambda line: line.startswith("{")))
        # Where clients connect: the route's name, the scheme, and the port.
        self.routes = {"plain": ("ws", self.ports["plain"]), "TLS": ("wss", self.ports["tls"])}
        self.start_nginx()
        self.start_haproxy()
        self.start_caddy()

    def start(self, name, command, **options):
        process = Process(name, [str(part) for part in command], **options)
        self.stack.callback(process.stop)
        return process

    def start_nginx(self):
        secure, plain, over_tcp, stream, stream_tls = free_ports(5)
        temp = "".join(
            f"{name}_temp_path {self.directory}/nginx-{name};\n"
            for name in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
        )
        http = recipe(
            "nginx",
            {
                "unix:/run/chat/http.sock": f"unix:{self.directory}/http.sock",
                # The same server without TLS as well.
                "listen 443 ssl": f"listen 127.0.0.1:{plain}; listen 127.0.0.1:{secure} ssl",
                "/etc/ssl/chat.pem": self.chain,
                "/etc/ssl/chat.key": self.key,
                "chat.example": "localhost",
            },
        )
        # Once more for a server that listens on TCP; `map` stays the one above.
        tcp = with_replaced(
            "nginx",
            http[http.index("upstream chat") :],
            {
                "upstream chat": "upstream chat_tcp",
                "http://chat;": "http://chat_tcp;",
                f"unix:{self.directory}/http.sock": f"127.0.0.1:{self.ports['plain']}",
                f"listen 127.0.0.1:{plain}; listen 127.0.0.1:{secure} ssl": f"listen 127.0.0.1:{over_tcp} ssl",
            },
        )
        through = recipe(
            "nginx-stream",
            {
                "listen 80": f"listen 127.0.0.1:{stream}",
                "listen 443": f"listen 127.0.0.1:{stream_tls}",
                "/run/chat/proxy.sock": f"{self.directory}/proxy.sock",
                "127.0.0.1:9003": f"127.0.0.1:{self.ports['proxy_tls']}",
            },
        )
        config = self.directory / "nginx.conf"
        config.write_text(
            "user root;\ndaemon off;\nworker_processes 1;\n"
            "load_module /usr/lib/nginx/modules/ngx_stream_module.so;\n"
            f"error_log {self.directory}/nginx.log;\npid {self.directory}/nginx.pid;\nevents {{}}\n"
            f"http {{\naccess_log off;\n{temp}{http}{tcp}}}\nstream {{\n{through}}}\n"
        )
        nginx = self.start("nginx", ["/usr/sbin/nginx", "-e", self.directory / "nginx.log", "-c", config])
        wait_for_port(nginx, stream_tls)
        self.routes["nginx"] = ("wss", secure)
        self.routes["nginx, plain, by header over a Unix socket"] = ("ws", plain)
        self.routes["nginx, TLS, by header over a Unix socket"] = ("wss", secure)
        self.routes["nginx, TLS, by header over TCP"] = ("wss", over_tcp)
        self.routes["nginx, PROXY version 1 over a Unix socket"] = ("ws", stream)
        self.routes["nginx, PROXY version 1 over TCP before TLS"] = ("wss", stream_tls)

    def start_haproxy(self):
        plain, secure, over_unix, proxy_tls, proxy = free_ports(5)
        by_header = recipe(
            "haproxy",
            {
                "bind :80": f"bind 127.0.0.1:{plain}",
                "bind :443": f"bind 127.0.0.1:{secure}",
                "/etc/haproxy/chat.pem": self.both,
                "127.0.0.1:9001": f"127.0.0.1:{self.ports['plain']}",
            },
        )
        # Once more for a server that listens on a Unix socket.
        unix = with_replaced(
            "haproxy",
            by_header[by_header.index("frontend chat") :],
            {
                "frontend chat": "frontend unix",
                "backend chat\n": "backend unix\n",
                f"bind 127.0.0.1:{plain}": f"bind 127.0.0.1:{over_unix}",
                f"    bind 127.0.0.1:{secure} ssl crt {self.both}\n": "",
                f"127.0.0.1:{self.ports['plain']}": f"unix@{self.directory}/http.sock",
            },
        )
        by_proxy = recipe(
            "haproxy-proxy",
            {
                "bind :80": f"bind 127.0.0.1:{proxy}",
                "bind :443": f"bind 127.0.0.1:{proxy_tls}",
                "/etc/haproxy/chat.pem": self.both,
                "/run/chat/proxy.sock": f"{self.directory}/proxy.sock",
                "127.0.0.1:9002": f"127.0.0.1:{self.ports['proxy']}",
            },
        )
        config = self.directory / "haproxy.cfg"
        stats = f"global\n    stats socket {self.directory}/haproxy.sock\n"
        config.write_text(stats + by_header + unix + by_proxy)
        haproxy = self.start("HAProxy", ["/usr/sbin/haproxy", "-db", "-f", config])
        wait_for_port(haproxy, proxy)
        self.routes["HAProxy"] = ("wss", secure)
        self.routes["HAProxy, plain, by header over TCP"] = ("ws", plain)
        self.routes["HAProxy, TLS, by header over TCP"] = ("wss", secure)
        self.routes["HAProxy, plain, by header over a Unix socket"] = ("ws", over_unix)
        self.routes["HAProxy, TLS, PROXY version 2 over a Unix socket"] = ("wss", proxy_tls)
        self.routes["HAProxy, plain, PROXY version 1 over TCP"] = ("ws", proxy)

    def start_caddy(self):
        plain, secure, over_tcp, admin = free_ports(4)
        site = recipe("caddy", {"unix//run/chat/http.sock": f"unix/{self.directory}/http.sock"})
        body = site.removeprefix("chat.example ")
        if body == site:
            raise RuntimeError("the recipe caddy does not begin with its site")
        config = self.directory / "Caddyfile"
        with_tls = body.replace("{\n", f"{{\n    tls {self.chain} {self.key}\n", 1)
        config.write_text(
            f"{{\n    admin 127.0.0.1:{admin}\n    auto_https disable_redirects\n    storage file_system {self.directory}/caddy\n}}\n"
            f"http://localhost:{plain} {body}\nhttps://localhost:{secure} {with_tls}\n"
            + f"https://localhost:{over_tcp} {with_tls}".replace(
                f"unix/{self.directory}/http.sock", f"127.0.0.1:{self.ports['plain']}"
            )
        )
        environment = os.environ | {"HOME": str(self.directory), "XDG_CONFIG_HOME": str(self.directory)}
        command = ["/usr/bin/caddy", "run", "--config", config, "--adapter", "caddyfile"]
        caddy = self.start("Caddy", command, env=environment)
        wait_for_port(caddy, secure)
        self.routes["Caddy, plain, by header over a Unix socket"] = ("ws", plain)
        self.routes["Caddy, TLS, by header over a Unix socket"] = ("wss", secure)
        self.routes["Caddy, TLS, by header over TCP"] = ("wss", over_tcp)


def run_client(world, name, route):
    """Runs one client on one route; returns its results by check."""
    command, _, lacks = CLIENT_TABLE[name]
    scheme, port = world.routes[route]
    identity = f"{name}-{route}".replace(" ", "-").replace(",", "")
    identity = re.sub(r"[^\w.-]", "", identity)
    command = [*command, f"{scheme}://localhost:{port}", world.chain, identity]
    environment = os.environ | {
        "NODE_PATH": str(WORK / "npm" / "node_modules"),
        "NODE_EXTRA_CA_CERTS": str(world.chain),
        "PYTHONDONTWRITEBYTECODE": "1",
    }
    try:
        done = subprocess.run(
            [str(part) for part in command], capture_output=True, text=True, timeout=LIMIT, env=environment, check=False
        )
        output, errors = done.stdout, done.stderr
    except subprocess.TimeoutExpired as late:
        output, errors = (late.stdout or b"").decode(), "it does not end"
    results = {}
    for line in output.splitlines():
        check, result, note = (line.split("\t") + ["", ""])[:3]
        results[check] = (result, note)
    for check in CHECKS:
        result, note = results.setdefault(check, ("none", ""))
        wanted = "none" if check in lacks else "yes"
        if result != wanted:
            fail(f"{name}, {route}, {check}: {result} {note} {errors.strip()[-300:]}")
    # The server has its own word on how connections ended.
    for line in (
        f'end {identity}.close 4002 "bye" Peer',
        f'end {identity}.closed 4001 "enough" Local',
        f"refused {identity}.refusal",
    ):
        try:
            world.server.wait_for(lambda found, line=line: found == line)
        except RuntimeError:
            seen = [found for found in world.server.lines if identity in found]
            fail(f"{name}, {route}: the server has no line {line!r}, but {seen}")
    return results


def ask(world, route, source, headers=()):
    """Opens a WebSocket from an address, and returns what the server knows of it."""
    scheme, port = world.routes[route]
    with contextlib.ExitStack() as stack:
        stream = stack.enter_context(socket.create_connection(("127.0.0.1", port), 10, (source, 0)))
        if scheme == "wss":
            context = ssl.create_default_context(cafile=world.chain)
            stream = stack.enter_context(context.wrap_socket(stream, server_hostname="localhost"))
        lines = [
            f"GET /chat HTTP/1.1\r\nHost: localhost:{port}\r\nUpgrade: websocket\r\nConnection: Upgrade",
            "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13",
            *headers,
        ]
        stream.sendall(("\r\n".join(lines) + "\r\n\r\n").encode())
        got = b""
        sent = False
        while b'"subprotocol"' not in got:
            if b"\r\n\r\n" in got and not got.startswith(b"HTTP/1.1 101"):
                raise RuntimeError(f"{got[:200]!r}")
            if b"\r\n\r\n" in got and not sent:
                # A masked text frame with the mask 0: "/info".
                stream.sendall(b"\x81\x85\0\0\0\0/info")
                sent = True
            more = stream.recv(65536)
            if not more:
                raise RuntimeError(f"{got[:200]!r}")
            got += more
        return json.loads(got[got.index(b'{"deflate"') :].decode())


def check_addresses(world):
    """Each route tells the client's own address and scheme, whatever the client writes."""
    rows = []
    spoofs = ["X-Forwarded-For: 6.6.6.6", "X-Real-IP: 6.6.6.6", "Forwarded: for=6.6.6.6", "X-Forwarded-Proto: gopher"]
    for route, (scheme, port) in world.routes.items():
        if route in ("plain", "TLS", "nginx", "HAProxy"):
            continue
        own = f"Origin: {'https' if scheme == 'wss' else 'http'}://localhost:{port}"
        for headers in ((), [own, *spoofs]):
            try:
                info = ask(world, route, "127.0.0.9", headers)
            except (RuntimeError, OSError) as error:
                fail(f"{route}: {error}")
                continue
            address = info["address"].rsplit(":", 1)[0]
            wanted = ("127.0.0.9", scheme == "wss", f"{scheme}://localhost:{port}/chat")
            found = (address, info["tls"], info["uri"])
            if found != wanted:
                fail(f"{route} {headers}: {found} and not {wanted}")
            has_port = not info["address"].endswith(":0")
        # The page of another host, and that of the same host without TLS where there is TLS.
        others = [f"https://evil.test:{port}", f"https://localhost:{port + 1}"]
        others += [f"http://localhost:{port}"] if scheme == "wss" else []
        for origin in others:
            try:
                ask(world, route, "127.0.0.9", [f"Origin: {origin}", *spoofs])
                fail(f"{route}: the origin {origin} is let in")
            except RuntimeError as error:
                if "403" not in str(error):
                    fail(f"{route}, {origin}: {error}")
        rows.append((route, has_port))
    # At a place for proxies nobody else gets in.
    for port in (world.ports["proxy"], world.ports["proxy_tls"]):
        with socket.create_connection(("127.0.0.1", port), 10, ("127.0.0.9", 0)) as stream:
            answer = b""
            with contextlib.suppress(ConnectionError):
                stream.sendall(b"PROXY TCP4 6.6.6.6 127.0.0.1 1 2\r\n")
                answer = stream.recv(100)
            if b" 101 " in answer or (answer and b" 403 " not in answer):
                fail(f"a stranger at a place for proxies gets {answer!r}")
    return rows


def check_health(world):
    """HAProxy's health checks, with the header of the PROXY protocol and without, pass."""
    end = time.monotonic() + 20
    while True:
        with socket.socket(socket.AF_UNIX) as stats:
            stats.connect(f"{world.directory}/haproxy.sock")
            stats.sendall(b"show stat\n")
            text = b""
            while more := stats.recv(65536):
                text += more
        rows = [row.split(",") for row in text.decode().splitlines() if row and not row.startswith("#")]
        # Columns: proxy, server, ..., 17 status, ..., 36 check_status.
        found = {row[0]: (row[17], row[36]) for row in rows if row[1] == "one"}
        checked = [found.get("chat"), found.get("chat-tls")]
        if all(one and one == ("UP", "L7OK") for one in checked):
            return
        if time.monotonic() > end:
            return fail(f"HAProxy's health checks: {found}")
        time.sleep(0.2)


def check_systemd(world):
    """The units are in order, and sockets that are handed over are served."""
    binary = ROOT / "target" / "debug" / "examples" / "conformance"
    units = world.directory / "units"
    units.mkdir()
    sockets = ["chat.socket", "chat-proxy.socket"]
    for name in sockets:
        (units / name).write_text(recipe(name, {}))
    (units / "chat.service").write_text(recipe("chat.service", {"/usr/local/bin/chat": binary}))
    names = [units / name for name in [*sockets, "chat.service"]]
    done = subprocess.run(
        ["systemd-analyze", "verify", "--man=no", *names], capture_output=True, text=True, timeout=60, check=False
    )
    if done.returncode or "chat" in done.stderr:
        fail(f"systemd-analyze verify: {done.stderr}")
    (port,) = free_ports(1)
    words = re.search(r"^ExecStart=(.*)$", recipe("chat.service", {"/usr/local/bin/chat": binary}), re.M)[1].split()
    activated = world.start("systemd-socket-activate", ["systemd-socket-activate", "-l", f"127.0.0.1:{port}", *words])
    wait_for_line_of(activated)
    if not echoes(port):
        fail("a socket that systemd hands over is not served")


def wait_for_line_of(process):
    process.wait_for(lambda line: "Listening on" in line)


def echoes(port):
    with socket.create_connection(("127.0.0.1", port), 10) as stream:
        stream.sendall(
            b"GET / HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
            b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n"
            b"\x81\x85\0\0\0\0hello"
        )
        got = b""
        while b"\x81\x05hello" not in got:
            more = stream.recv(65536)
            if not more:
                return False
            got += more
        return True


def check_container(world):
    """What the image holds is enough to run, as the user that it names, and SIGTERM drains it."""
    text = recipe("Containerfile", {})
    lines = dict(re.findall(r"^(\w+) (.*)$", text, re.M))
    source, target = lines["COPY"].split()
    root = world.directory / "container"
    root.mkdir()
    root.chmod(0o755)
    world.directory.chmod(0o711)
    (static,) = (WORK / "static").glob("*/debug/examples/conformance")
    shutil.copy(static, root / target.lstrip("/"))
    command, address = json.loads(lines["ENTRYPOINT"])
    (port,) = free_ports(1)
    address = address.replace("0.0.0.0", "127.0.0.1").replace(lines["EXPOSE"], str(port))
    contained = world.start("the container", ["chroot", f"--userspec={lines['USER']}", root, command, address])
    wait_for_port(contained, port)
    if not echoes(port):
        fail("what the container runs does not serve")
    contained.process.send_signal(getattr(signal, lines["STOPSIGNAL"]))
    try:
        if contained.process.wait(15) != 0:
            fail(f"the container ended with {contained.process.returncode}")
    except subprocess.TimeoutExpired:
        fail("the container does not end at SIGTERM")


def write_page(results, addresses):
    """docs/interop.md"""
    routes = ["plain", "TLS", "nginx", "HAProxy"]
    proxies = {
        "nginx": version_of(["/usr/sbin/nginx", "-v"]),
        "HAProxy": version_of(["/usr/sbin/haproxy", "-v"]),
        "Caddy": version_of(["dpkg-query", "-W", "-f", "${Version}", "caddy"]),
    }
    table = ["| client | version | " + " | ".join(CHECKS.values()) + " |", "|" + "---|" * (len(CHECKS) + 2)]
    notes, numbers = [], {}
    for name, (_, source, _) in CLIENT_TABLE.items():
        cells = []
        for check in CHECKS:
            all_results = {results[name, route][check][0] for route in routes}
            found = sorted({results[name, route][check][1] for route in routes} - {""})
            cell = {"yes": "yes", "none": "–"}.get("".join(all_results), "**no**")
            if cell == "yes" and found:
                for note in found:
                    if check == "refusal" and note.startswith("HS:"):
                        continue
                    if note not in numbers:
                        numbers[note] = len(numbers) + 1
                        notes.append(f"{numbers[note]}. {note[0].upper()}{note[1:]}.")
                    cell += f" ({numbers[note]})"
            cells.append(cell)
        table.append(f"| {name} | {version_of(source)} | " + " | ".join(cells) + " |")
    ways = ["| route | address | port | scheme and URI |", "|---|---|---|---|"]
    for route, has_port in addresses:
        ways.append(f"| {route} | correct | {'correct' if has_port else 'unknown'} | correct |")
    versions = ", ".join(f"{name} {version}" for name, version in proxies.items())
    page = f"""# Interoperation with clients and proxies

`tests/interop/run --write` writes this page. It runs every check below against a server built with wsloop, and is a
step of `.ci/run`. [tests/interop/README.md](../tests/interop/README.md) describes it.

## Clients

Each client ran every check that its API supports, over four routes: without TLS, with TLS, behind nginx and behind
HAProxy (both with TLS, and with the recipes of [deployment.md](deployment.md)). "yes": the check passed on all four.
"–": the client's API does not support it. The Python clients run on Python {platform.python_version()}.

{chr(10).join(table)}

{chr(10).join(notes)}

The checks, in the order of the columns: an echo of text with characters of one to four bytes; an echo of every byte
value; an echo of 1 MiB; an echo of a message in three frames; permessage-deflate is negotiated, and 200,000 equal
letters take less than 20,000 bytes on the wire; a pong returns a ping's payload, in both directions; the other side
receives the code and the reason of a close, and the server's `Disconnect` has them; the client reports a 403 as a
refusal.

With permessage-deflate, libwebsockets 4.1.6 (Debian 12) delivers an uncompressed message repeatedly, without end. So it
may hang with any server that does not compress short messages, which RFC 7692, 6 allows. For such clients set
`DeflateConfig::threshold(0)`, or leave compression off, as these clients do by default.

## Proxies

{versions}. A client at 127.0.0.9 connects over each route, once without forwarding
headers and once with its own `X-Forwarded-For`, `X-Real-IP`, `Forwarded` and `X-Forwarded-Proto`. Both times the server
sees the client's address and the requested URI. `origins(["self"])` accepts only a page of the same host and scheme.

{chr(10).join(ways)}

HAProxy's health checks pass with and without the header of the PROXY protocol (`LOCAL`). `systemd-analyze` verifies the
systemd units, and the server accepts connections on a socket of `systemd-socket-activate`. The container's program runs
in a `chroot` with the files and the user of its recipe, and shuts down cleanly on SIGTERM.
"""
    (ROOT / "docs" / "interop.md").write_text(page, encoding="utf-8")


def main():
    arguments = sys.argv[1:]
    write = "--write" in arguments
    wanted = [name for name in arguments if not name.startswith("-")]
    names = [name for name in CLIENT_TABLE if not wanted or any(part in name for part in wanted)]
    started = time.monotonic()
    with contextlib.ExitStack() as stack:
        world = World(stack)
        jobs = [(name, route) for name in names for route in ("plain", "TLS", "nginx", "HAProxy")]
        with concurrent.futures.ThreadPoolExecutor(3) as pool:
            found = pool.map(lambda job: run_client(world, *job), jobs)
            results = dict(zip(jobs, found, strict=True))
        addresses = []
        if not wanted:
            addresses = check_addresses(world)
            check_health(world)
            check_systemd(world)
            check_container(world)
    checks = sum(result == "yes" for one in results.values() for result, _ in one.values())
    print(f"{len(names)} clients, {len(addresses)} ways through proxies, {checks} checks passed, "
          f"{len(failures)} failed, in {time.monotonic() - started:.0f} s")
    if write and not wanted and not failures:
        write_page(results, addresses)
    sys.exit(bool(failures))


main()
