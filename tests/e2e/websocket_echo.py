"""A WebSocket echo and its client, on the websockets package.

    websocket_echo.py serve                    writes 'listening PORT'
    websocket_echo.py call HOST:PORT NAME      talks to NAME through the proxy at HOST:PORT; writes 'ok …' lines
"""

import asyncio
import sys

import websockets

LARGEST = 1 << 23


async def echo(socket, _path=None):
    async for message in socket:
        if message == "leave":
            await socket.close(4001, "as you wish")
            return
        await socket.send(message)


async def serve():
    server = await websockets.serve(echo, "127.0.0.1", 0, max_size=LARGEST)
    async with server:
        print(f"listening {server.sockets[0].getsockname()[1]}", flush=True)
        await asyncio.Future()


async def call(address, name):
    host, port = address.rsplit(":", 1)
    async with websockets.connect(f"ws://{name}/chat?room=1", host=host, port=int(port), max_size=LARGEST) as socket:
        await socket.send("grüß dich")
        assert await socket.recv() == "grüß dich"
        print("ok text")

        data = bytes(range(256)) * 8192
        await socket.send(data)
        assert await socket.recv() == data
        print("ok binary of 2 MiB")

        await asyncio.wait_for(await socket.ping(b"are you there"), 5)
        print("ok ping")

        for number in range(500):
            await socket.send(str(number))
        assert [await socket.recv() for _ in range(500)] == [str(number) for number in range(500)]
        print("ok 500 in order")

        await socket.send("leave")
        try:
            await socket.recv()
        except websockets.ConnectionClosed as closed:
            got = closed.rcvd
            assert got is not None and (got.code, got.reason) == (4001, "as you wish"), closed
        else:
            raise AssertionError("it did not close")
        print("ok close with a reason")


if __name__ == "__main__":
    match sys.argv[1:]:
        case ["serve"]:
            asyncio.run(serve())
        case ["call", address, name]:
            asyncio.run(asyncio.wait_for(call(address, name), 30))
        case _:
            sys.exit(__doc__)
