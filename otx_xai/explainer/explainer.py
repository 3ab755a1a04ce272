"""Explain single images with a model in hand."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import openvino as ov
from numpy.typing import NDArray

from otx_xai.errors import ConfigError
from otx_xai.explainer.explanation import PER_IMAGE_MAP, Explanation
from otx_xai.explainer.prepare import Prepared, check_method, prepare
from otx_xai.explainer.targets import Wanted, choose, resolve_targets
from otx_xai.graph.insert import SALIENCY_MAP, SCORES
from otx_xai.ir import embed_preprocessing
from otx_xai.postprocess import fit, min_max, softmax, to_image, to_uint8
from otx_xai.records import (
    ExplainMode,
    FloatArray,
    InputGeometry,
    InputOptions,
    Method,
    ModelInfo,
    Size,
    Task,
    UInt8Array,
)
from otx_xai.report import colormap, overlay
from otx_xai.runtime import Session

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
class _View:
    """How maps are shown."""

    output_size: Size | None
    resize: bool
    colormap: bool
    overlay: bool
    overlay_weight: float


class Explainer:
    """Explains a model image by image; the model is prepared and compiled once.

    Args:
        model: a model file (``.xml``, ``.onnx``, ``.tflite``) or an ``ov.Model``, which is not changed.
        task: what the model does; found out when ``None``.
        preprocess_fn: gives the model's input, batch axis included, for what is passed to the call. Without it a
            three-dimensional array is an image and is pre-processed as the model's ``model_info`` and the graph say,
            and a four-dimensional one is the model's input.
        postprocess_fn: gives class scores for the model's raw output (an ``OVDict``), where predicted classes are
            asked for and the scores found in the graph are not the ones wanted.
        explain_mode: white box, black box, or auto. This version has white-box methods only.
        explain_method: chosen by the graph when ``None``.
        target_layer: layer whose features are perturbed, by name.
        embed_scaling: scale maps in the graph rather than on the host.
        device_name: OpenVINO device.
        labels: class names: a file, ``"a,b"``, or a sequence; those of the model when ``None``.
        input_options: normalisation and resizing where the model does not tell.

    Raises:
        ModelError, GraphError, ConfigError: the model cannot be read or explained so.
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
        label_names: Sequence[str] | None = None,
        original_input_image: NDArray[Any] | None = None,
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
            data: what ``preprocess_fn`` takes; without one an RGB ``uint8`` image ``(H, W, 3)``, or the model's input
                with its batch axis (``NHWC`` or ``NCHW``).
            targets: ``-1`` for all classes, indices, names, or ``"predicted"``.
            label_names: class names for this call.
            original_input_image: RGB image to lay maps over, where ``data`` is pre-processed.
            output_size: ``(height, width)`` of the maps; by default that of the image.
            resize: resize maps to the image (else the network's own resolution).
            colormap: colour maps (JET, RGB); else grey.
            overlay: lay maps over the image.
            overlay_weight: of the map, in [0, 1].
            target_explain_labels: older name of ``targets``.
            explain_mode: for this call only; the model is prepared again where this differs from the constructor's.
            explain_method: likewise.
            target_layer: likewise.
            embed_scaling: likewise.
            method_kwargs: parameters of black-box methods; white-box methods have none.

        Returns:
            The explanation; a list of them for a batch of several images. ``saliency_map`` is empty where ``targets``
            is.

        Raises:
            TargetError: a target is no class.
            ConfigError: ``data`` does not fit the model.
        """
        own = self._setting
        setting = _Setting(
            mode=own.mode if explain_mode is None else ExplainMode(explain_mode),
            method=own.method if explain_method is None else Method(explain_method),
            target_layer=own.target_layer if target_layer is None else target_layer,
            embed_scaling=own.embed_scaling if embed_scaling is None else embed_scaling,
        )
        prepared = self._prepare(setting)
        if method_kwargs:
            logger.warning("%s have no effect with %s.", ", ".join(method_kwargs), prepared.method)
        info = prepared.info if label_names is None else replace(prepared.info, labels=tuple(label_names))
        _check_label_names(info, prepared.info)
        wanted = targets if target_explain_labels is None else target_explain_labels
        choice = Wanted(resolve_targets(wanted, info.labels), prepared.wanted.threshold)
        view = _View(output_size, resize, colormap, overlay, overlay_weight)
        named = label_names is not None or not info.sources["labels"].startswith("none given")
        geometry, image, outputs = self._run(setting, prepared, np.asarray(data))
        explanations = []
        for i in range(len(outputs[SCORES])):
            one = {name: values[i] for name, values in outputs.items() if name in _OWN}
            predictions, chosen, maps = choose(
                one, info.labels, choice, scaled=prepared.scaled and setting.embed_scaling
            )
            base = _base_image(original_input_image if original_input_image is not None else image[i])
            fitted = geometry if original_input_image is None else None
            pictures = [_show(saliency_map, base, fitted, view) for saliency_map in maps]
            keys: list[int | str] = [PER_IMAGE_MAP if target.target == -1 else target.target for target in chosen]
            explanations.append(
                Explanation(dict(zip(keys, pictures, strict=True)), info.labels if named else (), predictions)
            )
        return explanations[0] if len(explanations) == 1 else explanations

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

    def _session(self, setting: _Setting, prepared: Prepared, *, images: bool) -> Session:
        key = (setting, images)
        if key not in self._sessions:
            model = embed_preprocessing(prepared.model, prepared.info) if images else prepared.model
            self._sessions[key] = Session(model, self._device, latency=True)
        return self._sessions[key]

    def _run(
        self, setting: _Setting, prepared: Prepared, data: NDArray[Any]
    ) -> tuple[InputGeometry | None, Sequence[NDArray[Any]], dict[str, NDArray[Any]]]:
        """Infer; return how images were fitted in (``None``: by the caller), the images, and the outputs."""
        if self._preprocess_fn is not None:
            tensor = np.asarray(self._preprocess_fn(data))
            images: Sequence[NDArray[Any]] = [data] * len(tensor) if data.ndim == 3 else list(data)
            geometry = None
        elif data.ndim == 3:
            if prepared.open_size:
                raise ConfigError(
                    "The model takes images of any size, so it is not known what to resize this image to. Pass "
                    "input_options=InputOptions(size=(height, width)), or the model's input with its batch axis."
                )
            geometry = prepared.info.geometry
            session = self._session(setting, prepared, images=True)
            fitted = fit(_base_image(data), geometry)[None]
            return geometry, [data], self._scored(session, np.repeat(fitted, session.batch, axis=0), 1)
        elif data.ndim == 4:
            tensor, images, geometry = data, list(data), None
        else:
            raise ConfigError(
                f"The data has {data.ndim} axes {data.shape}; expected an image (height, width, channels), or the "
                f"model's input with its batch axis."
            )
        session = self._session(setting, prepared, images=False)
        tensor = _as_input(tensor, prepared)
        return geometry, images, self._scored(session, tensor, len(tensor))

    def _scored(self, session: Session, tensor: NDArray[Any], count: int) -> dict[str, NDArray[Any]]:
        raw = session.raw(tensor)
        outputs = {name: np.array(raw[i])[:count] for i, name in enumerate(session.output_names) if name in _OWN}
        if self._postprocess_fn is not None:
            scores = np.asarray(self._postprocess_fn(raw), dtype=np.float32).reshape(-1, outputs[SCORES].shape[1])
            outputs[SCORES] = (scores if _are_scores(scores) else softmax(scores))[:count]
        return outputs


_OWN = (SCORES, SALIENCY_MAP)


def _are_scores(values: FloatArray) -> bool:
    return bool(values.min() >= 0 and values.max() <= 1)


def _check_label_names(info: ModelInfo, known: ModelInfo) -> None:
    if len(info.labels) != len(known.labels):
        raise ConfigError(
            f"label_names has {len(info.labels)} names; expected {len(known.labels)}, one for each class of the model."
        )


def _as_input(tensor: NDArray[Any], prepared: Prepared) -> NDArray[Any]:
    """Return ``tensor`` in the layout and type of the model's input."""
    port = prepared.model.inputs[0]
    shape, layout = port.get_partial_shape(), prepared.info.input_layout
    channels = shape[layout.index("C")].get_length()
    other = "NHWC" if layout == "NCHW" else "NCHW"
    if tensor.ndim == 4 and tensor.shape[layout.index("C")] != channels and tensor.shape[other.index("C")] == channels:
        tensor = tensor.transpose([other.index(axis) for axis in layout])
    if tensor.ndim != 4 or not shape.compatible(ov.PartialShape(list(tensor.shape))):
        raise ConfigError(
            f"The model's input is {shape} ({layout}), the data is {list(tensor.shape)}. Pass an image of any size as "
            f"(height, width, {channels}), or resize it and add the batch axis, or give a preprocess_fn that does."
        )
    return np.ascontiguousarray(tensor, dtype=port.get_element_type().to_dtype())


def _base_image(data: NDArray[Any]) -> UInt8Array:
    """Return an image to look at: RGB ``uint8`` ``(H, W, 3)``."""
    image = np.squeeze(data, 0) if data.ndim == 4 else data
    if image.ndim == 3 and image.shape[0] in (1, 3) and image.shape[2] not in (1, 3):
        image = image.transpose(1, 2, 0)
    if image.ndim == 2:
        image = image[..., None]
    if image.shape[-1] == 1:
        image = np.repeat(image, 3, axis=-1)
    if image.dtype != np.uint8:
        values = image.astype(np.float32)
        inside = values.min() >= 0 and 1 < values.max() <= 255
        image = (
            values.round().astype(np.uint8)
            if inside
            else to_uint8(min_max(values.reshape(1, -1, 3)).reshape(values.shape))
        )
    return np.ascontiguousarray(image)


def _show(saliency_map: FloatArray, base: UInt8Array, geometry: InputGeometry | None, view: _View) -> UInt8Array:
    """Turn a map ``(h, w)`` in [0, 1] into what the caller wants to see."""
    size: Size = view.output_size or (base.shape[0], base.shape[1])
    if not (view.resize or view.overlay):
        return colormap(saliency_map) if view.colormap else to_uint8(saliency_map)
    geometry = geometry or InputGeometry((base.shape[0], base.shape[1]))
    shown = to_image(saliency_map[None], (base.shape[0], base.shape[1]), geometry)[0]
    if (base.shape[0], base.shape[1]) != size:
        shown = to_image(shown[None], size, InputGeometry(size))[0]
    if view.overlay:
        return overlay(fit(base, InputGeometry(size)), shown, view.overlay_weight)
    return colormap(shown) if view.colormap else to_uint8(shown)
