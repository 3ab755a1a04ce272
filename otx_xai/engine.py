"""The engine: one method a job, each a list of stages."""

from __future__ import annotations

import hashlib
import logging
import os
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import asdict
from datetime import datetime
from pathlib import Path
from typing import Any, TypeGuard

import openvino as ov

from otx_xai.data import find_images
from otx_xai.data.datamodule import OTXDataModule
from otx_xai.errors import ConfigError, OutputError
from otx_xai.explainer.prepare import Prepared, insert_xai, prepare
from otx_xai.ir import embed_preprocessing
from otx_xai.ir.read import first_line
from otx_xai.records import (
    ExplainConfig,
    InputOptions,
    Method,
    TargetExplainGroup,
    Task,
)
from otx_xai.report.manifest import Manifest, write_config
from otx_xai.run import ExplainRun, Run
from otx_xai.runtime import Session

__all__ = ["Engine", "ExplainRun"]

logger = logging.getLogger("otx_xai")

_WORKSPACE = Path("otx-workspace")


class Engine:
    """Runs the jobs of a model: this version explains.

    Args:
        work_dir: folder of results; by default ``otx-workspace/<timestamp>``, which ``otx-workspace/.latest/explain``
            links to.
        checkpoint: model file, where a method is not given one.
        data_root: images, where a method is not given any.
        datamodule: likewise.
        task: what the model does, where it does not tell.
        device: OpenVINO device: ``CPU``, ``GPU``, ``NPU``, ``AUTO``, …

    Raises:
        ConfigError: there is no such task.
    """

    def __init__(
        self,
        work_dir: str | Path | None = None,
        *,
        checkpoint: str | Path | None = None,
        data_root: str | Path | None = None,
        datamodule: OTXDataModule | None = None,
        task: Task | str | None = None,
        device: str = "CPU",
    ) -> None:
        self.work_dir = None if work_dir is None else Path(work_dir).expanduser()
        self.checkpoint = checkpoint
        self.data_root = data_root
        self.datamodule = datamodule
        self.task = None if task is None else Task(task)
        self.device = device

    def explain(
        self,
        checkpoint: str | Path | None = None,
        datamodule: OTXDataModule | None = None,
        explain_config: ExplainConfig | None = None,
        dump: bool = False,
        *,
        data_root: str | Path | None = None,
        labels: str | Path | Sequence[str] | None = None,
        input: InputOptions | None = None,
        explain_method: Method | str | None = None,
        target_layer: str | None = None,
        targets: Any = None,
        batch_size: int = 1,
        output_model: str | Path | None = None,
        resume: bool = True,
        seed: int = 0,
        keep_explanations: bool = True,
        **trainer_kwargs: Any,
    ) -> ExplainRun:
        """Explain every image: read, infer, choose the classes, write.

        Writes ``predictions.jsonl`` (a line an image), ``run.json`` (settings, versions, counts, failures) and
        ``config.yaml`` (what ``otx explain --config`` repeats the run with) into the work directory, and with ``dump``
        the pictures below ``saliency_map``. An interrupted run goes on where it stopped when it is called again with
        the same settings.

        Args:
            checkpoint: model file: ``.xml``, ``.onnx`` or ``.tflite``.
            datamodule: images.
            explain_config: which maps, and which pictures of them.
            dump: write pictures. Without it the result holds the explanations.
            data_root: images: a folder (recursive), one image, a list file, or a glob pattern.
            labels: class names: a file with one a line, or ``a,b,c``, where the model does not tell.
            input: what to feed the model, where it does not tell.
            explain_method: ``reciprocam``, ``vitreciprocam`` or ``activationmap``; chosen by the graph by default.
            target_layer: layer to perturb, by name; found by default.
            targets: ``predicted`` (the default: classes above the threshold, the best one where none is), ``-1`` for
                all classes, class names or indices. Overrides ``explain_config.target_explain_group``.
            batch_size: images an inference, where the model leaves its batch open.
            output_model: also save the model with its ``saliency_map`` output (all classes) to this ``.xml``.
            resume: go on with an interrupted run of the same settings; else begin anew. A run that has explanations
                to return always begins anew.
            seed: of random methods; this version has none.
            keep_explanations: without ``dump``, return the explanations. Their memory grows with the number of images.
            trainer_kwargs: accepted for the sake of OTX scripts; inference runs in OpenVINO.

        Returns:
            What was done.

        Raises:
            OtxXaiError: see :mod:`otx_xai.errors`; an image that fails is counted and does not end the run. The first
                Ctrl-C is no error either: the run ends after the images on their way, and the result says so.
        """
        if trainer_kwargs:
            logger.warning("%s: not used, explaining runs in OpenVINO.", ", ".join(trainer_kwargs))
        config, options = explain_config or ExplainConfig(), input or InputOptions()
        method, wanted = _reconcile(config, None if explain_method is None else Method(explain_method), targets)
        model_file, root = self._checkpoint(checkpoint), self._data_root(datamodule, data_root)
        images = find_images(root)
        prepared = prepare(
            model_file,
            task=self.task,
            labels=labels,
            options=options,
            method=method,
            target_layer=target_layer,
            targets=wanted,
            threshold=config.predicted_maps_conf_thr,
            batch=_positive(batch_size),
        )
        if output_model is not None:
            _save_model(model_file, Path(output_model), self.task, method, target_layer)
        session = Session(embed_preprocessing(prepared.model, prepared.info), self.device)
        work_dir = _make_work_dir(self.work_dir, "explain")
        keep = keep_explanations and not dump
        arguments = {
            "work_dir": _absolute(work_dir),
            "checkpoint": _absolute(model_file),
            "data_root": _absolute(root),
            "task": self.task,
            "device": self.device,
            "labels": _absolute(labels) if _is_file(labels) else labels,
            "input": asdict(options),
            "explain_method": explain_method,
            "target_layer": target_layer,
            "targets": targets,
            "batch_size": batch_size,
            "explain_config": asdict(config),
            "dump": dump,
            "output_model": output_model and _absolute(output_model),
            "resume": resume,
            "seed": seed,
        }
        write_config(work_dir, arguments)
        manifest = Manifest(work_dir, "explain", _settings(arguments, prepared, session), model_file, len(images))
        run = Run(work_dir, manifest, prepared, config, images, dump=dump, keep=keep)
        return run.execute(session, resume=resume and not keep)

    def _checkpoint(self, checkpoint: str | Path | None) -> Path:
        chosen = checkpoint or self.checkpoint
        if not chosen:
            raise ConfigError(
                "No checkpoint was given; expected a model file (.xml, .onnx or .tflite). Pass it as --checkpoint."
            )
        return Path(chosen).expanduser()

    def _data_root(self, datamodule: OTXDataModule | None, data_root: str | Path | None) -> str | Path:
        """Return where the images are: what this call was given outranks what the engine was made with."""
        for root in (data_root, getattr(datamodule, "data_root", None), self.data_root):
            if root:
                return root
        root = getattr(self.datamodule, "data_root", None)
        if root:
            return Path(root)
        raise ConfigError(
            "No images were given; expected a folder, an image, a list file or a glob. Pass it as --data_root, or pass "
            "an OTXDataModule."
        )


# ---------------------------------------------------------------------------------------------------------------------
# What the user asks for.


def _reconcile(config: ExplainConfig, method: Method | None, targets: Any) -> tuple[Method | None, Any]:
    """Reconcile ``target_explain_group`` with the method and the targets."""
    group = config.target_explain_group
    if group is TargetExplainGroup.IMAGE and targets is None:
        if method not in (None, Method.ACTIVATIONMAP):
            raise ConfigError(
                f"explain_config.target_explain_group IMAGE asks for one map an image, explain_method {method} gives "
                f"one a class. Use {Method.ACTIVATIONMAP}, or another group."
            )
        return Method.ACTIVATIONMAP, None
    if targets is None and group is TargetExplainGroup.ALL:
        return method, -1
    return method, targets


def _positive(batch_size: int) -> int:
    if batch_size < 1:
        raise ConfigError(f"--batch_size is {batch_size}; expected at least 1.")
    return batch_size


# ---------------------------------------------------------------------------------------------------------------------
# What the run leaves behind, apart from its results.


def _absolute(path: str | Path) -> str:
    return os.path.abspath(os.path.expanduser(path))


def _is_file(labels: Any) -> TypeGuard[str | Path]:
    return isinstance(labels, str | Path) and os.path.isfile(os.path.expanduser(labels))


def _settings(arguments: dict[str, Any], prepared: Prepared, session: Session) -> dict[str, Any]:
    """Return everything that decides the results: the arguments, and what was found out about the model."""
    irrelevant = ("work_dir", "output_model", "resume")
    settings = {name: value for name, value in arguments.items() if name not in irrelevant}
    return settings | {
        "labels": len(prepared.info.labels),
        "labels_sha256": hashlib.sha256("\n".join(prepared.info.labels).encode()).hexdigest(),
        "method": prepared.method,
        "batch_size": session.batch,
        "model": asdict(prepared.info) | {"labels": len(prepared.info.labels)},
    }


def _save_model(
    model_file: Path, output_model: Path, task: Task | None, method: Method | None, target_layer: str | None
) -> None:
    """Save the model with its saliency branch; the ``.xml``, which comes last, never lacks its ``.bin``."""
    if output_model.suffix.lower() != ".xml":
        raise ConfigError(f"--output_model is {str(output_model)!r}; expected the name of an .xml file.")
    if output_model.exists() and output_model.samefile(model_file):
        raise ConfigError(f"--output_model {output_model} is the checkpoint itself; expected another name.")
    model = insert_xai(model_file, task or Task.CLASSIFICATION, method, target_layer)
    part = output_model.with_name(f".{output_model.stem}.part.xml")
    try:
        output_model.parent.mkdir(parents=True, exist_ok=True)
        ov.save_model(model, part, compress_to_fp16=False)
        for suffix in (".bin", ".xml"):
            part.with_suffix(suffix).replace(output_model.with_suffix(suffix))
    except (OSError, RuntimeError) as error:
        reason = error.strerror if isinstance(error, OSError) else first_line(error)
        raise OutputError(
            f"The model cannot be saved to {output_model}: {reason}. Expected a folder that can be written to; choose "
            f"another --output_model."
        ) from error
    finally:
        for suffix in (".bin", ".xml"):
            with suppress(OSError):
                part.with_suffix(suffix).unlink(missing_ok=True)
    logger.info("Saved the model with its saliency_map to %s.", output_model)


def _make_work_dir(chosen: Path | None, command: str) -> Path:
    """Create the folder of a run; without a choice a new one, linked to as the latest."""
    work_dir = chosen or _WORKSPACE / datetime.now().strftime("%Y%m%d_%H%M%S_%f")
    try:
        work_dir.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise OutputError(
            f"The work directory {work_dir} cannot be made: {error.strerror}. Expected a folder that can be written "
            f"to; choose another --work_dir."
        ) from error
    if chosen is None:
        _link_latest(work_dir, _WORKSPACE / ".latest" / command)
    return work_dir


def _link_latest(work_dir: Path, latest: Path) -> None:
    try:
        latest.parent.mkdir(exist_ok=True)
        latest.unlink(missing_ok=True)
        latest.symlink_to(Path("..") / work_dir.name, target_is_directory=True)
    except OSError as error:  # a convenience, which some file systems do not have
        logger.warning("%s does not lead to the latest run: %s.", latest, error.strerror)
