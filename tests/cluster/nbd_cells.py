# SPDX-License-Identifier: Apache-2.0
"""A client of fastblock-nbd that does what the kernel's does when its connection ends: it connects again and repeats what was not answered.

The image is cut into cells that are no multiple of anything; each connection has every third one, so that connections write side by side in
the same blocks. A connection has at most one request under way for a cell, so it always knows what the cell has to hold. After an input/output
error nobody knows what became of that request: the cell is written anew, whole, and what was written then must stay."""
import os
import random
import socket
import struct
import threading
import time

READ, WRITE, TRIM, WRITE_ZEROES = 0, 1, 4, 6
NO_HOLE = 2
EIO = 5
BLOCK = 4096
DEPTH = 8


class Gone(Exception):
    """The connection has ended."""


class Client(threading.Thread):
    """Works from start() until `ended`, and then until all is answered. `wrong` says what was wrong; None: nothing."""

    def __init__(self, path, size, cell, number, count, seed):
        super().__init__()
        self.path, self.cell = path, cell
        self.cells = range(number, size // cell, count)
        self.rng = random.Random(f"{seed} {number}")
        self.ended = threading.Event()
        self.holds, self.pending, self.socket = {}, {}, None  # by cell; by cookie: (type, flags, offset, length, payload)
        self.cookie = self.answered = self.repeated = self.failed = 0
        self.wrong = None

    def run(self):
        try:
            while not self.wrong and (self.pending or not self.ended.is_set()):
                try:
                    self.work()
                except (OSError, Gone):
                    self.socket = None
        except Exception as e:  # whoever waits for us wants to know
            self.wrong = repr(e)

    def check(self):
        """Reads all cells that were written, when nothing else is to do."""
        self.connect()
        for cell, want in self.holds.items():
            self.send(0, READ, 0, cell * self.cell, self.cell, b"")
            error = struct.unpack(">IIQ", self.receive(16))[1]
            if error or self.receive(self.cell) != want:
                return f"cell {cell}: " + (f"error {error}" if error else "wrong bytes")
        return None

    # ---- the protocol ----

    def receive(self, count):
        data = b""
        while len(data) < count:
            part = self.socket.recv(count - len(data))
            if not part:
                raise Gone
            data += part
        return data

    def connect(self):
        end = time.monotonic() + 60
        while True:
            try:
                self.socket = socket.socket(socket.AF_UNIX)
                self.socket.settimeout(100)
                self.socket.connect(self.path)
                self.receive(18)
                self.socket.sendall(struct.pack(">I", 3) + struct.pack(">QII", 0x49484156454f5054, 1, 0))
                self.receive(10)
                return
            except (OSError, Gone):
                if time.monotonic() > end:
                    raise TimeoutError("nobody listens")
                time.sleep(0.02)

    def send(self, cookie, kind, flags, offset, length, payload):
        self.socket.sendall(struct.pack(">IHHQQI", 0x25609513, flags, kind, cookie, offset, length) + payload)

    def begin(self, kind, flags, offset, length, payload=b""):
        self.cookie += 1
        self.pending[self.cookie] = (kind, flags, offset, length, payload)
        self.send(self.cookie, *self.pending[self.cookie])

    # ---- the work ----

    def work(self):
        if not self.socket:
            self.connect()
            for cookie, request in self.pending.items():
                self.repeated += 1
                self.send(cookie, *request)
        while len(self.pending) < DEPTH and not self.ended.is_set():
            self.begin_some()
        if not self.pending:
            return
        _, error, cookie = struct.unpack(">IIQ", self.receive(16))
        kind, _, offset, length, payload = self.pending[cookie]
        data = self.receive(length) if kind == READ and not error else payload
        del self.pending[cookie]
        if not error:
            self.answered += 1
            self.take(kind, offset, length, data)
        elif error == EIO:
            self.failed += 1
            if kind != READ:
                self.begin(WRITE, 0, offset - offset % self.cell, self.cell, os.urandom(self.cell))
        else:
            self.wrong = f"request {kind} at {offset}: error {error}"

    def begin_some(self):
        busy = {request[2] // self.cell for request in self.pending.values()}
        cell = self.rng.choice([c for c in self.rng.sample(self.cells[:200], DEPTH + 1) if c not in busy])
        start, roll = self.rng.randrange(self.cell), self.rng.random()
        offset, length = cell * self.cell + start, self.rng.randint(1, self.cell - start)
        if roll < 0.45:
            self.begin(WRITE, 0, offset, length, os.urandom(length))
        elif roll < 0.7:
            self.begin(WRITE_ZEROES, self.rng.choice((0, NO_HOLE)), offset, length)
        elif roll < 0.8:
            self.begin(TRIM, 0, offset, length)
        else:
            self.begin(READ, 0, cell * self.cell, self.cell)

    def take(self, kind, offset, length, data):
        cell, start = divmod(offset, self.cell)
        was = self.holds.get(cell, bytes(self.cell))
        end = start + length
        if kind == READ:
            if data != was:
                self.wrong = f"cell {cell} at byte {next(i for i in range(length) if data[i] != was[i])}"
            return
        if kind == TRIM:  # whole blocks only
            start = (offset + BLOCK - 1) // BLOCK * BLOCK - cell * self.cell
            end = (offset + length) // BLOCK * BLOCK - cell * self.cell
        if start < end:
            new = data if kind == WRITE else bytes(end - start)
            self.holds[cell] = was[:start] + new + was[end:]
