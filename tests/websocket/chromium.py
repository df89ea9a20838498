"""Headless Chromium, by the commands of its developer tools."""

import asyncio
import base64
import json
import re
import subprocess

import harness

WAIT = 60
FLAGS = ["--headless=new", "--no-sandbox", "--remote-debugging-port=0", "--no-first-run",
         "--ignore-certificate-errors", "--disable-background-networking",
         "--window-size=800,600", "about:blank"]


class Browser:
    """Chromium, with one connection for the commands of all its pages."""

    def __init__(self, directory):
        self.process = subprocess.Popen(
            ["chromium", f"--user-data-dir={directory}", *FLAGS],
            stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
        for line in self.process.stderr:
            if found := re.search(r"DevTools listening on (ws://\S+)", line):
                self.url = found.group(1)
                break
        else:
            raise SystemExit("Chromium did not start")
        self.count, self.answers = 0, {}

    async def connect(self):
        from websockets.asyncio.client import connect

        # Its further output must not fill the pipe.
        asyncio.get_running_loop().run_in_executor(None, self.process.stderr.read)
        self.socket = await connect(self.url, max_size=None, compression=None)
        self.reading = asyncio.create_task(self._read())

    async def _read(self):
        async for message in self.socket:
            message = json.loads(message)
            if answer := self.answers.pop(message.get("id"), None):
                answer.set_result(message)

    async def command(self, method, session=None, **parameters):
        self.count += 1
        answer = self.answers[self.count] = asyncio.get_running_loop().create_future()
        message = {"id": self.count, "method": method, "params": parameters}
        if session:
            message["sessionId"] = session
        await self.socket.send(json.dumps(message))
        answer = await asyncio.wait_for(answer, WAIT)
        harness.check("result" in answer, f"{method}: {answer.get('error')}")
        return answer["result"]

    async def page(self, url):
        target = await self.command("Target.createTarget", url=url)
        attached = await self.command("Target.attachToTarget", flatten=True, **target)
        return Page(self, attached["sessionId"])

    async def end(self):
        await self.command("Browser.close")
        self.reading.cancel()
        await asyncio.to_thread(self.process.wait, WAIT)


class Page:
    def __init__(self, browser, session):
        self.browser, self.session = browser, session

    async def evaluate(self, expression):
        result = await self.browser.command("Runtime.evaluate", self.session,
                                            expression=expression, returnByValue=True)
        return result["result"].get("value")

    async def until(self, expression, wanted):
        """Waits until an expression has a value."""
        async def wait():
            while await self.evaluate(expression) != wanted:
                await asyncio.sleep(0.02)
        try:
            await asyncio.wait_for(wait(), WAIT)
        except asyncio.TimeoutError:
            found = await self.evaluate(expression)
            raise SystemExit(f"failed: {expression} is {found!r}, not {wanted!r}") from None

    async def lines(self):
        return await self.evaluate(
            "[...document.querySelectorAll('#lines li')].map(it => it.textContent)") or []

    async def shows(self, line, times=1):
        """Waits until the page shows a line so often."""
        async def wait():
            while (lines := await self.lines()).count(line) < times:
                await asyncio.sleep(0.02)
            harness.check(lines.count(line) == times, f"{times} of {line!r}: {lines}")
        try:
            await asyncio.wait_for(wait(), WAIT)
        except asyncio.TimeoutError:
            raise SystemExit(f"failed: no {line!r} among {await self.lines()}") from None

    async def says(self, line):
        """Types a line, and sends it by the key."""
        await self.evaluate("document.getElementById('line').focus()")
        await self.browser.command("Input.insertText", self.session, text=line)
        key = {"key": "Enter", "code": "Enter", "windowsVirtualKeyCode": 13, "text": "\r"}
        for kind in ["keyDown", "keyUp"]:
            await self.browser.command("Input.dispatchKeyEvent", self.session, type=kind, **key)

    async def picture(self, path):
        shot = await self.browser.command("Page.captureScreenshot", self.session)
        path.write_bytes(base64.b64decode(shot["data"]))
