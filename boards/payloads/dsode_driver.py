"""Runs ON the board: drives the on-chip engine, with the layers before and after it in integer numpy.

    sudo python3 dsode_driver.py check FOLDER DESIGN.bit                        the stored images and their outputs
    sudo python3 dsode_driver.py run FOLDER DESIGN.bit IMAGES.npy LOGITS.npy

FOLDER holds design.json, tables.bin, arrays.npz and check.npz as hwkit wrote them; beside DESIGN.bit lies the
DESIGN.hwh of the same build. Needs numpy, and pynq for the transport of this file; nothing else. From Python:

    engine = Dsode(FOLDER, PynqTransport("DESIGN.bit", *sizes(FOLDER)))
    engine.load()
    logits = engine.infer(images)        # (n, C, H, W) float -> (n, classes) integers
    engine.cycles                        # of each of those images, inside the engine

A transport is anything with
    read(offset) -> int, write(offset, value)    the engine's registers, 32 bits each, by byte offset
    transfer(data) -> bytes                      one state in, its answer out; TimeoutError when none comes
    reset()                                      optional: make it usable again after a TimeoutError
"""

import hashlib
import json
import os
import sys
import time
import zipfile

import numpy as np

IP = "hwkit:dsode:dsode_top:1.0"                 # how the IP is named in the block design
DMA = "xilinx.com:ip:axi_dma:"
MAGIC = 0x64736F64                               # "dsod"
ENABLE, RESET = 1, 2                             # bits of CONTROL
RUNNING, RECEIVING, SENDING, MISPLACED = 1, 2, 4, 8     # bits of STATUS
DMA_CONTROL, DMA_RESET, RECEIVED = 0x00, 0x4, 0x58      # of the DMA; RECEIVED: bytes of the last answer
TIMEOUT_S = 5.0
EXACT_IN_FLOAT32 = 1 << 24
RECORD = np.dtype([("bank", "<u4"), ("row", "<u4"), ("word", "<u8")])


class DriverError(Exception):
    """What is wrong, in one line, and what to do about it."""


def _content(folder, name, design):
    """Bytes of a file of the design; an error where it is not the one that was written with design.json."""
    try:
        with open(os.path.join(folder, name), "rb") as f:
            data = f.read()
    except OSError as e:
        raise DriverError(f"{name} cannot be read: {e.strerror}; copy the whole folder to the board") from None
    if hashlib.sha256(data).hexdigest() != design["sha256"].get(name):
        raise DriverError(f"{name} is damaged or of another design; copy the whole folder to the board again")
    return data


def read_design(folder):
    """design.json, checked so far that the rest of this file can rely on it."""
    path = os.path.join(folder, "design.json")
    try:
        with open(path) as f:
            design = json.load(f)
        wanted = ("registers", "digest", "granule", "row_bytes", "state_in", "state_out", "input_shape", "stem",
                  "head", "sha256")
        missing = [key for key in wanted if key not in design]
    except (OSError, ValueError) as e:
        raise DriverError(f"{path} cannot be read: {e}") from None
    if missing:
        raise DriverError(f"{path} has no {missing[0]!r}; write it again with hwkit")
    return design


def sizes(folder):
    """(bytes of a state that goes in, bytes of the answer): what a transport must be able to move."""
    design = read_design(folder)
    return tuple(design[key]["rows"] * design["row_bytes"] for key in ("state_in", "state_out"))


def _shifted(value, shift):
    return value >> shift[:, None, None]


class Stem:
    """3x3 convolution (padding 1), bias, shift, ReLU: (n, I, H, W) float -> (n, O, H', W') in 0..127."""

    def __init__(self, about, arrays):
        self.stride, self.input_scale = about["stride"], about["input_scale"]
        weights = arrays["stem.weights"]
        self.bias, self.shift = arrays["stem.bias"], arrays["stem.shift"]
        # whole numbers below 2^24 are exact in float32 in whatever order they are added
        bound = 128 * int(np.abs(weights).reshape(len(weights), -1).sum(1).max())
        self.kind = np.float32 if bound < EXACT_IN_FLOAT32 else np.float64
        self.weights = weights.reshape(len(weights), -1).astype(self.kind)

    def __call__(self, images):
        x = np.clip(np.rint(np.asarray(images, np.float64) / self.input_scale), -128, 127)
        n, channels, height, width = x.shape
        padded = np.pad(x.astype(self.kind), [(0, 0), (0, 0), (1, 1), (1, 1)])
        step = self.stride
        taps = [padded[:, :, ky:ky + height, kx:kx + width][:, :, ::step, ::step]
                for ky in range(3) for kx in range(3)]
        high, wide = taps[0].shape[2:]
        columns = np.stack(taps, 2).reshape(n, channels * 9, high * wide)
        total = np.matmul(self.weights, columns).astype(np.int64).reshape(n, -1, high, wide)
        return np.clip(_shifted(total + self.bias[:, None, None], self.shift), 0, 127)


class Head:
    """Sum over the image, linear layer: (n, C, H, W) -> (n, classes), the outputs in units of output_scale."""

    def __init__(self, about, arrays):
        self.weights, self.bias = arrays["head.weights"], arrays["head.bias"]
        self.output_scale = about["output_scale"]

    def __call__(self, states):
        return np.matmul(states.sum(axis=(-2, -1)), self.weights.T) + self.bias


class Layout:
    """Where a state's values lie in its rows: row of pixels, pair of pixels, group of channels, pixel, channel."""

    def __init__(self, shape, granule, row_bytes):
        self.channels, self.height, self.width = shape["channels"], shape["height"], shape["width"]
        self.pairs, self.granule = shape["pairs"], granule
        self.state_bytes = shape["rows"] * row_bytes

    def pack(self, state):
        """(C, H, W) in -128..127 -> bytes."""
        padded = np.zeros((self.channels, self.height, 2 * self.pairs), np.int8)
        padded[:, :, :self.width] = state
        split = padded.reshape(-1, self.granule, self.height, self.pairs, 2)
        dense = split.transpose(2, 3, 0, 4, 1).tobytes()
        return dense + bytes(self.state_bytes - len(dense))

    def unpack(self, data):
        """What `pack` gave, back to (C, H, W)."""
        size = self.channels * self.height * 2 * self.pairs
        split = np.frombuffer(data, np.int8, size).reshape(
            self.height, self.pairs, -1, 2, self.granule)
        whole = split.transpose(2, 4, 0, 1, 3).reshape(self.channels, self.height, 2 * self.pairs)
        return whole[:, :, :self.width].astype(np.int64)


class Dsode:
    """The engine behind a transport.

    cycles      of each image of the last `infer`, as the engine counted them
    seconds     of the last `infer`: "before" (stem), "transfer" (to the engine and back), "after" (head)
    """

    def __init__(self, folder, transport):
        self.design = read_design(folder)
        self.transport = transport
        self.loaded = False
        self.cycles, self.seconds = [], {}
        self._registers = self.design["registers"]
        tables = _content(folder, "tables.bin", self.design)
        if len(tables) % RECORD.itemsize:
            raise DriverError("tables.bin is no list of records; write it again with hwkit")
        # bank by bank: a row that follows the one before need not be named
        self._tables = np.sort(np.frombuffer(tables, RECORD), order=("bank", "row"), kind="stable")
        arrays = _arrays(folder, "arrays.npz", self.design)
        self.stem, self.head = Stem(self.design["stem"], arrays), Head(self.design["head"], arrays)
        self.state_in, self.state_out = (Layout(self.design[key], self.design["granule"], self.design["row_bytes"])
                                         for key in ("state_in", "state_out"))

    def read(self, register):
        return self.transport.read(self._registers[register]) & 0xFFFFFFFF

    def write(self, register, value):
        self.transport.write(self._registers[register], int(value))

    def load(self):
        """Check that the bitstream is this design's, write its tables, let it wait for states."""
        self.loaded = False
        magic, digest = self.read("MAGIC"), self.read("DIGEST")
        if magic != MAGIC:
            raise DriverError(f"no engine answers: MAGIC reads {magic:#010x}, not {MAGIC:#010x}; "
                              "load its bitstream")
        if digest != self.design["digest"]:
            raise DriverError(f"this bitstream was made for another design: DIGEST reads {digest:#010x}, "
                              f"design.json says {self.design['digest']:#010x}; use both from one build")
        self.write("CONTROL", RESET)
        self.write("CONTROL", 0)
        self.write("STATUS", MISPLACED)
        following = None
        for bank, row, word in self._tables.tolist():
            if (bank, row) != following:         # the row counts up by itself
                self.write("TABLE", bank << 16 | row)
            self.write("LOW", word & 0xFFFFFFFF)
            self.write("HIGH", word >> 32)
            following = (bank, row + 1)
        self.write("CONTROL", ENABLE)
        status = self.read("STATUS")
        if not status & RECEIVING:
            raise DriverError(f"the engine does not wait for a state after it was enabled: {_told(status)}")
        self.loaded = True

    def infer(self, images):
        """(n, C, H, W) images as the network was trained on -> (n, classes) int64.

        Times `head.output_scale` they are the network's outputs; argmax needs no scale. Raises DriverError where
        the images do not fit or the engine does not answer; it must then be loaded again.
        """
        images = np.asarray(images)
        wanted = tuple(self.design["input_shape"])
        if images.ndim != 4 or images.shape[1:] != wanted or not len(images):
            raise DriverError(f"images have shape {images.shape}, the network takes n of {wanted}")
        if images.dtype.kind not in "fiu" or not np.isfinite(images).all():
            raise DriverError("an image holds NaN, infinity or no numbers at all")
        started = time.perf_counter()
        states = self.stem(images)
        before = time.perf_counter()
        answers = self.run_states(states)
        after = time.perf_counter()
        logits = self.head(answers)
        self.seconds = {"before": before - started, "transfer": after - before,
                        "after": time.perf_counter() - after}
        return logits

    def run_states(self, states):
        """(n, C, H, W) in -128..127 -> (n, C', H', W'): the engine alone."""
        if not self.loaded:
            raise DriverError("the engine is not loaded; call load() first")
        self.cycles = []
        answers = []
        for state in states:
            answers.append(self.state_out.unpack(self._answer(self.state_in.pack(state))))
            self.cycles.append(self.read("CYCLES"))
        return np.stack(answers)

    def _answer(self, data):
        try:
            answer = self.transport.transfer(data)
        except TimeoutError as e:
            why = _told(self.read("STATUS"))
            self._stop()
            raise DriverError(f"no answer in time ({e or 'timeout'}); {why}; call load() again") from None
        status = self.read("STATUS")
        if status & MISPLACED or len(answer) != self.state_out.state_bytes:
            self._stop()
            raise DriverError(f"{len(answer)} of {self.state_out.state_bytes} bytes came back; {_told(status)}; "
                              "call load() again")
        return answer

    def _stop(self):
        self.loaded = False
        self.write("CONTROL", RESET)
        reset = getattr(self.transport, "reset", None)
        if reset:
            reset()


def _told(status):
    """STATUS in words: where the engine stands."""
    said = [text for bit, text in (
        (RUNNING, "the engine is still running"),
        (RECEIVING, "the engine waits for the rest of a state: the DMA does not send, or sent too little"),
        (SENDING, "the engine holds its answer: the DMA does not take it"),
        (MISPLACED, "TLAST came at the wrong beat: the DMA sends states of another size")) if status & bit]
    return f"STATUS {status:#x}: {', '.join(said) or 'the engine is not enabled'}"


def _arrays(folder, name, design):
    _content(folder, name, design)
    try:
        with np.load(os.path.join(folder, name), allow_pickle=False) as found:
            return {key: found[key] for key in found.files}
    except (ValueError, zipfile.BadZipFile) as e:
        raise DriverError(f"{name} is no file of arrays: {e}") from None


class PynqTransport:
    """Registers by MMIO, states by one AXI DMA in simple mode. Loads the bitstream.

    state_bytes, answer_bytes    as `sizes` gives them;  timeout_s: for one state and its answer
    clock_hz                     what the programmable logic's clock 0 is set to
    """

    def __init__(self, bitfile, state_bytes, answer_bytes, timeout_s=TIMEOUT_S):
        from pynq import MMIO, Clocks, Overlay, allocate

        overlay = Overlay(bitfile)
        engine = self._only(overlay, bitfile, IP)
        self._dma = getattr(overlay, self._only(overlay, bitfile, DMA))
        about = overlay.ip_dict[engine]
        self._registers = MMIO(about["phys_addr"], about["addr_range"])
        self._given = allocate(shape=(state_bytes,), dtype=np.uint8)
        self._taken = allocate(shape=(answer_bytes,), dtype=np.uint8)
        self.timeout_s = timeout_s
        self.clock_hz = Clocks.fclk0_mhz * 1e6

    @staticmethod
    def _only(overlay, bitfile, kind):
        """Name of the one block of a kind; without it, reading where it should be would stop the processor."""
        names = [name for name, ip in overlay.ip_dict.items() if str(ip.get("type", "")).startswith(kind)]
        if len(names) != 1:
            raise DriverError(f"{bitfile} has {len(names)} blocks {kind!r}, not one; use the .bit and .hwh of one "
                              "build of this design")
        return names[0]

    def read(self, offset):
        return self._registers.read(offset)

    def write(self, offset, value):
        self._registers.write(offset, value)

    def transfer(self, data):
        channels = (self._dma.recvchannel, self._dma.sendchannel)
        self._given[:] = np.frombuffer(data, np.uint8)
        self._dma.recvchannel.transfer(self._taken)      # first, so that no beat of the answer has to wait
        self._dma.sendchannel.transfer(self._given)
        deadline = time.monotonic() + self.timeout_s
        while not all(channel.idle for channel in channels):
            if any(getattr(channel, "error", False) for channel in channels):
                raise TimeoutError("the DMA stopped with an error")
            if time.monotonic() > deadline:
                raise TimeoutError(f"{self.timeout_s:g} s")
        for channel in channels:                         # idle by now: this makes the caches see the answer
            channel.wait()
        return self._taken[:self._dma.read(RECEIVED)].tobytes()

    def reset(self):
        """Reset the DMA: a channel that still waits would refuse the next transfer."""
        self._dma.write(DMA_CONTROL, DMA_RESET)
        deadline = time.monotonic() + self.timeout_s
        while self._dma.read(DMA_CONTROL) & DMA_RESET:
            if time.monotonic() > deadline:
                raise DriverError("the DMA does not come out of its reset; load the bitstream again")
        self._dma.sendchannel.start()
        self._dma.recvchannel.start()


def report(engine, images):
    """What one call of `infer` showed, as JSON; `clock_hz` is what the board says, null where it does not."""
    clock_hz = getattr(engine.transport, "clock_hz", None)
    return {"images": len(images), "cycles": engine.cycles, "expected_cycles": engine.design.get("cycles"),
            "clock_hz": clock_hz, "seconds": engine.seconds,
            "kernel_s": max(engine.cycles) / clock_hz if clock_hz else None}


def check(engine, folder):
    """Run the stored images: what `report` says, and how many outputs are not the integer reference's."""
    stored = _arrays(folder, "check.npz", engine.design)
    logits = engine.infer(stored["images"])
    return {**report(engine, stored["images"]), "differing": int((logits != stored["logits"]).sum()),
            "outputs": int(logits.size)}


def _images(path):
    try:
        return np.load(path, allow_pickle=False)
    except (OSError, ValueError) as e:
        raise DriverError(f"{path} holds no images: {e}") from None


def main(words):
    if len(words) not in (3, 5) or words[0] != {3: "check", 5: "run"}[len(words)]:
        raise SystemExit(__doc__)
    try:
        folder, bitfile = words[1:3]
        engine = Dsode(folder, PynqTransport(bitfile, *sizes(folder)))
        engine.load()
        if words[0] == "check":
            said = check(engine, folder)
        else:
            images = _images(words[3])
            np.save(words[4], engine.infer(images))
            said = report(engine, images)
    except DriverError as e:
        raise SystemExit(str(e)) from None
    print(json.dumps(said))
    if said.get("differing"):
        raise SystemExit("the engine's outputs are not those of the integer reference")


if __name__ == "__main__":
    main(sys.argv[1:])
