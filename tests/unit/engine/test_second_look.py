"""What an audit looks at again has maps by the method of the first pass, however many classes are labelled."""

from __future__ import annotations

from pathlib import Path

import cv2
import networks
import numpy as np
import pytest
import torch
from torch import nn

from otx_xai.engine import evidence_job
from otx_xai.engine.evidence_job import how_of, take_evidence
from otx_xai.engine.evidence_pass import Subject, look_of
from otx_xai.engine.explaining import Images
from otx_xai.explain import Explainer
from otx_xai.judging.cases import Known
from otx_xai.model import open_model
from otx_xai.records import ImageInfo
from otx_xai.settings import AuditSettings

CLASSES, SIZE = 7, (48, 64)


@pytest.mark.parametrize("group", [2, 3, 10])
def test_each_labelled_class_gets_its_map(tmp_path: Path, group: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(evidence_job, "_COSTLY_GROUP", group)
    torch.manual_seed(0)
    stages = (nn.Conv2d(3, 8, 3, 4, 1), nn.ReLU(), nn.Conv2d(8, 12, 3, 2, 1), nn.ReLU(), nn.AdaptiveAvgPool2d(1))
    network = nn.Sequential(*stages, nn.Flatten(), nn.Linear(12, CLASSES)).eval()
    model = networks.convert(network, (1, 3, *SIZE))
    images, known, pictures = [], {}, []
    for i in range(CLASSES):
        name = f"{i}.png"
        pictures.append(np.random.default_rng(i).integers(0, 256, (*SIZE, 3)).astype(np.uint8))
        cv2.imwrite(str(tmp_path / name), pictures[-1][..., ::-1])
        images.append(ImageInfo(str(tmp_path / name), name, str(i)))
        known[name] = Known((i,))
    subject = Subject(open_model(model), how_of(AuditSettings(checkpoint="m.xml", data_root=str(tmp_path))), "CPU")
    settings = AuditSettings(checkpoint="m.xml", data_root=str(tmp_path))
    (tmp_path / "out").mkdir()
    data = Images(tuple(images), str(tmp_path))
    done = take_evidence(tmp_path / "out", look_of(subject, settings, data, known), settings, data, known)
    assert done.planned.method == "multistridecam"
    explainer = Explainer(model, explain_method="multistridecam")
    maps = done.evidence.maps
    assert np.all(np.diff(maps.image) >= 0)
    for i, picture in enumerate(pictures):
        row = maps.row(done.evidence.names.index(f"{i}.png"), i)
        assert row is not None
        expected = explainer(picture, [i], resize=False, colormap=False).maps[0]
        np.testing.assert_allclose(maps.grids[row] / 255, expected, atol=0.01)
