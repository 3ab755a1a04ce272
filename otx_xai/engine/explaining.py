"""Stages of ``Engine.explain``: what the user asks for, and what a run leaves behind apart from its results."""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import openvino as ov

from otx_xai.data.loaders import find_loader, first_pixels, image_count, image_names
from otx_xai.engine.precision_choice import settled
from otx_xai.errors import ConfigError, GraphError, LabelError, OutputError
from otx_xai.explain.insertion import insert, why_no_branch
from otx_xai.explain.plan import Plan
from otx_xai.explain.run import Run
from otx_xai.explain.targets import BOXES
from otx_xai.methods.class_gradients import MOST_CLASSES
from otx_xai.methods.spec import Order
from otx_xai.methods.table import find_method
from otx_xai.model import Model, ModelOptions, open_for_insertion
from otx_xai.model.used_info import tell_of_use
from otx_xai.openvino_core import first_line
from otx_xai.postprocess.geometry import spares_size
from otx_xai.records import (
    Decode,
    ExplainMode,
    ImageInfo,
    Method,
    ModelFacts,
    Precision,
    Size,
    TargetExplainGroup,
    Targets,
)
from otx_xai.report.manifest import Manifest, write_config
from otx_xai.report.tar_shelf import Packing
from otx_xai.runtime import Session
from otx_xai.settings import ExplainSettings, absolute
from otx_xai.shards.shard_plan import PLAN, has_plan
from otx_xai.storage import Place

logger = logging.getLogger("otx_xai")


@dataclass(frozen=True, eq=False)
class Opened:
    """All that a run of explaining needs before its first image.

    Args:
        settings: what repeats the run.
        options: what is said of the model.
        source: the model.
        planned: what explains.
        session: it, compiled.
        digest: SHA-256 of the content of the model.
        data: the images.
    """

    settings: ExplainSettings
    options: ModelOptions
    source: Any
    planned: Plan
    session: Session
    digest: str
    data: Images


@dataclass(frozen=True)
class Images:
    """The images of an explain run.

    Args:
        images: all of them, in order.
        root: where they are, for the record; empty where a loader holds them.
        loader: what gives their pixels; ``None``: they are files.
        labels: class names that the data knows; empty: none.
        size: of the tensors of a loader that normalises.
        normalised: the loader gives what the network is fed, rather than pictures.
        not_read: what stands among them and is passed over, in words.
    """

    images: tuple[ImageInfo, ...]
    root: str = ""
    loader: Any = None
    labels: tuple[str, ...] = ()
    size: Size | None = None
    normalised: bool = False
    not_read: tuple[str, ...] = ()


def images_of(data: Any) -> Images:
    """Find the images of a data module or a loader.

    Args:
        data: an OTXDataModule, a LightningDataModule or a DataLoader.

    Raises:
        DataError: there are none.
    """
    if hasattr(data, "images") and hasattr(data, "data_root"):
        return Images(data.images(), absolute(data.data_root), labels=tuple(data.labels))
    loader = find_loader(data)
    names, first = image_names(image_count(loader)), first_pixels(loader)
    size = (int(first.shape[1]), int(first.shape[2]))
    return Images(names, loader=loader, size=size, normalised=first.dtype != np.uint8)


def reconcile(settings: ExplainSettings) -> tuple[str | None, Targets]:
    """Reconcile ``target_explain_group`` with the method, the mode and the targets, and return method and targets.

    Raises:
        ConfigError: a map of the whole image is asked for, and a method or mode that does not give any.
    """
    method, targets, mode = settings.explain_method, settings.targets, settings.explain_mode
    group = settings.explain_config.target_explain_group
    if group is TargetExplainGroup.IMAGE and targets is None:
        if mode is ExplainMode.BLACKBOX:
            raise ConfigError(
                "explain_config.target_explain_group IMAGE asks for one map an image, which is a branch in the graph "
                f"({Method.ACTIVATIONMAP}); explain_mode is {mode}. Leave it to 'auto', or use another group."
            )
        if method not in (None, Method.ACTIVATIONMAP):
            raise ConfigError(
                f"explain_config.target_explain_group IMAGE asks for one map an image, explain_method {method} gives "
                f"one a class. Use {Method.ACTIVATIONMAP}, or another group."
            )
        return Method.ACTIVATIONMAP, None
    if targets is None and group is TargetExplainGroup.ALL:
        return method, -1
    if targets is None and group is TargetExplainGroup.BOXES:
        return method, BOXES
    return method, targets


def named_as_data(model: Model, labels: Sequence[str]) -> Model:
    """Return a model with the names that data have for its classes, where it was converted from torch.

    Raises:
        LabelError: both name their classes, and differ.
    """
    if not model.is_torch or not labels:
        return model
    check_labels(model.facts.labels, labels)
    sources = {**model.facts.sources, "labels": "the data"}
    return replace(model, facts=replace(model.facts, labels=tuple(labels), sources=sources))


def check_labels(own: Sequence[str], labels: Sequence[str]) -> None:
    """Compare class names of a checkpoint and of data, where both are known.

    Raises:
        LabelError: they differ.
    """
    if not labels or tuple(labels) == own or _are_numbers(own, len(labels)):
        return
    raise LabelError(
        f"The checkpoint and the data name different classes. Checkpoint ({len(own)}): "
        f"{_names(own)}. Data ({len(labels)}): {_names(labels)}. Expected the same names in the same order: "
        "use the data that the model was trained for, or train it on this."
    )


def _are_numbers(labels: Sequence[str], count: int) -> bool:
    """Whether labels only count the classes, as those of a plain state dict do."""
    return list(labels) == [str(number) for number in range(count)]


def _names(labels: Sequence[str], most: int = 12) -> str:
    shown = ", ".join(labels[:most])
    return f"{shown}, …" if len(labels) > most else shown


def open_session(plan: Plan, device: str, told: Precision, *, normalised: bool) -> Session:
    """Compile a model for a device, with its pre-processing inside unless images come normalised.

    Where the user leaves the precision open, it is float32; :func:`~otx_xai.engine.precision_choice.settled` goes on.
    """
    precision = Precision.F32 if told is Precision.AUTO else told
    return plan.compiled(device, as_images=not normalised, latency=False, precision=precision)


# ---------------------------------------------------------------------------------------------------------------------
# What the run leaves behind, apart from its results.


def manifest_of(work_dir: Place, opened: Opened) -> Manifest:
    """Return the manifest of a run that explains all images.

    Args:
        work_dir: folder of the run, which exists.
        opened: what explains.
    """
    plan, data = opened.planned, opened.data
    decisive = opened.settings.decisive() | _found_out(plan, opened.session)
    return Manifest(
        work_dir,
        "explain",
        decisive,
        opened.digest,
        len(data.images),
        refusals=plan.refusals,
        not_read=data.not_read,
    )


def begin_run(work_dir: Place, opened: Opened, *, keep: bool) -> tuple[Run, Session]:
    """Write ``config.yaml``, and return the run with its manifest, and the session to execute it with.

    Args:
        work_dir: folder of the run, which exists, on this machine or in a store.
        opened: what explains.
        keep: keep the explanations in memory, to return them.

    Raises:
        ConfigError: the folder is that of a run in shards.
        OutputError: it cannot be written.
    """
    if has_plan(work_dir):
        raise ConfigError(
            f"{str(work_dir)!r} holds {PLAN}, so it is the work directory of a run in shards. Expected --shard K/N or "
            "--ray; add it, remove plan and parts, or give another --work_dir."
        )
    settings, plan, data = opened.settings, opened.planned, opened.data
    write_config(work_dir, settings.arguments())
    manifest, config, dump = manifest_of(work_dir, opened), settings.explain_config, settings.dump
    places = {image.name: place for place, image in enumerate(data.images)}
    packing = Packing(settings.pack_size, places) if settings.pack is not None else None
    run = Run(
        work_dir,
        manifest,
        plan,
        config,
        data.images,
        dump=dump,
        keep=keep,
        loader=data.loader,
        packing=packing,
        decode=settings.decode,
    )
    tell_decoding(plan.facts, settings.decode)
    return run, settled(
        opened.session,
        plan,
        settings.precision,
        settings.device,
        data.images,
        manifest,
        loader=data.loader,
        normalised=data.normalised,
        resume=settings.resume and not keep,
    )


def tell_decoding(facts: ModelFacts, decode: Decode) -> None:
    """Say where images are decoded in full size, although less was asked for."""
    if decode is Decode.FAST and facts.tiling is not None:
        logger.info("--decode fast: images are decoded in full size, since they are cut into tiles.")
    elif decode is Decode.FAST and not spares_size(facts.geometry):
        logger.info(
            "--decode fast: images are decoded in full size, since %s is how they are resized, which would give others "
            "from smaller ones. Pass --input.interpolation bilinear where the model was trained so.",
            facts.geometry.interpolation,
        )


def _found_out(plan: Plan, session: Session) -> dict[str, Any]:
    """Return what was found out about the model, and decides the results as settings do."""
    return {
        "labels": len(plan.facts.labels),
        "labels_sha256": hashlib.sha256("\n".join(plan.facts.labels).encode()).hexdigest(),
        "method": plan.method,
        "reason": plan.reason,
        "batch_size": session.batch,
        "facts": asdict(plan.facts) | {"labels": len(plan.facts.labels)},
    }


def _with_branch(opened: Model, plan: Plan, layers: tuple[str, ...], named: str | None) -> ov.Model:
    spec = find_method(plan.method)
    if named is None and spec.presets:
        return insert(opened, Order(layers))
    too_many = spec.each_class_costs and opened.structure.class_scores.num_classes > MOST_CLASSES
    if too_many:
        logger.info("--output_model: %s gives the map of the best class of each image.", spec.name)
    return insert(opened, Order(layers, classes=1 if too_many else None), spec.name)


def _model_to_save(
    source: str | Path | ov.Model, options: ModelOptions, plan: Plan, layers: tuple[str, ...], method: str | None
) -> ov.Model | str:
    """Return the model with a branch, or why there is none."""
    why = (
        f"The model is explained with {plan.method}, which {why_no_branch(plan.method)}, so that there is no branch to "
        f"save ({plan.reason})."
    )
    by_preset = plan.second_pass is not None and method is None and find_method(plan.method).presets
    if plan.black_box is not None or (plan.second_pass is not None and not by_preset):
        return why
    opened = open_for_insertion(source, options, any_names=True)
    if opened.own_map is not None:
        return opened.graph.clone()
    try:
        return _with_branch(opened, plan, layers, method)
    except GraphError:
        if not by_preset:
            raise
        return why


def save_explained(
    source: str | Path | ov.Model,
    options: ModelOptions,
    plan: Plan,
    layers: tuple[str, ...],
    output_model: Path,
    *,
    method: str | None = None,
) -> None:
    """Save the model with the branch that a run uses, for all classes.

    What was said of the model goes into its ``model_info``: opened alone, it is read as in the run (labels, thresholds,
    how images are fitted in and normalised). The ``.xml``, which is written last, never lacks its ``.bin``. Where
    ``--preset`` has chosen the method of the run, the model gets the published one of one pass; one that is named, and
    takes a pass for each of too many classes, gives the map of the best class of each image.

    Args:
        source: the model.
        options: what is said of it.
        plan: of the run; a model that is explained by perturbation has no branch, and is not saved, as the log tells.
        layers: that the user names.
        output_model: the ``.xml``.
        method: that the user names.

    Raises:
        ConfigError: the name is no ``.xml``, or the checkpoint itself.
        OutputError: the file cannot be written.
    """
    if output_model.suffix.lower() != ".xml":
        raise ConfigError(f"--output_model is {str(output_model)!r}; expected the name of an .xml file.")
    if isinstance(source, str | Path) and output_model.exists() and output_model.samefile(source):
        raise ConfigError(f"--output_model {output_model} is the checkpoint itself; expected another name.")
    model = _model_to_save(source, options, plan, layers, method)
    if isinstance(model, str):
        logger.warning("--output_model: %s is not written. %s", output_model, model)
        return
    tell_of_use(model, plan.facts, options.format)
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
