"""Explain single images with a model in hand."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import openvino as ov
from numpy.typing import NDArray

from otx_xai.data.arrays import AnyImage
from otx_xai.errors import ConfigError, LabelError
from otx_xai.explain.black_box import progress_of_passes
from otx_xai.explain.caller_outputs import Postprocess, located, reader, scored
from otx_xai.explain.explanation import Explanation
from otx_xai.explain.feeding import Inputs, as_given, canvas_of, channels_last, fed_image, over
from otx_xai.explain.insertion import split_layers
from otx_xai.explain.look import Canvas, Look
from otx_xai.explain.plan import How, Plan, each_class_costs, plan, refuse_misfit
from otx_xai.explain.precision import PrecisionTrial
from otx_xai.explain.recent import Recent
from otx_xai.explain.showing import explanation
from otx_xai.explain.targets import BOXES, PREDICTED, THRESHOLD, Choice, Wanted, resolve_wanted
from otx_xai.explain.tiled import TiledImage
from otx_xai.methods.table import find_method, method_name, method_options
from otx_xai.model import Model, ModelOptions, open_model
from otx_xai.model.facts import ANY_SIZE
from otx_xai.model.formats.choice import READ_BY_CALLER
from otx_xai.perturb import Subject, image_subject
from otx_xai.postprocess import fit
from otx_xai.records import (
    ExplainMode,
    InputGeometry,
    InputOptions,
    Labels,
    Method,
    ModelFacts,
    Precision,
    Preset,
    Size,
    Targets,
    Task,
)
from otx_xai.runtime import Arrays, Session

if TYPE_CHECKING:
    from torch import nn

logger = logging.getLogger("otx_xai")

Preprocess = Callable[[NDArray[Any]], NDArray[Any]]
_Explained = tuple[Canvas, InputGeometry, Choice]
_Key = tuple[How, int | str | tuple[int, ...]]
"""How a model is explained, and the targets that its graph has maps of: all, the predicted ones, or these."""
_Compiled = tuple[_Key, Precision]

_KEPT = 8
"""Settings, and sets of targets where each of them costs, that stay compiled."""

_PREDICTED = Wanted(None, 0)


class Explainer:
    """Explains images with one model, which is prepared once and compiled when the first image comes.

    Args:
        model: a model file (``.xml``, ``.onnx``, ``.tflite``, ``.ckpt``, ``.pth``, ``.safetensors``), a folder that has
            one, an ``ov.Model``, or an ``nn.Module`` or LightningModule of torch, none of which is changed.
        task: what the model does; found out when ``None``.
        preprocess_fn: makes the model's input, ``(N, C, H, W)`` or ``(N, H, W, C)``, of the ``data`` of a call, which
            is then the image to look at. Without it, ``data`` with a batch axis is the model's input, and a ``uint8``
            image without one is pre-processed as the model's ``model_info`` and graph say, and inferred in tiles where
            ``model_info`` has ``tile_size``.
        postprocess_fn: makes class scores ``(N, K)`` or logits of the model's raw output, an ``OVDict``; of a
            detector's, boxes ``(M, 4)`` xyxy in pixels of the input, scores ``(M,)`` and labels ``(M,)``. They decide
            which classes are predicted; without it what is found in the graph does.
        explain_mode: white box, black box, or auto: a branch where the analysis of the graph finds a place for one, and
            perturbation otherwise.
        explain_method: a white-box method of the task; see :func:`otx_xai.insert_xai`. Task and graph decide when
            ``None``.
        target_layer: layer whose features are perturbed, by name; the last one that has places by default. Of a
            one-stage detector its class heads, ``"a,b,c"``.
        embed_scaling: scale maps in the graph rather than on the host; the result is the same.
        device_name: older name of ``device``.
        labels: class names: a file with one a line, ``"a,b"``, or a sequence; those in the model when ``None``.
        input: normalisation and resizing where the model does not tell.
        output: the output that is explained, by name or number, where a classifier has several.
        format: how the outputs of a detector spell boxes, where the graph leaves it open; the error lists the names.
        device: OpenVINO device: ``CPU`` by default, ``GPU``, ``NPU``, ``AUTO``, …
        input_options: older name of ``input``.
        preset: effort where no method is named: ``speed`` takes one pass, ``balance`` about two, with a finer map,
            ``quality`` about sixty; of a named black-box method its own preset. By default a classifier is explained
            with ``balance`` where an image has up to five targets, else in one pass. Each set of targets that is asked
            for is compiled anew then, and the last eight are kept: a loop over many classes is faster with ``speed``.
            A detector is explained with ``balance`` where ``targets`` are ``"predicted"``, or ``"boxes"`` and a box
            costs a fraction of a pass; else in one pass.
        precision: numbers that the device computes with: ``f32``, ``bf16`` or ``f16``; ``auto`` explains the first 16
            images both ways, gives their maps in ``f32``, and takes fewer bits afterwards where every map correlates to
            0.99, every best class is the same, and it is faster. The log says what was measured.

    Raises:
        ModelError: the model cannot be read, or does something else (TaskError).
        GraphError: the graph gives no place for the method; the message lists layers for ``target_layer``.
        ConfigError: an argument has a wrong value, or asks for a black-box method.

    References:
        Recipro-CAM: https://arxiv.org/abs/2209.14074; ViT Recipro-CAM: https://arxiv.org/abs/2310.02588.
    """

    def __init__(
        self,
        model: str | Path | ov.Model | nn.Module,
        task: Task | str | None = None,
        preprocess_fn: Preprocess | None = None,
        postprocess_fn: Postprocess | None = None,
        explain_mode: ExplainMode | str = ExplainMode.AUTO,
        explain_method: Method | str | None = None,
        target_layer: str | None = None,
        embed_scaling: bool = True,
        device_name: str = "CPU",
        *,
        labels: Labels = None,
        input: InputOptions | None = None,
        output: str | None = None,
        format: str | None = None,
        device: str | None = None,
        input_options: InputOptions | None = None,
        preset: Preset | str | None = None,
        precision: Precision | str = Precision.F32,
    ) -> None:
        self._source = model
        self._task = None if task is None else Task(task)
        self._preprocess_fn = preprocess_fn
        self._postprocess_fn = postprocess_fn
        self._device = device or device_name
        self._labels = labels
        self._input_options = input or input_options
        self._output, self._format = output, format
        method = method_name(explain_method)
        self._how = How(ExplainMode(explain_mode), method, target_layer, _effort(preset), embed_scaling)
        self._trial = PrecisionTrial(Precision(precision), self._device)
        self._opened: Model | None = None
        self._plans: Recent[_Key, Plan] = Recent(_KEPT)
        self._sessions: Recent[tuple[_Compiled, bool], Session] = Recent(_KEPT)
        refuse_misfit(self._model(), self._how)

    def __call__(
        self,
        data: AnyImage,
        targets: Targets = -1,
        original_input_image: AnyImage | Sequence[AnyImage] | None = None,
        label_names: Sequence[str] | None = None,
        output_size: Size | None = None,
        *,
        resize: bool = True,
        colormap: bool | str = True,
        overlay: bool = False,
        overlay_weight: float = 0.5,
        target_explain_labels: Targets = None,
        explain_mode: ExplainMode | str | None = None,
        explain_method: Method | str | None = None,
        target_layer: str | None = None,
        embed_scaling: bool | None = None,
        preset: Preset | str | None = None,
        **method_kwargs: Any,
    ) -> Explanation | list[Explanation]:
        """Explain one image, or a batch.

        Args:
            data: pixels, no file: what ``preprocess_fn`` takes; without one an image of any size, or the model's input
                with its batch axis, ``(N, C, H, W)`` or ``(N, H, W, C)``, of any number of images. An image is
                ``uint8`` RGB ``(H, W, 3)``, or has as many channels as the network; see
                :func:`otx_xai.data.arrays.as_image_array` for other types, PIL images and tensors.
            targets: ``-1`` for all classes, indices, names, ``"predicted"``: the classes of score 0.3 and above, the
                best one where none is; or ``"boxes"``: every box that a detector finds.
            original_input_image: RGB image to lay maps over where ``data`` is pre-processed; for a batch one for all,
                or a sequence of one each.
            label_names: class names for this call, one for each class.
            output_size: ``(height, width)`` of the maps; by default that of the image.
            resize: show maps in the size of the image (else, without ``overlay``, in the network's own resolution).
            colormap: colour maps, by the word for their colours, such as ``"inferno"``, or turbo; else grey.
            overlay: lay coloured maps over the image.
            overlay_weight: of the map in an overlay, in [0, 1].
            target_explain_labels: older name of ``targets``.
            explain_mode: for this call only, as the following four. A setting that is new is prepared and compiled
                once, and kept.
            explain_method: see the constructor.
            target_layer: see the constructor.
            embed_scaling: see the constructor.
            method_kwargs: options of the method, such as ``num_masks`` of RISE and ``num_steps`` of SmoothGrad.

        Returns:
            The explanation, with maps in the order of ``targets``, none where ``targets`` is empty; a list of
            explanations for a batch of several images.

        Raises:
            ImageError: ``data`` has values without a known range, or another number of channels than the model.
            ConfigError: ``data`` does not fit the model, or an argument has a wrong value; a target that is no class
                (TargetError); names that are not one for each class (LabelError).
        """
        how = self._how_of_call(explain_mode, explain_method, target_layer, embed_scaling, preset)
        if how.method is not None and find_method(how.method).is_white_box and find_method(how.method).option_names:
            how = replace(how, options={**how.options, **method_kwargs})
        look = Look(output_size, resize, colormap, overlay, overlay_weight)
        wanted = targets if target_explain_labels is None else target_explain_labels
        made = self._plan_of_call(how, wanted, label_names, method_kwargs)
        given = np.asarray(data) if self._preprocess_fn is not None else as_given(data, made.facts)
        inputs = over(original_input_image, self._inputs(given, made), made.facts.channels)
        key = self._key(how, made.wanted)
        explanations = [explanation(made, look, *one) for one in self._explained(inputs, key, made)]
        return explanations[0] if len(explanations) == 1 else explanations

    def _how_of_call(
        self,
        mode: ExplainMode | str | None,
        method: Method | str | None,
        target_layer: str | None,
        embed_scaling: bool | None,
        preset: Preset | str | None,
    ) -> How:
        own = self._how
        return How(
            mode=own.mode if mode is None else ExplainMode(mode),
            method=own.method if method is None else method_name(method),
            target_layer=own.target_layer if target_layer is None else target_layer,
            options=own.options if preset is None and method is None else _effort(preset),
            embed_scaling=own.embed_scaling if embed_scaling is None else embed_scaling,
        )

    def _model(self) -> Model:
        """Return the model, which is opened once."""
        if self._opened is None:
            options = ModelOptions(
                self._task,
                self._labels,
                self._input_options or InputOptions(),
                self._output,
                self._format,
                target_layers=split_layers(self._how.target_layer),
                read_by_caller=self._postprocess_fn is not None,
            )
            self._opened = open_model(self._source, options, keep_open=True)
        return self._opened

    def _plan(self, how: How, wanted: Wanted) -> Plan:
        """Return the plan with maps of all classes, or of those that are wanted where each of them costs."""
        key = self._key(how, wanted)

        def make() -> Plan:
            made = plan(self._model(), how, targets=key[1])
            by_caller = made.boxes is not None and self._postprocess_fn is not None
            return replace(made, boxes=READ_BY_CALLER) if by_caller else made

        return self._plans.get(key, make)

    def _key(self, how: How, wanted: Wanted) -> _Key:
        """Return what tells plans apart: how, and the targets that it has maps of."""
        if not self._model().facts.task.is_classification:
            return how, -1 if wanted.indices is not None else BOXES if wanted.per_box else PREDICTED
        if not each_class_costs(self._model(), how, wanted):
            return how, -1
        return how, PREDICTED if wanted.indices is None else wanted.indices

    def _plan_of_call(
        self, how: How, targets: Targets, label_names: Sequence[str] | None, given: Mapping[str, Any]
    ) -> Plan:
        """Return the plan with the names, targets and options of a black-box method that a call gives."""
        facts = self._model().facts
        labels = _names(label_names, facts)
        wanted = resolve_wanted(targets, labels, THRESHOLD, has_boxes=not facts.task.is_classification)
        made = self._plan(how, _PREDICTED if wanted.indices == () else wanted)
        without_effect = [name for name in given if name not in how.options]
        if made.black_box is not None:
            options = method_options(made.black_box.spec, {**how.options, **given}, named=how.method is not None)
            made = replace(made, black_box=replace(made.black_box, options=options))
        elif without_effect:
            logger.warning("%s: no effect with %s.", ", ".join(without_effect), made.method)
        return replace(made, facts=replace(made.facts, labels=labels), wanted=wanted)

    def _inputs(self, data: NDArray[Any], made: Plan) -> Inputs:
        """Make the model's input of what the caller gave."""
        channels = made.facts.channels
        if self._preprocess_fn is not None:
            tensor = channels_last(np.asarray(self._preprocess_fn(data)), made)
            images = data if data.ndim == 4 and len(data) == len(tensor) else [data] * len(tensor)
            return Inputs(tensor, [canvas_of(image, channels) for image in images])
        if data.ndim == 4:
            tensor = channels_last(data, made)
            return Inputs(tensor, [canvas_of(image, channels) for image in tensor])
        if data.ndim not in (2, 3) or data.dtype != np.uint8:
            raise ConfigError(
                f"The data is {data.dtype} {data.shape}; expected a uint8 image (height, width, {channels}) of any "
                f"size, or the model's input with its batch axis, as numpy.expand_dims(data, 0) adds it."
            )
        if made.facts.geometry.size == ANY_SIZE:
            raise ConfigError(
                "The model takes images of any size, so it is not known what to resize this image to. Pass "
                "input=InputOptions(size=(height, width)), or the model's input with its batch axis."
            )
        image, geometry, tiling = fed_image(data, channels), made.facts.geometry, made.facts.tiling
        canvas = canvas_of(image, channels)
        if tiling is not None:
            return Inputs(image[None], [canvas], as_images=True, tiling=tiling)
        canvas = replace(canvas, geometry=geometry)
        return Inputs(fit(image, geometry)[None], [canvas], as_images=True)

    def _explained(self, inputs: Inputs, key: _Key, made: Plan) -> Iterable[_Explained]:
        """Explain images in the precision that is wanted, or in two of them as long as it is open which."""
        return self._trial.explained(
            key[0],
            made,
            lambda precision: self._choices(inputs, (key, precision), made),
            lambda one: one[2],
            compiled=lambda precision: self._session((key, precision), made, as_images=inputs.as_images),
        )

    def _choices(self, inputs: Inputs, key: _Compiled, made: Plan) -> Iterator[_Explained]:
        """Yield for each image what it is laid over, how it lies in what its maps cover, what is explained of it."""
        if inputs.tiling is not None:
            (canvas,), (image,) = inputs.canvases, inputs.tensor
            tiled = TiledImage(made, inputs.tiling, canvas.image_size)
            for number in range(len(tiled.grid)):
                tile = replace(inputs, tensor=tiled.tensor(image, number)[None])
                for outputs in self._infer(tile, key, made):
                    tiled.add(number, outputs)
            yield canvas, tiled.geometry, tiled.choose()
            return
        if made.black_box is not None:
            yield from self._perturbed(inputs, key, made)
            return
        session = self._session(key, made, as_images=inputs.as_images)
        for canvas, outputs in zip(inputs.canvases, self._infer(inputs, key, made), strict=True):
            geometry = canvas.geometry or InputGeometry((inputs.tensor.shape[1], inputs.tensor.shape[2]))
            facts = replace(made.facts, geometry=geometry)
            choice = replace(made, facts=facts).choose(outputs, canvas.image_size, session)
            # Where the caller fitted the image in, the maps cover the picture: it was stretched to the tensor
            yield replace(canvas, geometry=geometry, grid=made.grid), geometry, choice

    def _infer(self, inputs: Inputs, key: _Compiled, made: Plan) -> Iterator[Arrays]:
        """Yield the scores and maps of each image."""
        session = self._session(key, made, as_images=inputs.as_images)
        layout, kind = made.facts.input_layout, made.model.inputs[0].get_element_type().to_dtype()
        if inputs.as_images:
            layout, kind = "NHWC", np.dtype(np.uint8)
        order = ["NHWC".index(axis) for axis in layout]
        batch = made.batch or len(inputs.tensor)
        for first in range(0, len(inputs.tensor), batch):
            part = inputs.tensor[first : first + batch]
            filled = np.concatenate([part, np.repeat(part[-1:], batch - len(part), axis=0)])
            raw = session.raw(np.ascontiguousarray(filled.transpose(order), dtype=kind))
            if made.facts.task.is_classification:
                outputs = scored(self._postprocess_fn, raw, session, made)
                yield from ({name: np.array(values[i]) for name, values in outputs.items()} for i in range(len(part)))
            else:
                outputs = located(self._postprocess_fn, raw, session)
                for i in range(len(part)):
                    own = slice(None) if batch == 1 else slice(i, i + 1)
                    yield {name: np.array(values[own]) for name, values in outputs.items()}

    def _perturbed(self, inputs: Inputs, key: _Compiled, made: Plan) -> Iterator[_Explained]:
        """Explain each image by perturbing what the network is fed of it."""
        session = self._session(key, made, as_images=inputs.as_images)
        kind = made.model.inputs[0].get_element_type().to_dtype()
        layout = made.facts.input_layout.replace("N", "")
        read = None if self._postprocess_fn is None else reader(self._postprocess_fn, session, made)
        for canvas, tensor in zip(inputs.canvases, inputs.tensor, strict=True):
            geometry = canvas.geometry or InputGeometry((tensor.shape[0], tensor.shape[1]))
            if inputs.as_images:
                subject = image_subject(tensor, made.facts)
            else:
                order = ["HWC".index(axis) for axis in layout]
                fed = np.ascontiguousarray(tensor.transpose(order), dtype=kind)
                subject = Subject(fed, layout, made.facts.zero or (0.0,))
            placed = replace(made, facts=replace(made.facts, geometry=geometry))
            with progress_of_passes() as watch:
                choice = placed.perturb(session, subject, canvas.image_size, read=read, watch=watch)
            yield replace(canvas, geometry=geometry), geometry, choice

    def _session(self, key: _Compiled, made: Plan, *, as_images: bool) -> Session:
        return self._sessions.get(
            (key, as_images), lambda: made.compiled(self._device, as_images=as_images, precision=key[1])
        )


def _effort(preset: Preset | str | None) -> dict[str, Any]:
    return {} if preset is None else {"preset": Preset(preset)}


def _names(label_names: Sequence[str] | None, facts: ModelFacts) -> tuple[str, ...]:
    known = facts.labels
    names = known if label_names is None else tuple(label_names)
    if len(names) != len(known):
        raise LabelError(
            f"label_names has {len(names)} names; expected {len(known)}, one for each class of the model. Where they "
            f"differ by one, it is often a background class, the first one."
        )
    return names
