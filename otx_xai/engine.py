"""The engine: one method a job, each a list of stages."""

from __future__ import annotations

import hashlib
import json
import logging
import platform
import signal
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, replace
from datetime import datetime
from pathlib import Path
from threading import Event, current_thread, main_thread
from typing import Any

import cv2
import numpy as np
import openvino as ov
from tqdm import tqdm

from otx_xai import __version__
from otx_xai.data import find_images, read_image
from otx_xai.data.datamodule import OTXDataModule
from otx_xai.errors import ConfigError, ImageError, OutputError
from otx_xai.explainer.explanation import PER_IMAGE_MAP, Explanation
from otx_xai.explainer.prepare import Prepared, insert_xai, prepare
from otx_xai.explainer.targets import choose
from otx_xai.ir import embed_preprocessing
from otx_xai.postprocess import fit, to_uint8
from otx_xai.records import (
    ExplainConfig,
    ExplainedImage,
    ImageInfo,
    InputOptions,
    Method,
    TargetExplainGroup,
    Task,
    UInt8Array,
)
from otx_xai.report import Dump, Journal, read_journal, record, write_json
from otx_xai.runtime import Arrays, Session

logger = logging.getLogger("otx_xai")

_WORKSPACE = Path("otx-workspace")
_MODEL_SUFFIXES = (".xml", ".bin")


@dataclass(frozen=True)
class ExplainRun:
    """What a run did.

    Args:
        work_dir: where it wrote.
        images: number of images found.
        explained: number of images explained, those of an earlier, interrupted run included.
        resumed: number of these that an earlier run had explained.
        failures: images that could not be read, name → reason.
        files: number of pictures written.
        seconds: time it took.
        interrupted: whether it was stopped before the last image.
        explanations: one an image, in order, when nothing was dumped: maps are grey ``uint8`` ``(h, w)`` at the
            network's resolution.
    """

    work_dir: Path
    images: int
    explained: int
    resumed: int
    failures: dict[str, str]
    files: int
    seconds: float
    interrupted: bool = False
    explanations: tuple[Explanation, ...] = field(default=(), repr=False)

    def summary(self) -> str:
        """Return a few lines of plain text."""
        rate = (self.explained - self.resumed) / self.seconds if self.seconds else 0.0
        lines = [
            f"Explained {self.explained} of {self.images} images in {self.seconds:.1f} s ({rate:.1f} images/s), "
            f"{self.files} pictures, in {self.work_dir}"
        ]
        if self.resumed:
            lines.append(f"{self.resumed} of them by an earlier run that this one resumed.")
        if self.failures:
            shown = [f"  {name}: {reason}" for name, reason in list(self.failures.items())[:5]]
            more = [f"  … and {len(self.failures) - 5} more, in run.json"] if len(self.failures) > 5 else []
            lines += [f"{len(self.failures)} images failed:", *shown, *more]
        if self.interrupted:
            lines.append("Interrupted: the same command goes on where this one stopped.")
        return "\n".join(lines)


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
        self.work_dir = None if work_dir is None else Path(work_dir)
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
        labels: str | Sequence[str] | None = None,
        input: InputOptions | None = None,
        explain_method: Method | str | None = None,
        target_layer: str | None = None,
        targets: Any = None,
        batch_size: int = 1,
        output_model: str | Path | None = None,
        resume: bool = True,
        **trainer_kwargs: Any,
    ) -> ExplainRun:
        """Explain every image: read, infer, choose the classes, write.

        Writes ``predictions.jsonl`` (a line an image) and ``run.json`` (settings, versions, counts, failures) into the
        work directory, and with ``dump`` the pictures below ``saliency_map``. An interrupted run goes on where it
        stopped when it is called again with the same settings.

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
            resume: go on with an interrupted run of the same settings; else begin anew.
            trainer_kwargs: accepted for the sake of OTX scripts; inference runs in OpenVINO.

        Returns:
            What was done.

        Raises:
            OtxXaiError: see :mod:`otx_xai.errors`; an image that cannot be read is counted and does not end the run.
            KeyboardInterrupt: never; Ctrl-C ends the run after the images on their way, and the result says so.
        """
        if trainer_kwargs:
            logger.warning("%s: not used, explaining runs in OpenVINO.", ", ".join(trainer_kwargs))
        config = explain_config or ExplainConfig()
        model_file = self._checkpoint(checkpoint)
        images = self._images(datamodule, data_root)
        method, targets = _wanted(config, None if explain_method is None else Method(explain_method), targets)
        prepared = prepare(
            model_file,
            task=self.task,
            labels=labels,
            options=input,
            method=method,
            target_layer=target_layer,
            targets=targets,
            threshold=config.predicted_maps_conf_thr,
            batch=_positive(batch_size),
        )
        if output_model is not None:
            _save_model(model_file, Path(output_model), self.task, method, target_layer)
        session = Session(embed_preprocessing(prepared.model, prepared.info), self.device)
        work_dir = _make_work_dir(self.work_dir, "explain")
        settings = {
            "checkpoint": str(model_file),
            "data_root": str(data_root or self.data_root or getattr(datamodule or self.datamodule, "data_root", "")),
            "dump": dump,
            "explain_config": asdict(config),
            "explain_method": method,
            "target_layer": target_layer,
            "targets": targets if targets is None or isinstance(targets, str | int) else [str(t) for t in targets],
            "device": self.device,
            "batch_size": session.batch,
            "model": asdict(prepared.info) | {"labels": len(prepared.info.labels)},
            "labels_sha256": hashlib.sha256("\n".join(prepared.info.labels).encode()).hexdigest(),
        }
        run = _Run(work_dir, settings, _hash(model_file), len(images))
        return run.execute(session, prepared, config, images, dump=dump, resume=resume)

    def _checkpoint(self, checkpoint: str | Path | None) -> Path:
        chosen = checkpoint or self.checkpoint
        if not chosen:
            raise ConfigError(
                "No checkpoint was given; expected a model file (.xml, .onnx or .tflite). Pass it as --checkpoint."
            )
        return Path(chosen)

    def _images(self, datamodule: OTXDataModule | None, data_root: str | Path | None) -> tuple[ImageInfo, ...]:
        root = data_root or (None if datamodule else self.data_root)
        module = datamodule or self.datamodule
        if root is not None:
            return find_images(root)
        if isinstance(module, OTXDataModule):
            return module.images()
        found = "nothing" if module is None else f"a {type(module).__name__}"
        raise ConfigError(
            f"No images were given: found {found}; expected a folder, an image, a list file or a glob as --data_root, "
            f"or an OTXDataModule as datamodule."
        )


class _Run:
    """One run in one work directory: what is done already, what is written, what goes wrong."""

    def __init__(self, work_dir: Path, settings: dict[str, Any], model_hash: str, images: int) -> None:
        self.work_dir = work_dir
        self.images = images
        self.manifest: dict[str, Any] = {
            "status": "running",
            "command": "explain",
            "started": datetime.now().astimezone().isoformat(timespec="seconds"),
            "model_sha256": model_hash,
            "settings": settings,
            "versions": _versions(),
        }
        plain = json.dumps([model_hash, settings], sort_keys=True, default=str)
        self.manifest["fingerprint"] = hashlib.sha256(plain.encode()).hexdigest()

    def execute(
        self,
        session: Session,
        prepared: Prepared,
        config: ExplainConfig,
        images: Sequence[ImageInfo],
        *,
        dump: bool,
        resume: bool,
    ) -> ExplainRun:
        """Stream the images through the model and write what comes out."""
        done = self._done() if resume else []
        names = {line["name"] for line in done}
        todo = [image for image in images if image.name not in names]
        files = sum(len(line["files"]) for line in done)
        writer = Dump(self.work_dir, prepared.info.labels, config, prepared.info.geometry) if dump else None
        explanations: list[Explanation] = []
        failures: dict[str, str] = {}
        explained = len(done)
        self._write_manifest("running", explained, failures)
        start = time.monotonic()

        def read(info: ImageInfo) -> tuple[UInt8Array, tuple[ImageInfo, UInt8Array, float]]:
            began = time.monotonic()
            image = read_image(info.path)
            return fit(image, prepared.info.geometry), (info, image, began)

        def finish(context: tuple[ImageInfo, UInt8Array, float], outputs: Arrays) -> tuple[dict[str, Any], Any]:
            info, image, began = context
            predictions, targets, maps = choose(outputs, prepared.info.labels, prepared.wanted, scaled=prepared.scaled)
            one = ExplainedImage(info, image, predictions, targets, maps)
            written = writer.write(one) if writer else ()
            one = replace(one, seconds=round(time.monotonic() - began, 4))
            return record(one, written, prepared.method), None if writer else _explanation(one, prepared)

        with (
            Journal(self.work_dir / "predictions.jsonl", resume=bool(done)) as journal,
            _interruptible() as stop,
            _one_thread_each(),
            tqdm(
                total=len(images), initial=len(done), unit="img", disable=not sys.stderr.isatty(), smoothing=0.05
            ) as bar,
        ):
            for info, result in session.stream(todo, read, finish, stop=stop):
                if isinstance(result, ImageError):
                    failures[info.name] = str(result)
                    logger.warning("%s", result)
                else:
                    line, explanation = result
                    journal.append(line)
                    files += len(line["files"])
                    explained += 1
                    if explanation is not None:
                        explanations.append(explanation)
                bar.update()
        interrupted = explained + len(failures) < len(images)
        seconds = time.monotonic() - start
        status = "interrupted" if interrupted else "complete"
        self._write_manifest(status, explained, failures, seconds=round(seconds, 3), files=files)
        return ExplainRun(
            work_dir=self.work_dir,
            images=len(images),
            explained=explained,
            resumed=len(done),
            failures=failures,
            files=files,
            seconds=seconds,
            interrupted=interrupted,
            explanations=tuple(explanations),
        )

    def _done(self) -> list[dict[str, Any]]:
        """Return the journal of an unfinished run with the same settings."""
        manifest = self.work_dir / "run.json"
        if not manifest.exists():
            return []
        try:
            before = json.loads(manifest.read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:
            raise OutputError(
                f"{manifest} cannot be read ({error}); expected the manifest of an earlier run. Remove it, or choose "
                f"another --work_dir."
            ) from error
        if before.get("fingerprint") != self.manifest["fingerprint"] or before.get("status") == "complete":
            return []
        done = read_journal(self.work_dir / "predictions.jsonl")
        if done:
            logger.info("Resuming: %d of %d images are done.", len(done), self.images)
        return done

    def _write_manifest(self, status: str, explained: int, failures: dict[str, str], **more: Any) -> None:
        self.manifest |= {
            "status": status,
            "counts": {"images": self.images, "explained": explained, "failed": len(failures)},
            "failures": [{"name": name, "error": error} for name, error in failures.items()],
            **more,
        }
        write_json(self.work_dir / "run.json", json.loads(json.dumps(self.manifest, default=str)))


def _wanted(config: ExplainConfig, method: Method | None, targets: Any) -> tuple[Method | None, Any]:
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


def _explanation(one: ExplainedImage, prepared: Prepared) -> Explanation:
    keys: list[int | str] = [PER_IMAGE_MAP if target.target == -1 else target.target for target in one.targets]
    maps = dict(zip(keys, to_uint8(one.maps), strict=True))
    return Explanation(maps, prepared.info.labels, one.predictions, one.info.name)


def _positive(batch_size: int) -> int:
    if batch_size < 1:
        raise ConfigError(f"batch_size is {batch_size}; expected at least 1.")
    return batch_size


def _save_model(
    model_file: Path, output_model: Path, task: Task | None, method: Method | None, target_layer: str | None
) -> None:
    """Save the model with its saliency branch; the pair of files appears whole or not at all."""
    if output_model.suffix.lower() != ".xml":
        raise ConfigError(f"output_model is {str(output_model)!r}; expected the name of an .xml file.")
    model = insert_xai(model_file, task or Task.CLASSIFICATION, method, target_layer)
    parts = [output_model.with_name(f".{output_model.stem}.part{suffix}") for suffix in _MODEL_SUFFIXES]
    try:
        output_model.parent.mkdir(parents=True, exist_ok=True)
        ov.save_model(model, parts[0], compress_to_fp16=False)
        for part, suffix in reversed(list(zip(parts, _MODEL_SUFFIXES, strict=True))):
            part.replace(output_model.with_suffix(suffix))
    except (OSError, RuntimeError) as error:
        raise OutputError(
            f"The model cannot be saved to {output_model}: {error}. Expected a folder that can be written to; choose "
            f"another --output_model."
        ) from error
    logger.info("Saved the model with its saliency_map to %s.", output_model)


def _make_work_dir(chosen: Path | None, command: str) -> Path:
    """Create the folder of a run; without a choice a new one, linked to as the latest."""
    work_dir = chosen or _WORKSPACE / datetime.now().strftime("%Y%m%d_%H%M%S_%f")
    try:
        work_dir.mkdir(parents=True, exist_ok=True)
        if chosen is None:
            latest = _WORKSPACE / ".latest" / command
            latest.parent.mkdir(exist_ok=True)
            latest.unlink(missing_ok=True)
            latest.symlink_to(work_dir.resolve(), target_is_directory=True)
    except OSError as error:
        raise OutputError(
            f"The work directory {work_dir} cannot be made: {error}. Expected a folder that can be written to; choose "
            f"another --work_dir."
        ) from error
    return work_dir


def _hash(model_file: Path) -> str:
    """Return the SHA-256 of a model file and its weights."""
    digest = hashlib.sha256()
    for path in (model_file, model_file.with_suffix(".bin")):
        if path.exists() and (path == model_file or model_file.suffix.lower() == ".xml"):
            with path.open("rb") as file:
                while block := file.read(2**22):
                    digest.update(block)
    return digest.hexdigest()


def _versions() -> dict[str, str]:
    return {
        "otx_xai": __version__,
        "openvino": ov.get_version(),
        "numpy": np.__version__,
        "opencv": cv2.__version__,
        "python": platform.python_version(),
    }


@contextmanager
def _interruptible() -> Iterator[Event]:
    """Give an event that the first Ctrl-C (or SIGTERM) sets; a second one interrupts as ever."""
    stop = Event()
    if current_thread() is not main_thread():
        yield stop
        return
    before = {int(number): signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}

    def on_signal(number: int, _frame: object) -> None:
        stop.set()
        signal.signal(number, before[number])

    for number in before:
        signal.signal(number, on_signal)
    try:
        yield stop
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


@contextmanager
def _one_thread_each() -> Iterator[None]:
    """Keep OpenCV from starting threads of its own inside each of ours."""
    before = cv2.getNumThreads()
    cv2.setNumThreads(1)
    try:
        yield
    finally:
        cv2.setNumThreads(before)
