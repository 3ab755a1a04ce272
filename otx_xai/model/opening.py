"""Anything that is a model → :class:`Model`: read once, every fact found once, and handed to every later stage."""

from __future__ import annotations

import logging
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import openvino as ov

from otx_xai.errors import ConfigError, GraphError, ModelError
from otx_xai.graph.box_classes import BoxClasses
from otx_xai.graph.input_layout import image_input
from otx_xai.graph.view import View
from otx_xai.model.batch import images_at_once, single_image_graph, with_batch
from otx_xai.model.explained_output import with_explained_output
from otx_xai.model.facts import ANY_SIZE, Naming, log_line, name_classes, read_facts
from otx_xai.model.first_layer import warning_of_first_layer
from otx_xai.model.identity import Told, identify
from otx_xai.model.image_input import InputDescription, describe_input
from otx_xai.model.image_layout import input_layout
from otx_xai.model.label_names import count_names
from otx_xai.model.model_files import TORCH_SUFFIXES, model_files, read_model
from otx_xai.model.model_info import model_info
from otx_xai.model.model_options import ModelOptions
from otx_xai.model.opened import Model
from otx_xai.model.other_inputs import fix_other_inputs
from otx_xai.model.preprocessing import fix_shapes
from otx_xai.model.stored_model import fetch_model
from otx_xai.model.structure import Structure
from otx_xai.neighbours import find_model_file, read_hints
from otx_xai.neighbours.hints import NO_HINTS, Hints
from otx_xai.records import SALIENCY_MAP, XAI_OUTPUTS, InputGeometry, ModelFacts, Task
from otx_xai.storage import Url, place_of

logger = logging.getLogger("otx_xai")

_NO_OPTIONS = ModelOptions()


@dataclass(frozen=True)
class _Source:
    """A model as it was read, what is said of it by the user and by its neighbours, and all files that were read."""

    graph: ov.Model
    options: ModelOptions
    hints: Hints = NO_HINTS
    files: tuple[Path, ...] = ()
    is_torch: bool = False


def open_model(source: Any, options: ModelOptions = _NO_OPTIONS, *, batch: int = 1, keep_open: bool = False) -> Model:
    """Open a model, and find out what it is.

    Args:
        source: ``.xml``, ``.onnx`` or ``.tflite``; ``.ckpt``, ``.pth``, ``.pt`` or ``.safetensors``, which are
            converted; a folder that holds one of them; the URL of any of these; an ``ov.Model``, an ``nn.Module`` or a
            LightningModule, none of which is changed.
        options: what the user says of it.
        batch: images an inference, where the model leaves its batch open.
        keep_open: leave a dynamic batch, height and width as they are.

    Raises:
        ModelError: the model cannot be read, or is of no kind that can be explained (TaskError).
        ConfigError: an option contradicts the model, or is needed because nothing else tells; names that are not one
            for each class (LabelError).
    """
    read = _read(source, options)
    info, options = model_info(read.graph), with_explained_output(read.graph, read.options)
    told = Told(options, info, read.hints, count_names(options.labels, info, read.hints))
    view = View(read.graph, XAI_OUTPUTS)
    if options.input.layout is None and input_layout(read.graph, view) is None:
        identify(view, told, None)  # what it is comes before what it is fed
    image = _describe_input(read, view, told, keep_open=keep_open)
    size = None if image.geometry.size == ANY_SIZE else image.geometry.size
    graph = read.graph if keep_open or size is None else fix_shapes(read.graph, image.layout, size)
    view = view if graph is read.graph else View(graph, XAI_OUTPUTS)
    identity = identify(view, told, size)
    lone = single_image_graph(graph, image.layout, identity)
    if lone is not graph:
        graph, view = lone, View(lone, XAI_OUTPUTS)
        identity = identify(view, told, size)
    own_batch = images_at_once(graph, image.layout, identity)
    if not keep_open and size is not None:
        graph, view, identity = with_batch(graph, view, identity, image.layout, size, own_batch or batch)
        own_batch = own_batch or batch
    structure = Structure(graph, image.layout, class_scores=identity.class_scores, boxes=identity.boxes, view=view)
    facts = read_facts(identity, image, _names(told, structure), told)
    logger.info("%s", log_line(facts))
    if options.confidence_threshold is not None and facts.task.is_classification:
        logger.warning("confidence_threshold: no effect with a classifier; it is of the boxes of detectors.")
    first_layer = None if facts.normalisation_known else warning_of_first_layer(view, image.layout)
    for warning in filter(None, (image.warning, first_layer)):
        logger.warning("%s", warning)
    return Model(graph, facts, structure, own_batch, read.files, read.is_torch, options.read_by_caller)


def open_for_insertion(source: Any, options: ModelOptions, *, any_names: bool = False) -> Model:
    """Open a model that is to get a branch and no more: what it is fed, and how its boxes are read, does not matter.

    Args:
        source: as of :func:`open_model`.
        options: what the user says of it.
        any_names: names of classes do not matter, so that those in the model may be wrong.
    """
    read = _read(source, options)
    info, graph, options = model_info(read.graph), read.graph, read.options
    told = Told(options, info, read.hints, count_names(options.labels, info, read.hints))
    view = View(graph, XAI_OUTPUTS)
    layout = input_layout(graph, view)
    if any(SALIENCY_MAP in output.get_names() for output in graph.outputs):
        facts = ModelFacts(options.task or Task.CLASSIFICATION, (), InputGeometry(ANY_SIZE))
        return Model(graph, facts, Structure(graph), files=read.files)
    identity = identify(view, told, None, needs_format=False)
    structure = Structure(graph, layout, class_scores=identity.class_scores, boxes=identity.boxes, view=view)
    classes = _classes(structure, told)
    is_known = any_names and classes.count is not None
    finds_boxes = not identity.task.is_classification
    naming = Naming(_numbers(classes.count or 0), "", 0)
    if not is_known:
        naming = name_classes(told, classes, finds_boxes=finds_boxes)
    facts = read_facts(identity, None, naming, told)
    return Model(graph, facts, structure, files=read.files)


def _read(source: Any, options: ModelOptions) -> _Source:
    """Read whatever is a model: a file, a folder with one, a model of OpenVINO, or a module of torch."""
    if isinstance(source, ov.Model):
        graph = read_model(source)
        fix_other_inputs(graph, options.input.size)
        return _Source(graph, options, read_hints(None, graph))
    if not isinstance(source, str | Path | Url):
        if not callable(getattr(source, "state_dict", None)):
            raise ModelError(
                f"The model is {type(source).__name__}; expected a file, a folder, an openvino.Model, a "
                "torch.nn.Module or a LightningModule."
            )
        return _read_torch(source, options)
    place = place_of(source)
    path = fetch_model(place) if isinstance(place, Url) else place
    if path.is_dir():
        path = find_model_file(path)
    if path.suffix.lower() in TORCH_SUFFIXES:
        return _read_torch(path, options)
    if options.weights is not None:
        raise ConfigError(
            f"--weights is {options.weights}, and {path} holds one set of weights; expected a torch checkpoint "
            f"({', '.join(TORCH_SUFFIXES)}). Leave --weights out."
        )
    graph = read_model(path)
    fix_other_inputs(graph, options.input.size)
    hints = read_hints(path, graph)
    return _Source(graph, options, hints, (*model_files(path), *map(Path, hints.files)))


def _read_torch(source: Any, options: ModelOptions) -> _Source:
    """Convert a torch checkpoint, or a module in hand."""
    if isinstance(source, Path) and not source.exists():
        raise ModelError(f"The checkpoint {source} does not exist; expected a model file.")
    from otx_xai.checkpoints import TorchOptions, open_torch

    opened = open_torch(
        source,
        TorchOptions(
            model=options.architecture,
            task=options.task,
            labels=options.labels,
            input=options.input,
            weights=options.weights,
            normalised=options.normalised,
            size=options.tensor_size,
        ),
    )
    rest = replace(options, labels=opened.labels, input=opened.options)
    return _Source(opened.model, rest, opened.hints, opened.files, is_torch=True)


def _describe_input(read: _Source, view: View, told: Told, *, keep_open: bool) -> InputDescription:
    """Describe the input of a model whose height and width may stay open."""
    options = read.options.input
    if not keep_open or options.size is not None or read.hints.size is not None or not _has_open_size(view):
        return describe_input(read.graph, told.info, options, read.hints, view)
    # describe_input() insists on a size
    image = describe_input(read.graph, told.info, replace(options, size=1), read.hints, view)
    geometry = replace(image.geometry, size=ANY_SIZE)
    return replace(image, geometry=geometry, source="height and width are open")


def _has_open_size(view: View) -> bool:
    layout, shape = input_layout(view.model, view), image_input(view.model).output(0).get_partial_shape()
    return layout is not None and any(shape[layout.index(axis)].is_dynamic for axis in "HW")


def _names(told: Told, structure: Structure) -> Naming:
    return name_classes(told, _classes(structure, told), finds_boxes=not structure.is_classifier)


def _classes(structure: Structure, told: Told) -> BoxClasses:
    """Tell how many classes a model knows, from the surest source on."""
    if structure.is_classifier:
        return BoxClasses(structure.class_scores.num_classes)
    of_graph = _told_by_graph(structure, told)
    own = next((output for output in structure.view.model.outputs if SALIENCY_MAP in output.get_names()), None)
    shape = None if own is None else own.get_partial_shape()
    if shape is not None and shape.rank.is_static and shape.rank.get_length() == 4 and shape[1].is_static:
        return replace(of_graph, count=int(shape[1].get_length()))  # the map that it came with has one a class
    return of_graph


def _told_by_graph(structure: Structure, told: Told) -> BoxClasses:
    """Tell what the outputs of a detector and their scores tell of its classes, else how many names there are."""
    match = None if structure.boxes is None else structure.boxes.match
    if match is not None and match.num_classes is not None:
        return BoxClasses(match.num_classes, background_first=match.first_label > 0)
    own_names = told.options.labels is None and told.num_names is not None
    if match is not None and own_names and "rows" in match.roles:  # layers beside those of classes end in rows, too
        return BoxClasses(told.num_names)
    with suppress(GraphError):  # the graph does not tell: names have to
        return structure.box_classes(told.num_names, told.options.target_layers)
    return BoxClasses(told.num_names)


def _numbers(count: int) -> tuple[str, ...]:
    return tuple(str(index) for index in range(count))
