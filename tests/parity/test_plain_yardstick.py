"""The frozen plain form of scripts/bench computes the same layer, so that its ratios compare like with like."""

import importlib.util
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from neurofm.nn.mvpa import MultivariateParallelAttention

SCRIPTS = Path(__file__).parents[2] / "scripts"


def plain_class():
    spec = importlib.util.spec_from_file_location("plain_mvpa", SCRIPTS / "bench" / "plain_mvpa.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.PlainMVPA


@pytest.mark.parametrize("backend", ["math", "sdpa"])
@pytest.mark.parametrize("n_kv_heads", [4, 2])
def test_plain_form_equals_ours(backend, n_kv_heads):
    torch.manual_seed(0)
    choices = dict(n_heads=4, n_kv_heads=n_kv_heads, content_window=2)
    plain = plain_class()(16, **choices).double()
    ours = MultivariateParallelAttention(16, **choices, backend=backend).double()
    ours.load_state_dict(plain.state_dict())
    inputs = [torch.randn(*shape).double().requires_grad_() for shape in ((2, 6, 5, 16), (6, 16), (5, 16))]
    weight = torch.randn(2, 6, 5, 16).double()
    results = []
    for layer in (plain, ours):
        out = layer(*inputs)
        parameters = dict(layer.named_parameters())
        grads = torch.autograd.grad((out * weight).sum(), [*inputs, *(parameters[name] for name in sorted(parameters))])
        results.append([out, *grads])
    for theirs, mine in zip(*results, strict=True):
        assert (theirs - mine).abs().max() <= 1e-10 * theirs.abs().max()


def test_one_case_of_the_benchmark_runs():
    command = [sys.executable, str(SCRIPTS / "bench" / "mvpa.py"), "--threads", "1", "--case", "auto", "4", "3"]
    env = {**os.environ, "PYTHONPATH": str(SCRIPTS.parent)}
    done = subprocess.run(command, capture_output=True, text=True, env=env, timeout=120)
    assert done.returncode == 0, done.stderr
    assert '"seconds"' in done.stdout
    assert '"mb"' in done.stdout


@pytest.mark.skipif(torch.cuda.is_available(), reason="asks what happens without a CUDA device")
def test_gpu_check_says_so_where_there_is_no_device():
    env = {**os.environ, "PYTHON": sys.executable}
    done = subprocess.run(["bash", str(SCRIPTS / "gpu_check.sh")], capture_output=True, text=True, env=env, timeout=120)
    assert (done.returncode, done.stdout) == (0, "gpu_check: no CUDA device here, so nothing was checked.\n")
