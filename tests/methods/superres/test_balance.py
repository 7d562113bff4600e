import numpy as np
import torch
from glands import TINY, make_study

from napari_mtssl.engine.loop import balanced_weights, weighted_sum
from napari_mtssl.images import ImagePool
from napari_mtssl.methods.superres import SuperRes
from napari_mtssl.study import Study


def test_blocks_and_paint_can_be_balanced(made, tmp_path):
    path = make_study(tmp_path / "balance.mtssl", made[:1])
    with Study.open(path) as study:
        code = study.classes("mask")[1].code
        study.paint_mask(study.images()[0].id, 0, 0, np.full((192, 224), code, np.uint16))
        settings = TINY | {"balance": "gradnorm", "balance_start": "first", "exact_weight": 1.0}
        method = SuperRes(SuperRes.configure(**settings), SuperRes.vocabulary_of(study), torch.device("cpu"))
        bank = method.samples(study, ImagePool(), "train")
        method.prepare(bank)
        for step in range(2):
            torch.manual_seed(step)
            output = method.step(bank, step / 3, 4)
            assert set(output.tasks.values()) == {"coarse", "exact"}
            method.network.zero_grad()
            weighted_sum(output.losses, balanced_weights(method, output)).backward()
            method.balancer.learn(method.shared)
        assert (method.balancer.norm > 0).all()
