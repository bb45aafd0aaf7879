"""Entry point: find the verb, then hand the rest of the line to it.

Nothing heavy is imported before the verb is known, so that `neurofm --help` answers at once.
"""

from __future__ import annotations

import importlib
import os
import sys

from neurofm.schema.errors import NeurofmError, nearest

# verb → (module, what it does, example)
VERBS = {
    "prep": ("neurofm.cli.prep", "raw recordings → shards", "dataset=hcp7"),
    "train": ("neurofm.cli.train", "shards → pretrained model", "experiment=hcp7_masked held_out=101309"),
    "doctor": ("neurofm.cli.doctor", "would this training work? tries it, says what to do", "experiment=hcp7_masked …"),
    "finetune": ("neurofm.cli.finetune", "pretrained model → a new subject's decoder", "checkpoint=runs/…/model"),
    "evaluate": ("neurofm.cli.evaluate", "decoders → scores with baselines, and a report", "benchmark=hcp7"),
    "embed": ("neurofm.cli.embed", "model + shards → one vector per window", "checkpoint=runs/…/model data=hcp7"),
    "decode": ("neurofm.cli.decode", "a decoder on a recording as if it came in now", "checkpoint=… source=night.edf"),
    "list": ("neurofm.cli.list", "what is here by name", "datasets | models | objectives | experiments | benchmarks"),
    "inspect": ("neurofm.cli.inspect", "what is in this folder, and is it whole", "SHARD_DIR | CHECKPOINT"),
}


def usage() -> str:
    """Return the text of `neurofm --help`."""
    lines = ["neurofm: foundation models of neural recordings", "", "usage: neurofm VERB [arguments]", ""]
    lines += [f"  {verb:<9} {what:<52} neurofm {verb} {example}" for verb, (_, what, example) in VERBS.items()]
    lines += [
        "",
        "Arguments of all verbs but the last two are Hydra overrides (key=value, group=choice): `neurofm VERB --help` shows",
        "groups and configuration, `--cfg job` what it resolves to; `--multirun` sweeps, `--config-dir` adds yours.",
    ]
    return "\n".join(lines)


def main(argv: list[str] | None = None) -> int:
    """Run one verb; return the exit status.

    Parameters
    ----------
    argv : list of str, optional
        Verb and its arguments; the process's own by default.
    """
    argv = sys.argv[1:] if argv is None else argv
    if not argv or argv[0] in ("-h", "--help", "help"):
        print(usage())
        return 0
    if argv[0] in ("-V", "--version"):
        from neurofm import __version__

        print(f"neurofm {__version__}")
        return 0
    # idle threads that spin slow small models down many times over on a machine that is shared
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    verb, rest = argv[0], argv[1:]
    if verb not in VERBS:
        print(f"neurofm: unknown verb '{verb}': {nearest(verb, VERBS)}", file=sys.stderr)
        return 2
    try:
        return int(importlib.import_module(VERBS[verb][0]).main(rest) or 0)
    except NeurofmError as error:
        print(f"neurofm {verb}: {error}", file=sys.stderr)
        return 1
    except BrokenPipeError:  # the reader of a pipe, such as `head`, has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except KeyboardInterrupt:
        print(f"neurofm {verb}: interrupted; the same command continues where it stopped", file=sys.stderr)
        return 130


if __name__ == "__main__":
    sys.exit(main())
