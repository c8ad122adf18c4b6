"""Every error of ours, split by who can mend it.

MooltiError
├── ConfigError              the operator: the file is wrong (exit code 1)
├── MappingError             the author of a mapper: it cannot do what it was asked
└── ProxyError               the client is answered with `status`, in its own dialect
    ├── BadRequest           400  the client: the body or a header is wrong
    ├── Unauthorized         401
    ├── Forbidden            403
    ├── NotFound             404
    ├── MethodNotAllowed     405
    ├── SlowClient           408
    ├── TooLarge             413
    ├── UnsupportedMedia     415
    ├── RateLimited          429  one of `limits:` has nothing left
    ├── InternalError        500  us
    ├── StoreUnavailable     503  the store that limits are counted in
    ├── Crowded              503  too many wait for a target with `concurrent:`
    └── UpstreamError        502  the target
        ├── EndpointMissing      404  it does not have this path
        ├── UpstreamBroken       502  it spoke garbage or broke off
        ├── UpstreamRefused      502  it does not accept our key
        ├── UpstreamUnreachable  502  no connection, nothing was sent
        ├── NotRunning           503  the server that we start for it does not run
        └── UpstreamTimeout      504
"""

from dataclasses import dataclass


class MooltiError(Exception):
    """The common base; `str()` of it may be shown to the user."""


@dataclass(frozen=True, slots=True)
class Problem:
    """One mistake in a configuration: where it is and what was expected."""

    message: str
    path: tuple[str | int, ...] = ()
    line: int = 0
    file: str = ""

    def __str__(self) -> str:
        where = f"{self.file}:{self.line}: " if self.line else f"{self.file}: " if self.file else ""
        path = ".".join(str(part) for part in self.path)
        return f"{where}{path}: {self.message}" if path else f"{where}{self.message}"


class ConfigError(MooltiError):
    """The configuration cannot be used; carries every problem found in one run."""

    def __init__(self, *problems: Problem) -> None:
        super().__init__("\n".join(str(problem) for problem in problems))
        self.problems = problems


class MappingError(MooltiError):
    """A mapper or prompter was found but cannot be used as it is."""


class ProxyError(MooltiError):
    """Ends a request; `str()` of it is the message the client reads.

    `param` names the field at fault, `code` is OpenAI's machine-readable code where one exists
    (platform.openai.com/docs/guides/error-codes); other dialects map `status` on their own. `retry_after` is
    after how many seconds it may be worth asking again, where that is known.
    """

    status = 500
    code: str | None = None
    retry_after: int | None = None

    def __init__(
        self, message: str, *, param: str | None = None, code: str | None = None, status: int | None = None
    ) -> None:
        super().__init__(message)
        self.param = param
        if code is not None:
            self.code = code
        if status is not None:
            self.status = status


class BadRequest(ProxyError):
    """The body, a header or a field of it cannot be used."""

    status = 400


class Unauthorized(ProxyError):
    """No key, or a wrong one."""

    status = 401
    code = "invalid_api_key"


class Forbidden(ProxyError):
    """The address or the key has no right to this."""

    status = 403


class NotFound(ProxyError):
    """No such target, or a path that the target does not map."""

    status = 404


class MethodNotAllowed(ProxyError):
    """A method that is never forwarded."""

    status = 405


class SlowClient(ProxyError):
    """The client stopped sending its body."""

    status = 408


class TooLarge(ProxyError):
    """The body is larger than `system.max_body`."""

    status = 413


class UnsupportedMedia(ProxyError):
    """A body that would have to be translated is compressed or not JSON."""

    status = 415


class RateLimited(ProxyError):
    """A limit of the key, the address or the model has nothing left; `retry_after` is None where it never will."""

    status = 429

    def __init__(self, message: str, retry_after: int | None, code: str | None = None) -> None:
        super().__init__(message, code=code)
        self.retry_after = retry_after


class InternalError(ProxyError):
    """A fault of ours or of a user's function; the log has the details, the client does not."""

    status = 500


class StoreUnavailable(ProxyError):
    """What limits and usage are counted in does not answer (and `system.store_failure` is `closed`)."""

    status = 503
    retry_after = 1


class Crowded(ProxyError):
    """The target answers as many requests as it may, and too many wait, or this one has waited too long."""

    status = 503
    retry_after = 5


class UpstreamError(ProxyError):
    """The target answered with an error of its own, or could not answer.

    `fault` is the word that it is counted under, where the target has not kept to HTTP or to its API.
    """

    status = 502
    fault = ""


class UpstreamBroken(UpstreamError):
    """The target's answer cannot be read, or ended too early."""

    fault = "broken"


class UpstreamRefused(UpstreamError):
    """The target does not accept the key that we hold for it."""

    fault = "credentials"


class EndpointMissing(UpstreamError):
    """The target says that it does not have this path; there may be another way to ask it."""

    status = 404


class UpstreamUnreachable(UpstreamError):
    """No connection: nothing of the request was sent."""

    fault = "unreachable"


class NotRunning(UpstreamError):
    """The target's server, which the proxy starts itself, does not run and is not waited for any longer."""

    status = 503
    fault = "not_running"


class UpstreamTimeout(UpstreamError):
    """The target was silent for longer than `timeout` allows."""

    status = 504
    fault = "timeout"
