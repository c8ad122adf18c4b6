"""`mooltiproxy logs`: what a model server says, asked of the proxy that runs it."""

from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass
from urllib.parse import quote

from mooltiproxy.running import CannotAsk, Proxy, asking, connection, message, refusal

PIECE = 65536
PATH = "/-/logs"
WHAT = "a log is"


class NoSuchLog(CannotAsk):
    """The proxy answers that there is no such log."""


@dataclass(frozen=True, slots=True)
class Wanted:
    """Whose log, a model's or a target's, how many of its lines (None: all), and whether those to come as well."""

    name: str
    lines: int | None = None
    follow: bool = False


def show_logs(proxy: Proxy, wanted: Wanted, write: Callable[[bytes], None]) -> None:
    """Write a log as it comes; raises CannotAsk that says what to do."""
    with asking(proxy, WHAT):
        try:
            _show(proxy, wanted, "model", write)
        except NoSuchLog:
            _show(proxy, wanted, "target", write)


def _show(proxy: Proxy, wanted: Wanted, kind: str, write: Callable[[bytes], None]) -> None:
    """The same where the name is one of a model or of a target; raises NoSuchLog where there is none."""
    query = f"{kind}={quote(wanted.name, safe='')}"
    query += "" if wanted.lines is None else f"&lines={wanted.lines}"
    query += "&follow=true" if wanted.follow else ""
    with closing(connection(proxy)) as there:
        there.request("GET", f"{PATH}?{query}", headers={"Authorization": f"Bearer {proxy.key}"})
        response = there.getresponse()
        if response.status == 404:
            raise NoSuchLog(f"{proxy.url} has no log of {wanted.name}: {message(response.read(PIECE))}")
        if response.status != 200:
            raise refusal(proxy, WHAT, response.status, response.read(PIECE))
        if wanted.follow and there.sock is not None:
            there.sock.settimeout(None)
        while piece := response.read1(PIECE):
            write(piece)
