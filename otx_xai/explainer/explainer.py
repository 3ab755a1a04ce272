"""Explain single images with a model in hand."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import openvino as ov
from numpy.typing import NDArray

from otx_xai.errors import ConfigError, LabelError
from otx_xai.explainer.explanation import PER_IMAGE_MAP, Explanation
from otx_xai.explainer.look import Canvas, Look, as_picture, show
from otx_xai.explainer.prepare import Prepared, check_method, prepare
from otx_xai.explainer.targets import PER_IMAGE, Wanted, choose, resolve_targets
from otx_xai.graph.insert import SALIENCY_MAP, SCORES
from otx_xai.ir import effective_batch, embed_preprocessing
from otx_xai.postprocess import fit, sigmoid, softmax
from otx_xai.records import ExplainMode, FloatArray, InputOptions, Method, Size, Task
from otx_xai.runtime import Arrays, Session

logger = logging.getLogger("otx_xai")

Preprocess = Callable[[NDArray[Any]], NDArray[Any]]
Postprocess = Callable[[Any], Any]


@dataclass(frozen=True)
class _Setting:
    """What a compiled model depends on."""

    mode: ExplainMode
    method: Method | None
    target_layer: str | None
    embed_scaling: bool


@dataclass(frozen=True)
class _Inputs:
    """What is fed to the model, and what the maps are laid over.

    Args:
        tensor: channels last, ``(N, H, W, C)``.
        canvases: one an image.
        as_images: ``tensor`` holds ``uint8`` images of the right size; the rest of the pre-processing is ours.
    """

    tensor: NDArray[Any]
    canvases: Sequence[Canvas]
    as_images: bool = False


class Explainer:
    """Explains images with one model, which is prepared once and compiled when the first image comes.

    Args:
        model: a model file (``.xml``, ``.onnx``, ``.tflite``) or an ``ov.Model``, which is not changed.
        task: what the model does; found out when ``None``.
        preprocess_fn: makes the model's input, ``(N, C, H, W)`` or ``(N, H, W, C)``, of the ``data`` of a call, which
            is then the image to look at. Without it, ``data`` with a batch axis is the model's input, and a ``uint8``
            image without one is pre-processed as the model's ``model_info`` and graph say.
        postprocess_fn: makes class scores ``(N, K)`` or logits of the model's raw output, an ``OVDict``. They decide
            which classes are predicted; without it the scores found in the graph do.
        explain_mode: white box, black box, or auto. This version has white-box methods only.
        explain_method: ``Method.RECIPROCAM``, ``Method.VITRECIPROCAM`` or ``Method.ACTIVATIONMAP``; the graph decides
            when ``None``.
        target_layer: layer whose features are perturbed, by name; the last one that has places by default.
        embed_scaling: scale maps in the graph rather than on the host; the result is the same.
        device_name: OpenVINO device: ``CPU``, ``GPU``, ``NPU``, ``AUTO``, …
        labels: class names: a file with one a line, ``"a,b"``, or a sequence; those in the model when ``None``.
        input_options: normalisation and resizing where the model does not tell.

    Raises:
        ModelError: the model cannot be read, or is no classifier (TaskError).
        GraphError: the graph gives no place for the method; the message lists layers for ``target_layer``.
        ConfigError: an argument has a wrong value, or asks for a black-box method.

    References:
        Recipro-CAM: https://arxiv.org/abs/2209.14074; ViT Recipro-CAM: https://arxiv.org/abs/2310.02588.
    """

    def __init__(
        self,
        model: str | Path | ov.Model,
        task: Task | str | None = None,
        preprocess_fn: Preprocess | None = None,
        postprocess_fn: Postprocess | None = None,
        explain_mode: ExplainMode | str = ExplainMode.AUTO,
        explain_method: Method | str | None = None,
        target_layer: str | None = None,
        embed_scaling: bool = True,
        device_name: str = "CPU",
        *,
        labels: str | Path | Sequence[str] | None = None,
        input_options: InputOptions | None = None,
    ) -> None:
        self._model = model
        self._task = None if task is None else Task(task)
        self._preprocess_fn = preprocess_fn
        self._postprocess_fn = postprocess_fn
        self._device = device_name
        self._labels = labels
        self._input_options = input_options
        method = None if explain_method is None else Method(explain_method)
        self._setting = _Setting(ExplainMode(explain_mode), method, target_layer, embed_scaling)
        self._prepared: dict[_Setting, Prepared] = {}
        self._sessions: dict[tuple[_Setting, bool], Session] = {}
        self._prepare(self._setting)

    def __call__(
        self,
        data: NDArray[Any],
        targets: Any = -1,
        original_input_image: NDArray[Any] | Sequence[NDArray[Any]] | None = None,
        label_names: Sequence[str] | None = None,
        output_size: Size | None = None,
        *,
        resize: bool = True,
        colormap: bool = True,
        overlay: bool = False,
        overlay_weight: float = 0.5,
        target_explain_labels: Any = None,
        explain_mode: ExplainMode | str | None = None,
        explain_method: Method | str | None = None,
        target_layer: str | None = None,
        embed_scaling: bool | None = None,
        **method_kwargs: Any,
    ) -> Explanation | list[Explanation]:
        """Explain one image, or a batch.

        Args:
            data: what ``preprocess_fn`` takes; without one a ``uint8`` RGB image ``(H, W, 3)`` of any size, or the
                model's input with its batch axis, ``(N, C, H, W)`` or ``(N, H, W, C)``, of any number of images.
            targets: ``-1`` for all classes, indices, names, or ``"predicted"``: the classes of score 0.3 and above,
                the best one where none is.
            original_input_image: RGB image to lay maps over where ``data`` is pre-processed; for a batch one for all,
                or a sequence of one each.
            label_names: class names for this call, one for each class.
            output_size: ``(height, width)`` of the maps; by default that of the image.
            resize: show maps in the size of the image (else, without ``overlay``, in the network's own resolution).
            colormap: colour maps (JET); else grey.
            overlay: lay coloured maps over the image.
            overlay_weight: of the map in an overlay, in [0, 1].
            target_explain_labels: older name of ``targets``.
            explain_mode: for this call only, as the following three. A setting that is new is prepared and compiled
                once, and kept.
            explain_method: see the constructor.
            target_layer: see the constructor.
            embed_scaling: see the constructor.
            method_kwargs: parameters of black-box methods; white-box methods have none.

        Returns:
            The explanation, with maps in the order of ``targets``, none where ``targets`` is empty; a list of
            explanations for a batch of several images.

        Raises:
            ConfigError: ``data`` does not fit the model, or an argument has a wrong value; a target that is no class
                (TargetError); names that are not one for each class (LabelError).
        """
        setting = self._setting_of_call(explain_mode, explain_method, target_layer, embed_scaling)
        look = Look(output_size, resize, colormap, overlay, overlay_weight)
        prepared = self._prepare(setting)
        if method_kwargs:
            logger.warning("%s: no effect with %s.", ", ".join(method_kwargs), prepared.method)
        labels = _names(label_names, prepared)
        indices = resolve_targets(targets if target_explain_labels is None else target_explain_labels, labels)
        wanted = Wanted(indices, prepared.wanted.threshold)
        inputs = _over(original_input_image, self._inputs(np.asarray(data), prepared))
        explanations = []
        for canvas, outputs in zip(inputs.canvases, self._infer(inputs, setting, prepared), strict=True):
            predictions, chosen, maps = choose(outputs, labels, wanted, scaled=prepared.scaled)
            keys = (PER_IMAGE_MAP if target is PER_IMAGE else target.target for target in chosen)
            pictures = dict(zip(keys, show(maps, canvas, look), strict=True))
            explanations.append(Explanation(pictures, labels, predictions))
        return explanations[0] if len(explanations) == 1 else explanations

    def _setting_of_call(
        self,
        mode: ExplainMode | str | None,
        method: Method | str | None,
        target_layer: str | None,
        embed_scaling: bool | None,
    ) -> _Setting:
        own = self._setting
        return _Setting(
            mode=own.mode if mode is None else ExplainMode(mode),
            method=own.method if method is None else Method(method),
            target_layer=own.target_layer if target_layer is None else target_layer,
            embed_scaling=own.embed_scaling if embed_scaling is None else embed_scaling,
        )

    def _prepare(self, setting: _Setting) -> Prepared:
        if setting not in self._prepared:
            check_method(setting.method, setting.mode)
            self._prepared[setting] = prepare(
                self._model,
                task=self._task,
                labels=self._labels,
                options=self._input_options,
                method=setting.method,
                target_layer=setting.target_layer,
                targets=-1,
                keep_open=True,
                embed_scaling=setting.embed_scaling,
            )
        return self._prepared[setting]

    def _inputs(self, data: NDArray[Any], prepared: Prepared) -> _Inputs:
        """Make the model's input of what the caller gave."""
        if self._preprocess_fn is not None:
            tensor = _channels_last(np.asarray(self._preprocess_fn(data)), prepared)
            images = data if data.ndim == 4 and len(data) == len(tensor) else [data] * len(tensor)
            return _Inputs(tensor, [_canvas(image) for image in images])
        if data.ndim == 4:
            tensor = _channels_last(data, prepared)
            return _Inputs(tensor, [_canvas(image) for image in tensor])
        if data.ndim not in (2, 3) or data.dtype != np.uint8:
            raise ConfigError(
                f"The data is {data.dtype} {data.shape}; expected a uint8 image (height, width, 3) of any size, or the "
                f"model's input with its batch axis, as numpy.expand_dims(data, 0) adds it."
            )
        if prepared.open_size:
            raise ConfigError(
                "The model takes images of any size, so it is not known what to resize this image to. Pass "
                "input_options=InputOptions(size=(height, width)), or the model's input with its batch axis."
            )
        geometry = prepared.info.geometry
        canvas = replace(_canvas(data), geometry=geometry)
        return _Inputs(fit(canvas.picture, geometry)[None], [canvas], as_images=True)

    def _infer(self, inputs: _Inputs, setting: _Setting, prepared: Prepared) -> Iterator[Arrays]:
        """Yield the scores and maps of each image."""
        session = self._session(setting, prepared, as_images=inputs.as_images)
        layout, kind = prepared.info.input_layout, prepared.model.inputs[0].get_element_type().to_dtype()
        if inputs.as_images:
            layout, kind = "NHWC", np.dtype(np.uint8)
        order = ["NHWC".index(axis) for axis in layout]
        batch = effective_batch(prepared.model) or len(inputs.tensor)
        for first in range(0, len(inputs.tensor), batch):
            part = inputs.tensor[first : first + batch]
            filled = np.concatenate([part, np.repeat(part[-1:], batch - len(part), axis=0)])
            raw = session.raw(np.ascontiguousarray(filled.transpose(order), dtype=kind))
            outputs = {name: raw[name] for name in (SCORES, SALIENCY_MAP)}
            if self._postprocess_fn is not None:
                given = self._postprocess_fn(raw)
                outputs[SCORES] = _as_scores(given, outputs[SCORES].shape, independent=prepared.info.multilabel)
            yield from ({name: np.array(values[i]) for name, values in outputs.items()} for i in range(len(part)))

    def _session(self, setting: _Setting, prepared: Prepared, *, as_images: bool) -> Session:
        key = (setting, as_images)
        if key not in self._sessions:
            model = embed_preprocessing(prepared.model, prepared.info) if as_images else prepared.model
            self._sessions[key] = Session(model, self._device, latency=True)
        return self._sessions[key]


def _names(label_names: Sequence[str] | None, prepared: Prepared) -> tuple[str, ...]:
    known = prepared.info.labels
    names = known if label_names is None else tuple(label_names)
    if len(names) != len(known):
        raise LabelError(
            f"label_names has {len(names)} names; expected {len(known)}, one for each class of the model. Where they "
            f"differ by one, it is often a background class, the first one."
        )
    return names


def _canvas(image: NDArray[Any]) -> Canvas:
    picture = as_picture(image)
    return Canvas(picture, (picture.shape[0], picture.shape[1]))


def _over(images: NDArray[Any] | Sequence[NDArray[Any]] | None, inputs: _Inputs) -> _Inputs:
    """Lay maps over other images."""
    if images is None:
        return inputs
    count = len(inputs.canvases)
    each = [images] * count if isinstance(images, np.ndarray) and images.ndim < 4 else list(images)
    if len(each) != count:
        raise ConfigError(f"original_input_image holds {len(each)} images; expected one, or {count}, as data does.")
    pictures = [as_picture(np.asarray(image)) for image in each]
    return replace(
        inputs, canvases=[replace(old, picture=new) for old, new in zip(inputs.canvases, pictures, strict=True)]
    )


def _channels_last(tensor: NDArray[Any], prepared: Prepared) -> NDArray[Any]:
    """Return the model's input, given with channels first or last, as ``(N, H, W, C)``."""
    port, layout = prepared.model.inputs[0], prepared.info.input_layout
    shape = dict(zip(layout, port.get_partial_shape(), strict=True))
    for given in dict.fromkeys((layout, "NCHW", "NHWC")):
        if (
            tensor.ndim == 4
            and len(tensor)
            and all(
                axis == "N" or shape[axis].compatible(ov.Dimension(size))
                for axis, size in zip(given, tensor.shape, strict=True)
            )
        ):
            return tensor.transpose([given.index(axis) for axis in "NHWC"])
    raise ConfigError(
        f"The model's input is {port.get_partial_shape()} ({layout}), what it is given is {list(tensor.shape)}. Pass "
        f"a uint8 image (height, width, 3) of any size, or resize it and add the batch axis, or give a preprocess_fn "
        f"that does."
    )


def _as_scores(values: Any, shape: tuple[int, ...], *, independent: bool) -> FloatArray:
    """Return scores ``(N, K)`` in [0, 1] of what ``postprocess_fn`` gave: scores, or logits where any is outside."""
    scores: FloatArray = np.asarray(values, dtype=np.float32)
    if scores.size != np.prod(shape):
        raise ConfigError(
            f"postprocess_fn returned {list(scores.shape)}; expected class scores or logits {list(shape)}."
        )
    scores = scores.reshape(shape)
    if scores.min() >= 0 and scores.max() <= 1:
        return scores
    return sigmoid(scores) if independent else softmax(scores)
