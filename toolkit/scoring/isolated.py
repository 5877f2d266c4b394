"""HPS and ImageReward: their packages live in environments of their own."""

from functools import partial

from toolkit.scoring.scorer import Scorer, WeightFile
from toolkit.scoring.worker_client import load_remote


def _hps(name: str, short: str, version: str, file: str) -> Scorer:
    return Scorer(
        name,
        f"HPS {version}, ViT-H/14, through hpsv2",
        short,
        partial(load_remote, environment="hps", worker="hps", version=version),
        needs=(WeightFile("model", f"HPS {version}'s checkpoint", (file,), "xswu/HPSv2"),),
        environment="hps",
        trained_on=("hpd",),
    )


HPS = _hps("hps", "HPS", "v2.1", "HPS_v2.1_compressed.pt")
HPS_V20 = _hps("hps_v2.0", "HPS 2.0", "v2.0", "HPS_v2_compressed.pt")
IMAGE_REWARD = Scorer(
    "image_reward",
    "ImageReward v1.0, BLIP-L, through image-reward",
    "IR",
    partial(load_remote, environment="image_reward", worker="image_reward"),
    needs=(
        WeightFile(
            "model", "ImageReward v1.0's checkpoint", ("ImageReward.pt",), "THUDM/ImageReward"
        ),
        WeightFile(
            "tokenizer",
            "a folder with bert-base-uncased's vocab.txt",
            ("bert-base-uncased",),
            "google-bert/bert-base-uncased",
            folder=True,
        ),
    ),
    environment="image_reward",
    trained_on=("imagereward",),
)
