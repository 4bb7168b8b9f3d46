"""A server that is killed in the middle of an answer loses a second of it, not more."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from magistral_mlx.app.store.branches import shown_path
from magistral_mlx.app.store.store import Store

ANSWERING = """
import sys
from pathlib import Path
from magistral_mlx import GenerationOptions, open_model
from magistral_mlx.app.runs.registry import RunRegistry
from magistral_mlx.app.store.records import StoredMessage
from magistral_mlx.app.store.store import Store

store = Store(Path(sys.argv[1]))
conversation = store.create_conversation("c").id
question = store.add_message(StoredMessage(
    conversation=conversation, parent=None, role="user", content="What is 12 + 30?"
))
endless = GenerationOptions(ignore_eos=True, stop_repetition=False)
with open_model("demo") as model:
    run = RunRegistry(store, grace=None).start(model, question.id, endless)
    snapshot = run.snapshot()
    while not snapshot.ended:
        snapshot = run.wait(snapshot.version, 1)
        chain = snapshot.chains[0]
        characters = len(chain.reasoning) + len(chain.answer)
        print(f"{chain.figures.total_seconds} {characters}", flush=True)
"""


@pytest.mark.slow
def test_a_killed_server_keeps_what_was_written_a_second_before(tmp_path: Path) -> None:
    command = [sys.executable, "-c", ANSWERING, str(tmp_path)]
    server = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    assert server.stdout is not None
    written: list[tuple[float, int]] = []
    for line in server.stdout:
        seconds, characters = line.split()
        written.append((float(seconds), int(characters)))
        # Text that is three seconds old: two saves should have come since.
        if sum(characters > 0 and written[-1][0] - at > 3 for at, characters in written) > 3:
            break
    os.kill(server.pid, signal.SIGKILL)
    server.wait()
    server.stdout.close()
    store = Store(tmp_path)
    turns = shown_path(store, store.conversations()[0].id)
    answer = turns[-1].message
    due = max(characters for at, characters in written if written[-1][0] - at > 3)
    assert len(answer.content) + len(answer.reasoning or "") >= due > 0
    assert answer.ending is None
