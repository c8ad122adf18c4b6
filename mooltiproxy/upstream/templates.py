"""Asks targets for the chat template of their model, for `template: target`: at first use, once until a reload."""

import asyncio

from mooltiproxy.config.model import Config, Target, Timeouts
from mooltiproxy.errors import UpstreamBroken
from mooltiproxy.mapping.chat_template import TargetTemplate
from mooltiproxy.upstream.fetch import get
from mooltiproxy.upstream.session import Origin, PooledSession

TIMEOUTS = Timeouts(connect=5.0, first_byte=10.0, idle=10.0, total=20.0)
MAX_BODY = 4 * 1024 * 1024


class TemplateFetcher:
    """Asks the targets of one configuration; requests that come meanwhile wait for the same answer."""

    def __init__(self, session: PooledSession, config: Config) -> None:
        self._session = session
        self._config = config
        self._asking: dict[str, asyncio.Lock] = {}

    async def fetch(self, template: TargetTemplate) -> None:
        """Let the template learn what its target tells; raises UpstreamError."""
        async with self._asking.setdefault(template.target, asyncio.Lock()):
            if template.is_known:
                return
            target = self._config.targets[template.target]
            answers = [await self._told(target, path) for path in template.paths]
            # A template takes tens of milliseconds to compile: others need not wait for that.
            await asyncio.to_thread(template.learn, answers)

    async def _told(self, target: Target, path: str) -> object:
        """The JSON at a path below the target's url, None where there is none."""
        origin = Origin.of_target(target)
        try:
            whole = await get(self._session, origin, origin.base + path, TIMEOUTS, MAX_BODY, fields=self._key(target))
        except UpstreamBroken:
            return None
        return whole.json() if whole.status == 200 else None

    def _key(self, target: Target) -> dict[str, str]:
        dialect = self._config.registry.dialects[target.speaks[0]] if target.speaks else None
        field, prefix = (dialect.key_field, dialect.key_prefix) if dialect else ("authorization", "Bearer ")
        return {field: prefix + target.key} if target.key else {}
