"""`POST /api/generate`: requests.

With `raw` a prompt is continued as it is; with `suffix` the model's own template for that is used. Otherwise the prompt
is what a user says, and the server writes it into the template of a conversation: the neutral form of such a request is
a conversation.
"""

from functools import partial
from typing import Any

from mooltiproxy.errors import BadRequest
from mooltiproxy.mapping.dialect import Config, Endpoint, Written
from mooltiproxy.mapping.fields import Fields
from mooltiproxy.mapping.forms import Conversation, Form
from mooltiproxy.mapping.model_names import required_model
from mooltiproxy.mapping.neutral import NOWHERE, Asked, Part, Request, Text, Turn

from ..openai.rendering import rendered
from .common import PLACES, read_common, write_common
from .lines import GENERATE, loaded, read_answer, write_answer
from .messages import MessageWriter, read_images
from .stream import Reader, Writer


def read_request(body: Any, asked: Asked = NOWHERE) -> Request:
    """The neutral form of a client's request; raises BadRequest that names the field at fault, Answered for no prompt:
    that would load or unload a model."""
    fields = Fields(body)
    request = Request(model=fields.text("model"))
    prompt, system, suffix = fields.text("prompt") or "", fields.text("system"), fields.text("suffix")
    images = read_images(fields)
    raw = _read_raw(fields, system)
    if raw or suffix:
        _refuse_images(fields, images)
        request.prompt = prompt
        # A server that gets a raw prompt does not look at the suffix.
        request.extra.update({"suffix": suffix} if raw and suffix else {})
        request.suffix = None if raw else suffix
    else:
        request.turns = _turns(system, prompt, images)
    read_common(fields, request)
    request.extra.update(fields.leftovers())
    if not (prompt or suffix or images):
        raise loaded(GENERATE, request)
    return request


def _read_raw(fields: Fields, system: str | None) -> bool:
    """`raw`; refuses with it, as the API does, and without it what is made for one model's template or tokenizer."""
    raw, template, context = fields.flag("raw") or False, fields.text("template"), fields.items("context")
    if raw and (template or system or context):
        raise fields.wrong("raw", "a request without template, system and context beside it")
    if template:
        raise fields.wrong("template", "nothing: the target writes its own. Send the whole prompt with raw instead")
    if context:
        raise fields.wrong(
            "context", "nothing: it holds the tokens of another model. Send messages to /api/chat instead"
        )
    return raw


def _refuse_images(fields: Fields, images: list[Part]) -> None:
    if images:
        raise fields.wrong("images", "none beside raw or suffix: a bare prompt cannot hold them")


def _turns(system: str | None, prompt: str, images: list[Part]) -> list[Turn]:
    user = Turn("user", [*images, *([Text(prompt)] if prompt else [])])
    return [Turn("system", [Text(system)]), user] if system else [user]


def write_request(request: Request, config: Config) -> Written:
    """A request for an Ollama server; raises BadRequest for what it cannot be asked."""
    dropped: list[str] = []
    body: dict[str, Any] = {"model": required_model(request.model)}
    if request.prompt is None and config.get("renders_chats"):
        body.update(prompt=rendered(request, config, dropped), raw=True)
    elif request.prompt is None:
        body.update(_write_turns(request, dropped))
    elif request.suffix:
        body.update(prompt=request.prompt, suffix=request.suffix)
    else:
        body.update(prompt=request.prompt, raw=True)
    if request.tools and request.spoken is None:
        raise BadRequest("tools: this target's text completions know no tools", param="tools")
    body.update(write_common(request, dropped))
    return Written(body, tuple(dropped))


def _write_turns(request: Request, dropped: list[str]) -> dict[str, Any]:
    """A conversation of one question, with or without words of the system before it; raises BadRequest."""
    messages = MessageWriter(dropped).write(request.turns)
    system = messages.pop(0)["content"] if messages and messages[0]["role"] == "system" else None
    if len(messages) != 1 or messages[0]["role"] != "user":
        raise BadRequest("this endpoint of the target takes a prompt, not messages", param="messages")
    images = {"images": messages[0]["images"]} if "images" in messages[0] else {}
    return {"prompt": messages[0]["content"], **({"system": system} if system else {}), **images}


endpoint = Endpoint(
    kind="text",
    name="generate",
    paths=("/api/generate",),
    read_request=read_request,
    write_request=write_request,
    read_answer=partial(read_answer, GENERATE),
    write_answer=partial(write_answer, GENERATE),
    stream_reader=partial(Reader, GENERATE),
    stream_writer=partial(Writer, GENERATE),
    framing="ndjson",
    keepalive=b"",
    takes_image_urls=False,
    documents="text",
    form=Form(
        places=PLACES,
        own="options",
        conversation=Conversation(messages="prompt", system="system", takes_messages=False),
        bare="raw",
    ),
)
