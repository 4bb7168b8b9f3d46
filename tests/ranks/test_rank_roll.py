"""How ranks find each other: the environment of mlx.launch, the roll, the watch."""

import socket
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import pytest

from magistral_mlx.errors import EngineError, RequestError
from magistral_mlx.machine import GIB
from magistral_mlx.ranks.launch import Launch, find_launch, is_follower
from magistral_mlx.ranks.leading_team import least_limit
from magistral_mlx.ranks.line import Line, Message, Watch
from magistral_mlx.ranks.roll import Presence, Roll, answer_roll, call_roll
from tests.ranks.rank_processes import free_ports, rank_environment

ZERO = Presence(0, "one", 16 * GIB, "1.0", "small", "abc")
ONE = replace(ZERO, rank=1, machine="two")


@pytest.fixture
def launch() -> Launch:
    return Launch(0, 2, "ring", "127.0.0.1", free_ports(1))


def test_the_ring_of_mlx_launch_is_found_with_a_port_beside_its_own(tmp_path: Path) -> None:
    environment = rank_environment(tmp_path, 1, 3, port=32323)
    assert find_launch(environment) == Launch(1, 3, "ring", "127.0.0.1", 32326)
    assert is_follower(environment)
    assert not is_follower(rank_environment(tmp_path, 0, 3, port=32323))


def test_jaccl_is_found_by_its_coordinator(tmp_path: Path) -> None:
    devices = tmp_path / "devices.json"
    devices.write_text('[[null, "rdma_en5"], ["rdma_en5", null]]')
    environment = {
        "MLX_RANK": "0",
        "MLX_IBV_DEVICES": str(devices),
        "MLX_JACCL_COORDINATOR": "192.168.0.7:32323",
    }
    assert find_launch(environment) == Launch(0, 2, "jaccl", "192.168.0.7", 32324)


def test_a_process_on_its_own_is_no_rank(tmp_path: Path) -> None:
    assert find_launch({}) is None
    assert find_launch(rank_environment(tmp_path, 0, 1, port=32323)) is None
    (tmp_path / "empty").write_text("\n")
    assert find_launch({"MLX_RANK": "0", "MLX_HOSTFILE": str(tmp_path / "empty")}) is None


def test_another_back_end_is_refused() -> None:
    with pytest.raises(RequestError, match="--backend ring or --backend jaccl"):
        find_launch({"MLX_RANK": "0", "NCCL_HOST_IP": "127.0.0.1"})


def test_a_stranger_who_connects_does_not_take_a_rank_s_place(launch: Launch) -> None:
    with ThreadPoolExecutor(2) as pool:
        called = pool.submit(call_roll, launch, ZERO, seconds=20)
        stranger = connected(launch)
        stranger.sendall(b"GET / HTTP/1.1\r\n\r\n")
        line = answer_roll(replace(launch, rank=1), ONE)
        roll = called.result()
        assert roll.present == {0: ZERO, 1: ONE}
        assert stranger.recv(1) == b""
        stranger.close()
        close(roll, line)


@pytest.mark.parametrize(
    ("other", "refusal"),
    [
        (replace(ONE, fingerprint="xyz", model="other"), r"another checkpoint \(other\)"),
        (replace(ONE, version="0.9"), "magistral-mlx 0.9 and rank 0 1.0"),
    ],
)
def test_another_checkpoint_or_version_is_refused_on_both_sides(
    launch: Launch, other: Presence, refusal: str
) -> None:
    with ThreadPoolExecutor(1) as pool:
        called = pool.submit(call_roll, launch, ZERO, seconds=20)
        with pytest.raises(RequestError, match=refusal):
            answer_roll(replace(launch, rank=1), other)
        with pytest.raises(RequestError, match=refusal):
            called.result()


def test_ranks_that_do_not_come_are_named(launch: Launch) -> None:
    with pytest.raises(EngineError, match=r"Rank 1, 2 did not come in 0\.1 seconds"):
        call_roll(replace(launch, size=3), ZERO, seconds=0.1)
    with pytest.raises(EngineError, match="Rank 0 did not come"):
        answer_roll(replace(launch, rank=1), ONE, seconds=0.1)


def test_a_rank_that_goes_is_lost_and_one_that_parts_is_not() -> None:
    assert what_is_seen_of(Watch.cut) == ["lost 1"]
    assert what_is_seen_of(Watch.close) == ["bye"]


def test_ranks_on_one_machine_share_its_memory_and_the_smallest_decides() -> None:
    two = {0: ZERO, 1: ONE}
    assert least_limit(two).bytes == 16 * GIB
    assert least_limit({0: ZERO, 1: replace(ONE, machine="one")}).bytes == 8 * GIB
    small = least_limit({0: ZERO, 1: replace(ONE, memory=9 * GIB)})
    assert small.bytes == 9 * GIB
    assert "rank 1" in small.source


def what_is_seen_of(end: Callable[[Watch], None]) -> list[str]:
    with socket.create_server(("127.0.0.1", 0)) as server:
        other_line = Line(socket.create_connection(server.getsockname()))
        one_line = Line(server.accept()[0])
    seen: list[str] = []
    noticed = threading.Event()

    def note(what: str) -> None:
        seen.append(what)
        noticed.set()

    def take(_: int, message: Message) -> None:
        note(str(message[0]))

    Watch({1: one_line}, take=take, lost=lambda rank, _: note(f"lost {rank}"))
    gone = Watch({0: other_line}, take=lambda *_: None, lost=lambda *_: None)
    end(gone)
    assert noticed.wait(20)
    time.sleep(0.05)  # nothing follows
    one_line.close()
    return seen


def connected(launch: Launch) -> socket.socket:
    end = time.monotonic() + 20
    while True:
        try:
            return socket.create_connection((launch.host, launch.port), timeout=20)
        except OSError:
            assert time.monotonic() < end
            time.sleep(0.01)


def close(roll: Roll, line: Line) -> None:
    line.close()
    for other in roll.lines.values():
        other.close()
