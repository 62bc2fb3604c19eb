"""What record.sh traces python3 with: what scripts and small services do."""

import asyncio
import concurrent.futures
import hashlib
import http.client
import http.server
import json
import logging
import multiprocessing
import os
import pathlib
import shutil
import socket
import sqlite3
import subprocess
import sys
import tempfile
import threading
import time
import urllib.request
import zipfile


class Quiet(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        body = json.dumps({"path": self.path, "time": time.time()}).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *args):
        pass


def files(top):
    for i in range(100):
        path = top / f"d{i % 10}" / f"f{i}.json"
        path.parent.mkdir(exist_ok=True)
        path.write_text(json.dumps({"n": i, "text": "x" * 500}))
    for root, _, names in os.walk(top):
        for name in names:
            path = os.path.join(root, name)
            os.stat(path)
            with open(path, "rb") as f:
                hashlib.sha256(f.read()).hexdigest()
    with zipfile.ZipFile(top / "all.zip", "w") as archive:
        for path in top.glob("d*/*.json"):
            archive.write(path)
    shutil.copytree(top / "d1", top / "copy")
    shutil.rmtree(top / "copy")


def processes():
    for _ in range(10):
        subprocess.run(["true"], check=True)
        subprocess.run(["sh", "-c", "echo hello | cat"], check=True, capture_output=True)
    # A pool forks its workers.
    with multiprocessing.Pool(2) as pool:
        pool.map(abs, range(100))


def sockets():
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Quiet)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    port = server.server_address[1]
    for i in range(100):
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/{i}") as response:
            json.load(response)
    connection = http.client.HTTPConnection("127.0.0.1", port)
    connection.request("GET", "/")
    connection.getresponse().read()
    connection.close()
    server.shutdown()
    a, b = socket.socketpair()
    for _ in range(100):
        a.sendall(b"ping")
        b.recv(4)


async def echo(reader, writer):
    while line := await reader.readline():
        writer.write(line)
        await writer.drain()
    writer.close()


async def asynchronous():
    server = await asyncio.start_server(echo, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]

    async def client():
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        for _ in range(50):
            writer.write(b"line\n")
            await writer.drain()
            await reader.readline()
        writer.close()

    await asyncio.gather(*(client() for _ in range(5)))
    server.close()


def database(path):
    with sqlite3.connect(path) as db:
        db.execute("create table t (n integer, s text)")
        for i in range(50):
            db.execute("insert into t values (?, ?)", (i, str(i)))
            db.commit()
        db.execute("select count(*) from t").fetchone()


def main():
    logging.basicConfig(stream=sys.stdout, level=logging.INFO)
    with tempfile.TemporaryDirectory() as name:
        top = pathlib.Path(name)
        files(top)
        database(top / "test.db")
        logging.info("files done")
        processes()
        sockets()
        asyncio.run(asynchronous())
        with concurrent.futures.ThreadPoolExecutor(4) as pool:
            list(pool.map(lambda n: hashlib.md5(bytes(n)).hexdigest(), range(100)))
        for _ in range(5):
            subprocess.run([sys.executable, "-c", "import json, re, logging"], check=True)
        logging.info("done")


if __name__ == "__main__":
    main()
