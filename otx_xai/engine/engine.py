"""The engine: one method a job, each a list of stages."""

from __future__ import annotations

from otx_xai.engine.explaining_jobs import ExplainingJobs
from otx_xai.engine.judging_jobs import JudgingJobs
from otx_xai.engine.training_jobs import TrainingJobs


class Engine(TrainingJobs, ExplainingJobs, JudgingJobs):
    """Runs the jobs of a model: train, test, predict, export, explain, judge, audit.

    Every job but two writes into a folder of its own, ``<work_dir>/<timestamp>``, which ``<work_dir>/.latest/<job>``
    links to; explaining and auditing write into ``work_dir`` itself, so that they can be resumed.

    Args:
        model: what is trained: a model of :mod:`otx_xai.models`, the name of an architecture, or what a recipe says of
            one (``class_path`` and ``init_args``). To be explained, also any ``nn.Module`` or LightningModule, and the
            class of a checkpoint as ``package.module:Class``.
        datamodule: images and their annotations, where a method is not given any.
        task: what the model does, where it does not tell.
        work_dir: folder of results; ``otx-workspace`` by default.
        checkpoint: model file, where a method is not given one; the newest one that was trained in ``work_dir`` by
            default.
        device: OpenVINO device for explaining: ``CPU``, ``GPU``, ``NPU``, ``AUTO``, …; training runs on what
            Lightning's ``accelerator`` says, ``auto`` by default.
        data_root: images, where a method is not given any.
        trainer_arguments: of Lightning's ``Trainer``: ``max_epochs``, ``callbacks``, ``logger``, …

    Raises:
        ConfigError: there is no such task, or the name of the folder is empty.
    """
