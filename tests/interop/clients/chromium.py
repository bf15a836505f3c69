"""Chromium, by WebDriver: the checks are the script of a page."""

import pathlib

from browser import chromium
from checks import BASE, ID, tell

with chromium() as driver:
    driver.set_script_timeout(120)
    # A page of the same host: Chromium asks before others may connect to this machine.
    driver.get(BASE.replace("ws", "http", 1) + "/health")
    clients = pathlib.Path(__file__).parent
    script = "".join((clients / name).read_text(encoding="utf-8") for name in ("common.js", "standard.js"))
    script += "\ninterop(WebSocket, arguments[0], arguments[1], common).then(arguments[2]);"
    for name, result, note in driver.execute_async_script(script, BASE, ID):
        tell(name, result, note)
