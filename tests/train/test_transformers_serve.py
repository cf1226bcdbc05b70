"""Two steps of the online trainer with `transformers serve` as engine: a real server, given new weights each time."""

import contextlib
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from pathlib import Path

import pytest
import torch
from transformers.utils.import_utils import is_serve_available

from tiny_training import FORM, TOKENIZER
from train.test_rollout_engines import SAMPLING, checked, make, policy
from trueup.models.live_weights import checkpoint_weights
from trueup.models.policy_checkpoints import PolicyCheckpoint
from trueup.policies.server_engine import ServerEngine, ServerSettings

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not is_serve_available(), reason='needs pip install "transformers[serving]"'),
]


@pytest.fixture(scope="module")
def address(tmp_path_factory):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    words = ["serve", "--host", "127.0.0.1", "--port", str(port), "--device", "cpu"]
    log = (tmp_path_factory.mktemp("serve") / "log.txt").open("w")
    server = subprocess.Popen([str(Path(sys.executable).with_name("transformers")), *words], stdout=log, stderr=log)
    try:
        for _ in range(240):
            with contextlib.suppress(urllib.error.URLError, OSError):
                urllib.request.urlopen(f"http://127.0.0.1:{port}/health", timeout=5).close()
                break
            assert server.poll() is None, Path(log.name).read_text()
            time.sleep(0.5)
        yield f"http://127.0.0.1:{port}"
    finally:
        server.terminate()
        server.wait()
        log.close()


def engine_of(address, folder, model):
    settings = ServerSettings(url=address, model="{folder}", folder=str(folder / "served-{number}"), attempts=2)
    return ServerEngine(checkpoint=PolicyCheckpoint(model, TOKENIZER, FORM), sampling=SAMPLING, settings=settings)


def test_two_steps(tmp_path, address):
    model = policy()
    trainer = make(tmp_path, model, engine_of(address, tmp_path, model))
    seen = checked(trainer)
    trainer.train()
    assert len(seen) == 2
    assert max(seen) < 1e-4


def test_replies_differ_and_follow_the_weights(tmp_path, address):
    """It draws rather than takes the likeliest token, and with weights that want one token it says nothing else."""
    model = policy().float()
    engine = engine_of(address, tmp_path, model)
    engine.renew(checkpoint_weights(model))
    _, [replies] = engine.draw(["A prompt"], 4, seed=0)
    assert len({reply.ids for reply in replies}) > 1
    letter = TOKENIZER.convert_tokens_to_ids("x")
    core = model.core
    with torch.no_grad():  # the state before the output layer is the same for every token, and the letter's alone
        core.get_input_embeddings().weight.fill_(1.0)
        for layer in core.model.layers:
            layer.self_attn.o_proj.weight.zero_()
            layer.mlp.down_proj.weight.zero_()
        core.get_output_embeddings().weight.zero_()
        core.get_output_embeddings().weight[letter] = 10.0
    engine.renew(checkpoint_weights(model))
    _, [replies] = engine.draw(["A prompt"], 4, seed=0)
    assert {TOKENIZER.decode(reply.ids) for reply in replies} == {"x" * SAMPLING.max_new_tokens}
