"""Print the tested people of conf/data/ieeg_few_shot.yaml, separated by commas: python scripts/new_people.py [overrides]."""

import sys

from hydra import compose, initialize_config_dir
from omegaconf import OmegaConf

from neurofm.cli.conf import conf_dir
from neurofm.data.dataset import Dataset
from neurofm.data.split_rules import make_split

with initialize_config_dir(str(conf_dir()), version_base="1.3"):
    config = compose("train", overrides=["data=ieeg_few_shot", *sys.argv[1:]])
data = OmegaConf.to_container(config.data, resolve=True)
dataset = Dataset(data["path"])
split = make_split(dataset, **data["split"])
print(",".join(f"'{s}'" for s in sorted({dataset.subject(x.recording_id) for x in split["test"]})))
