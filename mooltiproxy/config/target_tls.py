"""`targets.*.tls`: whom a target's certificate must be signed by, and the certificate that it is shown."""

import ssl
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from voluptuous import Invalid, MultipleInvalid, Optional

from mooltiproxy.config.model import Target, TargetTLS
from mooltiproxy.config.shapes import Checked, Section
from mooltiproxy.config.validators import flag, text
from mooltiproxy.errors import ConfigError, Problem

_FILES = ("ca", "cert", "key")


def target_tls(folder: Path | None) -> Checked:
    """The section; its files are tried where `folder` is known."""
    section = Section(
        {
            Optional("ca", description="Authorities that sign its certificate, PEM (the system's)"): text,
            Optional("cert", description="Certificate that it is shown, with its chain, PEM (none)"): text,
            Optional("key", description="Its private key, PEM, without a password (in the same file)"): text,
            Optional("verify", description="false: whoever answers is believed to be the target (true)"): flag,
        }
    )
    return Checked(section, lambda values: _tried(values, folder))


def _tried(values: Mapping[str, Any], folder: Path | None) -> TargetTLS:
    files = {name: (folder or Path()) / values[name] for name in _FILES if name in values}
    found = TargetTLS(**files, verify=values.get("verify", True))
    if "key" in files and "cert" not in files:
        raise Invalid("expected `cert` beside it", ["key"])
    unreadable = [Invalid(f"this file cannot be read: {why}", [name]) for name, why in _reasons(files).items()]
    if unreadable:
        raise MultipleInvalid(unreadable)
    try:
        context_of(found)
    except (ssl.SSLError, ValueError) as error:
        reason = getattr(error, "reason", None) or "not PEM, or the key has a password"
        raise Invalid(f"these files cannot be used: {reason}") from None
    return found


def _reasons(files: Mapping[str, Path]) -> dict[str, str]:
    """Why files cannot be read, by their names; none for those that can."""
    reasons = {}
    for name, file in files.items():
        try:
            file.read_bytes()
        except OSError as error:
            reasons[name] = error.strerror or "unknown"
    return reasons


def context_of(tls: TargetTLS | None) -> ssl.SSLContext:
    """What connections to such a target are made with; raises OSError, SSLError, ValueError for files that cannot be
    used. Blocks."""
    context = ssl.create_default_context(cafile=tls.ca if tls else None)
    context.set_alpn_protocols(["http/1.1"])
    if tls is not None and tls.cert is not None:
        context.load_cert_chain(tls.cert, tls.key, password=_no_password)
    if tls is not None and not tls.verify:
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    return context


def contexts_of(targets: Mapping[str, Target]) -> dict[str, ssl.SSLContext]:
    """Those of the targets that have a section of their own, by name; raises ConfigError. Blocks."""
    found = {}
    for name, target in targets.items():
        if target.tls is not None:
            try:
                found[name] = context_of(target.tls)
            except (OSError, ValueError) as error:
                problem = Problem(f"its files cannot be used: {error}", ("targets", name, "tls"))
                raise ConfigError(problem) from error
    return found


def _no_password() -> str:
    raise ValueError("the key has a password")
