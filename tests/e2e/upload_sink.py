"""An HTTP/1.1 server that reads what is sent to it and says how much it was.

    upload_sink.py serve                       writes 'listening PORT'
"""

import sys
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


class Sink(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def pieces(self):
        if "chunked" in self.headers.get("Transfer-Encoding", ""):
            while size := int(self.rfile.readline().split(b";")[0], 16):
                yield size
                self.rfile.readline()
            while self.rfile.readline().strip():
                pass
        else:
            yield int(self.headers.get("Content-Length", 0))

    def do_PUT(self):
        count = 0
        for size in self.pieces():
            while size > 0:
                got = len(self.rfile.read(min(size, 1 << 20)))
                if got == 0:
                    self.close_connection = True
                    return
                size -= got
                count += got
        self.answer(b"%d bytes\n" % count)

    def do_GET(self):
        self.answer(b"sink\n")

    def answer(self, body):
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_):
        pass


if __name__ == "__main__":
    if sys.argv[1:] != ["serve"]:
        sys.exit(__doc__)
    server = ThreadingHTTPServer(("127.0.0.1", 0), Sink)
    print(f"listening {server.server_address[1]}", flush=True)
    server.serve_forever()
