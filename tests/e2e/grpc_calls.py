"""A gRPC service and its client, on grpcio with plain bytes as messages (no generated code).

    grpc_calls.py serve                        writes 'listening PORT'
    grpc_calls.py call ADDRESS AUTHORITY [CALL…]   makes every kind of call; writes 'ok NAME' for each, fails on the first
    grpc_calls.py load ADDRESS AUTHORITY       calls and streams until SIGTERM; writes what became of them, as JSON
"""

import json
import signal
import sys
import threading
import time
from concurrent import futures

import grpc

SERVICE = "mesh.test.Echo"
cancelled = threading.Event()


def unary(request, context):
    metadata = dict(context.invocation_metadata())
    context.set_trailing_metadata((("x-trailer", "last"), ("x-data-bin", b"\x00\xff\x01")))
    context.send_initial_metadata((("x-echo", metadata.get("x-ask", "")),))
    return request


def client_stream(requests, context):
    count, size = 0, 0
    for request in requests:
        count, size = count + 1, size + len(request)
    return b"%d messages, %d bytes" % (count, size)


def server_stream(request, context):
    for number in range(int(request)):
        yield b"%d" % number


def both_streams(requests, context):
    for request in requests:
        yield request[::-1]


def fail(request, context):
    context.set_trailing_metadata((("x-why", "because"),))
    context.abort(grpc.StatusCode.FAILED_PRECONDITION, "not today: 100% übel")


def slow(request, context):
    left = context.time_remaining()
    if left is None or left > 5:
        context.abort(grpc.StatusCode.INTERNAL, f"the deadline did not arrive: {left}")
    time.sleep(min(left + 1, 3))
    return b"too late"


def endless(request, context):
    context.add_callback(cancelled.set)
    number = 0
    while context.is_active():
        yield b"%d" % number
        number += 1
        time.sleep(0.01)


def steady(request, context):
    for number in range(int(request)):
        time.sleep(0.1)
        yield b"%d" % number


def was_cancelled(request, context):
    return b"yes" if cancelled.wait(5) else b"no"


METHODS = {
    "Unary": grpc.unary_unary_rpc_method_handler(unary),
    "ClientStream": grpc.stream_unary_rpc_method_handler(client_stream),
    "ServerStream": grpc.unary_stream_rpc_method_handler(server_stream),
    "BothStreams": grpc.stream_stream_rpc_method_handler(both_streams),
    "Fail": grpc.unary_unary_rpc_method_handler(fail),
    "Slow": grpc.unary_unary_rpc_method_handler(slow),
    "Steady": grpc.unary_stream_rpc_method_handler(steady),
    "Endless": grpc.unary_stream_rpc_method_handler(endless),
    "WasCancelled": grpc.unary_unary_rpc_method_handler(was_cancelled),
}


def health(request, context):
    """grpc.health.v1.Health/Check: SERVING, but NOT_SERVING for the service 'sick'."""
    return b"\x08\x02" if request == b"\x0a\x04sick" else b"\x08\x01"


def serve():
    server = grpc.server(futures.ThreadPoolExecutor(max_workers=32), options=[("grpc.max_receive_message_length", 1 << 26)])
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(SERVICE, METHODS),))
    checks = {"Check": grpc.unary_unary_rpc_method_handler(health)}
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler("grpc.health.v1.Health", checks),))
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    print(f"listening {port}", flush=True)
    server.wait_for_termination()


class Calls:
    """One method for each kind of call; each asserts what its caller must see."""

    def __init__(self, channel):
        def method(kind, name):
            return getattr(channel, kind)(f"/{SERVICE}/{name}")

        self.echo = method("unary_unary", "Unary")
        self.collect = method("stream_unary", "ClientStream")
        self.count = method("unary_stream", "ServerStream")
        self.reverse = method("stream_stream", "BothStreams")
        self.fails = method("unary_unary", "Fail")
        self.sleeps = method("unary_unary", "Slow")
        self.ticks = method("unary_stream", "Endless")
        self.ask_cancelled = method("unary_unary", "WasCancelled")

    def unary(self):
        reply, call = self.echo.with_call(b"hello", timeout=10, metadata=(("x-ask", "who"),))
        assert reply == b"hello", reply
        assert dict(call.initial_metadata()).get("x-echo") == "who", call.initial_metadata()
        trailers = dict(call.trailing_metadata())
        assert trailers.get("x-trailer") == "last" and trailers.get("x-data-bin") == b"\x00\xff\x01", trailers

    def empty(self):
        assert self.echo(b"", timeout=10) == b""

    def large(self):
        message = bytes(range(256)) * 16384
        assert self.echo(message, timeout=20) == message

    def client_stream(self):
        assert self.collect((b"x" * 1000 for _ in range(500)), timeout=20) == b"500 messages, 500000 bytes"

    def server_stream(self):
        assert [int(number) for number in self.count(b"1000", timeout=20)] == list(range(1000))

    def both_streams(self):
        """Ping-pong: each answer must arrive before the next question is sent."""
        answers = threading.Semaphore(0)

        def questions():
            for number in range(50):
                yield b"n%d" % number
                assert answers.acquire(timeout=5), "no answer while the stream is open"

        seen = []
        for answer in self.reverse(questions(), timeout=20):
            seen.append(answer)
            answers.release()
        assert seen == [(b"n%d" % number)[::-1] for number in range(50)], seen

    def error_status(self):
        try:
            self.fails(b"", timeout=10)
        except grpc.RpcError as error:
            assert error.code() == grpc.StatusCode.FAILED_PRECONDITION, error
            assert error.details() == "not today: 100% übel", error.details()
            assert dict(error.trailing_metadata()).get("x-why") == "because", error.trailing_metadata()
        else:
            raise AssertionError("an error became a success")

    def unknown_method(self):
        try:
            self.channel_unknown(b"", timeout=10)
        except grpc.RpcError as error:
            assert error.code() == grpc.StatusCode.UNIMPLEMENTED, error
        else:
            raise AssertionError("an unknown method answered")

    def deadline(self):
        start = time.monotonic()
        try:
            self.sleeps(b"", timeout=0.5)
        except grpc.RpcError as error:
            assert error.code() == grpc.StatusCode.DEADLINE_EXCEEDED, error
        else:
            raise AssertionError("the deadline did not end the call")
        assert time.monotonic() - start < 2

    def cancel(self):
        stream = self.ticks(b"", timeout=20)
        assert next(stream) == b"0"
        stream.cancel()
        assert self.ask_cancelled(b"", timeout=10) == b"yes", "the server was not told"

    def many_at_once(self):
        calls = [self.echo.future(b"%d" % number, timeout=20) for number in range(300)]
        assert [call.result() for call in calls] == [b"%d" % number for number in range(300)]


def call(address, authority, names):
    options = [("grpc.default_authority", authority), ("grpc.max_receive_message_length", 1 << 26)]
    with grpc.insecure_channel(address, options=options) as channel:
        calls = Calls(channel)
        calls.channel_unknown = channel.unary_unary(f"/{SERVICE}/Nothing")
        every = [name for name in vars(Calls) if not name.startswith("_")]
        for name in names or every:
            getattr(calls, name)()
            print(f"ok {name}", flush=True)


class Load:
    """Callers that go on until they are told to stop, or are refused, and count what became of their calls."""

    def __init__(self, channel):
        self.over = threading.Event()
        self.lock = threading.Lock()
        self.book = {"done": 0, "refused": 0, "lost": []}
        self.echo = channel.unary_unary(f"/{SERVICE}/Unary")
        self.steady = channel.unary_stream(f"/{SERVICE}/Steady")
        self.reverse = channel.stream_stream(f"/{SERVICE}/BothStreams")

    def unary(self):
        assert self.echo(b"hello", timeout=10) == b"hello"
        time.sleep(0.005)

    def server_stream(self):
        assert [int(number) for number in self.steady(b"15", timeout=20)] == list(range(15))

    def both_streams(self):
        answers = threading.Semaphore(0)

        def questions():
            for number in range(15):
                yield b"n%d" % number
                assert answers.acquire(timeout=5), "no answer while the stream is open"
                time.sleep(0.1)

        seen = []
        for answer in self.reverse(questions(), timeout=20):
            seen.append(answer)
            answers.release()
        assert seen == [(b"n%d" % number)[::-1] for number in range(15)], seen

    def go_on(self, call):
        while not self.over.is_set():
            try:
                call()
            except grpc.RpcError as error:
                # Refused, or reset by a listener that closed while the connection was still in its queue.
                refused = error.code() == grpc.StatusCode.UNAVAILABLE and "failed to connect" in (error.details() or "").lower()
                with self.lock:
                    if refused:
                        self.book["refused"] += 1
                    else:
                        self.book["lost"].append(f"{call.__name__}: {error.code()} {error.details()}")
                if refused:
                    return
            except AssertionError as error:
                with self.lock:
                    self.book["lost"].append(f"{call.__name__}: {error}")
            else:
                with self.lock:
                    self.book["done"] += 1


def load(address, authority):
    with grpc.insecure_channel(address, options=[("grpc.default_authority", authority)]) as channel:
        load = Load(channel)
        signal.signal(signal.SIGTERM, lambda *_: load.over.set())
        calls = [load.unary] * 2 + [load.server_stream] * 2 + [load.both_streams]
        callers = [threading.Thread(target=load.go_on, args=(call,)) for call in calls]
        for caller in callers:
            caller.start()
        for caller in callers:
            caller.join()
        load.over.wait()
        print(json.dumps(load.book))


def code(address, authority):
    """Writes the status code of one unary call."""
    with grpc.insecure_channel(address, options=[("grpc.default_authority", authority)]) as channel:
        try:
            channel.unary_unary(f"/{SERVICE}/Unary")(b"x", timeout=10)
            print("OK")
        except grpc.RpcError as error:
            print(error.code().name)


if __name__ == "__main__":
    match sys.argv[1:]:
        case ["serve"]:
            serve()
        case ["call", address, authority, *names]:
            call(address, authority, names)
        case ["load", address, authority]:
            load(address, authority)
        case ["code", address, authority]:
            code(address, authority)
        case _:
            sys.exit(__doc__)
