"""Two people talk by the page of the example `chat`, in two tabs of Chromium; README.md tells more."""

import contextlib
import json
import pathlib
import re
import signal
import sys
import time
import urllib.parse

from processes import Process
from selenium.webdriver import Keys
from websockets.sync.client import connect

HERE = pathlib.Path(__file__).resolve().parent
sys.path.append(str(HERE / "clients"))
from browser import chromium  # noqa: E402

ROOT = HERE.parent.parent
BINARY = ROOT / "target" / "debug" / "examples" / "chat"
PICTURES = ROOT / "target" / "interop" / "chat"
LIMIT = 120
PATIENCE = 20
PHONE = (360, 640)
ROOM = "Straße & Küche"
LONG = "Donaudampfschifffahrtsgesellschaftskapitän" * 10

# What a page shows, read off its elements.
STATE = """
const texts = (selector) => [...document.querySelectorAll(selector)].map((one) => one.textContent);
return {
  state: document.getElementById("chat").dataset.state,
  room: document.getElementById("room").textContent,
  members: texts("#members bdi"),
  said: texts("#log .bubble p"),
  mine: texts("#log .mine .bubble p"),
  waiting: texts("#outbox .bubble p"),
  notices: texts("#log .notice"),
  trouble: document.getElementById("trouble").checkVisibility() ? texts("#trouble p").join() : "",
  tries,
  typed: document.getElementById("text").value,
  focus: document.activeElement.id,
  overflow: [...document.querySelectorAll("html, body, #scroll, #talk, header, footer, .bubble, .notice")]
    .filter((one) => one.scrollWidth > one.clientWidth).map((one) => one.outerHTML.slice(0, 80)),
  markup: document.querySelectorAll("#log b, #log img").length,
};
"""


class Tab:
    """A tab of the browser."""

    def __init__(self, driver, url):
        self.driver = driver
        driver.switch_to.new_window("tab")
        self.handle = driver.current_window_handle
        driver.get(url)

    def show(self):
        self.driver.switch_to.window(self.handle)

    def element(self, selector):
        self.show()
        return self.driver.find_element("css selector", selector)

    def type(self, *keys):
        self.element("#text").send_keys(*keys)

    def state(self):
        self.show()
        return self.driver.execute_script(STATE)

    def wait(self, what, found):
        """Waits until the state of the page is as wanted, and returns it."""
        end = time.monotonic() + PATIENCE
        while not found(state := self.state()):
            if time.monotonic() > end:
                raise AssertionError(f"{what}: the page has {json.dumps(state, ensure_ascii=False, indent=1)}")
            time.sleep(0.05)
        return state

    def picture(self, name, width=1100, height=760, scheme="light"):
        """Writes a picture of the tab, and checks that nothing is wider than its place."""
        self.show()
        metrics = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": False}
        self.driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", metrics)
        media = {"features": [{"name": "prefers-color-scheme", "value": scheme}]}
        self.driver.execute_cdp_cmd("Emulation.setEmulatedMedia", media)
        self.wait("the widths", lambda state: not state["overflow"])
        self.driver.save_screenshot(str(PICTURES / f"{name}.png"))


class Chat:
    """The server, which can be ended and started again."""

    def __init__(self, stack):
        self.process = None
        self.address = "127.0.0.1:0"
        stack.callback(self.stop)
        self.start()

    def start(self):
        self.process = Process("chat", [str(BINARY), self.address])
        self.address = self.process.wait_for(lambda line: line.startswith("listening on ")).split()[-1]

    def stop(self):
        if self.process:
            self.process.stop()

    def end(self, number):
        self.process.process.send_signal(number)
        code = self.process.process.wait(PATIENCE)
        wanted = 0 if number == signal.SIGTERM else -number
        assert code == wanted, f"the server ended with {code}"

    def url(self, scheme="http", **query):
        return f"{scheme}://{self.address}/?{urllib.parse.urlencode(query)}"


def check_entrance(driver, chat):
    """One comes in by the form, one by the address, and they see each other."""
    juergen = Tab(driver, chat.url(room=ROOM))
    name = juergen.element("input[name=nick]")
    for wrong in ("", "n" * 31):
        name.send_keys(wrong, Keys.ENTER)
        assert not name.get_property("validity")["valid"], wrong
        name.clear()
    name.send_keys("Jürgen")
    juergen.picture("entrance")
    name.send_keys(Keys.ENTER)
    juergen.wait("the room", lambda page: page["state"] == "connected")
    kobayashi = Tab(driver, chat.url(room=ROOM, nick="小林"))
    for tab in (juergen, kobayashi):
        page = tab.wait("the members", lambda page: sorted(page["members"]) == ["Jürgen", "小林"])
        assert (page["room"], page["focus"]) == (ROOM, "text"), page
    juergen.wait("the notice", lambda page: "小林 came in" in page["notices"])
    return juergen, kobayashi


def check_talk(juergen, kobayashi):
    """What one says the other sees, as text and within the page's width."""
    said = ["Grüße aus Köln!", "はじめまして", LONG, '<b>no</b> &amp; <img src=x onerror="alert(1)">', "two\nlines"]
    juergen.type(said[0], Keys.ENTER)
    kobayashi.wait("a greeting", lambda page: page["said"] == said[:1])
    kobayashi.type(said[1], Keys.ENTER)
    juergen.wait("an answer", lambda page: page["said"] == said[:2])
    juergen.type(said[2], Keys.ENTER, said[3], Keys.ENTER)
    juergen.type("two", Keys.SHIFT, Keys.ENTER, Keys.SHIFT, "lines", Keys.ENTER)
    for tab, mine in ((juergen, [0, 2, 3, 4]), (kobayashi, [1])):
        page = tab.wait("what was said", lambda page: page["said"] == said and not page["waiting"])
        assert page["mine"] == [said[at] for at in mine], page
        assert page["markup"] == 0, page
    return said


def check_third(chat, tabs, said):
    """A guest without a page comes, sends the same message again, and goes."""
    with connect(chat.url("ws", room=ROOM, nick="ليلى"), max_queue=None) as socket:
        for tab in tabs:
            tab.wait("a third", lambda page: "ليلى" in page["members"])
        for message in ({"text": "مرحبا", "id": "1"}, {"text": "مرحبا", "id": "1"}, {"text": "🦀"}):
            socket.send(json.dumps(message))
        said += ["مرحبا", "🦀"]
        for tab in tabs:
            tab.wait("what the third said", lambda page: page["said"] == said)
    for tab in tabs:
        tab.wait("the leave", lambda page: "ليلى left" in page["notices"] and len(page["members"]) == 2)


def check_restart(chat, juergen, kobayashi, said, number):
    """The server ends and comes again: both pages say so, and nothing that was typed is lost."""
    kobayashi.type("まだ書いて")
    chat.end(number)
    for tab in (juergen, kobayashi):
        tab.wait("the end", lambda page: page["state"] != "connected" and "Reconnecting in" in page["trouble"])
    juergen.type("Bist du noch da?", Keys.ENTER)
    juergen.wait("the outbox", lambda page: page["waiting"] == ["Bist du noch da?"])
    kobayashi.type("います")
    # The times between the tries grow, until somebody wants one now.
    page = juergen.wait("the back-off", lambda page: re.search(r" in ([3-9]|\d\d)\s", page["trouble"]))
    juergen.element("#now").click()
    juergen.wait("the button", lambda after: after["tries"] < page["tries"])
    for scheme in ("light", "dark"):
        juergen.picture(f"lost-{scheme}", scheme=scheme)
        kobayashi.picture(f"lost-narrow-{scheme}", *PHONE, scheme)
    chat.start()
    said.append("Bist du noch da?")
    for tab in (juergen, kobayashi):
        page = tab.wait("the room again", lambda page: len(page["members"]) == 2 and page["said"] == said)
        assert (page["state"], page["trouble"], page["waiting"]) == ("connected", "", []), page
        assert "You are connected again." in page["notices"], page
    assert page["typed"] == "まだ書いています", page
    kobayashi.type(Keys.ENTER)
    said.append("まだ書いています")
    for tab in (juergen, kobayashi):
        tab.wait("the messages again", lambda page: page["said"] == said and not page["typed"])


def check_reload(tab, said):
    """A page that is loaded again has what was said since the server began, and the draft."""
    tab.type("später")
    tab.driver.refresh()
    page = tab.wait("the page again", lambda page: page["state"] == "connected" and page["said"] == said)
    assert page["typed"] == "später" and "Bist du noch da?" in page["mine"], page


def check_log(driver):
    """The browser has nothing to complain of but that the server was away."""
    for entry in driver.get_log("browser"):
        assert "ERR_CONNECTION_REFUSED" in entry["message"], entry


def main():
    PICTURES.mkdir(parents=True, exist_ok=True)
    started = time.monotonic()
    with contextlib.ExitStack() as stack:
        chat = Chat(stack)
        driver = stack.enter_context(chromium())
        juergen, kobayashi = tabs = check_entrance(driver, chat)
        said = check_talk(juergen, kobayashi)
        check_third(chat, tabs, said)
        for scheme in ("light", "dark"):
            juergen.picture(f"wide-{scheme}", scheme=scheme)
            kobayashi.picture(f"narrow-{scheme}", *PHONE, scheme)
        for number in (signal.SIGTERM, signal.SIGKILL):
            check_restart(chat, juergen, kobayashi, said, number)
        check_reload(juergen, said[-2:])
        check_log(driver)
    print(f"the page of the chat is in order; {time.monotonic() - started:.0f} s, pictures in {PICTURES}")


def late(*_):
    raise TimeoutError(f"the checks of the chat take longer than {LIMIT} s")


signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))
signal.signal(signal.SIGALRM, late)
signal.alarm(LIMIT)
main()
