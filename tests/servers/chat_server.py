"""A server of OpenAI's chat completions and of nothing else, as a process: `python -m tests.servers.chat_server PORT
SECONDS`, of which it is loading for the first SECONDS."""

import asyncio
import sys
import time

from tests.servers.openai_chat import openai_chat
from tests.servers.scripted import Peer, answer


async def main(port: int, load_time: float) -> None:
    """Serve until it is killed."""
    ready = time.monotonic() + load_time

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        peer = Peer(reader, writer)
        while (received := await peer.request()) is not None:
            if received.line.startswith("GET /health "):
                await peer.send(answer(status="200 OK" if time.monotonic() > ready else "503 Loading"))
            else:
                await openai_chat(peer, received)
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", port)
    await server.serve_forever()


if __name__ == "__main__":
    asyncio.run(main(int(sys.argv[1]), float(sys.argv[2])))
