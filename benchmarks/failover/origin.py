"""The origin behind both pairs: `/live` is not to be stored, `/slow` takes up to 10 ms, `/fill` is 1 MB."""

import asyncio
import random

SMALL = b"from the origin"
LARGE = bytes(1_000_000)


async def serve(reader, writer):
    try:
        while True:
            head = await reader.readuntil(b"\r\n\r\n")
            rule = b"no-store" if b"/live" in head else b"max-age=3600"
            if b"/slow" in head:
                await asyncio.sleep(random.uniform(0, 0.01))
            body = LARGE if b"/fill" in head else SMALL
            writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\nCache-Control: %s\r\n\r\n" % (len(body), rule))
            writer.write(body)
            await writer.drain()
    except (OSError, asyncio.IncompleteReadError):
        writer.close()


async def main():
    await (await asyncio.start_server(serve, "0.0.0.0", 8080)).serve_forever()


if __name__ == "__main__":
    asyncio.run(main())
