"""What goes to the lab: the driver against a model of the engine's registers, the scripts in a Tcl shell.

The model decodes what the driver sends with hwkit's own layout and answers with the integer reference. It holds
the driver to the order of the RTL's testbench: the tables first, then ENABLE, then states.
"""

from __future__ import annotations

import importlib.util
import json
import sys
import types
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from hwkit.backends.dsode import emit as rtl
from hwkit.backends.dsode import lab, program, schedule
from hwkit.backends.dsode.engine import Engine, engine_for
from hwkit.data import shipped
from hwkit.errors import BadInput
from hwkit.integer.separable import Head, IntegerNetwork, OdeBlock, Separable, Stem, Transition

PART = "xczu3eg-sbva484-1-e"
BITS = 128


def separable(rng: np.random.Generator, inputs: int, outputs: int, stride: int = 1, rows: int = 1) -> Separable:
    shift = rng.integers(6, 9, inputs)
    pointwise = rng.integers(-8, 8, (outputs, inputs))
    return Separable(
        depthwise=rng.integers(-8, 8, (inputs, 3, 3)),
        depthwise_bias=(8 << shift) + rng.integers(-200, 200, inputs), depthwise_shift=shift, pointwise=pointwise,
        pointwise_bias=rng.integers(-60, 60, (rows, outputs)) - 8 * pointwise.sum(1),
        pointwise_shift=rng.integers(0, 3, outputs), stride=stride)


def network_of(channels: int, image: tuple[int, int, int], stages: int, stride: int, seed: int = 0,
               widest: int = 128) -> IntegerNetwork:
    """stages: ODE blocks of two convolutions, a transition between any two; widest: of the stem's weights."""
    rng = np.random.default_rng(seed)
    core: list[OdeBlock | Transition] = []
    for _ in range(stages):
        if core:
            core.append(Transition(separable(rng, channels // 2, channels, stride=2)))
        core.append(OdeBlock((separable(rng, channels, channels, rows=2), separable(rng, channels, channels)), 2))
        channels *= 2
    first, last = core[0], channels // 2
    assert isinstance(first, OdeBlock)
    outputs = first.convolutions[0].inputs
    return IntegerNetwork(
        name="small", input_shape=image, core=tuple(core), middle_high=63,
        stem=Stem(rng.integers(-widest, widest, (outputs, image[0], 3, 3)), rng.integers(-9999, 9999, outputs),
                  rng.integers(7, 11, outputs), stride, 1 / 64),
        head=Head(rng.integers(-128, 128, (10, last)), rng.integers(-9999, 9999, 10), 0.001))


@dataclass(frozen=True)
class Case:
    network: IntegerNetwork
    engine: Engine
    bits: int

    @classmethod
    def of(cls, network: IntegerNetwork, pe: int) -> Case:
        engine = engine_for(network, pe)
        return cls(network, engine, rtl.stream_bits(engine, BITS))


CASES = {
    "three stages, odd sizes": Case.of(network_of(8, (1, 7, 5), 3, 1), 8),
    "rows of two beats, colour, strided stem": Case.of(network_of(16, (3, 9, 11), 2, 2, seed=1), 16),
    "one stage, narrow rows": Case.of(network_of(8, (2, 4, 6), 1, 1, seed=2), 2),
    "weights that are zero": Case.of(network_of(8, (1, 4, 4), 2, 1, seed=3, widest=1), 4),
}
case = pytest.mark.parametrize("given", CASES.values(), ids=CASES.keys())


@dataclass
class Board:
    """The block's registers and what a DMA sees of it, after the header of dsode.sv.

    broken   name of a register -> what it reads instead
    silent   transfers that get no answer
    answers  what became of an answer, e.g. cut short
    """

    given: Case
    broken: dict[str, int] = field(default_factory=dict)
    silent: bool = False
    answers: Callable[[bytes], bytes] = lambda answer: answer
    tables: dict[tuple[int, int], int] = field(default_factory=dict)
    enabled: bool = False
    held: bool = False
    at: tuple[int, int] = (0, 0)
    low: int = 0
    misplaced: bool = True           # of whoever was here before
    ran: int = 0
    resets: int = 0
    written: list[str] = field(default_factory=list)

    def read(self, offset: int) -> int:
        name = {at: name for name, (at, _, _) in lab.REGISTERS.items()}[offset]
        waiting = 2 if self.enabled and not self.held else 0
        values = {"CONTROL": self.enabled | 2 * self.held, "STATUS": waiting | 8 * self.misplaced,
                  "MAGIC": int.from_bytes(b"dsod", "big"), "IMAGES": self.ran,
                  "DIGEST": rtl.design_digest(self.given.engine, self.given.bits),
                  "CYCLES": schedule.cycles(self.given.network, self.given.engine) + self.ran}
        return self.broken.get(name, values[name])

    def write(self, offset: int, value: int) -> None:
        assert 0 <= value < 1 << 32
        name = {at: name for name, (at, _, _) in lab.REGISTERS.items()}[offset]
        self.written.append(name)
        if name == "CONTROL":
            self.enabled, self.held = bool(value & 1), bool(value & 2)
        elif name == "STATUS":
            self.misplaced = self.misplaced and not value & 8
        elif name == "TABLE":
            self.at = value >> 16, value & 0xFFFF
        elif name == "LOW":
            self.low = value
        elif name == "HIGH":
            assert not self.enabled
            assert not self.held
            self.tables[self.at] = value << 32 | self.low
            self.at = self.at[0], self.at[1] + 1
        else:
            raise AssertionError(f"{name} cannot be written")

    def transfer(self, data: bytes) -> bytes:
        engine, network = self.given.engine, self.given.network
        if self.silent or not self.enabled or self.held:
            raise TimeoutError("1 s")
        rows = rtl.state_rows(engine, 0)
        if len(data) != rows * engine.row_bytes:
            self.misplaced = True
            raise TimeoutError("1 s")
        state = program.unpack_state(np.frombuffer(data, np.int8).reshape(1, rows, -1), engine, 0)
        assert np.array_equal(program.pack_state(state, engine, 0).tobytes(), data), "what pads is not zero"
        self.ran += 1
        return self.answers(program.pack_state(network.on_chip(state), engine, len(engine.shapes) - 1).tobytes())

    def reset(self) -> None:
        self.resets += 1
        self.silent = False


def written(given: Case, folder: Path) -> list[str]:
    """The design and the lab's folder beside it; the names in the latter."""
    rtl.write_design(given.network, given.engine, given.bits, folder)
    return lab.emit(given.network, given.engine, given.bits, PART, 200e6, folder)


@pytest.fixture(scope="session")
def driver(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """The module as the board has it: the copy that was emitted, imported by its path."""
    folder = tmp_path_factory.mktemp("driver")
    given = CASES["one stage, narrow rows"]
    written(given, folder)
    spec = importlib.util.spec_from_file_location("dsode_driver", folder / "lab" / "driver" / lab.DRIVER)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def emitted(given: Case, folder: Path) -> Path:
    written(given, folder)
    return folder / "lab" / "driver"


def images_for(network: IntegerNetwork, count: int = 5) -> np.ndarray[Any, Any]:
    values = np.random.default_rng(7).normal(0, 100, (count, *network.input_shape)) * network.stem.input_scale
    values[0] = 1e9                                                  # far beyond the quantiser's range
    values.reshape(-1)[::3] = (np.round(values.reshape(-1)[::3] * 64) + 0.5) / 64      # ties
    return values.astype(np.float32)


@case
def test_logits_are_those_of_the_integer_reference(given: Case, driver: Any, tmp_path: Path) -> None:
    board = Board(given)
    engine = driver.Dsode(emitted(given, tmp_path), board)
    engine.load()
    words = program.configuration(given.network, given.engine)
    assert board.tables == {(bank, row): word for bank, row, word in words}
    assert not board.misplaced
    images = images_for(given.network)
    expected = given.network.logits(images)
    logits = engine.infer(images)
    assert logits.dtype == expected.dtype
    assert np.array_equal(logits, expected)
    assert (expected.std(0) > 0).all(), "the outputs do not depend on the images"
    cycles = schedule.cycles(given.network, given.engine)
    assert engine.cycles == [cycles + n for n in range(1, len(images) + 1)]
    assert set(engine.seconds) == {"before", "transfer", "after"}


@case
def test_states_are_laid_out_as_the_rtl_holds_them(given: Case, driver: Any, tmp_path: Path) -> None:
    engine = driver.Dsode(emitted(given, tmp_path), Board(given))
    for shape, layout in ((0, engine.state_in), (len(given.engine.shapes) - 1, engine.state_out)):
        at = given.engine.shapes[shape]
        state = np.random.default_rng(1).integers(-128, 128, (at.channels, at.height, at.width))
        packed = layout.pack(state)
        assert packed == program.pack_state(state[None], given.engine, shape).tobytes()
        assert np.array_equal(layout.unpack(packed), state)


def test_the_stem_is_exact_at_the_ends_of_its_range(driver: Any) -> None:
    """Sums beyond float32's whole numbers: many channels of the largest weights and inputs."""
    for channels in (1, 150):
        weights = np.full((3, channels, 3, 3), -128)
        weights[1] = 127
        stem = Stem(weights, np.array([1, -5, 3]), np.array([0, 18, 20]), 1, 0.5)
        ours = driver.Stem({"stride": 1, "input_scale": 0.5},
                           {f"stem.{k}": getattr(stem, k) for k in ("weights", "bias", "shift")})
        images = np.random.default_rng(0).choice([-64.0, 63.5, 1.25], (2, channels, 4, 5))
        images[1] = -64
        assert np.array_equal(ours(images), stem(stem.quantized(images)))
        assert ours.kind == (np.float32 if channels == 1 else np.float64)


def test_it_loads_again_after_a_reset_and_does_not_write_a_row_number_twice(driver: Any, tmp_path: Path) -> None:
    given = CASES["three stages, odd sizes"]
    board = Board(given)
    engine = driver.Dsode(emitted(given, tmp_path), board)
    engine.load()
    once = len(board.written)
    words = len(board.tables)
    jumps = board.written.count("TABLE")
    assert board.written.count("HIGH") == words
    assert jumps == len({bank for bank, _ in board.tables})
    board.tables.clear()
    engine.load()
    assert len(board.tables) == words
    assert len(board.written) == 2 * once


def copied(folder: Path, name: str, change: Callable[[bytes], bytes]) -> None:
    (folder / name).write_bytes(change((folder / name).read_bytes()))


def without(key: str) -> Callable[[bytes], bytes]:
    def change(data: bytes) -> bytes:
        design = json.loads(data)
        del design[key]
        return json.dumps(design).encode()
    return change


FOLDERS = {
    "tables.bin is damaged": ("tables.bin", lambda b: b[:-1] + bytes([b[-1] ^ 1])),
    "tables.bin is damaged or of another design": ("tables.bin", lambda b: b[:-16]),
    "arrays.npz is damaged": ("arrays.npz", lambda b: b""),
    "has no 'digest'": ("design.json", without("digest")),
    "has no 'state_in'": ("design.json", without("state_in")),
    "design.json cannot be read": ("design.json", lambda b: b[:100]),
}


@pytest.mark.parametrize(("message", "change"), FOLDERS.items(), ids=FOLDERS.keys())
def test_a_damaged_folder_is_refused(message: str, change: Any, driver: Any, tmp_path: Path) -> None:
    given = CASES["one stage, narrow rows"]
    folder = emitted(given, tmp_path)
    copied(folder, *change)
    with pytest.raises(driver.DriverError, match=message):
        driver.Dsode(folder, Board(given))


def test_a_missing_file_is_named(driver: Any, tmp_path: Path) -> None:
    given = CASES["one stage, narrow rows"]
    folder = emitted(given, tmp_path)
    (folder / "tables.bin").unlink()
    with pytest.raises(driver.DriverError, match=r"tables\.bin cannot be read: No such file"):
        driver.Dsode(folder, Board(given))


@pytest.mark.parametrize(("broken", "message"), [
    ({"MAGIC": 0}, "no engine answers: MAGIC reads 0x00000000"),
    ({"MAGIC": -1}, "no engine answers: MAGIC reads 0xffffffff"),
    ({"DIGEST": 7}, "this bitstream was made for another design: DIGEST reads 0x00000007"),
    ({"STATUS": 0}, "does not wait for a state after it was enabled"),
])
def test_another_bitstream_is_refused_before_anything_is_written(
        broken: dict[str, int], message: str, driver: Any, tmp_path: Path) -> None:
    given = CASES["one stage, narrow rows"]
    board = Board(given, broken)
    engine = driver.Dsode(emitted(given, tmp_path), board)
    with pytest.raises(driver.DriverError, match=message):
        engine.load()
    assert bool(board.written) == ("STATUS" in broken)
    with pytest.raises(driver.DriverError, match="not loaded"):
        engine.infer(images_for(given.network))


STUCK = {
    "the DMA does not send": 2,
    "the engine is still running": 1,
    "the engine holds its answer": 4,
    "TLAST came at the wrong beat": 8,
    "the engine is not enabled": 0,
}


@pytest.mark.parametrize(("message", "status"), STUCK.items(), ids=STUCK.keys())
def test_no_answer_says_where_it_hangs_and_a_new_load_goes_on(
        message: str, status: int, driver: Any, tmp_path: Path) -> None:
    given = CASES["one stage, narrow rows"]
    board = Board(given)
    engine = driver.Dsode(emitted(given, tmp_path), board)
    engine.load()
    images = images_for(given.network)
    board.silent, board.broken = True, {"STATUS": status}
    with pytest.raises(driver.DriverError, match=message) as caught:
        engine.infer(images)
    assert "call load() again" in str(caught.value)
    assert board.resets == 1
    assert board.held
    board.broken = {}
    with pytest.raises(driver.DriverError, match="not loaded"):
        engine.infer(images)
    engine.load()
    assert np.array_equal(engine.infer(images), given.network.logits(images))


def test_an_answer_that_is_too_short_is_no_answer(driver: Any, tmp_path: Path) -> None:
    given = CASES["one stage, narrow rows"]
    board = Board(given, answers=lambda answer: answer[:-4])
    engine = driver.Dsode(emitted(given, tmp_path), board)
    engine.load()
    with pytest.raises(driver.DriverError, match="bytes came back"):
        engine.infer(images_for(given.network))


def test_wrong_images_are_refused(driver: Any, tmp_path: Path) -> None:
    given = CASES["one stage, narrow rows"]
    engine = driver.Dsode(emitted(given, tmp_path), Board(given))
    engine.load()
    images = images_for(given.network)
    for wrong in (images[0], images[:, :1], images[:0], images[..., 1:]):
        with pytest.raises(driver.DriverError, match="images have shape"):
            engine.infer(wrong)
    for value in (np.nan, np.inf):
        with pytest.raises(driver.DriverError, match="NaN, infinity"):
            engine.infer(np.where(images == images[1, 0, 0, 0], value, images))
    with pytest.raises(driver.DriverError, match="no numbers"):
        engine.infer(images.astype("U5"))


# ------------------------------------------------------------------ the transport of a PYNQ image

class Channel:
    """One direction of pynq's DMA. `stuck` never becomes idle; waiting for it would hang, as pynq's does."""

    def __init__(self, dma: FakeDma) -> None:
        self.dma, self.array, self.idle, self.started, self.waited = dma, None, False, 1, 0
        self.error = False

    def transfer(self, array: Any) -> None:
        assert self.started
        self.array, self.idle = array, False
        self.dma.moved()

    def wait(self) -> None:
        assert self.idle, "pynq would wait here for ever"
        self.waited += 1

    def start(self) -> None:
        self.started += 1


class FakeDma:
    def __init__(self, board: Board) -> None:
        self.board, self.registers = board, {0x00: 0x1, 0x58: 0}
        self.sendchannel, self.recvchannel = Channel(self), Channel(self)
        self.failing = False

    def read(self, offset: int) -> int:
        return self.registers[offset]

    def write(self, offset: int, value: int) -> None:
        assert (offset, value) == (0x00, 0x4)
        for channel in (self.sendchannel, self.recvchannel):
            channel.started, channel.array = 0, None

    def moved(self) -> None:
        send, receive = self.sendchannel, self.recvchannel
        if send.array is None or receive.array is None:
            return
        if self.failing:
            receive.error = True
            return
        try:
            answer = self.board.transfer(send.array.tobytes())
        except TimeoutError:
            send.idle = True
            return
        receive.array[:len(answer)] = np.frombuffer(answer, np.uint8)
        self.registers[0x58] = len(answer)
        send.idle = receive.idle = True
        send.array = receive.array = None


@pytest.fixture
def pynq(monkeypatch: pytest.MonkeyPatch) -> types.SimpleNamespace:
    """A stand-in of the pynq module with one board behind it; `kinds` are the blocks of the bitstream."""
    given = CASES["rows of two beats, colour, strided stem"]
    board = Board(given)
    state = types.SimpleNamespace(given=given, board=board, dma=FakeDma(board), kinds={
        "engine": "hwkit:dsode:dsode_top:1.0", "dma": "xilinx.com:ip:axi_dma:7.1",
        "ps": "xilinx.com:ip:zynq_ultra_ps_e:3.5"})

    class Overlay:
        def __init__(self, bitfile: str) -> None:
            self.dma = state.dma
            self.ip_dict = {name: {"type": kind, "phys_addr": 0xA0000000, "addr_range": 65536}
                            for name, kind in state.kinds.items()}

    module = types.ModuleType("pynq")
    vars(module).update(
        Overlay=Overlay, Clocks=types.SimpleNamespace(fclk0_mhz=187.5),
        MMIO=lambda address, length: types.SimpleNamespace(read=board.read, write=board.write),
        allocate=lambda shape, dtype: np.zeros(shape, dtype))
    monkeypatch.setitem(sys.modules, "pynq", module)
    return state


def test_the_stored_images_run_through_pynqs_dma(pynq: Any, driver: Any, tmp_path: Path,
                                                 capsys: pytest.CaptureFixture[str]) -> None:
    folder = emitted(pynq.given, tmp_path)
    driver.main(["check", str(folder), "design.bit"])
    said = json.loads(capsys.readouterr().out)
    assert (said["differing"], said["outputs"], said["images"]) == (0, 40, 4)
    assert said["expected_cycles"] == schedule.cycles(pynq.given.network, pynq.given.engine)
    assert said["kernel_s"] == pytest.approx(max(said["cycles"]) / 187.5e6)
    assert pynq.dma.recvchannel.waited == 4       # it is what makes the caches see the answer

    images = images_for(pynq.given.network)
    np.save(tmp_path / "images.npy", images)
    driver.main(["run", str(folder), "design.bit", str(tmp_path / "images.npy"), str(tmp_path / "logits.npy")])
    assert np.array_equal(np.load(tmp_path / "logits.npy", allow_pickle=False), pynq.given.network.logits(images))


def test_a_check_that_fails_says_so(pynq: Any, driver: Any, tmp_path: Path) -> None:
    pynq.board.answers = lambda answer: bytes([answer[0] ^ 0x40]) + answer[1:]
    with pytest.raises(SystemExit, match="not those of the integer reference"):
        driver.main(["check", str(emitted(pynq.given, tmp_path)), "design.bit"])


@pytest.mark.parametrize(("how", "message"), [("silent", r"no answer in time \(0\.05 s\)"),
                                              ("failing", "the DMA stopped with an error")])
def test_a_dma_that_never_ends_is_given_up_and_reset(how: str, message: str, pynq: Any, driver: Any,
                                                     tmp_path: Path) -> None:
    folder = emitted(pynq.given, tmp_path)
    engine = driver.Dsode(folder, driver.PynqTransport("design.bit", *driver.sizes(folder), timeout_s=0.05))
    engine.load()
    setattr(pynq.board if how == "silent" else pynq.dma, how, True)
    images = images_for(pynq.given.network)
    with pytest.raises(driver.DriverError, match=message):
        engine.infer(images)
    assert pynq.dma.sendchannel.started == pynq.dma.recvchannel.started == 1
    pynq.board.silent = pynq.dma.failing = pynq.dma.recvchannel.error = False
    engine.load()
    assert np.array_equal(engine.infer(images), pynq.given.network.logits(images))


@pytest.mark.parametrize("kinds", [{"dma": "xilinx.com:ip:axi_dma:7.1"}, {"engine": "hwkit:dsode:dsode_top:1.0"}])
def test_a_bitstream_without_the_blocks_is_refused_before_a_register_is_read(
        kinds: dict[str, str], pynq: Any, driver: Any, tmp_path: Path) -> None:
    pynq.kinds = kinds
    with pytest.raises(SystemExit, match="has 0 blocks"):
        driver.main(["check", str(emitted(pynq.given, tmp_path)), "design.bit"])


def test_missing_images_are_one_line(pynq: Any, driver: Any, tmp_path: Path) -> None:
    with pytest.raises(SystemExit, match="holds no images"):
        driver.main(["run", str(emitted(pynq.given, tmp_path)), "design.bit", "none.npy", "out.npy"])
    with pytest.raises(SystemExit, match="check FOLDER"):
        driver.main(["check"])


# ------------------------------------------------------------------ the folder

def test_the_same_network_gives_the_same_bytes(tmp_path: Path) -> None:
    given = CASES["three stages, odd sizes"]
    names = written(given, tmp_path / "a")
    assert written(given, tmp_path / "b") == names
    files = [p.relative_to(tmp_path / "a") for p in (tmp_path / "a" / "lab").rglob("*") if p.is_file()]
    assert names == sorted(p.as_posix() for p in files)
    assert [n for n in names if (tmp_path / "a" / n).read_bytes() != (tmp_path / "b" / n).read_bytes()] == []
    other = replace(given.network, head=replace(given.network.head, bias=given.network.head.bias + 1))
    written(replace(given, network=other), tmp_path / "c")
    assert [n for n in names if (tmp_path / "a" / n).read_bytes() != (tmp_path / "c" / n).read_bytes()] == [
        "lab/driver/arrays.npz", "lab/driver/check.npz", "lab/driver/design.json"]


def test_everything_says_that_it_was_not_run(tmp_path: Path) -> None:
    given = CASES["three stages, odd sizes"]
    names = written(given, tmp_path)
    for name in names:
        if name.endswith((".md", ".tcl", "design.json")):
            text = (tmp_path / name).read_text()
            assert "not run with vendor tools" in text.lower(), name
            assert "@" not in text, name


def test_registers_are_those_of_the_rtl(tmp_path: Path) -> None:
    header = shipped("hls", "dsode", "rtl", "dsode.sv").read_text().split("module dsode")[0]
    for name, (at, _, _) in lab.REGISTERS.items():
        assert f"0x{at:02X} {name} " in " ".join(header.split())
    assert header.count("//     0x") == len(lab.REGISTERS)
    given = CASES["three stages, odd sizes"]
    written(given, tmp_path)
    readme = (tmp_path / "lab" / "README.md").read_text()
    assert all(f"| 0x{at:02X} | {name} |" in readme for name, (at, _, _) in lab.REGISTERS.items())
    assert f"{schedule.cycles(given.network, given.engine)} cycles" in readme


@pytest.mark.parametrize("changes", [
    {"part": 'x"; exec rm'}, {"part": ""}, {"part": "x[pwd]"}, {"board_part": "a$b"}, {"board_part": "a b"},
    {"clock_hz": 0.0}, {"clock_hz": 5e9}, {"clock_hz": float("nan")}])
def test_names_that_are_tcl_and_clocks_that_are_none_are_refused(changes: dict[str, Any], tmp_path: Path) -> None:
    given = CASES["one stage, narrow rows"]
    arguments = {"part": PART, "clock_hz": 200e6, "folder": tmp_path / "out", **changes}
    with pytest.raises(BadInput):
        lab.emit(given.network, given.engine, given.bits, **arguments)
    assert not (tmp_path / "out").exists()


