"""Streams, both ways: a token an event, the last one with the whole text."""

from collections.abc import Iterable
from typing import Any

from mooltiproxy.errors import UpstreamBroken
from mooltiproxy.mapping.gather import UNFINISHED
from mooltiproxy.mapping.neutral import Failure, Finish, Request, StreamEvent, TextDelta, Usage, UsageReport
from mooltiproxy.mapping.shortcut import VerbatimReader
from mooltiproxy.mapping.stops import StopCutter
from mooltiproxy.mapping.upstream_errors import failure_in

from ..openai.rendering import strips
from .answers import client_stop, read_finish, read_usage, write_details
from .probabilities import Probabilities, token_text
from .writing import all_stops


class Reader(VerbatimReader):
    """Reads a target's stream: text as it comes, but for what may still become a stop string."""

    wrapping = (
        rb'\{"index":\d+,"token":\{"id":\d+,"text":',
        rb',"logprob":-?\d+(?:\.\d+)?(?:[eE][-+]?\d+)?,"special":false\},"generated_text":null,"details":null\}',
    )

    def __init__(self, request: Request, *, strip: bool) -> None:
        self.done = False
        self._request = request
        self._cutter = StopCutter(all_stops(request))
        self.watched = self._cutter.firsts
        self._strip = strip
        self._echo = (request.prompt or "") if request.echo else ""
        self._over = False
        self._hears_marks = request.spoken is not None
        self._probabilities = Probabilities() if request.sampling.logprobs else None

    @property
    def verbatim(self) -> bool:
        """Whether the answer has begun and no stop string has."""
        return self._cutter.idle and not self._strip and not self._echo and self._probabilities is None

    def read(self, event: Any) -> list[StreamEvent]:
        """Neutral events of one parsed event; a text that is no JSON is passed over."""
        if self._over or not isinstance(event, dict):
            return []
        failure = failure_in(event) if "token" not in event or "error" in event else None
        if failure:
            self._over = True
            return [failure]
        is_last = isinstance(event.get("generated_text"), str) or bool(event.get("details"))
        events = self._text(token_text(event.get("token"), special=self._hears_marks and not is_last), event)
        if self._cutter.found is not None or is_last:
            self.done = not is_last
            events += self._finish(event.get("details"))
        return events

    def end(self) -> list[StreamEvent]:
        """A `Failure` where no event said that the answer is complete."""
        if self._over:
            return []
        self._over = True
        return [Failure(UNFINISHED)]

    def _text(self, text: str, event: dict[str, Any]) -> list[StreamEvent]:
        echo, self._echo = self._echo, ""
        if self._strip and text:
            text = text.lstrip()
            self._strip = not text
        if self._probabilities and text:
            self._probabilities.add(event, len(text))
        text = echo + self._cutter.feed(text)
        return [self._delta(text)] if text else []

    def _delta(self, text: str) -> TextDelta:
        return TextDelta(text, 0, self._probabilities.of(len(text)) if self._probabilities else None)

    def _finish(self, details: Any) -> list[StreamEvent]:
        """The end, as the server says it or because a stop string was found that it has missed."""
        self._over = True
        stop = self._cutter.found
        rest = "" if stop else self._cutter.flush()
        events: list[StreamEvent] = [self._delta(rest)] if rest else []
        events.append(Finish("stop" if stop else read_finish(details), client_stop(self._request, stop)))
        usage = read_usage(details, self._request)
        return [*events, UsageReport(usage)] if usage else events


def text_reader(request: Request) -> Reader:
    """A reader for one stream that answers a client's own prompt."""
    return Reader(request, strip=False)


def chat_reader(request: Request) -> Reader:
    """A reader for one stream in a conversation, without the whitespace that the template provokes."""
    return Reader(request, strip=strips(request))


class Writer:
    """Writes a client's stream: a token an event, the last one with the whole text and the details."""

    def __init__(self, request: Request) -> None:
        self._request = request
        self._texts: list[str] = []
        self._finish: Finish | None = None
        self._usage: Usage | None = None

    def write(self, events: Iterable[StreamEvent]) -> list[Any]:
        """An event for each piece of text; the end is kept for `end`, since counts may follow it."""
        written = []
        for event in events:
            if isinstance(event, UsageReport):
                self._usage = event.usage
            elif isinstance(event, Finish):
                self._finish = self._finish or event
            elif isinstance(event, TextDelta) and event.text and self._finish is None:
                self._texts.append(event.text)
                written.append(self._event(event.text, special=False))
        return written

    def end(self) -> list[Any]:
        """The last event, with the whole text; raises UpstreamBroken for an unfinished answer."""
        finish = self._finish
        if finish is None:
            raise UpstreamBroken(UNFINISHED)
        stop = finish.stop_string or ""
        text = self._request.repeats.get("inputs", "") + "".join(self._texts) + stop
        self._texts.append(stop)
        last = {**self._event(stop, special=not stop), "generated_text": text}
        if self._request.include_usage:
            input_length = (self._usage and self._usage.prompt) or 0
            last["details"] = {
                **write_details(finish.reason, finish.stop_string, self._usage),
                "input_length": input_length,
            }
        return [last]

    def _event(self, text: str, *, special: bool) -> dict[str, Any]:
        """Ids and probabilities of tokens are another model's affair: they are 0."""
        token = {"id": 0, "text": text, "logprob": 0.0, "special": special}
        return {"index": len(self._texts), "token": token, "generated_text": None, "details": None}
